"""Interpreters that an app may bring along: Debian's, and a virtual environment with the newest servers."""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
from pathlib import Path

DEBIAN = Path("/usr/bin/python3")
_NEWEST = ("uvicorn", "uvloop", "httptools", "websockets", "wsproto")


def cache() -> Path:
    """Where tests keep what is dear to make, outside the repository."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "memunit-tests"


@functools.cache
def newest() -> Path | None:
    """The interpreter of a virtual environment with the newest uvicorn and its companions.

    Made once and kept. None when the packages cannot be had.
    """
    home = cache() / "newest"
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "newest.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "complete").exists():
            shutil.rmtree(home, ignore_errors=True)
            subprocess.run([DEBIAN, "-m", "venv", home], check=True)
            pip = [
                str(home / "bin" / "python"),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ]
            if subprocess.run([*pip, *_NEWEST], check=False).returncode != 0:
                return None
            (home / "complete").touch()
    return home / "bin" / "python"


def bare(directory: Path) -> Path:
    """The interpreter of a new virtual environment in `directory` that has no package at all."""
    subprocess.run([DEBIAN, "-m", "venv", "--without-pip", directory], check=True)
    return directory / "bin" / "python"


def can_import(python: Path, module: str) -> bool:
    """Whether `python` has `module`."""
    return (
        subprocess.run([python, "-c", f"import {module}"], check=False, capture_output=True).returncode == 0
    )
