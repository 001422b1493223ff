"""What the master costs while nothing happens: RSS, and CPU time over 60 seconds, with the workers' pings.

MEMUNIT_WORKERS="64 256" has other numbers of workers, MEMUNIT_SECONDS=20 another time, and MEMUNIT_FOLLOWERS="0 10"
so many clients that follow the instance meanwhile.
"""

import contextlib
import os
import selectors
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

from memunit.cli.link import Link
from memunit.core.interfaces import INSTANCE
from tests.bench.common import APP, free_port, lines, memunit, program

SECONDS = int(os.environ.get("MEMUNIT_SECONDS", "60"))
WORKERS = [int(word) for word in os.environ.get("MEMUNIT_WORKERS", "2 32").split()]
FOLLOWERS = [int(word) for word in os.environ.get("MEMUNIT_FOLLOWERS", "0").split()]


def main() -> None:
    """Measure and print."""
    for count in WORKERS:
        with tempfile.TemporaryDirectory() as folder:
            flags = ["--workers", str(count), "--limit", "90M", "--start-timeout", "120s", "--app", APP]
            environment = {**os.environ, "RUNTIME_DIRECTORY": folder}
            with program(*memunit(free_port(), *flags), environment=environment) as process:
                lines(process, b" is ready ", count)
                for followers in FOLLOWERS:
                    _measure(process, f"{folder}/{INSTANCE}", count, followers)


def _measure(process: "subprocess.Popen[bytes]", interface: str, count: int, followers: int) -> None:
    master = psutil.Process(process.pid)
    with contextlib.ExitStack() as stack:
        links = [stack.enter_context(Link(interface, 60.0)) for _ in range(followers)]
        for link in links:
            link.follow("Follow")
        _wait(process, 5, links)
        before = _ran(process.pid)
        replies = _wait(process, SECONDS, links)
        spent = _ran(process.pid) - before
    memory = master.memory_full_info()
    print(
        f"{count:3} workers, {followers} clients that follow ({replies} replies): master RSS "
        f"{memory.rss / 2**20:.1f} MiB, PSS {memory.pss / 2**20:.1f} MiB, USS {memory.uss / 2**20:.1f} MiB; "
        f"CPU {spent:.3f} s in {SECONDS} s = {spent / SECONDS:.2%} of a core",
        flush=True,
    )


def _ran(pid: int) -> float:
    """Seconds on a processor, of the only thread: a hundredth of a second, as all else has it, is too coarse."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _wait(process: "subprocess.Popen[bytes]", seconds: float, links: list[Link]) -> int:
    """Let time pass, unless the master ends; how many replies the followers have read meanwhile."""
    pidfd, until, replies = os.pidfd_open(process.pid), time.monotonic() + seconds, 0
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(pidfd, selectors.EVENT_READ)
            for link in links:
                selector.register(link, selectors.EVENT_READ)
            while (left := until - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    if not isinstance(key.fileobj, Link):
                        raise RuntimeError(f"the master ended: {process.wait()}")
                    replies += len(key.fileobj.received())
    finally:
        os.close(pidfd)
    return replies
