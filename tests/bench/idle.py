"""What the master costs while nothing happens: RSS, and CPU time over 60 seconds, with the workers' pings.

MEMUNIT_WORKERS="64 256" has other numbers of workers, MEMUNIT_SECONDS=20 another time.
"""

import os
import select
import subprocess

import psutil

from tests.bench.common import APP, free_port, lines, memunit, program

SECONDS = int(os.environ.get("MEMUNIT_SECONDS", "60"))
WORKERS = [int(word) for word in os.environ.get("MEMUNIT_WORKERS", "2 32").split()]


def main() -> None:
    """Measure and print."""
    for count in WORKERS:
        port = free_port()
        flags = ["--workers", str(count), "--limit", "90M", "--start-timeout", "120s", "--app", APP]
        with program(*memunit(port, *flags)) as process:
            lines(process, b" is ready ", count)
            master = psutil.Process(process.pid)
            _wait(process, 5)
            before = master.cpu_times()
            _wait(process, SECONDS)
            after = master.cpu_times()
            memory = master.memory_full_info()
            spent = after.user + after.system - before.user - before.system
            print(
                f"{count:3} workers: master RSS {memory.rss / 2**20:.1f} MiB, PSS {memory.pss / 2**20:.1f} MiB, "
                f"USS {memory.uss / 2**20:.1f} MiB; CPU {spent:.2f} s in {SECONDS} s = {spent / SECONDS:.2%} of a core"
            )


def _wait(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    """Let time pass, unless the master ends."""
    pidfd = os.pidfd_open(process.pid)
    try:
        if select.select([pidfd], [], [], seconds)[0]:
            raise RuntimeError(f"the master ended: {process.wait()}")
    finally:
        os.close(pidfd)
