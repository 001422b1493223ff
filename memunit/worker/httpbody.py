"""Where a request's body ends: by its length, or by its chunks (RFC 9112, 6.3 and 7.1).

Chunks are read here for every parser library. The libraries differ, from each other and from version to version, in
what they let pass as the size of a chunk, as its end, and as an extension; and they give trailers out as headers.
"""

from __future__ import annotations

import re

from memunit.worker.httphead import FIELD, Refused

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_FIELD = re.compile(FIELD)
_FRAMING = (b"content-length", b"transfer-encoding")  # RFC 9110, 6.5.1
_LONGEST_LINE = 4096  # bytes of a chunk's size with its extension
_MOST_EXTENSIONS = 16 * 1024  # bytes of extensions in one body


class Counted:
    """A body of so many bytes."""

    __slots__ = ("left",)

    def __init__(self, length: int) -> None:
        self.left = length

    def feed(self, data: bytes) -> "tuple[bytes, bytes, bool]":
        """What of `data` is the body's, what comes after it, and whether the body is at its end."""
        size = len(data)
        if size < self.left:
            self.left -= size
            return data, b"", False
        end, self.left = self.left, 0
        return (data, b"", True) if end == size else (data[:end], data[end:], True)


class Chunks:
    """A body in chunks. Trailers are read to their end, bounded by `most_trailers` bytes, and dropped."""

    __slots__ = ("_extensions", "_left", "_line", "_most_trailers", "_part", "_trailers")

    def __init__(self, most_trailers: int) -> None:
        self._part = b""  # what has come of a line
        self._left = 0  # bytes to come of this chunk
        self._line = self._size_line
        self._extensions = 0
        self._trailers = 0
        self._most_trailers = most_trailers

    def feed(self, data: bytes) -> "tuple[bytes, bytes, bool]":
        """What `data` has of the body, what comes after it, and whether the body is at its end. Raises Refused."""
        blocks = []
        place, size = 0, len(data)
        while place < size:
            if self._left:
                block = data[place : place + self._left] if place or size > self._left else data
                blocks.append(block)
                self._left -= len(block)
                place += len(block)
                continue
            end = data.find(b"\n", place) + 1
            self._part += data[place : end or size]
            place = end or size
            if not end:
                self._judge_part()
                break
            line, self._part = self._part, b""
            if self._line(line):
                return b"".join(blocks), data[place:], True
        return (blocks[0] if len(blocks) == 1 else b"".join(blocks)), b"", False

    def _judge_part(self) -> None:
        """A line that has no end yet is bounded too."""
        if self._line == self._trailer_line:
            self._bound_trailers(len(self._part))
        elif len(self._part) > _LONGEST_LINE:
            raise Refused(400, "the size line of a chunk is too long")
        elif self._line == self._end_line and not b"\r\n".startswith(self._part):
            raise Refused(400, "a chunk does not end where its size says")

    def _size_line(self, line: bytes) -> bool:
        match = _SIZE.fullmatch(line)
        if match is None or len(line) > _LONGEST_LINE:
            raise Refused(400, "the size of a chunk is malformed")
        self._extensions += len(line) - match.end(1) - 2
        if self._extensions > _MOST_EXTENSIONS:
            raise Refused(400, "there are too many chunk extensions")
        self._left = int(match[1], 16)
        self._line = self._end_line if self._left else self._trailer_line
        return False

    def _end_line(self, line: bytes) -> bool:
        if line != b"\r\n":
            raise Refused(400, "a chunk does not end where its size says")
        self._line = self._size_line
        return False

    def _trailer_line(self, line: bytes) -> bool:
        if line == b"\r\n":
            return True
        if _FIELD.fullmatch(line) is None:
            raise Refused(400, "a trailer line is malformed")
        if line.partition(b":")[0].lower() in _FRAMING:
            raise Refused(400, "a trailer says where the body ends")
        self._bound_trailers(len(line))
        self._trailers += len(line)
        return False

    def _bound_trailers(self, more: int) -> None:
        if self._trailers + more > self._most_trailers:
            raise Refused(431, "the trailers are too large")
