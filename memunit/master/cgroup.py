"""The delegated part of the cgroup tree (cgroup v2): a group for each worker, with a trip-wire and a ceiling.

Documentation/admin-guide/cgroup-v2.rst of the kernel has every file that is named here.
"""

import contextlib
import errno
import os
from dataclasses import dataclass
from typing import Literal, NamedTuple

MOUNT = "/sys/fs/cgroup"
MASTER = "master"
ZYGOTES = "zygotes"
WORKERS = "workers"
# Told when workers have waited for memory for a tenth of the last two seconds. An unprivileged process may ask for no
# shorter window than that (Documentation/accounting/psi.rst).
_PRESSURE = "some 200000 2000000"
# systemd marks what it has delegated: on the unit's group, in which we are unless DelegateSubgroup= has put us below.
_DELEGATED = "user.delegate"
_SIZE = 16384


class Unavailable(Exception):
    """There is no delegated tree; the text says why, and what would give one."""


class Counts(NamedTuple):
    """From memory.events: how often usage was at memory.high, at memory.max for good, and how many were killed."""

    high: int
    oom: int
    oom_kill: int


@dataclass(frozen=True, slots=True)
class Death:
    """What the kernel counted in the group of a worker that has ended.

    `oom` is "own" when its group was at its own memory.max, "outside" when the OOM killer came for want of memory
    elsewhere (the unit's MemoryMax=, the machine), else empty. `peak` is the most that was ever charged to it, in
    bytes, 0 if the kernel does not tell (before 5.19).
    """

    oom: Literal["", "own", "outside"]
    peak: int


