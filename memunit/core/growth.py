"""What of a worker's growth has a name, and what is worth a word: for the kernel's numbers and for V8's alike."""

from collections.abc import Mapping

from memunit.core.quantity import format_size

# As in memunit/worker/examination/verdict.py: what explains less of the growth is not named.
NAMED = 0.4
# So many more than at the start, and half as many again.
_WORTH_TELLING = 8
# Under this part of its limit a worker was not replaced because of it: a person has asked, or memory was short.
_FAR = 0.8


def of_growth(size: int, growth: int) -> str:
    """ "371M of 380M", of two sizes in bytes."""
    return f"{format_size(size)} of {format_size(growth)}"


def worth_telling(then: int, now: int) -> bool:
    """Whether there are so many more of something, as descriptors or timers, that the entry has both numbers."""
    return now - then >= max(_WORTH_TELLING, then // 2)


def afar(fields: Mapping[str, str | int]) -> str:
    """What kept a worker from its limit, from the fields of its end: a clause, "" of one that was at its limit."""
    limit, memory = (int(fields.get(f"MEMUNIT_{name}_BYTES", 0)) for name in ("LIMIT", "MEMORY"))
    if not limit:
        return "It has no memory.limit"
    return f"It was well under its limit, at {of_growth(memory, limit)}" if 0 < memory < limit * _FAR else ""


def small(far: str) -> str:
    """What follows of a worker that has not grown; `far` as from afar()."""
    if far:
        return f"{far}: examine one that has served for longer"
    return "This is no leak: the app needs that much from the start; raise memory.limit"
