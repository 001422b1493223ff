"""A client that does exactly what a test says, byte by byte."""

from __future__ import annotations

import base64
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from tests.support.wait import DEADLINE


@dataclass(frozen=True)
class Response:
    """One response, whole."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether it announces the end of the connection."""
        return self.headers.get("connection") == "close"


class Client:
    """One connection to "host:port" or "/path", from the address `source`. Each read has a deadline."""

    def __init__(self, target: str, *, source: str = "") -> None:
        if target.startswith("/"):
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.settimeout(DEADLINE)
            self.socket.connect(target)
        else:
            host, _, port = target.rpartition(":")
            own = (source, 0) if source else None
            self.socket = socket.create_connection((host, int(port)), DEADLINE, own)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. To close the socket alone would not: the file holds it open."""
        self._file.close()
        self.socket.close()

    def send(self, text: str | bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(text.encode() if isinstance(text, str) else text)

    def ask(self, path: str = "/", *more: str) -> None:
        """Send a GET with `more` header lines."""
        self.send("\r\n".join((f"GET {path} HTTP/1.1", "Host: test", *more, "", "")))

    def get(self, path: str = "/") -> Response:
        """GET `path` and read the response."""
        self.ask(path)
        return self.read()

    def read(self, *, head_only: bool = False) -> Response:
        """The next response; EOFError when there is none, ConnectionError when it is reset.

        `head_only`: it is one that has no body.
        """
        line = self._line()
        status = int(line.split(" ")[1])
        headers = {}
        while line := self._line():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip().lower()
        if status == 101 or head_only:
            return Response(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self._line(), 16):
                body += self._exactly(size)
                self._line()
            self._line()
        else:
            body = self._exactly(int(headers["content-length"]))
        return Response(status, headers, body)

    def more(self) -> bool:
        """Whether another byte comes, which stays unread. ConnectionError when the stream is reset."""
        return bool(self._file.peek(1))

    def sips(self, size: int, pause: Callable[[], object]) -> Response:
        """The next response, which has a length, its body read so many bytes at a time with pauses between."""
        head = self.read(head_only=True)
        parts, left = [], int(head.headers["content-length"])
        while left:
            parts.append(self._exactly(min(left, size)))
            left -= len(parts[-1])
            pause()
        return Response(head.status, head.headers, b"".join(parts))

    def at_end(self) -> bool:
        """Whether the stream ends, and not with another byte. ConnectionError when it is reset."""
        return self._file.read(1) == b""

    def upgrade(self, path: str) -> Response:
        """Ask for a WebSocket."""
        key = base64.b64encode(os.urandom(16)).decode()
        self.ask(
            path,
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
        )
        return self.read()

    def send_frame(self, opcode: int, payload: bytes) -> None:
        """Send one masked WebSocket frame (RFC 6455) of less than 126 bytes."""
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
        self.send(bytes((0x80 | opcode, 0x80 | len(payload))) + mask + masked)

    def read_frame(self) -> tuple[int, bytes]:
        """The next WebSocket frame: (opcode, payload)."""
        first, length = self._exactly(2)
        if length == 126:
            (length,) = struct.unpack("!H", self._exactly(2))
        return first & 0x0F, self._exactly(length)

    def _line(self) -> str:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError(f"the stream ended at {line!r}")
        return line[:-2].decode("latin-1")

    def _exactly(self, count: int) -> bytes:
        block = self._file.read(count)
        if len(block) < count:
            raise EOFError(f"the stream ended {count - len(block)} bytes early")
        return block
