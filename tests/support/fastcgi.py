"""One request to a FastCGI server on a Unix socket (the FastCGI specification, 1.0), as nginx would send it."""

from __future__ import annotations

import socket
import struct
from types import TracebackType

from tests.support.wait import DEADLINE

_BEGIN, _END, _PARAMS, _STDIN, _STDOUT = 1, 3, 4, 5, 6


class Request:
    """A request that has been sent; `read` waits for its answer."""

    def __init__(self, path: str, script: str, query: str = "") -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(DEADLINE)
        self._socket.connect(path)
        values = {
            "REQUEST_METHOD": "GET",
            "SCRIPT_FILENAME": script,
            "SCRIPT_NAME": "/",
            "QUERY_STRING": query,
        }
        params = b"".join(_pair(name.encode(), value.encode()) for name, value in values.items())
        begin = struct.pack("!HB5x", 1, 0)
        for kind, content in ((_BEGIN, begin), (_PARAMS, params), (_PARAMS, b""), (_STDIN, b"")):
            self._socket.sendall(_record(kind, content))

    def read(self) -> str:
        """The body of the answer. Raises EOFError for one that is cut off."""
        body = b""
        while True:
            kind, length, padding = struct.unpack("!xBxxHBx", self._take(8))
            content = self._take(length)
            self._take(padding)
            if kind == _STDOUT:
                body += content
            elif kind == _END:
                return body.partition(b"\r\n\r\n")[2].decode()

    def _take(self, count: int) -> bytes:
        taken = b""
        while len(taken) < count:
            block = self._socket.recv(count - len(taken))
            if not block:
                raise EOFError("the answer is cut off")
            taken += block
        return taken

    def __enter__(self) -> Request:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()


def _record(kind: int, content: bytes) -> bytes:
    return struct.pack("!BBHHBB", 1, kind, 1, len(content), 0, 0) + content


def _pair(name: bytes, value: bytes) -> bytes:
    return b"".join(struct.pack("!I", len(each) | 1 << 31) for each in (name, value)) + name + value
