"""Bytes out, bytes in: what a server answers to exactly these, with no opinion of a client's in between."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from tests.support.wait import DEADLINE

_STATUS = re.compile(rb"HTTP/1\.1 (\d\d\d) [^\r\n]*\r\n")


@dataclass(frozen=True)
class Answer:
    """One answer, and its header lines as they came. `whole` says whether its body came to its own end."""

    status: int
    lines: tuple[str, ...]
    body: bytes
    whole: bool

    def header(self, name: str) -> list[str]:
        """The values of this header, in their order."""
        return [line.partition(": ")[2] for line in self.lines if line.partition(":")[0] == name]


def connect(target: str) -> socket.socket:
    """A connection to "host:port" or "/path" whose every wait has a deadline."""
    if target.startswith("/"):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(DEADLINE)
        sock.connect(target)
        return sock
    host, _, port = target.rpartition(":")
    sock = socket.create_connection((host, int(port)), DEADLINE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def exchange(target: str, pieces: Iterable[bytes], *, half_close: bool = True) -> bytes:
    """Send `pieces`, close the own half, and read to the end. ConnectionError when that is a reset.

    A server that refuses early stops reading: what can't be sent then is not.
    """
    with connect(target) as sock:
        try:
            for piece in pieces:
                sock.sendall(piece)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError, OSError):
            pass
        return to_the_end(sock)


def to_the_end(sock: socket.socket) -> bytes:
    """All that comes."""
    received = bytearray()
    while block := sock.recv(65536):
        received += block
    return bytes(received)


def answers(received: bytes, methods: Iterable[str] = ()) -> list[Answer]:
    """The answers that `received` is made of; those to HEAD have no body. 100 Continue is left out."""
    found = []
    asked = iter(methods)
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        match = _STATUS.match(head + b"\r\n")
        assert match, received[:200]
        status = int(match[1])
        lines = tuple(head.decode("latin-1").split("\r\n")[1:])
        if status == 100:
            received = rest
            continue
        method = next(asked, "GET")
        body, whole, received = _body(status, method, lines, rest)
        found.append(Answer(status, lines, body, whole))
    return found


def _body(status: int, method: str, lines: tuple[str, ...], rest: bytes) -> tuple[bytes, bool, bytes]:
    fields = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines}
    if method == "HEAD" or status in (204, 304):
        return b"", True, rest
    if "content-length" in fields:
        length = int(fields["content-length"])
        return rest[:length], len(rest) >= length, rest[length:]
    if fields.get("transfer-encoding") != "chunked":
        return rest, True, b""
    body = b""
    while True:
        line, end, more = rest.partition(b"\r\n")
        if not end:
            return body, False, b""
        size = int(line, 16)
        if size == 0:
            return body, more.startswith(b"\r\n"), more[2:]
        if len(more) < size + 2:
            return body + more[:size], False, b""
        body, rest = body + more[:size], more[size + 2 :]
