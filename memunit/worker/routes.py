"""Which route leaks: notes of the requests that are done and of the memory that this worker holds, and what follows.

Memory is taken for a sum: of a part for each request of a route, of a part for the time, and of what a start fills
once. The parts are found by non-negative least squares. On levels, what comes and goes between two notes does no harm;
on differences, what drifts does none. drifting.py finds out what between the two suits these notes.
"""

from __future__ import annotations

import math
import os
import time
from array import array
from operator import mul
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

MOST = 240
"""Notes that are kept. With one more, every second goes, and the next come half as often."""
_INTERVAL = 1.0  # seconds between two notes at first
_PAGE = os.sysconf("SC_PAGE_SIZE")
_STATM = "/proc/self/statm"

_FEWEST = 12  # notes, and requests of a route, from which something may follow
_MOST_COLUMNS = 20  # routes that are told apart; the rest is one
_LEAST_GROWTH = 1 << 20
_LEAST_PART = 0.6
# A route is named if its explanation beats the best one in which the route holds only this part of the growth.
# _LEAST_EVIDENCE is the least difference of the two log-likelihoods, times two.
_TOO_LITTLE = 0.45
_LEAST_EVIDENCE = 5.0
_MOST_FOLLOWS = 0.5
_STEADY = 2.0
_NOISE = 48 * 1024.0  # bytes by which a level is off for no reason that is of interest


class Note(NamedTuple):
    """What was at one time."""

    at: float
    """Seconds of CLOCK_MONOTONIC."""
    memory: int
    """Bytes that this worker holds of its own."""
    done: Sequence[int]
    """Requests that were answered by then, of each route, and of all other routes at the end."""


