"""How much memory a worker holds, and how much there is: /proc, psutil and the cgroup files, all in bytes."""

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from typing import Any, NamedTuple

from memunit.master.cgroup import PAYLOAD
from memunit.master.probe import Probe, of_statm
from memunit.master.proctree import descendants
from memunit.records import dataclass

_PAGE = os.sysconf("SC_PAGE_SIZE")
# A fall by this part of what is resident is read exactly.
_FALL = 8
_EXACT_EVERY = 10
# And where rss has not moved since: then it is not the value that is in doubt, but what of it is still shared.
_EXACT_AT_REST = 60
_CPUS = os.cpu_count() or 1
# Files that are kept open, of those that may be open: a connection needs none of the master's.
_SHARE_OF_FILES = 8
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


class Bound(NamedTuple):
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

    def every(self, resident: int) -> int:
        """Which call is exact, the tenth or a later one: with rss at rest, only what is shared can have changed."""
        return _EXACT_AT_REST if abs(resident - self.resident) <= self.resident // 64 else _EXACT_EVERY


class Sampler:
    """Measures workers by `metric`: "uss" (what would be free without it), "pss" (shared pages by share) or
    "rss".

    uss and pss cost a walk over the page tables (smaps_rollup), rss next to nothing, and rss is an upper
    bound of both. So the walk is made when rss reaches the threshold, at the first and every tenth call for a
    worker (every sixtieth while rss stays the same), and else saved.
    """

    def __init__(self, metric: str) -> None:
        """Raises ValueError for a metric that is none of the three."""
        if metric not in ("uss", "pss", "rss"):
            raise ValueError(f"metric {metric!r} is none of uss, pss, rss")
        self.metric = metric
        self._seen: dict[int, _Seen] = {}
        self._probes: dict[int, Probe] = {}
        self._room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _SHARE_OF_FILES

    def sample(self, pid: int, threshold: int | None) -> Sample | None:
        """The memory of `pid` and its descendants, or None when it has vanished.

        A descendant that vanishes while it is read counts as nothing. With a threshold of None only every
        tenth call is exact.
        """
        probe = self._probe(pid)
        own = _resident(pid) if probe is None else probe.resident()
        if own is None:
            self.forget(pid)
            return None
        tree = [(pid, own)]
        if probe is None or not probe.alone():
            tree += [(child, size) for child in descendants(pid) if (size := _resident(child)) is not None]
        resident = sum(size for _, size in tree)
        if self.metric == "rss":
            return Sample(resident, "rss", True)
        seen = self._seen.get(pid)
        bound = sum(size + _slack(size) for _, size in tree)
        near = threshold is not None and bound >= threshold
        # By pid, so that the costly readings of many workers do not all fall into one round.
        # Of what it has given back, nobody knows what was its own.
        fell = seen is not None and resident < seen.resident - seen.resident // _FALL
        if seen is not None and not near and not fell and (seen.calls + pid) % seen.every(resident):
            seen.calls += 1
            # What it has grown by since the last exact reading is its own for all we know.
            return Sample(min(resident, max(0, seen.value + resident - seen.resident)), self.metric, False)
        calls = 1 if seen is None else seen.calls + 1
        exact = self._exact(tree)
        if exact is None:
            self.forget(pid)
            return None
        self._seen[pid] = _Seen(calls, exact.bytes, resident)
        return exact

    def forget(self, pid: int) -> None:
        """`pid` has ended: the next worker with this number starts anew."""
        self._seen.pop(pid, None)
        probe = self._probes.pop(pid, None)
        if probe is not None:
            probe.close()

    def _probe(self, pid: int) -> Probe | None:
        """None where there is none, or no room for one more."""
        if pid not in self._probes and Probe.FILES * (len(self._probes) + 1) <= self._room:
            with contextlib.suppress(OSError):
                self._probes[pid] = Probe(pid)
        return self._probes.get(pid)

    def _exact(self, tree: list[tuple[int, int]]) -> Sample | None:
        total, fallen_back, measured = 0, 0, 0
        for position, (pid, resident) in enumerate(tree):
            try:
                total += _footprint(pid, self.metric)
                measured += 1
            except PermissionError:
                total += resident
                fallen_back += 1
            except OSError:
                # A zombie holds nothing any more: ESRCH, as of no process.
                if position == 0:
                    return None
        if not fallen_back:
            return Sample(total, self.metric, True)
        return Sample(total, f"{self.metric}+rss" if measured else "rss", True)


