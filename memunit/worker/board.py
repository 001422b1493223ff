"""The page that the master makes for this worker alone, and reads also after its end, whatever has ended it.

What is where is said in memunit/core/board.py, the master's half. Without a page, nothing is written, and the worker
serves as ever.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from typing import Any, MutableMapping, NamedTuple, Optional

HEADER = struct.Struct("<8sIIIIII")
MAGIC = b"memunitW"
VERSION = 1
SIZE = 0x15000
ROUTES = 128
SLOTS = 64
NAME_SIZE = 128
SLOT_SIZE = 128
MOST_REPORT = 48 * 1024

ORDER = 64
STATE = 128
UNLISTED = 192
GIVEN_BACK = 200
COUNTS = 0x1000
IN_WORK = 0x2000
NAMES = 0x4000
REPORT = 0x8000

_ORDER = struct.Struct("<IIQ")
_STATE = struct.Struct("<I")
_GIVEN_BACK = struct.Struct("<QQ")
_REPORT = struct.Struct("<I")

# Why this worker stops: Order.reason.
MEMORY_LIMIT = 1
PRESSURE = 2
EXAMINE = 3
OTHER = 4
# How far it has come: Page.stage().
SERVING = 1
DRAINING = 2
EXAMINING = 3
EXAMINED = 4
GAVE_UP = 5


_KNOWN = HEADER.pack(MAGIC, VERSION, SIZE, ROUTES, SLOTS, NAME_SIZE, SLOT_SIZE)


class Order(NamedTuple):
    """What the master has written before it has told this worker to stop."""

    reason: int
    """0 while it was not told."""
    milliseconds: int
    """The time that an examination may take; 0 if there is to be none."""
    memory: int
    """The bytes that it may take."""


class Page:
    """The page of this worker."""

    def __init__(self, memory: mmap.mmap) -> None:
        self.memory = memory

    def order(self) -> Order:
        """What the master has written so far."""
        return Order(*_ORDER.unpack_from(self.memory, ORDER))

    def stage(self, stage: int) -> None:
        """Write how far this worker has come."""
        _STATE.pack_into(self.memory, STATE, stage)

    def gave_back(self, size: int) -> None:
        """Count that `size` bytes of memory were given back."""
        times, total = _GIVEN_BACK.unpack_from(self.memory, GIVEN_BACK)
        _GIVEN_BACK.pack_into(self.memory, GIVEN_BACK, times + 1, (total + size) & 0xFFFFFFFFFFFFFFFF)

    def report(self, text: bytes) -> bool:
        """Leave this JSON for the master; False if it is longer than MOST_REPORT, and was not written."""
        if not 0 < len(text) <= MOST_REPORT:
            return False
        begin = REPORT + _REPORT.size
        _REPORT.pack_into(self.memory, REPORT, 0)
        self.memory[begin : begin + len(text)] = text
        # Last: what is read after a SIGKILL in between is no report.
        _REPORT.pack_into(self.memory, REPORT, len(text))
        return True


class _Own:
    page: Optional[Page] = None
    """One for the process, as its environment."""


def take(environment: Optional[MutableMapping[str, str]] = None) -> None:
    """Map the page whose descriptor is in MEMUNIT_BOARD, and take the variable out of `environment`."""
    env: Any = os.environ if environment is None else environment
    text = env.pop("MEMUNIT_BOARD", "")
    if text.isascii() and text.isdigit():
        take_descriptor(int(text))


def take_descriptor(fd: int) -> None:
    """Map the page with this descriptor, and close the descriptor. A page of another version is not used."""
    try:
        memory = mmap.mmap(fd, 0)
        os.close(fd)
    except (OSError, ValueError, OverflowError):
        return
    if len(memory) >= SIZE and memory[: HEADER.size] == _KNOWN:
        _Own.page = Page(memory)


def rehearse() -> None:
    """In a zygote: look at a descriptor that has no page."""
    with contextlib.suppress(OSError):
        page = os.memfd_create("memunit-rehearsal", os.MFD_CLOEXEC)
        os.ftruncate(page, SIZE)
        take_descriptor(page)


def own() -> Optional[Page]:
    """This worker's page; None if it has none."""
    return _Own.page


def stage(stage: int) -> None:
    """Write how far this worker has come, if it has a page."""
    if _Own.page is not None:
        _Own.page.stage(stage)
