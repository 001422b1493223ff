"""What all apps of the matrix do, each in its framework's own way."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys

LINES = 20


def helpers() -> str:
    """A program, and a forked process that is ended by SIGTERM."""
    said = subprocess.run([sys.executable, "-c", "print(6 * 7)"], stdout=subprocess.PIPE, check=True).stdout
    helper = multiprocessing.get_context("fork").Process(target=_wait)
    helper.start()
    helper.terminate()
    helper.join()
    return f"{said.decode().strip()} {helper.exitcode}"


def _wait() -> None:
    multiprocessing.Event().wait()
