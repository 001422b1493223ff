"""What a worker's examination has found: read from what the worker has written, and told in a sentence and in fields.

The worker's half is memunit/worker/examination. What it says is data of a hostile party: it becomes a bounded, typed,
printable value or nothing.
"""

from collections.abc import Mapping
from typing import Any

from memunit.core import bounded, growth
from memunit.core.quantity import format_size
from memunit.records import dataclass

VERDICTS = ("python", "native", "fragmentation", "threads", "tasks", "shared", "baseline", "unknown")
CONFIDENCES = ("high", "medium", "low")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """One examination. Sizes in bytes, times in microseconds, `share` from 0 to 1."""

    verdict: str
    holder: str
    """The name of what holds it, "" if none is known."""
    kind: str
    """What kind of place that is, as "module attribute"."""
    type: str
    elements: str
    """The type of most of its elements."""
    length: int
    more: int
    """Its elements, and how many more they are than at the start."""
    bound: int
    """The most elements that it takes, if it has as many; else 0."""
    most: int
    """The most elements that a deque or an lru_cache takes, full or not; 0 without such a bound."""
    size: int
    growth: int
    """How much the verdict explains, of how much the worker has grown."""
    share: float
    route: str
    """The route whose requests most of the growth comes of, "" if that is not known; and what part comes of it."""
    route_share: float
    own: int
    """All memory of the worker's own."""
    threads: int
    confidence: str
    usec: int
    stopped_for: str
    """Which bound has ended it, "time" or "memory"; "" if all was looked at."""
    details: Mapping[str, Any]
    """The whole report, in JSON's types: each text printable, each list and table short."""


def decode(report: bytes) -> Leak | None:
    """What a worker has left on its page; None if that is no report. Never raises."""
    said = bounded.table(report)
    if said is None or said.get("verdict") not in VERDICTS:
        return None
    numbers = said.get("numbers")
    confidence = said.get("confidence")
    stopped_for = said.get("stopped_for")
    return Leak(
        verdict=said["verdict"],
        holder=bounded.text(said.get("holder")),
        kind=bounded.text(said.get("kind")),
        type=bounded.text(said.get("type")),
        elements=bounded.text(said.get("elements")),
        length=bounded.count(said.get("length")),
        more=bounded.count(said.get("more")),
        bound=bounded.count(said.get("bound")),
        most=bounded.count(said.get("most")),
        size=bounded.count(said.get("bytes")),
        growth=bounded.count(said.get("growth")),
        share=bounded.share(said.get("share")),
        route=bounded.text(said.get("route")),
        route_share=bounded.share(said.get("route_share")),
        own=bounded.count(said.get("own")),
        threads=bounded.count(numbers.get("threads")) if isinstance(numbers, dict) else 0,
        confidence=confidence if confidence in CONFIDENCES else "low",
        usec=bounded.count(said.get("usec")),
        stopped_for=stopped_for if stopped_for in ("time", "memory") else "",
        details=bounded.whole(said),
    )


def sentence(leak: Leak, worker: str, *, far: str = "") -> str:
    """What grew in `worker` ("0.7 (pid 4711)"), and what to do; `far` as from growth.afar()."""
    partly = ""
    if leak.stopped_for and not leak.holder and leak.verdict != "baseline":
        bound = leak.stopped_for
        partly = f" The examination reached its bound of {bound} before it had seen everything: raise examine.{bound}."
    return f"{_what(leak, worker, far)}{partly}"


def nothing(worker: str, *, examining: bool) -> str:
    """The sentence where no report came of it; `examining` if the worker ended in the midst of it."""
    if examining:
        return f"Worker {worker} was not examined to the end: it ended before. What grew in it is not known"
    return (
        f"Worker {worker} was not examined: its grace was over, or it can't be examined. "
        "What grew in it is not known"
    )


