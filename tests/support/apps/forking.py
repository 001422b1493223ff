"""Apps whose requests run helper processes, by every way that Python has: `app`, `wsgi`, and `serve`."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

_TERMINATED = -signal.SIGTERM


def hang() -> None:
    """A helper that ends by a signal only."""
    while True:
        time.sleep(60)


def square(number: int) -> int:
    return number * number


def pool() -> str:
    with multiprocessing.get_context("fork").Pool(2) as made:
        return str(made.map(square, [1, 2, 3]))


def process(method: str = "fork") -> str:
    helper = multiprocessing.get_context(method).Process(target=hang)  # type: ignore[attr-defined]
    helper.start()
    helper.terminate()
    helper.join(10)
    return str(helper.exitcode == _TERMINATED)


def interrupted() -> str:
    """SIGINT is Python's own in a helper: KeyboardInterrupt, status 1."""
    ready, tell = os.pipe()
    helper = os.fork()
    if helper == 0:
        try:
            os.write(tell, b"!")
            # Not by hang(): a signal that comes right before the system call of sleep is not seen until that returns.
            while True:
                pass
        except KeyboardInterrupt:
            os._exit(7)
        os._exit(8)
    os.read(ready, 1)
    os.close(ready)
    os.close(tell)
    os.kill(helper, signal.SIGINT)
    return str(os.waitstatus_to_exitcode(os.waitpid(helper, 0)[1]) == 7)


def plain_fork() -> str:
    helper = os.fork()
    if helper == 0:
        hang()
    os.kill(helper, signal.SIGTERM)
    return str(os.waitstatus_to_exitcode(os.waitpid(helper, 0)[1]) == _TERMINATED)


def in_thread() -> str:
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(plain_fork()))
    thread.start()
    thread.join()
    return said[0]


def double_fork() -> str:
    """The helper's helper, by way of an intermediate that ends at once."""
    read, write = os.pipe()
    if os.fork() == 0:
        if os.fork() == 0:
            os.write(write, b"%d " % os.getpid())
            hang()
        os._exit(0)
    os.close(write)
    helper = int(os.read(read, 32))
    os.kill(helper, signal.SIGTERM)
    ended = os.read(read, 1) == b""  # its end of the pipe is closed
    os.close(read)
    os.waitpid(-1, 0)
    return str(ended)


def exits() -> str:
    """The helper ends as a program does, in the middle of a request."""
    helper = os.fork()
    if helper == 0:
        sys.exit(3)
    return str(os.waitstatus_to_exitcode(os.waitpid(helper, 0)[1]) == 3)


def returning() -> str:
    """The helper comes back from the view, as a process that was forgotten to be ended."""
    helper = os.fork()
    if helper == 0:
        return "this answer must reach nobody"
    return str(os.waitstatus_to_exitcode(os.waitpid(helper, 0)[1]) == 0)


def command() -> str:
    helper = subprocess.Popen(["sleep", "60"])
    helper.terminate()
    return str(helper.wait(10) == _TERMINATED)


WAYS: dict[str, Callable[[], str]] = {
    "pool": pool,
    "process": process,
    "spawn": lambda: process("spawn"),
    "forkserver": lambda: process("forkserver"),
    "interrupted": interrupted,
    "fork": plain_fork,
    "thread": in_thread,
    "double": double_fork,
    "command": command,
    "exits": exits,
    "pid": lambda: str(os.getpid()),
}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, int)
        while True:
            kind = (await receive())["type"]
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    way = scope["path"][1:]
    body = (returning() if way == "returning" else WAYS[way]()).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]}
    )
    await send({"type": "http.response.body", "body": body})


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    way = environ["PATH_INFO"][1:]
    body = (returning() if way == "returning" else WAYS[way]()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def serve(sockets: list[Any], stopping: Any) -> None:
    """One connection after another, each with one request."""
    import select

    while True:
        readable, _, _ = select.select([stopping, sockets[0]], [], [])
        if stopping in readable:
            return
        connection, _ = sockets[0].accept()
        with connection:
            way = connection.recv(65536).split()[1][1:].decode()
            body = WAYS[way]().encode()
            head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
            connection.sendall(head + body)