class Notes:
    """Those of this worker. `counts` are work.Work's, and `names` gives the name of a route."""

    def __init__(
        self,
        counts: Callable[[], List[int]],
        names: Callable[[int], str],
        memory: Optional[Callable[[], int]] = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._counts = counts
        self.name = names
        self._memory = memory or own_memory
        self._now = now
        self._interval = _INTERVAL
        self._due = -math.inf
        self._served = -1
        self._rows: List[Note] = []

    def look(self) -> None:
        """To be called often while there is work: makes a note if it is time, and a request was answered since."""
        now = self._now()
        if now < self._due:
            return
        counts = self._counts()
        served = sum(counts)
        if served == self._served:
            return
        self._served = served
        used = next((place for place in range(len(counts) - 1, 0, -1) if counts[place - 1]), 0)
        # An array: a list of so many numbers would be a leak of its own.
        self._rows.append(Note(now, self._memory(), array("Q", [*counts[:used], counts[-1]])))
        if len(self._rows) > MOST:
            del self._rows[1::2]
            self._interval *= 2
        self._due = now + self._interval

    @property
    def rows(self) -> List[Note]:
        """The notes, each with as many routes as the last one."""
        used = len(self._rows[-1].done) if self._rows else 0
        return [_wider(row, used) for row in self._rows]


class _Own:
    notes: Optional[Notes] = None
    """One for the process, as its page."""


def begin(counts: Callable[[], List[int]], names: Callable[[int], str]) -> Notes:
    """Notes of this worker, from now on."""
    _Own.notes = Notes(counts, names)
    return _Own.notes


def own() -> Optional[Notes]:
    """The notes of this worker; None if it serves no requests, or has no page."""
    return _Own.notes


class Blame(NamedTuple):
    """What the notes say."""

    route: str
    share: float
    """Of the growth that comes of this route, from 0 to 1."""
    confidence: float
    """From 0 to 1: how little the notes would be what they are, did this route hold two fifths of the growth."""


def own_memory() -> int:
    """Bytes of anonymous memory in use, by proc_pid_statm(5); 0 where it can't be read."""
    try:
        with open(_STATM, "rb", buffering=0) as file:
            fields = file.read(200).split()
        return (int(fields[1]) - int(fields[2])) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def blame(notes: Notes, own_growth: int = 0) -> Optional[Blame]:
    """The route that most of the growth comes of; None if the notes don't tell it from another cause.

    `own_growth` are the bytes that this worker has grown by as somebody else has measured them; 0 for the notes' own.
    """
    rows = notes.rows
    found = of_rows(rows, own_growth)
    if found is None:
        return None
    place, share, confidence = found
    return Blame(notes.name(place), share, confidence)


def of_rows(rows: Sequence[Note], own_growth: int = 0) -> Optional[Tuple[int, float, float]]:
    """The same by the place of the route. Takes a few ten milliseconds."""
    from memunit.worker.drifting import Series  # noqa: PLC0415  at the end of a worker alone

    if len(rows) < _FEWEST:
        return None
    levels = _centred([float(row.memory) for row in rows])
    growth = max(row.memory for row in rows[-3:]) - min(row.memory for row in rows[:3])
    if max(growth, own_growth) < _LEAST_GROWTH:
        return None
    columns, places = _columns(rows, levels)
    series = Series(columns, levels, _NOISE)
    likelihood, parts, follows = series.explained()
    held = [part * (column[-1] - column[0]) for part, column in zip(parts, columns)]  # noqa: B905  Python 3.9
    best = max(range(len(held)), key=held.__getitem__)
    place = places[best]
    if place is None or sum(held) <= 0:
        return None
    total = max(sum(held), float(own_growth))
    share = min(1.0, held[best] / total)
    done = rows[-1].done[place] - rows[0].done[place]
    if share < _LEAST_PART or done < 3 or follows > _MOST_FOLLOWS:
        return None
    evidence = 2 * (likelihood - series.likelihood(best, parts[best] * _TOO_LITTLE * total / held[best]))
    if evidence < _LEAST_EVIDENCE:
        return None
    left = [
        level - sum(part * column[at] for part, column in zip(parts, columns) if part)  # noqa: B905
        for at, level in enumerate(levels)
    ]
    if not _steady(left, columns[best], parts[best]):
        return None
    return place, share, 1.0 - math.exp(-evidence / 2)


def _columns(rows: Sequence[Note], levels: Sequence[float]) -> Tuple[List[List[float]], List[Optional[int]]]:
    """What may explain the levels, centred: the routes that go with them most; all else is nobody's (None)."""
    used = len(rows[-1].done) - 1
    clock = _centred([row.at for row in rows])
    trendless = _without(levels, clock)
    found = []
    for place in range(used):
        raw = [float(row.done[place]) for row in rows]
        if raw[-1] - raw[0] >= 1:
            column = _centred(raw)
            own = _without(column, clock)
            norm = math.sqrt(sum(map(mul, own, own)))
            found.append((sum(map(mul, own, trendless)) / norm if norm else -math.inf, place, column))
    found.sort(reverse=True)
    rest = [0.0] * len(rows)
    for _, _, column in found[_MOST_COLUMNS:]:
        rest = [a + b for a, b in zip(rest, column)]  # noqa: B905
    others = _centred([float(row.done[-1]) for row in rows])
    rest = [a + b for a, b in zip(rest, others)]  # noqa: B905
    served = [max(0, sum(row.done) - sum(rows[0].done)) for row in rows]
    half: float = max(1.0, served[-1] / 50)
    columns = [column for _, _, column in found[:_MOST_COLUMNS]]
    places: List[Optional[int]] = [place for _, place, _ in found[:_MOST_COLUMNS]]
    # What grows with the time, what a start fills, quickly and slowly, and the routes that are not told apart.
    columns += [
        clock,
        _centred([1.0 - math.exp(-each / half) for each in served]),
        _centred([math.log1p(each) for each in served]),
        rest,
    ]
    return columns, [*places, None, None, None, None]


def _steady(left: Sequence[float], column: Sequence[float], part: float) -> bool:
    """Whether a request holds about as much in each half of the time, where the half has enough of them: the second
    has to have.

    What is filled once, and what has only gone the same way for a while, does not.
    """
    middle = len(left) // 2
    for half in (slice(0, middle), slice(middle, None)):
        own = column[half]
        if own[-1] - own[0] < 0.2 * (column[-1] - column[0]):
            if half.start:
                return False
            continue
        own = _centred(own)
        square = sum(map(mul, own, own))
        slope: float = part + sum(map(mul, own, left[half])) / square if square else part
        if not part / _STEADY < slope < part * _STEADY:
            return False
    return True


def _without(values: Sequence[float], other: Sequence[float]) -> List[float]:
    square = sum(map(mul, other, other))
    part: float = sum(map(mul, values, other)) / square if square else 0.0
    return [value - part * each for value, each in zip(values, other)]  # noqa: B905


def _centred(values: Sequence[float]) -> List[float]:
    mean = sum(values) / len(values)
    return [value - mean for value in values]


def _wider(row: Note, used: int) -> Note:
    missing = used - len(row.done)
    return row if not missing else row._replace(done=[*row.done[:-1], *[0] * missing, row.done[-1]])
