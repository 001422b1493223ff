"""The few system calls and /proc readings that Python has no name for."""

import ctypes
import errno
import os
import signal
import time
from collections.abc import Container

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_DEEPEST = 256
_UNIX_PATH_MAX = 107

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


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


def prepare_socket_path(path: str) -> None:
    """Make the directory of a private Unix socket (mode 0700 if it is new) and take away what a dead process
    left there.

    Raises OSError: ENAMETOOLONG beyond the 107 bytes of unix(7), else what mkdir(2) or unlink(2) say.
    """
    if len(os.fsencode(path)) > _UNIX_PATH_MAX:
        raise OSError(errno.ENAMETOOLONG, f"a socket's path may be {_UNIX_PATH_MAX} bytes long at most", path)
    os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def process_age(proc: str = "/proc") -> float:
    """Seconds since this process was started (proc(5), starttime), to a hundredth; 0 where that can't be read."""
    fields = _stat_fields(os.getpid(), proc)
    if fields is None:
        return 0.0
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
