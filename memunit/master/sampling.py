"""How much memory a worker holds, and how much there is: psutil, /proc and the cgroup files, all in bytes."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import psutil

from memunit.master.cgroup import PAYLOAD
from memunit.master.system import descendants

_PAGE = os.sysconf("SC_PAGE_SIZE")
_EXACT_EVERY = 10
# cgroup v1 says "no limit" with the biggest multiple of the page size below 2**63.
_NO_LIMIT = 1 << 60
_UNIT_SUFFIXES = (".service", ".slice", ".scope")


@dataclass(frozen=True, slots=True)
class Sample:
    """The memory of a worker and all its descendants, in bytes.

    `metric` is what was measured: as asked for, "rss" where the kernel let us see no more, or for example
    "uss+rss" where that holds for some of the processes. With `exact` false, `bytes` is an estimate that is
    under the threshold for sure.
    """

    bytes: int
    metric: str
    exact: bool


class Headroom(NamedTuple):
    """The memory that bounds us: `total` and `available` in bytes; `source` says to a person whose bound it
    is.
    """

    total: int
    available: int
    source: str


@dataclass(slots=True)
class _Seen:
    calls: int
    value: int
    resident: int


class Sampler:
    """Measures workers by `metric`: "uss" (what would be free without it), "pss" (shared pages by share) or
    "rss".

    uss and pss cost a walk over the page tables (smaps_rollup), rss next to nothing, and rss is an upper
    bound of both. So the walk is made when rss reaches the threshold, at the first and every tenth call for a
    worker, and else saved.
    """

    def __init__(self, metric: str) -> None:
        """Raises ValueError for a metric that is none of the three."""
        if metric not in ("uss", "pss", "rss"):
            raise ValueError(f"metric {metric!r} is none of uss, pss, rss")
        self.metric = metric
        self._seen: dict[int, _Seen] = {}

    def sample(self, pid: int, threshold: int | None) -> Sample | None:
        """The memory of `pid` and its descendants, or None when it has vanished.

        A descendant that vanishes while it is read counts as nothing. With a threshold of None only every
        tenth call is exact.
        """
        own = _resident(pid)
        if own is None:
            self._seen.pop(pid, None)
            return None
        tree = [(pid, own)]
        tree += [(child, size) for child in descendants(pid) if (size := _resident(child)) is not None]
        resident = sum(size for _, size in tree)
        if self.metric == "rss":
            return Sample(resident, "rss", True)
        seen = self._seen.get(pid)
        bound = sum(size + _slack(size) for _, size in tree)
        near = threshold is not None and bound >= threshold
        # By pid, so that the costly readings of many workers do not all fall into one round.
        if seen is not None and not near and (seen.calls + pid) % _EXACT_EVERY:
            seen.calls += 1
            # What it has grown by since the last exact reading is its own for all we know.
            return Sample(min(resident, max(0, seen.value + resident - seen.resident)), self.metric, False)
        calls = 1 if seen is None else seen.calls + 1
        exact = self._exact(tree)
        if exact is None:
            self._seen.pop(pid, None)
            return None
        if len(self._seen) > 1024:
            self._seen.clear()
        self._seen[pid] = _Seen(calls, exact.bytes, resident)
        return exact

    def forget(self, pid: int) -> None:
        """`pid` has ended: the next worker with this number starts anew."""
        self._seen.pop(pid, None)

    def _exact(self, tree: list[tuple[int, int]]) -> Sample | None:
        total, fallen_back, measured = 0, 0, 0
        for position, (pid, resident) in enumerate(tree):
            try:
                total += _footprint(pid, self.metric)
                measured += 1
            except psutil.AccessDenied:
                total += resident
                fallen_back += 1
            except (psutil.NoSuchProcess, OSError):
                # A zombie holds nothing any more; psutil counts it as no such process.
                if position == 0:
                    return None
        if not fallen_back:
            return Sample(total, self.metric, True)
        return Sample(total, f"{self.metric}+rss" if measured else "rss", True)


def _footprint(pid: int, metric: str) -> int:
    process: Any = psutil.Process(pid)
    # psutil 8 has deprecated memory_full_info() in favour of memory_footprint(), which older ones lack.
    read = getattr(process, "memory_footprint", None) or process.memory_full_info
    return int(getattr(read(), metric))


def _resident(pid: int, proc: str = "/proc") -> int | None:
    try:
        with open(f"{proc}/{pid}/statm", "rb", buffering=0) as file:
            fields = file.read(256).split()
    except OSError:
        return None
    # A zombie's are all zero, and only a zombie's.
    return int(fields[1]) * _PAGE if len(fields) > 1 and fields[0] != b"0" else None


def _slack(resident: int) -> int:
    """How far statm may be below the truth: the kernel counts per CPU, in batches of at least 32 pages (since
    6.2).
    """
    cpus = os.cpu_count() or 1
    return min(cpus * max(32, 2 * cpus) * _PAGE, resident // 10)


def memory_available(proc: str = "/proc", cgroup: str = "/sys/fs/cgroup") -> Headroom:
    """The tightest bounds on our memory: the least total of all that bound us, and the least that is free in any.

    They need not be the same one's: a unit of 2G on a machine that has 1G free may not be given more than 2G in
    all, nor more than 1G now. `source` names the bound of the total. Page cache that the kernel would give up first
    (inactive_file) counts as available. Files that cannot be read bound nothing; without any, total and available
    are 0. `proc` and `cgroup` are where those file systems are mounted.
    """
    bounds = [*_cgroup_bounds(proc, cgroup)]
    machine = _machine(proc)
    if machine is not None:
        bounds.append(machine)
    if not bounds:
        return Headroom(0, 0, "unknown")
    tightest = min(bounds, key=lambda bound: bound.total)
    return tightest._replace(available=min(bound.available for bound in bounds))


def _machine(proc: str) -> Headroom | None:
    table = _read(f"{proc}/meminfo")
    total, available = _entry(table, b"MemTotal:"), _entry(table, b"MemAvailable:")
    if total is None or available is None:
        return None
    return Headroom(total * 1024, available * 1024, "the machine")


class _Files(NamedTuple):
    """What a version of cgroups calls the same things; each limit with the name that systemd has for it."""

    limits: tuple[tuple[str, str], ...]
    usage: str
    cache: bytes


_V2 = _Files(
    (("memory.max", "MemoryMax="), ("memory.high", "MemoryHigh=")), "memory.current", b"inactive_file"
)
_V1 = _Files((("memory.limit_in_bytes", "MemoryLimit="),), "memory.usage_in_bytes", b"total_inactive_file")


def _cgroup_bounds(proc: str, mount: str) -> Iterator[Headroom]:
    for line in os.fsdecode(_read(f"{proc}/self/cgroup")).splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            root = mount if os.path.exists(f"{mount}/cgroup.controllers") else f"{mount}/unified"
            yield from _walk(root, path, _V2)
            # Beside our own group, once the tree is divided: a bound from above, less our own share. There may be less
            # free, but it is not another total.
            payload = f"{os.path.dirname(path).rstrip('/')}/{PAYLOAD}"
            yield from (bound._replace(total=_NO_LIMIT) for bound in _bounds(root, payload, _V2))
        elif "memory" in controllers.split(","):
            yield from _walk(f"{mount}/memory", path, _V1)


def _walk(root: str, path: str, files: _Files) -> Iterator[Headroom]:
    """From our group up to the root of what is mounted: each of them bounds us.

    In a container whose path is the host's, only the mount's root is there, and that is the container's own
    group.
    """
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        yield from _bounds(root, "/".join(["", *parts[:depth]]), files)


def _bounds(root: str, group: str, files: _Files) -> Iterator[Headroom]:
    for name, directive in files.limits:
        limit = _number(f"{root}{group}/{name}")
        if limit is None or limit >= _NO_LIMIT:
            continue
        usage = _number(f"{root}{group}/{files.usage}") or 0
        cache = _entry(_read(f"{root}{group}/memory.stat"), files.cache) or 0
        available = min(limit, max(0, limit - usage + cache))
        yield Headroom(limit, available, _describe(name, directive, group or "/"))


def _describe(name: str, directive: str, group: str) -> str:
    unit = group.rsplit("/", 1)[-1]
    return f"{directive} of {unit}" if unit.endswith(_UNIT_SUFFIXES) else f"{name} of {group}"


def _read(path: str) -> bytes:
    """The beginning of a file, empty when it can't be read: cheaper than a text file, for it is done at each
    round.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 16384)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _number(path: str) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdigit() else None


def _entry(table: bytes, name: bytes) -> int | None:
    """The number in the line that begins with `name`."""
    start = 0 if table.startswith(name) else table.find(b"\n" + name) + 1
    fields = table[start : start + 100].split(None, 2) if start or table.startswith(name) else []
    return int(fields[1]) if len(fields) > 1 and fields[0] == name and fields[1].isdigit() else None