class Group:
    """The group of one worker."""

    def __init__(self, path: str, *, limit: int | None, ceiling: int | None) -> None:
        """Make it. Raises OSError."""
        os.mkdir(path)
        self.path = path
        self.armed_at: int | None = None
        """Where the trip-wire is, in bytes; None while there is none."""
        self._ceiling = ceiling
        self.events = -1
        try:
            # One dead process of several would leave a worker that is neither alive nor gone.
            _write(f"{path}/memory.oom.group", "1")
            if ceiling is not None:
                _write(f"{path}/memory.max", str(ceiling))
            self.events = os.open(f"{path}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
            self.counts = self.count()
            if limit is not None:
                self._arm(limit)
        except OSError:
            self.close()
            with contextlib.suppress(OSError):
                os.rmdir(path)
            raise

    @property
    def procs(self) -> str:
        """The file into which a process writes "0" to move here."""
        return f"{self.path}/cgroup.procs"

    def count(self) -> Counts:
        """Read the counters; this also makes `events` quiet until the next change."""
        values = _table(os.pread(self.events, _SIZE, 0))
        return Counts(values.get("high", 0), values.get("oom", 0), values.get("oom_kill", 0))

    def own(self) -> int | None:
        """As own() of its path."""
        return own(self.path)

    def arm(self, limit: int, own: int) -> None:
        """Put the trip-wire where `own` bytes will have grown to `limit`, whatever page cache there is now.

        Not below what is charged now: the kernel would have the writer, us, reclaim the difference. But always under
        the ceiling: page cache alone may fill all below that, and nothing would be told before the OOM killer came.
        """
        at = (_number(f"{self.path}/memory.current") or 0) + limit - own
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
                _write(f"{self.path}/memory.high", "max")

    def death(self) -> Death:
        """What has happened here, of a worker that has ended."""
        try:
            counts = self.count()
        except OSError:
            return Death("", 0)
        peak = _number(f"{self.path}/memory.peak") or 0
        if not counts.oom_kill:
            return Death("", peak)
        return Death("own" if counts.oom else "outside", peak)

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
        _write(f"{self.path}/memory.high", str(at))
        self.armed_at = at


class Tree:
    """The group that was delegated to us, with us in a leaf of its own."""

    def __init__(self, path: str) -> None:
        self._workers = f"{path}/{WORKERS}"
        self._zygotes = f"{path}/{ZYGOTES}"

    def group(self, name: str, *, limit: int | None, ceiling: int | None) -> Group:
        """A new group for a worker. Raises OSError."""
        return Group(f"{self._workers}/{name}", limit=limit, ceiling=ceiling)

    def zygote(self, name: str) -> str:
        """The path of a group for a zygote, which is not bounded by itself. Raises OSError."""
        path = f"{self._zygotes}/{name}"
        with contextlib.suppress(FileExistsError):  # of a try that got no further
            os.mkdir(path)
        return path

    def pressure(self) -> int | None:
        """A descriptor that gives EPOLLPRI when the workers wait for memory; None where the kernel measures no PSI.

        That of the unit itself is writable from systemd 257 on only, so the workers have a group in common.
        """
        try:
            descriptor = os.open(f"{self._workers}/memory.pressure", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            os.write(descriptor, _PRESSURE.encode() + b"\0")
        except OSError:
            os.close(descriptor)
            return None
        return descriptor

    def clear(self) -> list[str]:
        """Kill and remove the groups that an earlier master has left; the paths of those that are still there."""
        left = []
        for entry in (*os.scandir(self._workers), *os.scandir(self._zygotes)):
            if entry.is_dir(follow_symlinks=False):
                kill(entry.path)
                if not remove(entry.path):
                    left.append(entry.path)
        return left


def claim(remedy: str, proc: str = "/proc", mount: str = MOUNT) -> Tree:
    """Move into a leaf of the delegated tree and turn its memory controller on. Before anything is forked.

    `remedy` is what gives one where there is none. Raises Unavailable.
    """
    own = _own_group(proc, mount)
    tree = _delegated(own, mount, remedy)
    try:
        if "memory" not in _read(f"{tree}/cgroup.controllers").decode().split():
            raise Unavailable(f"the memory controller is not delegated to {_name(tree, mount)}: {remedy}")
        for name in (MASTER, ZYGOTES, WORKERS):
            with contextlib.suppress(FileExistsError):
                os.mkdir(f"{tree}/{name}")
        if own == tree:
            # A group with processes of its own can't hand controllers down.
            _write(f"{tree}/{MASTER}/cgroup.procs", str(os.getpid()))
        for each in (tree, f"{tree}/{WORKERS}"):
            _write(f"{each}/cgroup.subtree_control", "+memory")
    except OSError as error:
        raise Unavailable(_why(tree, mount, error, remedy)) from error
    return Tree(tree)


def _own_group(proc: str, mount: str) -> str:
    """Our own group's path in the file system."""
    try:
        lines = _read(f"{proc}/self/cgroup").decode().splitlines()
    except OSError as error:
        raise Unavailable(f"{proc}/self/cgroup: {error.strerror}") from error
    paths = [line[3:] for line in lines if line.startswith("0::")]
    if not paths or not os.path.exists(f"{mount}/cgroup.controllers"):
        raise Unavailable(
            "this machine does not use cgroup v2 (the kernel's command line may say "
            "systemd.unified_cgroup_hierarchy=1)"
        )
    return f"{mount}{paths[0].rstrip('/')}"


def _delegated(own: str, mount: str, remedy: str) -> str:
    """The group to divide: the one we are in, or the one above if a subgroup of it was given to us."""
    for candidate in (own, os.path.dirname(own)):
        if candidate.startswith(mount) and _marked(candidate):
            return candidate
    # In a container with a cgroup namespace, "/" is the container's own. The machine's root has no cgroup.type.
    if own.rstrip("/") == mount.rstrip("/") and os.path.exists(f"{own}/cgroup.type"):
        return own.rstrip("/")
    raise Unavailable(f"{_name(own, mount)} was not delegated to memunit: {remedy}")


def _marked(path: str) -> bool:
    try:
        return os.getxattr(path, _DELEGATED) == b"1"
    except OSError:
        return False


def _why(tree: str, mount: str, error: OSError, remedy: str) -> str:
    name = _name(tree, mount)
    if error.errno == errno.EROFS:
        return f"{name} is read-only here: ProtectControlGroups=no in the unit, or a writable cgroup file system, helps"
    if error.errno == errno.EBUSY:
        return (
            f"{name} has other processes in it, so it can't be divided: start memunit in a group of its own"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{name} may not be divided by this user: {remedy}"
    return f"{name} can't be divided: {error.strerror}"


def _name(path: str, mount: str) -> str:
    return f"the cgroup {path[len(mount) :] or '/'}"


def own(path: str) -> int | None:
    """Bytes that are gone from the machine for as long as the worker of a group lives: docs/memory.md, metric cgroup.

    Page cache is not among them, swapped pages are. None when the group is gone.
    """
    try:
        stat = _table(_read(f"{path}/memory.stat"))
    except OSError:
        return None
    # Swap accounting may be off (swapaccount=0).
    swapped = _number(f"{path}/memory.swap.current")
    kernel = stat.get("kernel", stat.get("kernel_stack", 0) + stat.get("slab", 0) + stat.get("pagetables", 0))
    return stat["anon"] + stat.get("shmem", 0) + kernel - stat.get("slab_reclaimable", 0) + (swapped or 0)


def kill(path: str) -> None:
    """SIGKILL to every process in a group and below it at once, whatever it forks meanwhile."""
    with contextlib.suppress(OSError):
        _write(f"{path}/cgroup.kill", "1")


def remove(path: str) -> bool:
    """Remove a group, and those that the worker has made in it, if no process is left; true if it is gone."""
    for folder, _, _ in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)
    return not os.path.exists(path)


def _write(path: str, text: str) -> None:
    # Not through a buffered file: that would hide the error until it is closed.
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _SIZE)
    finally:
        os.close(descriptor)


def _number(path: str) -> int | None:
    try:
        text = _read(path).strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _table(text: bytes) -> dict[str, int]:
    """A file of "name number" lines."""
    pairs = (line.split() for line in text.decode().splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
