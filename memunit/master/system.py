"""The few system calls and /proc readings that Python has no name for."""

import contextlib
import ctypes
import errno
import os
import signal
import socket
import time
from collections.abc import Container, Iterable

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_DEEPEST = 256
_UNIX_PATH_MAX = 107
_STANDARD_ERROR = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def fill_standard_descriptors() -> None:
    """Open /dev/null in the place of descriptors 0 to 2 that are closed.

    What is opened next would get those numbers, and then the text of whoever writes to standard error.
    """
    while True:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        if null > _STANDARD_ERROR:
            os.close(null)
            return
        os.set_inheritable(null, True)


def set_child_subreaper() -> None:
    """Make orphaned descendants children of this process (prctl(2), PR_SET_CHILD_SUBREAPER).

    Raises OSError where the kernel refuses.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_parent_death_signal(signum: int) -> None:
    """Have the kernel send `signum` to this process when its parent ends; 0 takes that back.

    PR_SET_PDEATHSIG of prctl(2): cleared in a fork, kept over an exec. The caller compares getppid(2)
    afterwards, because the parent may be gone already. Raises OSError for a number that is no signal.
    """
    _prctl(_PR_SET_PDEATHSIG, signum)


def _stat_fields(pid: int, proc: str) -> list[bytes] | None:
    """The fields of proc_pid_stat(5) from the third on (state), or None when the process is gone."""
    try:
        with open(f"{proc}/{pid}/stat", "rb", buffering=0) as file:
            text = file.read(1024)
    except OSError:
        return None
    # The command's name may hold blanks and brackets; what follows the last bracket cannot.
    return text[text.rfind(b")") + 1 :].split() or None


def parent_of(pid: int, proc: str = "/proc") -> int | None:
    """The parent's pid (0 for one outside our pid namespace), or None when `pid` is gone."""
    fields = _stat_fields(pid, proc)
    return int(fields[1]) if fields else None


def is_descendant(pid: int, ancestors: Container[int], proc: str = "/proc") -> int | None:
    """The nearest of `ancestors` that `pid` is or descends from, or None.

    Best effort by nature: a process that has ended and been reaped has no parent any more.
    """
    current: int | None = pid
    for _ in range(_DEEPEST):
        if not current:
            return None
        if current in ancestors:
            return current
        current = parent_of(current, proc)
    return None


