"""What the numbers mean: one verdict. Where they do not agree it is "unknown"; a wrong name is worse than none."""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence

PYTHON, NATIVE, FRAGMENTATION, THREADS, TASKS, SHARED, BASELINE, UNKNOWN = (
    *("python", "native", "fragmentation", "threads", "tasks", "shared", "baseline", "unknown"),
)
_NAMED = 0.4
_MOST = 0.5
_LITTLE = 4 << 20
_MANY_TASKS = 50
_MANY_THREADS = 8
_HIGH, _MEDIUM, _LOW = "high", "medium", "low"


class Holder(NamedTuple):
    """What is held by one name. Bytes, with an interval of 95 %."""

    name: str
    kind: str
    type: str
    elements: str
    length: int
    more: int
    size: int
    low: int
    high: int
    bound: Optional[int] = None
    """The most elements that it takes, if it is full."""
    most: Optional[int] = None
    """The most elements that a deque or an lru_cache takes, full or not."""


class Numbers(NamedTuple):
    """Bytes of growth since the start, unless said otherwise."""

    now: int
    """All that the process has: anonymous memory and shared memory."""
    growth: int
    shared: int
    python: Optional[int]
    """In use by Python's allocator for objects up to 512 bytes; None where that is not known."""
    python_free: int
    malloc: Optional[int]
    """In use by malloc(3), which has Python's larger objects too."""
    malloc_free: int
    """Free in malloc(3)'s hands, and in RAM."""
    given: int
    """What malloc_trim(3) gave back just now."""
    threads: int
    tasks: int
    """Counts of those that came since."""
    complete: bool
    """Whether all was looked at."""


class Verdict(NamedTuple):
    """`holder` is None where nothing can be named; `share` is what part of the growth this explains, 0 to 1."""

    name: str
    holder: Optional[Holder]
    size: int
    share: float
    confidence: str


def verdict(
    numbers: Numbers,
    holders: Sequence[Holder],
    tasks: Optional[Holder] = None,
    threads: Optional[Holder] = None,
) -> Verdict:
    """`holders` are the containers that have grown, the largest first; `tasks` and `threads` the largest crowds."""
    growth = numbers.growth
    if growth < max(_LITTLE, numbers.now // 50):
        return Verdict(BASELINE, None, growth, 1.0, _HIGH)
    crowd = _of_tasks(numbers, holders, tasks)
    if crowd is not None:
        return crowd
    hidden = sum(each.size for each in holders if not each.name)
    holders = [each for each in holders if each.name]
    named = _named(growth, holders)
    free = max(numbers.malloc_free, numbers.given) + numbers.python_free
    if named is not None and threads is not None and _is_of_threads(numbers, named):
        held = threads._replace(size=named.size, low=named.low, high=named.high)
        return Verdict(THREADS, held, named.size, _share(named.size, growth), _sure(named, growth))
    if named is not None:
        name = PYTHON if named.bound is None else BASELINE
        return Verdict(name, named, named.size, _share(named.size, growth), _sure(named, growth))
    if growth < numbers.now // 5:
        return Verdict(BASELINE, None, growth, 1.0, _MEDIUM)
    if numbers.shared >= _MOST * growth:
        return Verdict(SHARED, None, numbers.shared, _share(numbers.shared, growth), _HIGH)
    if free >= _MOST * growth:
        sure = _HIGH if free >= 0.7 * growth else _MEDIUM
        return Verdict(FRAGMENTATION, None, free, _share(free, growth), sure)
    explained = sum(each.size for each in holders[:3])
    if threads is not None and numbers.threads >= _MANY_THREADS and explained < 0.3 * growth:
        rest = growth - explained - free
        if rest / numbers.threads <= 16 << 20:
            return Verdict(THREADS, threads, rest, _share(rest, growth), _MEDIUM)
    if hidden >= _NAMED * growth:
        return Verdict(PYTHON, None, hidden, _share(hidden, growth), _LOW)
    if hidden >= 0.2 * growth:
        return Verdict(UNKNOWN, None, 0, 0.0, _LOW)
    return _without_a_name(numbers, explained, free)


def _of_tasks(numbers: Numbers, holders: Sequence[Holder], tasks: Optional[Holder]) -> Optional[Verdict]:
    growth = numbers.growth
    if tasks is None or numbers.tasks < _MANY_TASKS or tasks.size < _NAMED * growth:
        return None
    largest = holders[0] if holders else None
    if largest is not None and largest.elements != tasks.type and largest.size > 1.3 * tasks.size:
        return None
    return Verdict(TASKS, tasks, tasks.size, _share(tasks.size, growth), _sure(tasks, growth))


def _named(growth: int, holders: Sequence[Holder]) -> Optional[Holder]:
    """The holder that explains the growth, if one does and no other as well."""
    if not holders or holders[0].low < _NAMED * growth:
        return None
    first = holders[0]
    if first.low > 1.6 * growth:
        return None  # it holds more than there is: what was weighed was not its own
    return first


def _is_of_threads(numbers: Numbers, named: Holder) -> bool:
    """Whether what is named is a variable of threads that came since, or the list of them."""
    return numbers.threads >= _MANY_THREADS and (
        named.kind == "thread" or named.name.startswith("threading.")
    )


def _without_a_name(numbers: Numbers, explained: int, free: int) -> Verdict:
    growth = numbers.growth
    small = numbers.python
    if small is not None and small >= _MOST * growth:
        return Verdict(PYTHON, None, small, _share(small, growth), _MEDIUM)
    if numbers.malloc is not None and small is not None and numbers.complete:
        native = min(numbers.malloc, growth) - max(0, explained - small)
        outside = growth - small - numbers.malloc - free - numbers.shared
        rest = native + max(0, outside)
        if rest >= _MOST * growth and small < 0.25 * growth:
            sure = _HIGH if rest >= 0.7 * growth else _MEDIUM
            return Verdict(NATIVE, None, rest, _share(rest, growth), sure)
    return Verdict(UNKNOWN, None, 0, 0.0, _LOW)


def _share(size: int, growth: int) -> float:
    return round(min(1.0, size / growth), 3) if growth > 0 else 0.0


def _sure(holder: Holder, growth: int) -> str:
    narrow = holder.high - holder.low <= 0.3 * max(1, holder.size)
    if holder.low >= 0.7 * growth and narrow:
        return _HIGH
    return _MEDIUM if holder.low >= _MOST * growth else _LOW
