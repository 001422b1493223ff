"""The master in a program that calls memunit.run fails: it goes on, and stops in order at the third failure."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.wait import DEADLINE
from tests.support.workers import ROOT

PROGRAM = """
import os, sys
from pathlib import Path
from tests.support import planted
planted.plant("master.report:Reporter.finished_pass", Path(sys.argv[1]))
import memunit

def run(worker):
    worker.ready()
    worker.stopping.wait()
    print("drained", flush=True)

print("code", memunit.run("100M", run, workers=2, sockets=["127.0.0.1:0"]), flush=True)
"""


@pytest.mark.parametrize("times", [1, 3])
def test_a_failure_ends_no_worker(tmp_path: Path, times: int) -> None:
    file = tmp_path / "raises"
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(file)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        said: list[str] = []

        def until(words: str, often: int = 1) -> None:
            while sum(words in line for line in said) < often:
                assert process.stdout is not None
                line = process.stdout.readline()
                assert line, "".join(said)
                said.append(line)

        until(" is ready after", 2)
        file.write_text(str(times))
        process.send_signal(signal.SIGUSR1)
        until("memunit itself has failed", times)
        if times < 3:
            process.send_signal(signal.SIGTERM)
        until("code 0")
        process.wait(DEADLINE)
        text = "".join(said)
    assert text.count("drained") == 2, text
    assert text.count(" ended: stop") == 2, text
    assert ("The workers are told to stop" in text) == (times == 3)
