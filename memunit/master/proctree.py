"""Processes as proc(5) tells of them: parents, descendants, process groups, members of the unit, and pidfds of them.

What /proc says of a pid may be about another process by the time that a signal is sent. Before we signal a process, we
open its pidfd, and then look at the process again.
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Container, Iterable

_DEEPEST = 256
# More than arguments and environment may be together (execve(2): 6 MiB).
_LARGEST = 8 << 20
_EXECVE_SECONDS = 1.0
_EXECVE_STEP_MS = 1
_NO_PLACE = [b"0", b"0", b"0"]


def _stat_fields(pid: int, proc: str) -> list[bytes] | None:
    """The fields of proc_pid_stat(5) from the third on (state), or None when the process is gone."""
    try:
        with open(f"{proc}/{pid}/stat", "rb", buffering=0) as file:
            text = file.read(1024)
    except OSError:
        return None
    # The command's name may contain spaces and brackets; the fields after the last bracket do not.
    return text[text.rfind(b")") + 1 :].split() or None


def parent_of(pid: int, proc: str = "/proc") -> int | None:
    """The parent's pid (0 for one outside our pid namespace), or None when `pid` is gone."""
    fields = _stat_fields(pid, proc)
    return int(fields[1]) if fields else None


def environment_of(pid: int) -> list[bytes]:
    """The environment that execve(2) was given, "NAME=value" each; empty for a kernel thread and a zombie.

    In the midst of an execve(2) the kernel shows an empty environment (environ_read() in fs/proc/base.c: the new memory
    has none yet). No event tells of its end, so the environment is read again, for a second at most.
    Raises OSError when the process is gone or belongs to somebody else.
    """
    text = _environment(pid)
    if not text and _has_program(pid):
        text = _settled_environment(pid)
    return text.split(b"\0") if text else []


def _settled_environment(pid: int) -> bytes:
    pidfd = os.pidfd_open(pid)
    try:
        ended = select.poll()
        ended.register(pidfd, select.POLLIN)
        limit = time.monotonic() + _EXECVE_SECONDS
        while True:
            before = _environment_place(pid)
            text = _environment(pid)
            if text or (before[0] != b"0" and before == _environment_place(pid)):
                return text
            if ended.poll(_EXECVE_STEP_MS) or time.monotonic() >= limit:
                return b""
    finally:
        os.close(pidfd)


def _environment(pid: int) -> bytes:
    # In one read(2): the file has nothing more of a memory that an execve(2) has replaced since.
    with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
        return file.read(_LARGEST)


def _environment_place(pid: int) -> list[bytes]:
    """Where the code begins in the process's memory, and where the environment begins and ends.

    All are zeros at first in an execve(2). While the kernel goes through the variables, the environment already has a
    place and ends where it begins (create_elf_tables() in fs/binfmt_elf.c). The code has none before that is done.
    """
    fields = _stat_fields(pid, "/proc")
    return [fields[23], *fields[47:49]] if fields else _NO_PLACE


def _has_program(pid: int) -> bool:
    try:
        return bool(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return False


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
    """A pidfd of `pid` if it descends from `ancestor`. That is looked at after the pidfd is open, so that a pid
    which is another process's by now is never taken.
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
    """{pid: pidfd} of those that exist and are not in `besides`. The caller closes the pidfds."""
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

    By the hierarchy that systemd keeps units in: that of cgroup v2, or "name=systemd" of v1. Empty if our group
    is the root of the hierarchy, for the root is no unit.
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
    """{pid: pidfd} of a child of ours, its descendants and its process group. Their orphans are our descendants.

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
        # As in _hold(): looked at after the pidfd is open.
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
    """A pidfd of each member of a group whose leader has ended: its members are our descendants by now. The caller
    closes them.
    """
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


def start_ticks(pid: int, proc: str = "/proc") -> int | None:
    """When a process was started (proc_pid_stat(5), starttime), in clock ticks. This and the pid identify a
    process.

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


def catches(pid: int, signum: int, proc: str = "/proc") -> bool | None:
    """Whether the process has a handler for this signal, or ignores it (proc_pid_status(5)); None if that is hidden."""
    try:
        with open(f"{proc}/{pid}/status", "rb") as file:
            lines = dict(line.split(b":", 1) for line in file.read().splitlines() if b":" in line)
        handled = int(lines[b"SigCgt"], 16) | int(lines[b"SigIgn"], 16)
    except (OSError, KeyError, ValueError):
        return None
    return bool(handled >> (signum - 1) & 1)
