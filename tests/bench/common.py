"""Starting what is measured, and asking it for an answer."""

import contextlib
import http.client
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
APP = "tests.bench.app:app"
DEADLINE = 60.0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def program(
    *argv: str, environment: dict[str, str] | None = None, quiet: bool = False
) -> Iterator["subprocess.Popen[bytes]"]:
    """A program of the checkout, stopped by SIGTERM at the end. `quiet`: what it says on stderr is dropped."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
    stderr = subprocess.DEVNULL if quiet else subprocess.PIPE
    process = subprocess.Popen(argv, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=stderr, bufsize=0)
    try:
        yield process
    finally:
        process.terminate()
        if process.stderr is not None:
            process.stderr.close()
        process.wait(DEADLINE)


def memunit(port: int, *flags: str) -> list[str]:
    """The command line of a master in the foreground."""
    return [sys.executable, "-m", "memunit", "run", "--listen", f"127.0.0.1:{port}", *flags]


def lines(process: "subprocess.Popen[bytes]", wanted: bytes, count: int) -> None:
    """Read its stderr until `count` lines have this in them."""
    assert process.stderr is not None
    until, buffer = time.monotonic() + DEADLINE, b""
    while buffer.count(wanted) < count:
        ready, _, _ = select.select([process.stderr], [], [], max(0.0, until - time.monotonic()))
        block = os.read(process.stderr.fileno(), 65536) if ready else b""
        if not block:
            raise TimeoutError(f"{wanted!r} did not come {count} times:\n{buffer.decode(errors='replace')}")
        buffer += block


def listening(port: int) -> None:
    """Wait until a request is answered: not every server says when it listens."""
    until = time.monotonic() + DEADLINE
    while True:
        try:
            answer(port)
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            os.sched_yield()
        else:
            return


def answer(port: int) -> str:
    """One request on a connection of its own; waits in the backlog as long as nobody accepts."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode().strip()
    finally:
        connection.close()
