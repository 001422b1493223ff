"""Two pieces of PEP 3333: what an app says in start_response(), and its wsgi.input."""

from __future__ import annotations

import io
from typing import Any, Callable, List, Tuple

from memunit.worker.httpanswer import Head, head_of_text


class Body(io.RawIOBase):
    """wsgi.input of a body that is still on its way; a BufferedReader does the rest."""

    def __init__(self, read_into: Callable[[memoryview], int]) -> None:
        super().__init__()
        self._read_into = read_into

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._read_into(memoryview(buffer).cast("B"))


def parse(status: str, headers: List[Tuple[str, str]]) -> Tuple[int, Head]:
    """Status code and head of a start_response(). Raises ValueError, and Unsendable."""
    code = status[:3]
    if not (code.isascii() and code.isdigit() and 200 <= int(code) <= 599 and status[3:4] in ("", " ")):
        raise ValueError(f"{status!r} is not a status such as '200 OK'")
    return int(code), head_of_text(int(code), headers)