def _children(pid: int, proc: str) -> list[int] | None:
    """The children of every thread of `pid`; None where the kernel lacks CONFIG_PROC_CHILDREN."""
    found: list[int] = []
    try:
        threads = os.listdir(f"{proc}/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        try:
            with open(f"{proc}/{pid}/task/{thread}/children", "rb", buffering=0) as file:
                while block := file.read(65536):
                    found.extend(map(int, block.split()))
        except FileNotFoundError:
            if os.path.exists(f"{proc}/{pid}/task/{thread}/stat"):
                return None
        except OSError:
            continue
    return found


def _children_by_parent(proc: str) -> dict[int, list[int]]:
    table: dict[int, list[int]] = {}
    for name in os.listdir(proc):
        if name.isdigit() and (parent := parent_of(int(name), proc)):
            table.setdefault(parent, []).append(int(name))
    return table


def descendants(pid: int, proc: str = "/proc") -> list[int]:
    """The pids of all descendants of `pid`, parents before their children; empty when it is gone.

    A snapshot: what forks while it is taken may be missing. A zombie has no children any more.
    """
    found: list[int] = []
    seen = {pid}
    queue = [pid]
    table: dict[int, list[int]] | None = None
    while queue:
        current = queue.pop()
        children = table.get(current, []) if table is not None else _children(current, proc)
        if children is None:
            table = _children_by_parent(proc)
            children = table.get(current, [])
        for child in children:
            if child not in seen:
                seen.add(child)
                found.append(child)
                queue.append(child)
    return found


def _hold(pid: int, ancestor: int) -> int | None:
    """A pidfd of `pid` if it descends from `ancestor`: looked at after the pidfd is there, so that a number
    which was given to somebody else since it was listed is never taken.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    if is_descendant(pid, (ancestor,)) is None:
        os.close(pidfd)
        return None
    return pidfd


def hold_descendants(pid: int, besides: Container[int] = ()) -> dict[int, int]:
    """{pid: pidfd} of every descendant of `pid` that is not in `besides`. The caller closes the pidfds."""
    held = {}
    for descendant in descendants(pid):
        if descendant not in besides and (pidfd := _hold(descendant, pid)) is not None:
            held[descendant] = pidfd
    return held


def hold(pids: Iterable[int], besides: Container[int] = ()) -> dict[int, int]:
    """{pid: pidfd} of those that are there and not in `besides`. The caller closes the pidfds."""
    held = {}
    for pid in pids:
        if pid not in besides:
            with contextlib.suppress(OSError):
                held[pid] = os.pidfd_open(pid)
    return held


def pid_of(pidfd: int) -> int:
    """Whose pidfd it is (fdinfo, "Pid:"); 0 if it has ended and was reaped."""
    try:
        with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
            found = [line for line in file if line.startswith("Pid:")]
    except OSError:
        return 0
    return max(0, int(found[0].split()[1])) if found else 0


def unit_members(proc: str = "/proc", mount: str = "/sys/fs/cgroup") -> set[int]:
    """The pids in our own control group and in those beside and below it: all that systemd has in our unit.

    By the hierarchy that systemd keeps units in: that of cgroup v2, or "name=systemd" of v1. None where we are in a
    root, and everybody is.
    """
    found: set[int] = set()
    try:
        with open(f"{proc}/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return found
    for number, name, path in (line for line in lines if len(line) == 3):
        if number == "0" or name == "name=systemd":
            # The leaf that we have made for ourselves is not the unit.
            unit = path.removesuffix("/master").rstrip("/")
            root = f"{mount}/systemd" if name else mount
            for folder, _, _ in os.walk(f"{root}{unit}") if unit else ():
                with contextlib.suppress(OSError), open(f"{folder}/cgroup.procs", encoding="ascii") as procs:
                    found |= {int(line) for line in procs}
    return found


def hold_family(leader: int, besides: Container[int] = (), *, ours: bool = True) -> dict[int, int]:
    """{pid: pidfd} of a child of ours, its descendants, and who is in its process group: ours, if orphaned.

    Of one that is not `ours` (another master's child), orphans are looked for in our control group. The caller closes
    the pidfds.
    """
    held = {}
    candidates = descendants(os.getpid()) if ours else [leader, *descendants(leader), *unit_members()]
    for pid in candidates:
        if pid in besides or pid in held:
            continue
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            continue
        # Looked at after the pidfd is there: a number that was given to somebody else since is never taken.
        try:
            member = os.getpgid(pid) == leader or is_descendant(pid, (leader,)) is not None
        except ProcessLookupError:
            member = False
        if member and (not ours or is_descendant(pid, (os.getpid(),)) is not None):
            held[pid] = pidfd
        else:
            os.close(pidfd)
    return held


def hold_group(group: int) -> list[int]:
    """A pidfd of each member of a group whose leader has ended: they are ours by now. The caller closes them."""
    held = []
    for pid in descendants(os.getpid()):
        pidfd = _hold(pid, os.getpid()) if pid != group else None
        if pidfd is None:
            continue
        try:
            member = os.getpgid(pid) == group
        except ProcessLookupError:
            member = False
        if member:
            held.append(pidfd)
        else:
            os.close(pidfd)
    return held


def kill(pid: int, signum: int = signal.SIGKILL) -> bool:
    """Send a signal to a descendant of this process; False when it is gone, or is no descendant any more.

    Safe against the reuse of pids. Raises PermissionError if it changed its user.
    """
    pidfd = _hold(pid, os.getpid())
    if pidfd is None:
        return False
    try:
        signal.pidfd_send_signal(pidfd, signum)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def identity(path: str) -> tuple[int, int] | None:
    """Which file it is, by device and inode; None if it is not there, or can't be reached."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def prepare_socket_path(path: str, *, taken: int = 0) -> None:
    """Make the directory of a private Unix socket (mode 0700 if it is new) and take away what a dead process
    left there.

    Raises OSError: ENAMETOOLONG beyond the 107 bytes of unix(7), EADDRINUSE if a socket of the type `taken` is bound
    there by a living process, else what mkdir(2) or unlink(2) say.
    """
    if len(os.fsencode(path)) > _UNIX_PATH_MAX:
        raise OSError(errno.ENAMETOOLONG, f"a socket's path may be {_UNIX_PATH_MAX} bytes long at most", path)
    os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
    if taken and _answers(path, taken):
        raise OSError(errno.EADDRINUSE, "another process has made its own there", path)
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _answers(path: str, kind: int) -> bool:
    with socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as probe:
        return probe.connect_ex(path) in (0, errno.EAGAIN)


def start_ticks(pid: int, proc: str = "/proc") -> int | None:
    """When a process was started (proc_pid_stat(5), starttime), in clock ticks: with its pid, which process it is.

    None when it is gone, or is not shown to us (hidepid=).
    """
    fields = _stat_fields(pid, proc)
    return None if fields is None else int(fields[19])


def children(proc: str = "/proc") -> list[int]:
    """The pids of our own children, those that have ended included."""
    found = _children(os.getpid(), proc)
    return _children_by_parent(proc).get(os.getpid(), []) if found is None else found


def process_start(pid: int, proc: str = "/proc") -> float | None:
    """When a process was started (proc_pid_stat(5), starttime): seconds of CLOCK_BOOTTIME, to a hundredth."""
    ticks = start_ticks(pid, proc)
    return None if ticks is None else ticks / os.sysconf("SC_CLK_TCK")


def process_age(proc: str = "/proc") -> float:
    """Seconds since this process was started, to a hundredth; 0 where that can't be read."""
    started = process_start(os.getpid(), proc)
    if started is None:
        return 0.0
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)


def boot_id() -> str:
    """Which boot of the machine this is: a monotonic clock and a pid mean nothing after the next."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def catches(pid: int, signum: int, proc: str = "/proc") -> bool | None:
    """Whether the process has a handler for this signal, or ignores it (proc_pid_status(5)); None if that is hidden."""
    try:
        with open(f"{proc}/{pid}/status", "rb") as file:
            lines = dict(line.split(b":", 1) for line in file.read().splitlines() if b":" in line)
        handled = int(lines[b"SigCgt"], 16) | int(lines[b"SigIgn"], 16)
    except (OSError, KeyError, ValueError):
        return None
    return bool(handled >> (signum - 1) & 1)
