"""Two pieces of PEP 3333: what an app says in start_response(), and its wsgi.input."""

from __future__ import annotations

import io
from typing import Any, Callable, List, Optional, Tuple

Headers = List[Tuple[bytes, bytes]]

# RFC 9110, 7.6.1, and PEP 3333: these are the server's. "connection" is looked at, for its "close".
_OF_THE_SERVER = frozenset(
    (b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)


class Body(io.RawIOBase):
    """wsgi.input of a body that is still on its way; a BufferedReader does the rest."""

    def __init__(self, read_into: Callable[[memoryview], int]) -> None:
        super().__init__()
        self._read_into = read_into

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._read_into(memoryview(buffer).cast("B"))


def parse(status: str, headers: List[Tuple[str, str]]) -> Tuple[int, Optional[int], Headers]:
    """Status code, Content-Length and headers of a start_response(). Raises ValueError, TypeError."""
    code = status[:3]
    if not (code.isascii() and code.isdigit() and 200 <= int(code) <= 599 and status[3:4] in ("", " ")):
        raise ValueError(f"{status!r} is not a status such as '200 OK'")
    length: Optional[int] = None
    kept: Headers = []
    for name, value in headers:
        if "\n" in value or "\r" in value or "\n" in name or "\r" in name:
            raise ValueError(f"the header {name!r} has a line break in it")
        key, content = name.encode("latin-1").lower(), value.encode("latin-1")
        if key in _OF_THE_SERVER:
            continue
        if key == b"content-length":
            length = int(value)
        elif key == b"connection":
            if "close" not in value.lower():
                continue
            content = b"close"
        kept.append((key, content))
    return int(code), length, kept
