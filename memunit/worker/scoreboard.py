"""The page that the master makes and all of its workers map: a line for each worker, which that worker writes.

What is where is said in memunit/core/scoreboard.py, the master's half. Every worker can write all of it, so whatever
is read here may be rubbish.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import MutableMapping, NamedTuple, Optional

HEADER = struct.Struct("=8sIIII")
"""The magic number, the version, the bytes of a line, the lines that there are, and those that were ever in use."""
MAGIC = b"memunit\0"
VERSION = 1
LINE = 64
WORDS = LINE // 4
USED = 5
"""The word of the header with the number of lines that were ever in use."""
# The words of a line.
ACCEPTING = 0
"""1 while the worker takes connections."""
OPEN = 1
"""The connections that it has."""
ACCEPTED = 2
"""Those that it has ever accepted, modulo 2**32."""


class Place(NamedTuple):
    """A line of the page."""

    words: "memoryview[int]"
    """The page in words of 32 bits. The header takes the place of the first line."""
    lines: int
    own: int
    """The index of the first word of this worker's line."""


class _Inherited:
    page: Optional[mmap.mmap] = None
    """One for the process, as its environment: mapped before the app is imported, and inherited over a fork."""
    line: str = ""


def take(environment: Optional[MutableMapping[str, str]] = None) -> None:
    """Map the page whose descriptor is in MEMUNIT_SCOREBOARD, and take what tells of it out of `environment`.

    Without a page, or with one of another version (the package may be newer than a running master), nothing happens.
    """
    env = os.environ if environment is None else environment
    text = env.pop("MEMUNIT_SCOREBOARD", "")
    _Inherited.line = env.pop("MEMUNIT_SCOREBOARD_LINE", "")
    if not (text.isascii() and text.isdigit()):
        return
    fd = int(text)
    try:
        page = mmap.mmap(fd, 0)
        os.close(fd)
    except (OSError, ValueError, OverflowError):
        return
    if _lines(page):
        _Inherited.page = page


def place(environment: Optional[MutableMapping[str, str]] = None) -> Optional[Place]:
    """This process's line of the page, which MEMUNIT_SCOREBOARD_LINE numbers; None if there is none.

    A worker that was forked has that variable since then.
    """
    env = os.environ if environment is None else environment
    text = env.pop("MEMUNIT_SCOREBOARD_LINE", "") or _Inherited.line
    page = _Inherited.page
    if page is None or not (text.isascii() and text.isdigit()):
        return None
    lines, index = _lines(page), int(text)
    return Place(memoryview(page).cast("I"), lines, (index + 1) * WORDS) if index < lines else None


def _lines(page: mmap.mmap) -> int:
    if len(page) < LINE:
        return 0
    magic, version, line, lines, _used = HEADER.unpack_from(page)
    known = magic == MAGIC and version == VERSION and line == LINE and len(page) >= (lines + 1) * LINE
    return int(lines) if known else 0
