"""What V8 tells of a Node worker, and how much of the worker's growth that explains.

The worker's half is memunit/worker/node/heap.cjs. What it has written is data of a hostile party.
"""

from collections.abc import Mapping
from typing import Any

from memunit.core import bounded
from memunit.core.growth import NAMED, of_growth, worth_telling
from memunit.core.quantity import format_size
from memunit.records import asdict, dataclass, field

# Of what keeps the event loop alive.
_MOST_TYPES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Heap:
    """One look: process.memoryUsage(), v8.getHeapSpaceStatistics(), process.getActiveResourcesInfo(). Bytes, counts."""

    used: int
    """By JavaScript objects, garbage among them."""
    total: int
    """What V8 has of the system for them."""
    external: int
    """What objects hold outside of it, Buffers above all."""
    buffers: int
    spaces: Mapping[str, int] = field(default_factory=dict)
    resources: Mapping[str, int] = field(default_factory=dict)
    """How many sockets, timers and so on keep the event loop alive, by their type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heaps:
    """When the worker became ready, after its last request, and after a collection there; None if there was none."""

    start: Heap
    end: Heap
    live: Heap | None
    usec: int
    """How long that took, in microseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What most of the growth is, where V8 tells."""

    verdict: str
    type: str
    size: int
    text: str
    confidence: str


def decode(report: bytes) -> Heaps | None:
    """What a worker has left on its page; None if V8 tells nothing there. Never raises."""
    found = bounded.table(report)
    said = None if found is None else found.get("v8")
    if not isinstance(said, dict):
        return None
    start, end, live = (_heap(said.get(name)) for name in ("start", "end", "live"))
    if start is None or end is None:
        return None
    return Heaps(start=start, end=end, live=live, usec=bounded.count(said.get("usec")))


def part(heaps: Heaps, size: int, growth: int) -> Part | None:
    """Of `size` bytes of anonymous memory, which are most of a worker's `growth`; None if they are of several kinds."""
    start, end, now = heaps.start, heaps.end, heaps.live or heaps.end
    objects = max(0, now.used - start.used)
    outside = max(0, now.external - start.external)
    kept = max(0, end.total - now.used - (start.total - start.used)) + max(0, end.external - now.external)
    held = min(size, objects + outside)
    kept = min(size, kept)
    rest = max(0, size - objects - outside - kept)
    named = growth * NAMED
    sure = "high" if heaps.live is not None else "medium"
    # The size of what objects hold is looked at first: V8 keeps as much free memory beside it, to collect less often.
    if held >= named:
        buffers = outside > objects
        where = "in Buffers, and other memory outside of V8's heap" if buffers else "in JavaScript objects"
        text = (
            f"{of_growth(held, growth)} {where}{_largest(start, now, buffers=buffers)}. This is a leak in the program: "
            "`memunit witness` tells which functions allocate it"
        )
        if heaps.live is None:
            text += ". Garbage may be among it, for there was no time to collect"
        return Part(
            verdict="javascript",
            type="ArrayBuffer" if buffers else "Object",
            size=held,
            text=text,
            confidence=sure,
        )
    if kept >= max(named, rest):
        return Part(
            verdict="fragmentation",
            type="",
            size=kept,
            text=(
                f"{of_growth(kept, growth)} in garbage and free memory, which V8 keeps. This is no leak: V8 collects "
                "late. A smaller --max-old-space-size in NODE_OPTIONS has it collect earlier"
            ),
            confidence=sure,
        )
    if rest >= named:
        much = of_growth(rest, growth)
        text = f"{much} in anonymous memory that V8 does not manage: an addon holds it, or malloc(3) keeps it free"
        return Part(verdict="native", type="", size=rest, text=text, confidence="medium")
    return None


def clause(heaps: Heaps) -> str:
    """What every entry has of it, as a sentence."""
    start, now = heaps.start, heaps.live or heaps.end
    collected = " after a collection" if heaps.live is not None else ""
    text = (
        f"V8{collected}: {format_size(now.used)} of objects ({format_size(start.used)} at the start) in a heap of "
        f"{format_size(now.total)}, {format_size(now.external)} outside of it ({format_size(start.external)})"
    )
    counts = [(name, start.resources.get(name, 0), many) for name, many in now.resources.items()]
    more = [each for each in counts if worth_telling(each[1], each[2])]
    more.sort(key=lambda each: each[1] - each[2])
    told = "".join(f"; {name} from {then:,} to {many:,}" for name, then, many in more[:_MOST_TYPES])
    return f"{text}{told}."


def numbers(heaps: Heaps) -> dict[str, Any]:
    """All of it, for the report in the state directory."""
    looks = {"start": heaps.start, "end": heaps.end, "live": heaps.live}
    return {name: None if heap is None else asdict(heap) for name, heap in looks.items()}


def _heap(said: object) -> Heap | None:
    if not isinstance(said, dict):
        return None
    return Heap(
        used=bounded.count(said.get("used")),
        total=bounded.count(said.get("total")),
        external=bounded.count(said.get("external")),
        buffers=bounded.count(said.get("buffers")),
        spaces=bounded.counts(said.get("spaces")),
        resources=bounded.counts(said.get("resources")),
    )


def _largest(start: Heap, now: Heap, *, buffers: bool) -> str:
    """The space of the heap that has grown most: large objects are arrays, maps and strings of a megabyte and more."""
    grown = {name: size - start.spaces.get(name, 0) for name, size in now.spaces.items()}
    name = max(grown, key=lambda each: grown[each], default="")
    if buffers or not name or grown[name] <= 0:
        return ""
    return f", {format_size(grown[name])} of them in {name}"
