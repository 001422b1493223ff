"""What a request pays for the worker's page: by itself, by kind of path; and in workers with and without, in turn."""

import contextlib
import mmap
import os
import socket
import statistics
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from memunit.core import board as layout
from memunit.master.child import Launch
from memunit.master.memfd import sealed
from memunit.master.spawn import launch
from memunit.worker import board, work
from tests.bench.common import APP, ROOT, answer
from tests.bench.requests import compare
from tests.support import interpreters

TIMES = 400
PATHS = {
    "a path as it is": ["/shop/products"],
    "a number at its end": [f"/api/v1/product/{number}" for number in range(1000)],
    "a number in the middle": [f"/api/v1/product/{number}/reviews" for number in range(1000)],
    "a UUID, named by the framework": [f"/product/{uuid.uuid4()}" for _ in range(1000)],
    "a UUID, named by nobody": [f"/thing/{uuid.uuid4()}" for _ in range(1000)],
}


def main() -> None:
    """Measure and print."""
    for name, paths in PATHS.items():
        raw = [path.encode() for path in paths] * (1000 // len(paths))
        named = "/product/{id}" if "framework" in name else None
        print(
            f"{name:32} {_alone(raw, named):5.2f} us a request (Python {sys.version.split()[0]})", flush=True
        )
    for which, python in (("newest", interpreters.newest()), ("Debian's", interpreters.DEBIAN)):
        if python is None:
            print(f"{which} uvicorn cannot be had here")
            continue
        with _worker(python, with_page=True) as ours, _worker(python, with_page=False) as bare:
            spent = compare({"with": ours, "without": bare}, {})
        pairs = [a - b for a, b in zip(spent["with"], spent["without"], strict=True)]
        median = {name: statistics.median(values) for name, values in spent.items()}
        print(
            f"{which:8} with {median['with']:6.1f} us, without {median['without']:6.1f} us of CPU a request; "
            f"in pairs, median {statistics.median(pairs):+.2f} us of {min(pairs):+.2f} to {max(pairs):+.2f}",
            flush=True,
        )


def _alone(paths: list[bytes], named: str | None) -> float:
    """Microseconds of CPU for begin() and end(), the least of many tries."""
    one = work.of(board.Page(mmap.mmap(-1, layout.SIZE)))
    best = float("inf")
    for _ in range(TIMES):
        begun = time.process_time()
        for path in paths:
            request = one.begin("GET", path)
            if not one.end(request):
                one.end_unknown(request, "GET", path, named, 200)
        best = min(best, time.process_time() - begun)
    return best / len(paths) * 1e6


@contextlib.contextmanager
def _worker(python: Path, *, with_page: bool) -> Iterator[tuple[int, int]]:
    """The worker's pid, and the port: no master is needed for it."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        page = sealed("memunit-worker", layout.header(), layout.SIZE) if with_page else -1
        child = launch(
            Launch(
                argv=(str(python), str(ROOT / "memunit" / "worker"), "--server", "asgi", APP),
                environment={**os.environ, "PYTHONPATH": str(ROOT)},
                directory=str(ROOT),
                sockets=(("http", listening.fileno()),),
                board=page,
            )
        )
        try:
            port = int(listening.getsockname()[1])
            answer(port)
            yield child.pid, port
        finally:
            child.kill_tree()
            os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)
            child.close()
            if page >= 0:
                os.close(page)
