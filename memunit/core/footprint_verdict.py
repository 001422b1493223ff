"""What grew in a worker whose inside nobody can look into, between READY=1 and its end: a verdict, and a sentence.

For commands and Node programs, by what the kernel tells (footprint.py) and V8 (v8.py).
"""

from collections.abc import Mapping
from typing import Any

from memunit.core import v8
from memunit.core.footprint import Footprint, besides, grown, of_kind, plural
from memunit.core.growth import NAMED, of_growth, small
from memunit.core.leak import Leak
from memunit.core.paths import fold
from memunit.core.quantity import format_size, format_time
from memunit.core.v8 import Heaps
from memunit.records import dataclass

VERDICTS = (
    "native",
    "javascript",
    "fragmentation",
    "threads",
    "shared",
    "descriptors",
    "processes",
    "baseline",
    "unknown",
)
# As in memunit/worker/examination/verdict.py: less growth is none.
_LITTLE = 4 << 20
_LITTLE_SHARE = 50
# Crowds: so many more than at the start, and as many again.
_MANY_DESCRIPTORS = 64
_MANY_THREADS = 32
_MANY_PROCESSES = 16
# What a thread holds that only waits: its stack as far as it was used, and malloc's arena.
_OF_A_THREAD = 1 << 20
_LONGEST_PATH = 160
_LATE = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What grew, as an entry's fields have it, and in a sentence after the worker's name."""

    leak: Leak
    text: str


def account(
    before: Footprint | None,
    after: Footprint,
    *,
    files: bool = False,
    mapped: Mapping[str, int] | None = None,
    heaps: Heaps | None = None,
    far: str = "",
) -> Account:
    """`before` is None where nobody has looked at the start; `mapped` are files by their resident bytes, if known,
    `heaps` what V8 has told of a Node program, and `far` as from growth.afar().
    """
    told = "" if heaps is None else f" {v8.clause(heaps)}"
    own = after.own(files=files)
    if before is None:
        text = (
            f"has {format_size(own)}: {after.parts(files=files)}; {after.counts()}. Its memory at the start is not "
            f"known, so nobody can say what grew.{told}"
        )
        return Account(leak=_leak("unknown", after, None, 0, 0, own=own, heaps=heaps), text=text)
    growth = max(0, own - before.own(files=files))
    since = "" if before.at < _LATE else f", {format_time(round(before.at))} after it was ready"

    def found(
        verdict: str, size: int, text: str, *, holder: str = "", type_: str = "", confidence: str = "medium"
    ) -> Account:
        text = f"{text}.{besides(before, after)}{told}"
        leak = _leak(
            verdict,
            after,
            before,
            growth,
            size,
            own=own,
            holder=holder,
            type_=type_,
            confidence=confidence,
            heaps=heaps,
        )
        return Account(leak=leak, text=text)

    if growth < max(_LITTLE, own // _LITTLE_SHARE):
        little = f"has grown by only {format_size(growth)} since it was ready{since}, to {format_size(own)}"
        return found("baseline", growth, f"{little}. {small(far)}", confidence="high")
    new = {pid: held for pid, held in after.processes.items() if pid not in before.processes}
    if sum(new.values()) >= growth * NAMED:
        return found(*_in_processes(new, growth, since))
    parts = [(name, size) for name, size in grown(before, after, files=files) if size >= growth * NAMED]
    if not parts:
        text = f"has grown by {format_size(growth)}{since}, and no kind of memory is most of it"
        return found("unknown", 0, text, confidence="low")
    name, size = parts[0][0], min(growth, parts[0][1])
    much = of_growth(size, growth)
    path = _largest(mapped or {}, size)
    threads = after.threads - before.threads
    descriptors = after.descriptors - before.descriptors
    match name:
        case "shmem":
            named = f", most of it {path}" if path else ""
            text = (
                f"{much} in shared memory, or in files on tmpfs{named}{since}. Files in /dev/shm or /tmp are memory: "
                "remove them, or write them to a disk"
            )
            return found("shared", size, text, holder=path, confidence="high")
        case "file":
            named = f", most of it of {path}" if path else ""
            text = (
                f"{much} in pages of files that it maps{named}{since}. This is no leak: the kernel takes them back; "
                'memory.metric = "auto" does not count them'
            )
            return found("baseline", size, text, holder=path)
        case "kernel" if descriptors >= max(_MANY_DESCRIPTORS, before.descriptors):
            text = (
                f"{much} in the kernel{since}, with {descriptors:,} descriptors more than at the start"
                f"{of_kind(before, after)}. Descriptors are opened and not closed"
            )
            return found("descriptors", size, text)
        case "kernel":
            text = f"{much} in the kernel{since}: page tables, buffers of sockets, or names and attributes of files"
            return found("unknown", size, text, confidence="low")
    if threads >= max(_MANY_THREADS, before.threads) and size <= threads * _OF_A_THREAD:
        text = (
            f"{much} in anonymous memory{since}, with {threads:,} threads more than at the start. "
            "Threads are started and do not end"
        )
        return found("threads", size, text)
    part = None if heaps is None else v8.part(heaps, size, growth)
    if part is not None:
        return found(part.verdict, part.size, part.text, type_=part.type, confidence=part.confidence)
    text = (
        f"{much} in anonymous memory{since}: the heap of the program. The program keeps what it allocates; a profiler "
        "of its language shows where"
    )
    return found("native", size, text)


def sentence(account: Account, worker: str) -> str:
    """What grew in `worker` ("0.7 (pid 4711)"), and what to do."""
    begin = f"Worker {worker} " if account.text.startswith("has ") else f"What grew in worker {worker}: "
    return f"{begin}{account.text}"


def wants_files(before: Footprint | None, after: Footprint, *, files: bool) -> bool:
    """Whether the names of mapped files would say more."""
    if before is None:
        return False
    growth = after.own(files=files) - before.own(files=files)
    kinds = dict(grown(before, after, files=files))
    return growth >= _LITTLE and max(kinds["shmem"], kinds.get("file", 0)) >= growth * NAMED


def _in_processes(new: Mapping[int, int], growth: int, since: str) -> tuple[str, int, str]:
    """Where most of it is in processes that came since: a crowd of them, or one that grows; a few may be a pool."""
    size, largest = min(growth, sum(new.values())), min(growth, max(new.values()))
    those = f"{plural(len(new), 'process')} that it has started since it was ready{since}"
    if len(new) >= _MANY_PROCESSES:
        text = f"{of_growth(size, growth)} in {those}, and that have not ended. Let them end, or start fewer"
        return "processes", size, text
    if largest >= growth * NAMED:
        text = (
            f"{of_growth(largest, growth)} in anonymous memory of a process that it has started since it was "
            f"ready{since}. That process keeps what it allocates"
        )
        return "native", largest, text
    return "unknown", size, f"{of_growth(size, growth)} in {those}"


def _leak(
    verdict: str,
    after: Footprint,
    before: Footprint | None,
    growth: int,
    size: int,
    *,
    own: int,
    holder: str = "",
    type_: str = "",
    confidence: str = "low",
    heaps: Heaps | None = None,
) -> Leak:
    share = size / growth if growth else 0.0
    details: dict[str, Any] = {
        "version": 1,
        "verdict": verdict,
        "holder": holder,
        "bytes": size,
        "growth": growth,
        "own": own,
        "share": round(share, 3),
        "confidence": confidence,
        "kernel": {"before": None if before is None else before.numbers(), "after": after.numbers()},
    }
    if heaps is not None:
        details["v8"] = v8.numbers(heaps)
    return Leak(
        verdict=verdict,
        holder=holder,
        kind="mapped file" if holder else "",
        type=type_,
        elements="",
        length=0,
        more=0,
        bound=0,
        most=0,
        size=size,
        growth=growth,
        share=share,
        route="",
        route_share=0.0,
        own=own,
        threads=after.threads,
        confidence=confidence,
        usec=0 if heaps is None else heaps.usec,
        stopped_for="",
        details=details,
    )


def _largest(mapped: Mapping[str, int], size: int) -> str:
    """The file that has most of these bytes; its path without what tells one file from another of its kind."""
    path = max(mapped, key=lambda each: mapped[each], default="")
    if not path or mapped[path] < size * NAMED:
        return ""
    printable = "".join(each if each.isprintable() else "?" for each in fold(path))
    return printable[-_LONGEST_PATH:]
