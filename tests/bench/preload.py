"""Eight workers of an app of 100 MiB, with and without preload: memory in all, and from Spawn to READY."""

import os
import re
import signal
import statistics
import subprocess
import time

import psutil

from tests.bench.common import APP, DEADLINE, answer, free_port, lines, memunit, program
from tests.support import interpreters

WORKERS = 8
IDLE = 64
ROUNDS = 8
HEAVY = "tests.bench.heavy:app"


def main() -> None:
    """Measure and print."""
    for flag in ("--no-preload", "--preload"):
        port = free_port()
        flags = ["--workers", str(WORKERS), "--start-timeout", "120s", "--max-age", "infinity", flag]
        with program(*memunit(port, *flags, "--app", HEAVY)) as process:
            begun = time.monotonic()
            lines(process, b" is ready ", WORKERS)
            print(f"{flag:13} all {WORKERS} ready after {time.monotonic() - begun:6.2f} s")
            _memory(process, "when ready")
            for _ in range(400):
                answer(port)
            _memory(process, "after 400 requests")
            times = [_respawn(process) for _ in range(ROUNDS)]
            print(
                f"{'':13} Spawn to READY, one at a time: median {statistics.median(times) * 1000:.0f} ms, "
                f"max {max(times) * 1000:.0f} ms"
            )
    idle()


def idle() -> None:
    """64 idle workers of an app of a few lines, preloaded, in the environment with the newest servers."""
    python = interpreters.newest()
    if python is None:
        return
    port = free_port()
    flags = ["--workers", str(IDLE), "--start-timeout", "120s", "--preload", "--python", str(python)]
    with program(*memunit(port, *flags, "--app", APP)) as process:
        lines(process, b" is ready ", IDLE)
        _memory(process, "idle")


def _memory(process: "subprocess.Popen[bytes]", when: str) -> None:
    """The sum of the PSS of the workers, and of the zygote with them."""
    found = {child.pid: child.memory_full_info() for child in psutil.Process(process.pid).children()}
    total = sum(info.pss for info in found.values()) / 2**20
    workers = sorted(info.uss for info in found.values())
    print(
        f"{'':13} {when}: {len(found)} processes, PSS {total:.0f} MiB in all; "
        f"USS of one: median {statistics.median(workers) / 2**20:.1f} MiB"
    )


def _respawn(process: "subprocess.Popen[bytes]") -> float:
    """SIGTERM to a worker, which is replaced: from Spawn to READY as the master has measured it."""
    workers = psutil.Process(process.pid).children()
    os.kill(max(workers, key=lambda child: child.pid).pid, signal.SIGTERM)
    return _ready_after(process)


def _ready_after(process: "subprocess.Popen[bytes]") -> float:
    assert process.stderr is not None
    until, text = time.monotonic() + DEADLINE, b""
    while time.monotonic() < until:
        text += os.read(process.stderr.fileno(), 65536)
        found = re.search(rb"is ready after ([\d.]+) s", text)
        if found is not None and b" ended: " in text:
            return float(found[1])
    raise TimeoutError(text.decode(errors="replace"))
