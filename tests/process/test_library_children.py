"""A program that calls memunit.run may have children of its own: they and their exit statuses are left alone."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import os, select, signal, subprocess, sys
import memunit
lasting = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
# It waits for the signal itself: a shell's trap may come right before the call that it waits in.
seven = "import signal; signal.pthread_sigmask(0, {15}); print(flush=True); exit(7 if signal.sigwait({15}) else 0)"
short = subprocess.Popen([sys.executable, "-c", seven], stdout=subprocess.PIPE)
short.stdout.readline()
def run(worker):
    worker.ready()
    if worker.slot == 0:
        # The program's child ends while the master runs, and then the master is told to stop.
        ended = os.pidfd_open(short.pid)
        os.kill(short.pid, signal.SIGTERM)
        select.select([ended], [], [])
        os.kill(os.getppid(), signal.SIGTERM)
    worker.stopping.wait()
code = memunit.run(None, run, workers=2, sockets=[])
status = short.wait()
alive = lasting.poll() is None
lasting.stdin.close()
print(code, status, alive, lasting.wait())
"""


def test_children_of_the_program_are_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.stdout == "0 7 True 0\n", done.stderr
