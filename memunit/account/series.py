"""An account over time: what a chart draws, in the terminal and on a page."""

import bisect
import time
from collections.abc import Sequence

from memunit.account.lives import CAUSES, Account, Life

Points = list[tuple[float, int]]


def points(life: Life, until: float) -> Points:
    """(time, bytes) of a worker's life, as far as it is known.

    The journal has what a worker held when it ended, and as a rule not what it began with. Where it also has how fast
    the worker grew, the line begins accordingly; else at 0, as the process did.
    """
    samples = sorted(each for each in life.samples if each[0] <= until)
    begin = life.ready or life.started or (samples[0][0] if samples else life.first)
    if not samples:
        return []
    at, memory = samples[0]
    if at > begin:
        base = 0
        if life.growth:
            base = max(0, round(memory - life.growth * (at - begin) / 3600))
        samples.insert(0, (begin, base))
    if life.ended is not None and samples[-1][0] < life.ended:
        samples.append((life.ended, samples[-1][1]))
    return samples


def memory_at(known: Points, at: float) -> float | None:
    """Between two points the line is straight; None before and after them."""
    place = bisect.bisect_left(known, (at, 0))
    if place < len(known) and known[place][0] == at:
        return known[place][1]
    if place in (0, len(known)):
        return None
    (t0, m0), (t1, m1) = known[place - 1], known[place]
    return m0 + (m1 - m0) * (at - t0) / (t1 - t0)


def by_cause(account: Account, count: int) -> dict[str, list[int]]:
    """How many ended by each cause in each of `count` equal parts of the time."""
    counted: dict[str, list[int]] = {}
    for life in account.ended(since=account.since):
        row = counted.setdefault(life.cause, [0] * count)
        row[part(account, life.ended or 0.0, count)] += 1
    ranked = sorted(counted, key=lambda cause: (CAUSES.index(cause) if cause in CAUSES else 99, cause))
    return {cause: counted[cause] for cause in ranked}


def slowest(account: Account, count: int) -> list[float]:
    """The longest drain in each of `count` equal parts of the time, in seconds."""
    row = [0.0] * count
    for life in account.ended(since=account.since):
        if life.drain is not None:
            at = part(account, life.ended or 0.0, count)
            row[at] = max(row[at], life.drain)
    return row


def by_slot(account: Account, count: int) -> dict[int, list[float]]:
    """Of each slot, the most that a worker of its held in each of `count` equal parts of the time, in bytes."""
    rows: dict[int, list[float]] = {}
    step = (account.until - account.since) / count
    for life in account.lives:
        known = points(life, account.until)
        if not known:
            continue
        row = rows.setdefault(life.slot, [0.0] * count)
        for n in range(count):
            begin, end = account.since + n * step, account.since + (n + 1) * step
            if known[-1][0] < begin or known[0][0] > end:
                continue
            inner = [memory for at, memory in known if begin <= at <= end]
            edges = [each for each in (memory_at(known, begin), memory_at(known, end)) if each is not None]
            row[n] = max([row[n], *inner, *edges])
    return dict(sorted(rows.items()))


def part(account: Account, at: float, count: int) -> int:
    """In which of `count` equal parts of the time."""
    span = account.until - account.since
    return min(count - 1, max(0, int((at - account.since) / span * count))) if span > 0 else 0


def ticks(since: float, until: float, most: int) -> list[float]:
    """Round times of the local clock in between, `most` at the most."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
    span = until - since
    step = next((each for each in steps if span / each <= most), 0)
    if not step:
        step = 86400 * max(1, -(-int(span) // (86400 * max(1, most))))
    away = time.localtime(since).tm_gmtoff
    first = -(-(since + away) // step) * step - away
    return [
        first + n * step for n in range(int(max(0.0, until - first) // step) + 1) if first + n * step <= until
    ]


def clock(at: float, span: float) -> str:
    """A tick's label: as exact as the span wants it."""
    shape = "%H:%M:%S" if span < 600 else "%H:%M" if span < 2 * 86400 else "%d %b"
    return time.strftime(shape, time.localtime(at))


def bounds(lives: Sequence[Life]) -> tuple[int | None, int | None]:
    """(limit, ceiling) by the newest entries that say them."""
    limit = next((life.limit for life in reversed(lives) if life.limit), None)
    ceiling = next((life.ceiling for life in reversed(lives) if life.ceiling), None)
    return limit, ceiling
