"""A load that fragments the heap, on two instances at the same time: how many recycles giving back avoids.

In each round, 75 s after the last, each of four workers has its heap fragmented: it then holds 80 MiB of a limit of 60,
and needs 4. Meanwhile others ask for nothing but an answer.
"""

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from tests.bench.common import ROOT, free_port, listening, memunit
from tests.support.load import Load

WORKERS = 4
ROUNDS = 5
ROUND = 75.0
APPS = ROOT / "tests" / "support" / "apps"


def main() -> None:
    """Measure and print."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running = {flag: _start(stack, folder, flag) for flag in ("--give-back", "--no-give-back")}
        loads = {
            flag: stack.enter_context(Load(each.target, clients=2, path="/", rate=20, seconds=3600))
            for flag, each in running.items()
        }
        for _ in range(ROUNDS):
            begun = time.monotonic()
            for each in running.values():
                each.fragment()
            threading.Event().wait(max(0.0, begun + ROUND - time.monotonic()))
        for flag, each in running.items():
            loads[flag].stop()
            report = loads[flag].join()
            recycles, gifts = each.told()
            print(
                f"{flag:15} {recycles:3} recycles, {gifts:3} gifts; "
                f"{report.lost} of {report.sent} requests lost, and {each.lost} of those that fragment",
                flush=True,
            )


class _Instance:
    """A master in the foreground, whose words go to a file."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, said: Path) -> None:
        self.target = f"127.0.0.1:{port}"
        self.lost = 0
        self._process, self._port, self._said = process, port, said

    def fragment(self) -> None:
        """Have each worker that serves now fragment its heap, once."""
        done: set[str] = set()
        while len(done) < WORKERS:
            asked = Load(self.target, clients=1, requests=1, path="/fragment?mb=80", timeout=60.0).run()
            self.lost += asked.lost
            done |= {str(pid) for pid in asked.pids}

    def told(self) -> tuple[int, int]:
        """How many recycles and gifts there were, by what the master says."""
        self._process.send_signal(signal.SIGUSR1)
        threading.Event().wait(2.0)
        text = self._said.read_text(errors="replace")
        found = re.findall(r"workers, .*?gave back \S+ (?:(once)|(\d+) times)", text)
        gifts = 0 if not found else 1 if found[-1][0] else int(found[-1][1])
        return len(re.findall("ended: memory-limit", text)), gifts


def _start(stack: contextlib.ExitStack, folder: Path, flag: str) -> _Instance:
    port, said = free_port(), folder / flag.strip("-")
    flags = [
        "--workers",
        str(WORKERS),
        "--limit",
        "60M",
        "--min-lifetime",
        "0",
        "--app",
        "generous:app",
        flag,
    ]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{APPS}"}
    with said.open("wb") as output:
        process = subprocess.Popen(memunit(port, *flags), env=environment, cwd=APPS, stderr=output)
    stack.callback(process.wait, 60)
    stack.callback(process.terminate)
    listening(port)
    return _Instance(process, port, said)
