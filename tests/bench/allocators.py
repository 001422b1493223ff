"""What a worker holds under each allocator, after the same requests and after it was asked to give memory back.

jemalloc and mimalloc are taken from where Debian has them, or from the folder $MEMUNIT_ALLOCATORS.
"""

import contextlib
import os
import tempfile
import threading
from pathlib import Path

import psutil

from memunit.cli import allocating
from memunit.core.settings import App, Memory, Settings
from tests.bench.common import free_port, lines, memunit, program
from tests.support.load import Load

# The server, the path, how many clients at a time, and how many requests.
APPS = (
    ("20,000 dicts to JSON and back", ("asgi", "/documents", 1, 60)),
    ("  in 8 threads", ("wsgi", "/documents", 8, 60)),
    ("blocks of 1 to 60 KiB, 1 of 20 kept", ("asgi", "/blocks", 1, 60)),
    ("  in 8 threads", ("wsgi", "/blocks", 8, 60)),
    ("bodies to 4 MiB, 16 kept, 8 threads", ("wsgi", "/uploads", 8, 600)),
)
ALLOCATORS = ("system", "glibc-tight", "jemalloc", "mimalloc")
SETTLE = 2.0


def main() -> None:
    """Measure and print."""
    for name, (server, path, clients, count) in APPS:
        for allocator in ALLOCATORS:
            try:
                held, left, cpu = _one(allocator, server, path, clients, count)
            except allocating.Missing as missing:
                print(f"{name:38} {allocator:12} {missing}", flush=True)
                continue
            print(
                f"{name:38} {allocator:12} {held >> 20:5} MiB, {left >> 20:5} MiB when asked; "
                f"{cpu * 1000:7.1f} ms of CPU a request",
                flush=True,
            )


def _one(allocator: str, server: str, path: str, clients: int, count: int) -> tuple[int, int, float]:
    """Bytes that the worker alone holds, those left when it was asked, and seconds of CPU a request."""
    folders = (os.environ.get("MEMUNIT_ALLOCATORS", ""), *allocating._FOLDERS)
    asks = Settings(app=App(run="a:b"), memory=Memory(allocator=allocator))
    told = allocating.variables(asks, folders)
    port = free_port()
    more = [word for item in told.items() for word in ("--environment", "=".join(item))]
    app = "app" if server == "asgi" else "wsgi"
    flags = ["--workers", "1", "--no-preload", "--server", server, "--app", f"tests.bench.allocated:{app}"]
    with contextlib.ExitStack() as stack:
        runtime = stack.enter_context(tempfile.TemporaryDirectory())
        environment = {"RUNTIME_DIRECTORY": runtime}
        master = stack.enter_context(program(*memunit(port, *flags, *more), environment=environment))
        lines(master, b"is ready", 1)
        (worker,) = psutil.Process(master.pid).children()
        begun = sum(worker.cpu_times()[:2])
        Load(
            f"127.0.0.1:{port}", clients=clients, requests=count, path=path, expect_prefix="ok", timeout=120.0
        ).run()
        cpu = (sum(worker.cpu_times()[:2]) - begun) / count
        held = worker.memory_full_info().uss
        with Path(runtime, "pressure", "0.1").open("wb", buffering=0) as fifo:
            fifo.write(b"\n")
        # It gives back in a thread, and tells nobody; a worker that is asked by its master is measured a second later.
        threading.Event().wait(SETTLE)
        return held, worker.memory_full_info().uss, cpu