def fields(leak: Leak) -> dict[str, str | int]:
    """The fields of its entry."""
    return {
        "MEMUNIT_LEAK_VERDICT": leak.verdict,
        "MEMUNIT_LEAK_HOLDER": leak.holder,
        "MEMUNIT_LEAK_TYPE": leak.type,
        "MEMUNIT_LEAK_BYTES": leak.size,
        "MEMUNIT_LEAK_SHARE": f"{leak.share:.3f}",
        "MEMUNIT_LEAK_ROUTE": leak.route,
        "MEMUNIT_LEAK_ROUTE_SHARE": f"{leak.route_share:.3f}",
        "MEMUNIT_LEAK_CONFIDENCE": leak.confidence,
        "MEMUNIT_LEAK_EXAMINED_USEC": leak.usec,
    }


def same(one: Leak, other: Leak) -> bool:
    """Whether both say the same of two workers."""
    return (one.verdict, one.holder) == (other.verdict, other.holder)


def _what(leak: Leak, worker: str, far: str) -> str:
    much = f"What grew in worker {worker}: {format_size(min(leak.size, leak.growth))} of {format_size(leak.growth)}"
    by = f", most by {leak.route} ({leak.route_share * 100:.0f} %)" if leak.route else ""
    match leak.verdict:
        case "python" if leak.holder and leak.most:
            return (
                f"{much} in {_holder(leak)}{by}. It takes {leak.most:,} entries and is not full: lower that bound, or "
                "raise memory.limit."
            )
        case "python" if leak.holder:
            return f"{much} in {_holder(leak)}{by}. This is a leak in Python objects: {_remedy(leak)}."
        case "python":
            return (
                f"{much} in Python objects{by}. This is a leak in Python objects. No place with a name holds most of "
                "them; the report has the most frequent types."
            )
        case "native":
            return (
                f"{much} in memory that Python does not manage{by}. This is a leak in a library in C, C++ or Rust, "
                "or in the app's use of it: look for objects that each request opens and does not close."
            )
        case "fragmentation":
            return (
                f"{much} in memory that is free, and that the allocator keeps{by}. This is no leak of the app's: "
                "MALLOC_ARENA_MAX=2 in app.environment, or jemalloc, keeps less."
            )
        case "threads":
            runs = f", most of which run {leak.holder}" if leak.holder else ""
            return (
                f"{much} in {leak.threads:,} threads more than at the start{runs}{by}. "
                "Threads are started and do not end."
            )
        case "tasks":
            return (
                f"{much} in {leak.length:,} tasks of asyncio that wait, most of them in {leak.holder or '?'}{by}. "
                "Tasks are created and do not end: set a timeout for what they wait for."
            )
        case "shared":
            return (
                f"{much} in shared memory, or in files on tmpfs{by}. Files in /dev/shm or /tmp are memory: "
                "remove them, or write them to a disk."
            )
        case "baseline" if leak.bound:
            remedy = ": raise memory.limit, or lower that bound" if not far else ""
            full = f"{_holder(leak)}, which takes {leak.bound:,} entries and is full"
            return f"{much} in {full}. This is no leak{remedy}."
        case "baseline":
            return (
                f"Worker {worker} has grown by only {format_size(leak.growth)} since it was ready, to "
                f"{format_size(leak.own)}. {growth.small(far)}."
            )
    grown = f"Worker {worker} has grown by {format_size(leak.growth)}"
    return f"{grown}, and no single place was found that holds most of it{by}."


def _holder(leak: Leak) -> str:
    facts = [leak.type]
    if leak.kind not in ("", "module attribute", "instance attribute", "class attribute"):
        facts.insert(0, leak.kind)
    if leak.type != leak.elements:
        new = f"{leak.more:,} more than" if leak.more < leak.length else "none of them"
        facts += [f"{leak.length:,} entries", f"{new} at the start"]
    return f"{leak.holder} ({', '.join(facts)})"


def _remedy(leak: Leak) -> str:
    match leak.kind:
        case "lru_cache":
            return "give that cache a maxsize"
        case "handlers of a logger":
            return "add a handler once, and not for each request"
    if "[" in leak.holder:
        return f"bound {leak.holder.partition('[')[0]}"
    return f"bound that {leak.type.rpartition('.')[2] or 'container'}"
