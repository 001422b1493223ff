"""A WSGI app in nothing but the standard library, for process tests: plain.py, in its own language."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from wsgiref.validate import validator

from telling import tell  # type: ignore[import-not-found]

Start = Callable[..., Callable[[bytes], object]]

_kept: list[bytearray] = []
_barrier = threading.Barrier(3)


def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    """`/` answers "ok PID"; see the branches for the rest."""
    path = environ["PATH_INFO"]
    query = {key: values[0] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
    body = f"ok {os.getpid()}".encode()
    if path in ("/slow", "/told"):
        if path == "/told":
            tell("slow")
        time.sleep(float(query.get("s", "0.1")))
    elif path == "/held":
        tell("held")
        _read(query["on"])
    elif path == "/leak":
        _kept.append(bytearray(int(query.get("kb", "64")) * 1024))
    elif path == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        if "on" in query:
            return _Closing(_held(query["on"]))
        return _Closing(_numbers(int(query.get("n", "10")), float(query.get("s", "0.01"))))
    elif path == "/endless":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return _Closing(bytes(65536) for _ in iter(int, 1))
    elif path == "/endless-counted":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return _Closing(b"ok" for _ in iter(int, 1))
    elif path == "/ending":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return _Closing([b"ok"], float(query.get("s", "0.1")))
    elif path == "/large":
        return _answer(start_response, b"x" * int(query["size"]))
    elif path == "/echo":
        body = environ["wsgi.input"].read()
    elif path == "/sum":
        body = str(sum(len(block) for block in iter(lambda: environ["wsgi.input"].read(65536), b""))).encode()
    elif path == "/lines":
        body = json.dumps([line.decode() for line in environ["wsgi.input"]]).encode()
    elif path == "/unread":
        body = b"ok unread"
    elif path == "/environ":
        body = json.dumps({key: value for key, value in environ.items() if isinstance(value, str)}).encode()
    elif path == "/nodelay":
        body = b"1"
    elif path == "/meet":
        _barrier.wait(60)  # three requests at once, or none is answered
    elif path == "/stuck":
        tell("stuck")
        _stuck()
    elif path == "/exit":
        sys.exit("asked for")
    elif path.startswith("/bad/"):
        return _BAD[path.removeprefix("/bad/")](start_response)
    return _answer(start_response, body)


validated = validator(app)


def _answer(start_response: Start, body: bytes) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def _numbers(count: int, pause: float) -> Iterator[bytes]:
    for number in range(count):
        yield b"%d\n" % number
        time.sleep(pause)
    yield b"ok"


def _held(fifo: str) -> Iterator[bytes]:
    yield b"first\n"
    _read(fifo)
    yield b"ok"


def _read(fifo: str) -> None:
    """Wait until somebody has written there."""
    Path(fifo).read_bytes()


class _Closing:
    """An iterable that says when it is closed."""

    def __init__(self, blocks: Iterable[bytes], pause: float = 0.0) -> None:
        self._blocks = iter(blocks)
        self._pause = pause

    def __iter__(self) -> Iterator[bytes]:
        return self._blocks

    def close(self) -> None:
        time.sleep(self._pause)
        tell("closed")


def _stuck() -> None:
    read, _write = os.pipe()
    os.read(read, 1)


def _raise(start_response: Start) -> Iterable[bytes]:
    raise RuntimeError("asked for")


def _raise_in_the_middle(start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"half"
    raise RuntimeError("asked for")


def _raise_and_recover(start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    try:
        raise RuntimeError("mended")
    except RuntimeError:
        start_response("503 Busy", [("Content-Type", "text/plain")], sys.exc_info())
    return [b"sorry"]


def _raise_too_late(start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"half"
    try:
        raise RuntimeError("too late")
    except RuntimeError:
        start_response("503 Busy", [("Content-Type", "text/plain")], sys.exc_info())
    yield b"never"


def _twice(start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [])
    start_response("200 OK", [])
    return [b"never"]


def _silent(start_response: Start) -> Iterable[bytes]:
    return [b"never"]


def _texts(start_response: Start) -> Iterable[Any]:
    start_response("200 OK", [])
    return ["text"]


def _short(start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Length", "10")])
    return [b"short"]


def _long(start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Length", "4")])
    return [b"lo", b"nger"]


def _cookie(start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [("Set-Cookie", " a=1")])  # as Django up to 5.2 does
    return [b"ok"]


def _split(start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [("X-One", "1\r\nX-Two: 2")])
    return [b"never"]


def _written(start_response: Start) -> Iterable[bytes]:
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"written ")
    return [b"and ", b"", b"yielded"]


def _nothing(start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [])
    return []


def _no_content(start_response: Start) -> Iterable[bytes]:
    start_response("204 No Content", [("Content-Length", "0")])
    return []


def _not_modified(start_response: Start) -> Iterable[bytes]:
    start_response("304 Not Modified", [("Content-Length", "99"), ("Connection", "keep-alive")])
    return []


def _bare(start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [b"bare"]


_BAD: dict[str, Callable[[Start], Iterable[bytes]]] = {
    "raise": _raise,
    "middle": _raise_in_the_middle,
    "recover": _raise_and_recover,
    "late": _raise_too_late,
    "twice": _twice,
    "silent": _silent,
    "texts": _texts,
    "short": _short,
    "long": _long,
    "split": _split,
    "cookie": _cookie,
    "written": _written,
    "nothing": _nothing,
    "204": _no_content,
    "304": _not_modified,
    "bare": _bare,
}
