"""The page on which each worker has a line that it writes itself, as bytes: what is where.

The workers' half is memunit/worker/scoreboard.py. All of a service's workers can write every byte of it, and their app
can: nothing that stands there is to be relied on.
"""

import struct

from memunit.records import dataclass

_HEADER = struct.Struct("=8sIIII")
_LINE = struct.Struct("=III")
MAGIC = b"memunit\0"
# Another layout is another version: a worker of a newer package than its running master does without the page.
VERSION = 1
# One line of a cache each, so that no worker's writing slows down another's.
LINE_SIZE = 64
LINES = 1023
FREE = bytes(LINE_SIZE)


@dataclass(frozen=True, slots=True)
class Line:
    """What a worker has written of itself."""

    accepting: bool
    """Whether it takes connections, so that its siblings may leave some to it."""
    connections: int
    """The connections that it has."""
    accepted: int
    """Those that it has ever accepted, modulo 2**32."""


def header(used: int) -> bytes:
    """The first line, of a page on which the lines before `used` have been given to workers at some time."""
    return _HEADER.pack(MAGIC, VERSION, LINE_SIZE, LINES, used).ljust(LINE_SIZE, b"\0")


def parse(line: bytes) -> Line:
    """The line with these bytes, LINE_SIZE of them."""
    accepting, connections, accepted = _LINE.unpack_from(line)
    return Line(accepting == 1, connections, accepted)
