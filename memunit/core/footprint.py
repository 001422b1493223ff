"""What the kernel tells of a worker whose inside nobody can look into: what grew between READY=1 and its end.

For commands and Node programs. The numbers are read by memunit/master/footprint.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from memunit.core import v8
from memunit.core.growth import NAMED, of_growth, small, worth_telling
from memunit.core.leak import Leak
from memunit.core.paths import fold
from memunit.core.quantity import format_size, format_time
from memunit.core.v8 import Heaps

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
class Footprint:
    """What a worker and its descendants hold at one moment. Bytes, and counts."""

    anon: int
    file: int
    shmem: int
    kernel: int
    """Of its control group; where it has none, its page tables alone."""
    swap: int
    threads: int
    descriptors: int
    kinds: Mapping[str, int] = field(default_factory=dict)
    """How many of its descriptors are of which kind, as "socket"."""
    processes: Mapping[int, int] = field(default_factory=dict)
    """The anonymous memory and swap of each process, by its pid."""
    at: float = 0.0
    """Seconds since READY=1."""

    def own(self, *, files: bool) -> int:
        """All of it; mapped files only where the metric counts `files`."""
        return self.anon + self.shmem + self.kernel + self.swap + (self.file if files else 0)


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
            f"has {format_size(own)}: {_parts(after, files=files)}; {_counts(after)}. Its memory at the start is not "
            f"known, so nobody can say what grew.{told}"
        )
        return Account(leak=_leak("unknown", after, None, 0, 0, own=own, heaps=heaps), text=text)
    growth = max(0, own - before.own(files=files))
    since = "" if before.at < _LATE else f", {format_time(round(before.at))} after it was ready"

    def found(
        verdict: str, size: int, text: str, *, holder: str = "", type_: str = "", confidence: str = "medium"
    ) -> Account:
        text = f"{text}.{_besides(before, after)}{told}"
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
        grown = f"has grown by only {format_size(growth)} since it was ready{since}, to {format_size(own)}"
        return found("baseline", growth, f"{grown}. {small(far)}", confidence="high")
    new = {pid: held for pid, held in after.processes.items() if pid not in before.processes}
    if sum(new.values()) >= growth * NAMED:
        return found(*_in_processes(new, growth, since))
    parts = [(name, size) for name, size in _grown(before, after, files=files) if size >= growth * NAMED]
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
                f"{_of_kind(before, after)}. Descriptors are opened and not closed"
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
    grown = dict(_grown(before, after, files=files))
    return growth >= _LITTLE and max(grown["shmem"], grown.get("file", 0)) >= growth * NAMED


def _in_processes(new: Mapping[int, int], growth: int, since: str) -> tuple[str, int, str]:
    """Where most of it is in processes that came since: a crowd of them, or one that grows; a few may be a pool."""
    size, largest = min(growth, sum(new.values())), min(growth, max(new.values()))
    those = f"{_plural(len(new), 'process')} that it has started since it was ready{since}"
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


def _grown(before: Footprint, after: Footprint, *, files: bool) -> list[tuple[str, int]]:
    """The growth of each kind of memory, the largest first."""
    grown = {
        "anon": after.anon + after.swap - before.anon - before.swap,
        "shmem": after.shmem - before.shmem,
        "kernel": after.kernel - before.kernel,
    }
    if files:
        grown["file"] = after.file - before.file
    return sorted(grown.items(), key=lambda part: -part[1])


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
        "kernel": {"before": None if before is None else _numbers(before), "after": _numbers(after)},
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


def _numbers(one: Footprint) -> dict[str, Any]:
    return {
        "anon": one.anon,
        "file": one.file,
        "shmem": one.shmem,
        "kernel": one.kernel,
        "swap": one.swap,
        "threads": one.threads,
        "processes": len(one.processes),
        "descriptors": one.descriptors,
        "kinds": dict(one.kinds),
        "seconds": round(one.at, 1),
    }


def _besides(before: Footprint | None, after: Footprint) -> str:
    """What there are more of than at the start, beside memory."""
    if before is None:
        return ""
    counts = (
        ("threads", before.threads, after.threads),
        ("descriptors", before.descriptors, after.descriptors),
        ("processes", len(before.processes), len(after.processes)),
    )
    told = []
    for name, then, now in counts:
        if worth_telling(then, now):
            kind = _of_kind(before, after) if name == "descriptors" else ""
            told.append(f"{name} from {then:,} to {now:,}{kind}")
    return f" Meanwhile: {'; '.join(told)}." if told else ""


def _of_kind(before: Footprint, after: Footprint) -> str:
    """Of which kind most of the new descriptors are."""
    more = {kind: count - before.kinds.get(kind, 0) for kind, count in after.kinds.items()}
    kind = max(more, key=lambda each: more[each], default="")
    if not kind or more[kind] * 2 < sum(max(0, count) for count in more.values()):
        return ""
    return f" (most of them {kind}s)"


def _parts(one: Footprint, *, files: bool) -> str:
    parts = [("anonymous", one.anon + one.swap), ("shared", one.shmem), ("of the kernel", one.kernel)]
    parts += [("of mapped files", one.file)] if files else []
    return ", ".join(f"{format_size(size)} {name}" for name, size in parts)


def _counts(one: Footprint) -> str:
    return (
        f"{_plural(len(one.processes), 'process')}, {_plural(one.threads, 'thread')}, "
        f"{_plural(one.descriptors, 'descriptor')}"
    )


def _largest(mapped: Mapping[str, int], size: int) -> str:
    """The file that has most of these bytes; its path without what tells one file from another of its kind."""
    path = max(mapped, key=lambda each: mapped[each], default="")
    if not path or mapped[path] < size * NAMED:
        return ""
    printable = "".join(each if each.isprintable() else "?" for each in fold(path))
    return printable[-_LONGEST_PATH:]


def _plural(count: int, word: str) -> str:
    many = f"{word}es" if word.endswith("s") else f"{word}s"
    return f"{count:,} {word if count == 1 else many}"
