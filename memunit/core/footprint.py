"""What a worker and its descendants hold at one moment, in the kernel's numbers; two of them side by side; in words.

The numbers are read by memunit/master/footprint.py. What they mean is in footprint_verdict.py.
"""

from collections.abc import Mapping
from typing import Any

from memunit.core.growth import worth_telling
from memunit.core.quantity import format_size
from memunit.records import dataclass, field


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

    def numbers(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return {
            "anon": self.anon,
            "file": self.file,
            "shmem": self.shmem,
            "kernel": self.kernel,
            "swap": self.swap,
            "threads": self.threads,
            "processes": len(self.processes),
            "descriptors": self.descriptors,
            "kinds": dict(self.kinds),
            "seconds": round(self.at, 1),
        }

    def parts(self, *, files: bool) -> str:
        """Its memory by kinds, in words."""
        parts = [("anonymous", self.anon + self.swap), ("shared", self.shmem), ("of the kernel", self.kernel)]
        parts += [("of mapped files", self.file)] if files else []
        return ", ".join(f"{format_size(size)} {name}" for name, size in parts)

    def counts(self) -> str:
        """How many there are of what is counted, in words."""
        return (
            f"{plural(len(self.processes), 'process')}, {plural(self.threads, 'thread')}, "
            f"{plural(self.descriptors, 'descriptor')}"
        )


def grown(before: Footprint, after: Footprint, *, files: bool) -> list[tuple[str, int]]:
    """The growth of each kind of memory, the largest first."""
    kinds = {
        "anon": after.anon + after.swap - before.anon - before.swap,
        "shmem": after.shmem - before.shmem,
        "kernel": after.kernel - before.kernel,
    }
    if files:
        kinds["file"] = after.file - before.file
    return sorted(kinds.items(), key=lambda part: -part[1])


def besides(before: Footprint | None, after: Footprint) -> str:
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
            kind = of_kind(before, after) if name == "descriptors" else ""
            told.append(f"{name} from {then:,} to {now:,}{kind}")
    return f" Meanwhile: {'; '.join(told)}." if told else ""


def of_kind(before: Footprint, after: Footprint) -> str:
    """Of which kind most of the new descriptors are."""
    more = {kind: count - before.kinds.get(kind, 0) for kind, count in after.kinds.items()}
    kind = max(more, key=lambda each: more[each], default="")
    if not kind or more[kind] * 2 < sum(max(0, count) for count in more.values()):
        return ""
    return f" (most of them {kind}s)"


def plural(count: int, word: str) -> str:
    """So many of them, as "1 thread" or "2 processes"."""
    many = f"{word}es" if word.endswith("s") else f"{word}s"
    return f"{count:,} {word if count == 1 else many}"
