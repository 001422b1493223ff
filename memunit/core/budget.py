"""Whether the workers fit in the memory there is: limit x workers against a total, with the arithmetic."""

from typing import Literal

from memunit.core.quantity import exact_size, format_size
from memunit.records import dataclass

_MIB = 1 << 20
OWN = 25 * _MIB
"""What the master may take, in bytes. A zygote's share is not known before it has imported the app: it counts from then
on, as what is not free any more before each surge."""

_LEAST = 16 * _MIB
# What the master may take beyond what it holds before that is looked at again (1.6 MiB were seen), and what the kernel
# lets a group go over its memory.high: each processor charges up to 64 pages before a process has to reclaim, and the
# reclaiming lags behind (3.6 MiB over 45 MiB were seen on two processors). With 3 MiB here the unit met its own bound.
_SPARE = 5 * _MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The verdict.

    "fits": also with a surge. "no-surge": only if each worker stops before its replacement starts.
    "too-small": the workers can't all reach their limit, so that the kernel would kill before memunit
    recycles; `remedy` then says what to change. `text` is a sentence without its full stop.
    """

    kind: Literal["fits", "no-surge", "too-small"]
    text: str
    remedy: str = ""


def needed(count: int, limit: int) -> int:
    """What `count` workers of `limit` bytes and memunit itself take, in bytes."""
    return count * limit + OWN


def kept_back(total: int, held: int = 0) -> int:
    """What is left to the master of `total` bytes, so that it goes on when its workers have used up theirs.

    Of little it is less than OWN, but what it takes at the least, and half at most. It is never less than what the
    master has been seen to have `held`: that it took 15 MiB was measured once and written down here, and then it took
    18 MiB. In whole MiB: a bound that is no multiple of the page size would be read back as another one.
    """
    usual = min(OWN, max(total // 4, _LEAST))
    return min(max(usual, held + _SPARE), total // 2) // _MIB * _MIB


def check_budget(*, count: int, limit: int | None, surge: int, total: int, source: str) -> Budget:
    """Compare `count` workers of `limit` bytes, `surge` more and the master with the `total` bytes of `source`.

    `source` names whose bound it is, as in "MemoryMax= of memunit@app.service" or "the machine". A total
    of 0 is not known, and then everything fits.
    """
    if limit is None:
        return Budget(kind="fits", text="without a limit memunit recycles no worker for its memory")
    if total <= 0:
        return Budget(kind="fits", text="the size of the memory is unknown")
    need = needed(count, limit)
    product, bound = _apart(need, total)
    sizes = f"{format_size(limit)} + {format_size(OWN)} for memunit"
    workers = f"{count} worker{'s' if count > 1 else ''} x {sizes} = {product}"
    if need > total:
        text = f"{workers}, more than the {bound} of {source}"
        return Budget(kind="too-small", text=text, remedy=_remedy(count, limit, need, total, source))
    if surge == 0:
        text = f"{workers} of the {bound} of {source}; surge is 0: each stops before its replacement starts"
        return Budget(kind="fits", text=text)
    if need + limit > total:
        more, bound = _apart(need + limit, total)
        return Budget(
            kind="no-surge",
            text=f"{workers}, but {count + 1} are {more}, more than the {bound} of {source}: no room for one "
            "more during replacement, so each worker stops before its replacement starts, one at a time",
        )
    room = min(surge, (total - need) // limit)
    return Budget(kind="fits", text=f"{workers} of the {bound} of {source}, with room for {room} more")


def _remedy(count: int, limit: int, need: int, total: int, source: str) -> str:
    ways = []
    share = (total - OWN) // count // _MIB * _MIB
    if share >= _MIB:
        ways.append(f"lower the limit to {exact_size(share)}")
    fewer = (total - OWN) // limit
    if count > 1 and fewer > 0:
        ways.append(f"run {fewer} worker{'s' if fewer > 1 else ''}")
    if "MemoryMax=" in source:
        ways.append(f"raise MemoryMax= to {exact_size(-(-need // _MIB) * _MIB)} or more")
    if not ways:
        return "no worker has room here"
    return ", ".join(ways[:-1]) + f" or {ways[-1]}" if len(ways) > 1 else ways[0]


def _apart(one: int, other: int) -> tuple[str, str]:
    """Both sizes, as exact as it takes to tell them apart."""
    for form in (format_size, _mebibytes, exact_size):
        if form(one) != form(other):
            return form(one), form(other)
    return format_size(one), format_size(other)


def _mebibytes(size: int) -> str:
    return f"{size / _MIB:.0f}M"