def _footprint(pid: int, metric: str, proc: str = "/proc") -> int:
    """Raises OSError: PermissionError where the kernel does not let us see it, ESRCH or ENOENT of no process."""
    try:
        descriptor = os.open(f"{proc}/{pid}/smaps_rollup", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        if os.path.exists(f"{proc}/{pid}/statm"):
            return _by_mappings(pid, metric)
        raise
    try:
        table = os.read(descriptor, 4096)
    finally:
        os.close(descriptor)
    names = (b"Pss:",) if metric == "pss" else (b"Private_Clean:", b"Private_Dirty:", b"Private_Hugetlb:")
    return sum(_entry(table, name) or 0 for name in names) * 1024


def _by_mappings(pid: int, metric: str) -> int:
    """By psutil, which adds up what each mapping holds: where the kernel does not do that (gVisor's has no rollup)."""
    import psutil  # noqa: PLC0415  no kernel of a Debian needs it, and it is 3 MiB of the master

    try:
        process: Any = psutil.Process(pid)
        # psutil 8 has deprecated memory_full_info() in favour of memory_footprint(), which older ones lack.
        read = getattr(process, "memory_footprint", None) or process.memory_full_info
        return int(getattr(read(), metric))
    except psutil.AccessDenied:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None
    except psutil.NoSuchProcess:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from None


def _resident(pid: int, proc: str = "/proc") -> int | None:
    return of_statm(_read(f"{proc}/{pid}/statm"))


def _slack(resident: int) -> int:
    """How far statm may be below the truth: the kernel counts per CPU, in batches of at least 32 pages (since
    6.2).
    """
    return min(_CPUS * max(32, 2 * _CPUS) * _PAGE, resident // 10)


def memory_available(proc: str = "/proc", cgroup: str = "/sys/fs/cgroup") -> Bound:
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
        return Bound(0, 0, "unknown")
    tightest = min(bounds, key=lambda bound: bound.total)
    return tightest._replace(available=min(bound.available for bound in bounds))


def _machine(proc: str) -> Bound | None:
    table = _read(f"{proc}/meminfo")
    total, available = _entry(table, b"MemTotal:"), _entry(table, b"MemAvailable:")
    if total is None or available is None:
        return None
    return Bound(total * 1024, available * 1024, "the machine")


class _Files(NamedTuple):
    """What a version of cgroups calls the same things; each limit with the name that systemd has for it."""

    limits: tuple[tuple[str, str], ...]
    usage: str
    cache: bytes


_V2 = _Files(
    (("memory.max", "MemoryMax="), ("memory.high", "MemoryHigh=")), "memory.current", b"inactive_file"
)
_V1 = _Files((("memory.limit_in_bytes", "MemoryLimit="),), "memory.usage_in_bytes", b"total_inactive_file")


def _cgroup_bounds(proc: str, mount: str) -> Iterator[Bound]:
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


def _walk(root: str, path: str, files: _Files) -> Iterator[Bound]:
    """From our group up to the root of what is mounted: each of them bounds us.

    In a container whose path is the host's, only the mount's root is there, and that is the container's own
    group.
    """
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        yield from _bounds(root, "/".join(["", *parts[:depth]]), files)


def _bounds(root: str, group: str, files: _Files) -> Iterator[Bound]:
    for name, directive in files.limits:
        limit = _number(f"{root}{group}/{name}")
        if limit is None or limit >= _NO_LIMIT:
            continue
        usage = _number(f"{root}{group}/{files.usage}") or 0
        cache = _entry(_read(f"{root}{group}/memory.stat"), files.cache) or 0
        available = min(limit, max(0, limit - usage + cache))
        yield Bound(limit, available, _describe(name, directive, group or "/"))


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
