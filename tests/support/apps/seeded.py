"""Leaks on request: GET /NAME/COUNT has the leak of that name happen so often, by ASGI, WSGI or sockets of its own."""

from __future__ import annotations

import asyncio
import collections
import contextvars
import ctypes
import functools
import logging
import os
import socket
import tempfile
import threading
from collections.abc import Callable
from typing import Any

SEEN: dict[str, int] = {}
HOOKS: list[Callable[[], Any]] = []
KEPT: list[Any] = []
PARTS: collections.deque[bytes] = collections.deque()
STREAMS: list[Any] = []
LARGE: list[bytes] = []
BY_NAME: dict[str, bytes] = {}
SURVIVORS: list[bytes] = []
TRACE: contextvars.ContextVar[list[str]] = contextvars.ContextVar("trace")
TRACE.set([])
LOCAL = threading.local()
NEVER = threading.Event()
log = logging.getLogger("seeded.requests")
log.propagate = False
_numbers = iter(range(1 << 60))
_tasks: set[asyncio.Task[None]] = set()


class Product:
    every: list[Product] = []  # noqa: RUF012  the leak

    def __init__(self, number: int) -> None:
        self.number = number
        self.name = f"product {number}"


class Session:
    """As an object-relational mapper's."""

    def __init__(self) -> None:
        self.identity_map: dict[int, Row] = {}


class Row:
    def __init__(self, number: int, session: Session) -> None:
        self.number, self.session, self.text = number, session, f"row {number}" * 20


class Cache:
    """Takes so much and no more."""

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self.data: collections.OrderedDict[int, bytes] = collections.OrderedDict()

    def put(self, key: int, value: bytes) -> None:
        self.data[key] = value
        if len(self.data) > self.maxsize:
            self.data.popitem(last=False)


class Lasting:
    """A cycle that its own finalizer keeps."""

    def __init__(self) -> None:
        self.own = self
        self.data = bytes(1500)

    def __del__(self) -> None:
        KEPT.append(self)


session = Session()
cache = Cache(20_000)


@functools.cache
def price(number: int) -> str:
    return f"price {number}" * 8


def _counter() -> Callable[[bytes], None]:
    counted: list[bytes] = []

    def count(item: bytes) -> None:
        counted.append(item)

    return count


count = _counter()


def module_dict() -> None:
    SEEN[f"/product/{next(_numbers)}"] = next(_numbers) + 1_000_000


def class_list() -> None:
    Product.every.append(Product(next(_numbers)))


def lru_cache() -> None:
    price(next(_numbers))


def closures() -> None:
    data = os.urandom(16) * 40
    HOOKS.append(lambda: data)


def closure_variable() -> None:
    count(os.urandom(16) * 40)


def cycles() -> None:
    Lasting()


def handlers() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s" + os.urandom(8).hex() * 800))
    log.addHandler(handler)


def identity_map() -> None:
    number = next(_numbers)
    session.identity_map[number] = Row(number, session)


def growing_bytes() -> None:
    PARTS.append(os.urandom(16) * 4000)


def few_and_large() -> None:
    LARGE.append(os.urandom(16) * 300_000)


def few_by_name() -> None:
    BY_NAME[f"name {next(_numbers)}"] = os.urandom(16) * 200_000


def context_variable() -> None:
    try:
        trace = TRACE.get()
    except LookupError:  # each thread has a context of its own
        TRACE.set(trace := [])
    trace.append(f"step {next(_numbers)}" * 6)


def thread_local() -> None:
    if not hasattr(LOCAL, "cache"):
        LOCAL.cache = {}
    LOCAL.cache[next(_numbers)] = f"value {next(_numbers)}" * 6


def native() -> None:
    malloc = ctypes.CDLL(None).malloc
    malloc.restype = ctypes.c_void_p
    ctypes.memset(malloc(2000), 1, 2000)


def fragmentation() -> None:
    """Big and small, of several threads; a few of the small ones stay."""

    def work() -> None:
        parts = [os.urandom(8) * (90 + number % 350) for number in range(8000)]
        SURVIVORS.extend(parts[::400])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def threads() -> None:
    def wait(data: bytes) -> None:
        NEVER.wait()

    threading.Thread(target=wait, args=(os.urandom(16) * 20000,), daemon=True).start()


def tmpfs() -> None:
    file = tempfile.TemporaryFile(dir="/dev/shm")  # noqa: SIM115  the leak
    file.write(b"x" * 1_000_000)
    file.flush()
    KEPT.append(file)


def generators() -> None:
    def stream() -> Any:
        data = os.urandom(16) * 60
        yield data
        yield b""

    started = stream()
    next(started)
    STREAMS.append(started)


def bounded_cache() -> None:
    cache.put(next(_numbers), os.urandom(16) * 100)


def tasks() -> None:
    async def refresh() -> None:
        data = os.urandom(16) * 800
        await asyncio.get_running_loop().create_future()
        del data

    _tasks.add(asyncio.get_running_loop().create_task(refresh()))


LEAKS = {
    each.__name__: each
    for each in (
        *(module_dict, class_list, lru_cache, closures, closure_variable, cycles, handlers, identity_map),
        *(growing_bytes, context_variable, thread_local, native, fragmentation, threads, tmpfs, generators),
        *(bounded_cache, tasks, few_and_large, few_by_name),
    )
}


def leak(path: str) -> bytes:
    """What a request does."""
    _, name, number = path.split("/")
    for _ in range(int(number)):
        LEAKS[name]()
    return b"done"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """By ASGI."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = leak(scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    """By WSGI."""
    body = leak(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def serve(sockets: list[socket.socket], stopping: Any) -> None:
    """By hand: one connection after the other."""
    import select

    poll = select.poll()
    for each in (stopping, *sockets):
        poll.register(each, select.POLLIN)
    while not stopping.is_set():
        poll.poll()
        if stopping.is_set():
            return
        connection, _ = sockets[0].accept()
        with connection:
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65536)
            body = leak(head.split()[1].decode())
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\n" + body)
