"""The group of one worker (cgroup v2): a trip-wire and a ceiling, and what the kernel has counted there.

Documentation/admin-guide/cgroup-v2.rst of the kernel has every file that is named here.
"""

import contextlib
import os
from typing import Literal, NamedTuple

_SIZE = 16384


class Counts(NamedTuple):
    """From memory.events: how often usage was at memory.high, at memory.max for good, and how many were killed."""

    high: int
    oom: int
    oom_kill: int


class Death(NamedTuple):
    """What the kernel counted in the group of a worker that has ended.

    `oom` is "own" when its group was at its own memory.max, "outside" when the OOM killer came for want of memory
    elsewhere (the unit's MemoryMax=, the machine), else empty. `peak` is the most that was ever charged to it, in
    bytes, 0 if the kernel does not tell (before 5.19).
    """

    oom: Literal["", "own", "outside"]
    peak: int


def whose_bound(counts: Counts, own_oom: int) -> Literal["", "own", "outside"]:
    """Whose bound it was that the OOM killer came for: `counts` are with groups below, `own_oom` without."""
    if not counts.oom_kill:
        return ""
    if own_oom:
        return "own"
    return "" if counts.oom else "outside"


class Group:
    """The group of one worker."""

    def __init__(self, path: str, *, limit: int | None, ceiling: int | None, known: bool = False) -> None:
        """Make it; one that is `known` is there already, and may have lost its bounds. Raises OSError."""
        if not known:
            os.mkdir(path)
        self.path = path
        self.armed_at: int | None = None
        """Where the trip-wire is, in bytes; None while there is none."""
        self._ceiling = ceiling
        self.events = -1
        try:
            # One dead process of several would leave a worker that is neither alive nor gone.
            write(f"{path}/memory.oom.group", "1")
            if ceiling is not None:
                write(f"{path}/memory.max", str(ceiling))
            self.events = os.open(f"{path}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
            self.counts = self.count()
            if limit is not None:
                # Never below what is charged to it: the kernel would have us reclaim the difference.
                charged = number(f"{path}/memory.current") or 0 if known else 0
                self._arm(max(limit, charged))
        except OSError:
            self.close()
            if not known:
                with contextlib.suppress(OSError):
                    os.rmdir(path)
            raise

    @property
    def procs(self) -> str:
        """The file into which a process writes "0" to move here."""
        return f"{self.path}/cgroup.procs"

    def count(self) -> Counts:
        """Read the counters; this also makes `events` quiet until the next change."""
        values = table(os.pread(self.events, _SIZE, 0))
        return Counts(values.get("high", 0), values.get("oom", 0), values.get("oom_kill", 0))

    def own(self) -> int | None:
        """As own() of its path."""
        return own(self.path)

    def bound(self, ceiling: int | None) -> None:
        """Put the ceiling there, but not under what is charged now: the kernel would have us reclaim the difference,
        and then kill. What is over it for its page cache keeps the bound that it has.
        """
        charged = number(f"{self.path}/memory.current") or 0
        if ceiling is not None and charged >= ceiling:
            return
        with contextlib.suppress(OSError):
            write(f"{self.path}/memory.max", "max" if ceiling is None else str(ceiling))
            self._ceiling = ceiling

    def arm(self, limit: int, own: int) -> None:
        """Put the trip-wire where `own` bytes will have grown to `limit`, whatever page cache there is now.

        Not below what is charged now: the kernel would have the writer, us, reclaim the difference. But always under
        the ceiling: page cache alone may fill all below that, and nothing would be told before the OOM killer came.
        """
        at = (number(f"{self.path}/memory.current") or 0) + limit - own
        if self._ceiling is not None:
            at = min(at, self._ceiling - self._ceiling // 20)
        at = max(at, limit)
        moved = self.armed_at is None or at == limit or abs(at - self.armed_at) > limit // 64
        if moved and at != self.armed_at:
            with contextlib.suppress(OSError):
                self._arm(at)

    def disarm(self) -> None:
        """Take the trip-wire away: past it the kernel throttles whoever allocates."""
        if self.armed_at is not None:
            self.armed_at = None
            with contextlib.suppress(OSError):
                write(f"{self.path}/memory.high", "max")

    def death(self) -> Death:
        """What has happened here, of a worker that has ended."""
        try:
            counts = self.count()
            # Those of groups below are in memory.events too: a job that has hit a bound which the worker gave it.
            local = table(read(f"{self.path}/memory.events.local"))
        except OSError:
            return Death("", 0)
        return Death(whose_bound(counts, local.get("oom", 0)), number(f"{self.path}/memory.peak") or 0)

    def kill(self) -> None:
        """SIGKILL to every process in it at once, whatever it forks meanwhile."""
        kill(self.path)

    def remove(self) -> bool:
        """Remove it, if no process is left in it."""
        return remove(self.path)

    def close(self) -> None:
        """Close the descriptor."""
        if self.events >= 0:
            os.close(self.events)
            self.events = -1

    def _arm(self, at: int) -> None:
        write(f"{self.path}/memory.high", str(at))
        self.armed_at = at


def own(path: str) -> int | None:
    """Bytes that are gone from the machine for as long as the worker of a group lives: docs/memory.md, metric cgroup.

    Page cache is not among them, swapped pages are. None when the group is gone.
    """
    held = occupied(path)
    # Swap accounting may be off (swapaccount=0).
    return None if held is None else held + (number(f"{path}/memory.swap.current") or 0)


def occupied(path: str) -> int | None:
    """Of these, the bytes that are in memory; None when the group is gone."""
    try:
        stat = table(read(f"{path}/memory.stat"))
    except OSError:
        return None
    kernel = stat.get("kernel", stat.get("kernel_stack", 0) + stat.get("slab", 0) + stat.get("pagetables", 0))
    return stat.get("anon", 0) + stat.get("shmem", 0) + kernel - stat.get("slab_reclaimable", 0)


def oom_kills(path: str) -> int:
    """How many processes in a group and below it the OOM killer has killed."""
    try:
        return table(read(f"{path}/memory.events")).get("oom_kill", 0)
    except OSError:
        return 0


def kill(path: str) -> None:
    """SIGKILL to every process in a group and below it at once, whatever it forks meanwhile."""
    with contextlib.suppress(OSError):
        write(f"{path}/cgroup.kill", "1")


def remove(path: str) -> bool:
    """Remove a group, and those that the worker has made in it, if no process is left; true if it is gone."""
    for folder, _, _ in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)
    return not os.path.exists(path)


def members(path: str) -> set[int]:
    """The pids in a group and in those below it; none where it is gone."""
    found: set[int] = set()
    for folder, _, _ in os.walk(path):
        with contextlib.suppress(OSError), open(f"{folder}/cgroup.procs", encoding="ascii") as file:
            found |= {int(line) for line in file}
    return found


def write(path: str, text: str) -> None:
    """One write(2). Raises OSError, for what the kernel does not want."""
    # Not through a buffered file: that would hide the error until it is closed.
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def read(path: str) -> bytes:
    """What a file of the kernel says. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _SIZE)
    finally:
        os.close(descriptor)


def number(path: str) -> int | None:
    """The number that a file of the kernel says; None for "max", and where it can't be read."""
    try:
        text = read(path).strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def table(text: bytes) -> dict[str, int]:
    """A file of "name number" lines."""
    pairs = (line.split() for line in text.decode().splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
