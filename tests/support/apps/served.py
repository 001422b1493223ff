"""Workers that serve by themselves, as an app's author writes them: one answer a connection."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import sys
import threading
from typing import Any

from telling import tell  # type: ignore[import-not-found]

_lock = threading.Lock()


def _answer(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        while b"\r\n\r\n" not in connection.recv(65536):
            pass
        body = f"ok {os.getpid()}".encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + body)


def serve(sockets: list[socket.socket], stopping: Any) -> None:
    """The plain callable: select() over the sockets and the stop."""
    while not stopping.is_set():
        readable, _, _ = select.select([*sockets, stopping], [], [])
        for each in readable:
            if each is not stopping:
                _answer(each)
    tell("served to the end")


def run(worker: Any) -> None:
    """The library's way, with words to the master."""
    worker.status(f"slot {worker.slot} on {len(worker.sockets)} sockets")
    worker.ready()
    while not worker.stopping.wait(0.05):
        worker.ping()


def locked(worker: Any) -> None:
    """Holds a lock that clean() needs, in a wait that no signal ends."""
    worker.ready()
    worker.stopping.wait()
    with _lock:
        tell(f"cleaned {cleaned}")


def holding(worker: Any) -> None:
    """Keeps the lock until SIGUSR1."""
    let_go = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: let_go.set())
    with _lock:
        worker.ready()
        while not let_go.wait(0.05):
            assert not worker.stopping.is_set()
    worker.stopping.wait()
    tell(f"cleaned {cleaned}")


cleaned = False


def clean() -> None:
    """Takes that lock."""
    global cleaned  # noqa: PLW0603  the simplest thing that two threads share
    tell("cleaning")
    with _lock:
        cleaned = True


def bad_clean() -> None:
    """Raises."""
    raise RuntimeError("cannot clean")


def crash(worker: Any) -> None:
    """Raises."""
    raise RuntimeError("cannot serve")


def leave(worker: Any) -> None:
    """Ends by sys.exit()."""
    sys.exit(7)


def leave_with_word(worker: Any) -> None:
    """Ends by sys.exit() with a text."""
    sys.exit("no more")


def returns(worker: Any) -> None:
    """Ends at once."""


def three(first: Any, second: Any, third: Any) -> None:
    """Cannot be called by anyone."""


def deep(worker: Any) -> None:
    """An event loop of its own, which takes the interpreter's wakeup descriptor for itself."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, lambda: None)
        stopped = asyncio.Event()
        loop.add_reader(worker.stopping, stopped.set)
        worker.ready()
        await stopped.wait()

    asyncio.run(main())
