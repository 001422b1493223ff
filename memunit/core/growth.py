"""What of a worker's growth has a name, and what is worth a word: for the kernel's numbers and for V8's alike."""

from memunit.core.quantity import format_size

# As in memunit/worker/examination/verdict.py: what explains less of the growth is not named.
NAMED = 0.4
# So many more than at the start, and half as many again.
_WORTH_TELLING = 8


def of_growth(size: int, growth: int) -> str:
    """ "371M of 380M", of two sizes in bytes."""
    return f"{format_size(size)} of {format_size(growth)}"


def worth_telling(then: int, now: int) -> bool:
    """Whether there are so many more of something, as descriptors or timers, that the entry has both numbers."""
    return now - then >= max(_WORTH_TELLING, then // 2)
