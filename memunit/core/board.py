"""The page of one worker, as bytes: what is where, and what the master makes of it.

The worker's half is memunit/worker/board.py. The worker and the app in it can write every byte but can't change the
size: whatever is read here is data of a hostile party, and becomes a bounded, typed value or nothing.
"""

import enum
import struct
from collections.abc import Mapping

from memunit.core.model import Cause
from memunit.core.paths import fold
from memunit.records import dataclass

MAGIC = b"memunitW"
# Another layout is another version: a worker of a newer package than its running master does without the page.
VERSION = 1
SIZE = 0x15000
ROUTES = 128
SLOTS = 64
NAME_SIZE = 128
SLOT_SIZE = 128
MOST_REPORT = 48 * 1024

# The areas. The master writes the first two lines, the worker all else.
ORDER = 64
STATE = 128
UNLISTED = 192
GIVEN_BACK = 200
COUNTS = 0x1000
IN_WORK = 0x2000
NAMES = 0x4000
REPORT = 0x8000

_HEADER = struct.Struct("<8sIIIIII")
_ORDER = struct.Struct("<IIQ")
_STATE = struct.Struct("<I")
_COUNTERS = struct.Struct("<QQQ")
_COUNTS = struct.Struct(f"<{ROUTES + 1}Q")
_SLOT = struct.Struct("<QI12s104s")
_REPORT = struct.Struct("<I")
# A route of a slot that is not known yet, whose path stands in the slot.
UNKNOWN = 0xFFFFFFFF
_LONGEST_NAME = 120
# Connections of one worker are fewer than its descriptors.
_MOST_UNLISTED = 1 << 20


class Reason(enum.IntEnum):
    """Why a worker is told to stop, as the master writes it before the signal."""

    NONE = 0
    MEMORY_LIMIT = 1
    PRESSURE = 2
    EXAMINE = 3
    OTHER = 4


class Stage(enum.IntEnum):
    """How far a worker has come, as it writes itself."""

    NONE = 0
    SERVING = 1
    DRAINING = 2
    EXAMINING = 3
    EXAMINED = 4
    GAVE_UP = 5


@dataclass(frozen=True, slots=True)
class InWork:
    """A request that the worker has not done with. `begun` in seconds of CLOCK_MONOTONIC."""

    route: str
    begun: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """What a worker says of itself."""

    reason: Reason
    stage: Stage
    routes: tuple[tuple[str, int], ...]
    """The name of each route, as "GET /product/{id}", and how many requests it has answered."""
    others: int
    """Requests of routes beyond ROUTES."""
    in_work: tuple[InWork, ...]
    """The longest first."""
    unlisted: int
    """Requests in work beside those."""
    gave_back: int
    """How often the worker has given memory back, and how many bytes in all."""
    gave_back_bytes: int
    report: bytes | None
    """What its examination has found, as JSON that nobody has looked at yet."""

    @property
    def served(self) -> int:
        """Requests that it has answered."""
        return sum(count for _, count in self.routes) + self.others


@dataclass(frozen=True, slots=True)
class Glance:
    """What a worker does now, as far as a table tells it."""

    served: int
    in_work: int
    longest: InWork | None


def header() -> bytes:
    """The beginning of a page on which nothing has been written; the rest is zeros."""
    return _HEADER.pack(MAGIC, VERSION, SIZE, ROUTES, SLOTS, NAME_SIZE, SLOT_SIZE)


def order(reason: Reason, budget: float = 0.0, memory: int = 0) -> bytes:
    """What stands at ORDER: why the worker stops, and the seconds and bytes for its examination; 0 for none."""
    milliseconds = int(max(0.0, min(budget, 86400.0)) * 1000)
    return _ORDER.pack(reason, milliseconds, max(0, min(memory, 0xFFFFFFFFFFFFFFFF)))


def reason_of(cause: Cause | None) -> Reason:
    """The reason that a worker is told, by the cause of its stop."""
    known = {Cause.MEMORY_LIMIT: Reason.MEMORY_LIMIT, Cause.PRESSURE: Reason.PRESSURE}
    return Reason.OTHER if cause is None else known.get(cause, Reason.OTHER)


def parse(page: bytes) -> Board | None:
    """What stands on a page; None for one of another size, version or make. Never raises."""
    if len(page) < SIZE or page[: _HEADER.size] != header():
        return None
    reason, _, _ = _ORDER.unpack_from(page, ORDER)
    (stage,) = _STATE.unpack_from(page, STATE)
    beyond, gave_back, gave_back_bytes = _COUNTERS.unpack_from(page, UNLISTED)
    *counts, others = _COUNTS.unpack_from(page, COUNTS)
    names = [_name(page, index) for index in range(ROUTES)]
    known = dict(enumerate(names))
    requests = [each for index in range(SLOTS) if (each := _in_work(page, index, known)) is not None]
    return Board(
        reason=Reason(reason) if reason in list(Reason) else Reason.NONE,
        stage=Stage(stage) if stage in list(Stage) else Stage.NONE,
        routes=tuple((name, count) for name, count in zip(names, counts, strict=True) if name),
        others=others,
        in_work=tuple(sorted(requests, key=lambda each: each.begun)),
        unlisted=min(beyond, _MOST_UNLISTED),
        gave_back=gave_back,
        gave_back_bytes=gave_back_bytes,
        report=_report(page),
    )


def glance(page: bytes) -> Glance | None:
    """As parse(), a few of these facts in a tenth of the time, from the first REPORT bytes of a page."""
    if len(page) < REPORT or page[: _HEADER.size] != header():
        return None
    (unlisted,) = struct.unpack_from("<Q", page, UNLISTED)
    begun = [struct.unpack_from("<Q", page, IN_WORK + index * SLOT_SIZE)[0] for index in range(SLOTS)]
    busy = [index for index in range(SLOTS) if begun[index]]
    longest = None
    if busy:
        index = min(busy, key=begun.__getitem__)
        route = _SLOT.unpack_from(page, IN_WORK + index * SLOT_SIZE)[1]
        names = {route: _name(page, route)} if route < ROUTES else {}
        longest = _in_work(page, index, names)
    return Glance(sum(_COUNTS.unpack_from(page, COUNTS)), len(busy) + min(unlisted, _MOST_UNLISTED), longest)


def _in_work(page: bytes, index: int, names: Mapping[int, str]) -> InWork | None:
    begun, route, method, path = _SLOT.unpack_from(page, IN_WORK + index * SLOT_SIZE)
    if not begun:
        return None
    if names.get(route):
        name = names[route]
    else:
        name = _printable(f"{_text(method)} {fold(_text(path))}")
    return InWork(name, begun / 1e9)


def _name(page: bytes, index: int) -> str:
    begin = NAMES + index * NAME_SIZE
    return _printable(_text(page[begin : begin + NAME_SIZE]))


def _report(page: bytes) -> bytes | None:
    (length,) = _REPORT.unpack_from(page, REPORT)
    begin = REPORT + _REPORT.size
    return page[begin : begin + length] if 0 < length <= MOST_REPORT else None


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")


def _printable(text: str) -> str:
    """Fit for a journal and a terminal."""
    return "".join(each if each.isprintable() else "?" for each in text)[:_LONGEST_NAME].strip()
