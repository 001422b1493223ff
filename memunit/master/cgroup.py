"""The delegated part of the cgroup tree (cgroup v2): a leaf for the master, and beside it all that it has started.

    master
    payload                 bounded: the unit's MemoryHigh= and MemoryMax=, less what the master takes
    payload/zygotes/NAME
    payload/workers/NAME
    payload/programs/NAME   of examine.command

Documentation/admin-guide/cgroup-v2.rst of the kernel has every file that is named here.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Collection, Container, Iterable

from memunit.master.group import Group, members, number, occupied, read, remove, write
from memunit.master.group import kill as kill_all

MOUNT = "/sys/fs/cgroup"
MASTER = "master"
PAYLOAD = "payload"
ZYGOTES = f"{PAYLOAD}/zygotes"
WORKERS = f"{PAYLOAD}/workers"
PROGRAMS = f"{PAYLOAD}/programs"
_DIVIDED = (PAYLOAD, ZYGOTES, WORKERS, PROGRAMS)
_PARTS = (MASTER, *_DIVIDED)
_BOUNDS = ("memory.high", "memory.max")
_LEAST = 1 << 20
# What stays free beside a process that imports or examines. At the bound that all have in common, the OOM killer may
# take a worker that serves. It kills the process that imports first, but stops waiting for it before all of its memory
# is free, and kills another process if one wants a page at that moment: two of 28 times in user-mode Linux.
_SPARE = 4 << 20
# Told when workers have waited for memory for a tenth of the last two seconds. An unprivileged process may ask for no
# shorter window than that (Documentation/accounting/psi.rst).
_PRESSURE = "some 200000 2000000"
# systemd marks what it has delegated: on the unit's group, in which we are unless DelegateSubgroup= has put us below.
_DELEGATED = "user.delegate"


class Unavailable(Exception):
    """There is no delegated tree; the text says why, and what would give one."""


class Tree:
    """The group that was delegated to us, with us in a leaf of its own."""

    def __init__(self, path: str, lock: int, kept: Callable[[int, int], int], mount: str = MOUNT) -> None:
        """`lock` is a descriptor by which it is ours, for as long as this process lives; `kept` as in `claim`."""
        self._lock = lock
        self._kept = kept
        self._held = 0
        self._path = path
        self._bounding = [path, *_above(path, mount)]
        self._payload = f"{path}/{PAYLOAD}"
        self._workers = f"{path}/{WORKERS}"
        self._zygotes = f"{path}/{ZYGOTES}"
        self._programs = f"{path}/{PROGRAMS}"

    def bound(self) -> int | None:
        """Bound what we have started by the tightest bound of the unit and of its slices, less what we take ourselves.

        Returns a memory.high that has become lower than what the kernel can't take back, in bytes, else None.

        Past a MemoryHigh= that is common to all, the kernel makes everybody wait for up to two seconds at each return
        to user space, the master with its workers: one with a grace of 5 s was killed after 249 s. Past a common
        MemoryMax= the master may be the biggest, and the one that is killed.
        """
        under = None
        for name in _BOUNDS:
            file = f"{self._payload}/{name}"
            total = _least(f"{each}/{name}" for each in self._bounding)
            wanted = None if total is None else self._left_of(total)
            now = number(file)
            full = wanted is not None and (now is None or wanted < now) and self._fills(wanted)
            if wanted == now or (full and name == "memory.max"):
                continue
            if full:
                under = wanted
            with contextlib.suppress(OSError):
                write(file, "max" if wanted is None else str(wanted))
        return under

    def _left_of(self, total: int) -> int:
        """What a bound of so many bytes leaves to all that we have started.

        What we hold is in our own leaf, and in the unit's group itself: charges stay where they were made, and most of
        ours were made before we moved. While what we have started is at its bound, the bound stays where it is.
        """
        left = total - self._kept(total, self._held)
        ours, theirs = occupied(self._path), occupied(self._payload)
        if ours is None or theirs is None or ours - theirs <= self._held:
            return left
        less = total - self._kept(total, ours - theirs)
        if less < left and self._fills(less):
            return left
        self._held = ours - theirs
        return less

    def _fills(self, bound: int | None) -> bool:
        """Whether most of a bound is taken up by what the kernel can't take back, as it can page cache.

        A memory.max that is below what it can't take back has the OOM killer come at once.
        """
        taken = occupied(self._payload)
        return taken is not None and bound is not None and taken >= bound - bound // 8

    def group(self, name: str, *, limit: int | None, ceiling: int | None) -> Group:
        """A new group for a worker. Raises OSError."""
        return Group(f"{self._workers}/{name}", limit=limit, ceiling=ceiling)

    def known_group(self, name: str, *, limit: int | None, ceiling: int | None) -> Group | None:
        """The group that a predecessor has made for a worker; None if it is not there, or can't be read."""
        path = f"{self._workers}/{name}"
        try:
            return Group(path, limit=limit, ceiling=ceiling, known=True) if os.path.isdir(path) else None
        except OSError:
            return None

    def zygote_path(self, name: str) -> str:
        """The path of the group of a zygote that is there already."""
        return f"{self._zygotes}/{name}"

    def members(self, besides: Container[str] = ()) -> set[int]:
        """The pids of all that was started here and has not ended, but for those in the groups of these paths."""
        groups = (*os.scandir(self._workers), *os.scandir(self._zygotes))
        return {pid for entry in groups if entry.path not in besides for pid in members(entry.path)}

    def zygote(self, name: str) -> str:
        """The path of a group for a zygote, which imports until `settle`. Raises OSError."""
        path = self.zygote_path(name)
        with contextlib.suppress(FileExistsError):  # of a try that got no further
            os.mkdir(path)
        # The app may need a process that its import has started. Without this process the import has to fail.
        write(f"{path}/memory.oom.group", "1")
        return path

    def bound_imports(self, paths: Collection[str]) -> None:
        """Bound the zygotes in these groups, which import: each gets its share of what is free, and is killed for more.

        Past the bound of all that we have started, an import would not fail. It would make everybody wait, also the
        workers that serve.
        To be called again while they import: workers take memory and return it, and imports end.
        """
        room = self._room()
        for path in paths:
            own = occupied(path)
            if own is not None:
                wanted = "max" if room is None else str(max(own + room // len(paths), _LEAST))
                with contextlib.suppress(OSError):
                    write(f"{path}/memory.max", wanted)

    def imports(self, name: str) -> bool:
        """Whether the zygote in this group of a predecessor's imports, by what `settle` undoes."""
        path = self.zygote_path(name)
        return number(f"{path}/memory.oom.group") == 1 or number(f"{path}/memory.max") is not None

    def _room(self) -> int | None:
        """The bytes that imports, or a program that examines, may take now; None if nothing bounds us."""
        bound, taken = self._bound(), occupied(self._payload)
        return None if bound is None or taken is None else bound - taken - _SPARE

    def settle(self, path: str) -> None:
        """The zygote of a group has imported the app: what it has started by that may grow as it likes.

        From now on the OOM killer may take such a process alone: the workers that serve may do without it.
        """
        for name, wanted in (("memory.max", "max"), ("memory.oom.group", "0")):
            with contextlib.suppress(OSError):
                write(f"{path}/{name}", wanted)

    def program(self, name: str, memory: int) -> str:
        """The path of a new group for a program that examines a worker; past `memory` bytes all of it is killed.

        Raises OSError.
        """
        path = f"{self._programs}/{name}"
        with contextlib.suppress(FileExistsError):  # of a try that got no further
            os.mkdir(path)
        write(f"{path}/memory.oom.group", "1")
        write(f"{path}/memory.max", str(memory))
        return path

    def free_for(self, memory: int) -> int:
        """What of so many bytes a program that examines a worker may take now."""
        room = self._room()
        return memory if room is None else min(memory, max(room, _LEAST))

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

    def events(self) -> int | None:
        """A descriptor that gives EPOLLPRI when what we have started is at its bound; None if there is none."""
        with contextlib.suppress(OSError):
            return os.open(f"{self._payload}/memory.events.local", os.O_RDONLY | os.O_CLOEXEC)
        return None

    def crowded(self) -> bool:
        """Whether there is want of memory: page cache at the bound is none."""
        return self._fills(self._bound())

    def _bound(self) -> int | None:
        return _least(f"{self._payload}/{name}" for name in _BOUNDS)

    def clear(self, kept: Container[str] = (), *, kill: bool = True) -> list[str]:
        """Kill and remove the groups that an earlier master has left, but for `kept`; the paths of those that are
        still there. Without `kill`, only the empty ones are removed, and those of programs: nobody waits for these.
        """
        left = []
        for folder in (self._workers, self._zygotes, self._programs):
            for entry in os.scandir(folder):
                if entry.is_dir(follow_symlinks=False) and entry.path not in kept:
                    if kill or folder == self._programs:
                        kill_all(entry.path)
                    if not remove(entry.path):
                        left.append(entry.path)
        return left


def claim(remedy: str, kept: Callable[[int, int], int], proc: str = "/proc", mount: str = MOUNT) -> Tree:
    """Move into a leaf of the delegated tree and turn its memory controller on. Before anything is forked.

    `remedy` is what gives one where there is none. Of so many bytes that bound the tree, `kept` says how many are the
    master's own, which has held so many. Raises Unavailable.
    """
    own = _own_group(proc, mount)
    tree = _delegated(own, mount, remedy)
    lock = None
    try:
        if "memory" not in read(f"{tree}/cgroup.controllers").decode().split():
            raise Unavailable(f"the memory controller is not delegated to {_name(tree, mount)}: {remedy}")
        for name in _PARTS:
            with contextlib.suppress(FileExistsError):
                os.mkdir(f"{tree}/{name}")
        lock = _lock(tree, mount)
        if own == tree:
            # A group with processes of its own can't hand controllers down.
            write(f"{tree}/{MASTER}/cgroup.procs", str(os.getpid()))
        for each in (tree, *(f"{tree}/{name}" for name in _DIVIDED)):
            write(f"{each}/cgroup.subtree_control", "+memory")
    except OSError as error:
        if lock is not None:
            os.close(lock)
        with contextlib.suppress(OSError):
            write(f"{own}/cgroup.procs", str(os.getpid()))
        for name in reversed(_PARTS):
            with contextlib.suppress(OSError):
                os.rmdir(f"{tree}/{name}")
        raise Unavailable(_why(tree, mount, error, remedy)) from error
    return Tree(tree, lock, kept, mount)


def _lock(tree: str, mount: str) -> int:
    """Two masters in one tree would take each other's groups for those of a dead one. Ends with this process."""
    descriptor = os.open(f"{tree}/{WORKERS}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        remedy = "start each in a scope of its own"
        raise Unavailable(f"{_name(tree, mount)} is divided by another memunit already: {remedy}") from error
    return descriptor


def _own_group(proc: str, mount: str) -> str:
    """Our own group's path in the file system."""
    try:
        lines = read(f"{proc}/self/cgroup").decode().splitlines()
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


def _least(paths: Iterable[str]) -> int | None:
    """The tightest of these bounds; None if there is none."""
    return min((found for path in paths if (found := number(path)) is not None), default=None)


def _above(path: str, mount: str) -> list[str]:
    """The groups above, up to the root of what is mounted."""
    found = []
    while len(path) > len(mount):
        path = os.path.dirname(path)
        found.append(path)
    return found


def _name(path: str, mount: str) -> str:
    return f"the cgroup {path[len(mount) :] or '/'}"
