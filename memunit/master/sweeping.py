"""End what a dead master has left, when its service is being stopped.

Workers outlive their master (KillMode=process), so that a successor can take them over. When there will be none, they
are told to stop here, as their master would have told them, and all is killed when their grace is over. systemd runs
this after each end of a master (ExecStopPost=), and when a service is stopped that has no master at the moment: to
systemd that service is dead, and no command of its own is run then (units/memunit-end@.service).
"""

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from memunit.master.filenames import WORKERS, directory_of, opened
from memunit.master.group import write

_MOUNT = "/sys/fs/cgroup"
# Of those of which nothing is known, in seconds: the default of stop.grace. And the most that is believed.
_GRACE = 30.0
_LONGEST = 300.0
# Seconds that a killed process may take to go.
_PATIENCE = 10.0
_ROUNDS = 50
_LARGEST = 16 << 20


def after_master(instance: str) -> int:
    """For ExecStopPost=, by $SERVICE_RESULT: how many processes could not be ended."""
    group = _own_group()
    _give_back(group)
    if not _members(group) or not _is_over(_unit(instance), instance):
        return 0
    if os.environ.get("SERVICE_RESULT", "success") == "success":
        # The master has given each of its workers its time, and has ended in order.
        return _kill(instance, group, {})
    return _sweep(instance, group)


def before_stop(instance: str) -> int:
    """For a service that may have no master: how many processes could not be ended."""
    group = _stopped(_unit(instance))
    return _sweep(instance, group) if group else 0


def _unit(instance: str) -> str:
    return f"memunit@{instance}.service"


def _own_group() -> str:
    """The path of the service's group. Its own commands are in ".control" below it."""
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file]
    return _group_of({name: path for _, name, path in lines})


def _group_of(paths: Mapping[str, str]) -> str:
    if os.path.exists(f"{_MOUNT}/cgroup.controllers"):
        path = _MOUNT + paths.get("", "")
    else:
        path = f"{_MOUNT}/systemd" + paths.get("name=systemd", "")
    return path.removesuffix("/.control")


def _give_back(group: str) -> None:
    """Have the group hand no controllers down: in one that does, systemd can't put the next master (EBUSY).

    The workers' groups have no memory controller until that one has taken them over.
    """
    # From below: a group can't stop handing down what one in it still does.
    for folder, _, _ in os.walk(group, topdown=False):
        for controller in ("memory", "pids"):
            with contextlib.suppress(OSError):
                write(f"{folder}/cgroup.subtree_control", f"-{controller}")


def _is_over(unit: str, instance: str) -> bool:
    """Whether systemd starts no successor: a stop that was asked for, whatever the master's end was."""
    # As Restart=on-failure has it. What took too long was a start or a stop, and has no use any more.
    if os.environ.get("SERVICE_RESULT", "success") in ("success", "timeout", "exec-condition"):
        return True
    left = _left(instance)
    if left is not None and left.stopping:
        return True
    return _stops(unit)


def _stops(unit: str) -> bool:
    """Whether a stop of it was asked for, and is not done."""
    jobs = _systemctl("list-jobs", "--no-legend", "--plain", "--full", unit)
    return any(line.split()[2:3] == ["stop"] for line in jobs.splitlines() if unit in line)


def _stopped(unit: str) -> str:
    """The group of a service that is to stop and has no master; "" if it has one, which ends all that it has begun."""
    if not _stops(unit):
        return ""
    said = _systemctl("show", "--property=MainPID", "--property=ControlGroup", unit)
    found = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    if found.get("MainPID") != "0" or not found.get("ControlGroup"):
        return ""
    return _group_of(dict.fromkeys(("", "name=systemd"), found["ControlGroup"]))


def _systemctl(*words: str) -> str:
    try:
        done = subprocess.run(
            ["systemctl", *words], check=False, capture_output=True, text=True, errors="replace", timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


# -- ending --------------------------------------------------------------------------------------------------


class _Left(NamedTuple):
    """What the file says, as far as it is believed: {pid: (start, signal, grace, all of its processes)}."""

    stopping: bool
    workers: dict[int, tuple[int, int, float, bool]]


def _left(instance: str) -> _Left | None:
    # Late: most ends of a master leave nothing, and this command runs at each.
    from memunit.core import handover  # noqa: PLC0415
    from memunit.master.system import boot_id  # noqa: PLC0415

    try:
        # By the service's user, who may have put anything there: what is in it names a signal and a time, no more.
        with open(f"{directory_of(instance)}/{WORKERS}", "rb", opener=opened) as file:
            found = handover.read(file.read(_LARGEST), boot_id())
    except (OSError, handover.Unusable):
        return None
    if found is None:
        return None
    known = signal.valid_signals() - {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
    return _Left(
        found.stopping,
        {
            each.pid: (
                each.start,
                each.stop_signal if each.stop_signal in known else signal.SIGTERM,
                max(0.0, min(each.grace, _LONGEST)),
                each.whole,
            )
            for each in found.workers
        },
    )


def _members(group: str) -> set[int]:
    """The pids in the group and below it, but for the commands of the service itself."""
    found: set[int] = set()
    for folder, _, _ in os.walk(group):
        if not f"{folder}/".startswith(f"{group}/.control/"):
            with contextlib.suppress(OSError), open(f"{folder}/cgroup.procs", encoding="ascii") as file:
                found |= {int(line) for line in file}
    return found - {os.getpid()}


def _sweep(instance: str, group: str) -> int:
    left = _left(instance)
    members = _members(group)
    if not members:
        return 0
    held = dict(_hold(members, group))
    told: dict[int, tuple[int, float]] = {}
    for pid, (start, signum, grace, whole) in ({} if left is None else left.workers).items():
        if pid in held and _start(pid) in (None, start):
            of_it = {each for each in held if whole and _group_leader(each) == pid}
            told |= dict.fromkeys({pid, *of_it}, (signum, grace))
    if not told:
        told = dict.fromkeys(held, (signal.SIGTERM, _GRACE))
    many = len(told)
    grace = max(grace for _, grace in told.values())
    _tell(
        instance,
        f"No master lives, and the service is being stopped: {many} {'process is' if many == 1 else 'processes are'} "
        f"told to stop, and may finish for {grace:g} s",
    )
    for pid, (signum, _) in told.items():
        _send(held[pid], signum)
    late = _await([held[pid] for pid in told], grace)
    if late:
        _tell(instance, f"{late} of them had not ended after {grace:g} s, and are killed")
    return _kill(instance, group, held)


def _kill(instance: str, group: str, held: dict[int, int]) -> int:
    """All that is there, also what is forked meanwhile."""
    for _ in range(_ROUNDS):
        members = _members(group)
        if not members:
            return 0
        held |= dict(_hold(members - held.keys(), group))
        for pidfd in held.values():
            _send(pidfd, signal.SIGKILL)
        if _await(list(held.values()), _PATIENCE):
            break
    left = len(_members(group))
    if left:
        _tell(
            instance, f"{left} processes of the service can't be ended: they are in an uninterruptible sleep"
        )
    return left


def _hold(pids: Collection[int], group: str) -> Iterator[tuple[int, int]]:
    """(pid, pidfd) of those that are still in the group once the pidfd is there."""
    opened = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            opened[pid] = os.pidfd_open(pid)
    members = _members(group)
    for pid, pidfd in opened.items():
        if pid in members:
            yield pid, pidfd
        else:
            os.close(pidfd)


def _send(pidfd: int, signum: int) -> None:
    with contextlib.suppress(OSError):
        signal.pidfd_send_signal(pidfd, signum)


def _await(pidfds: Sequence[int], seconds: float) -> int:
    """Wait for their ends, so long at most; how many are left."""
    deadline = time.monotonic() + seconds
    waiting = set(pidfds)
    poll = select.poll()
    for pidfd in waiting:
        poll.register(pidfd, select.POLLIN)
    while waiting and time.monotonic() < deadline:
        for pidfd, _ in poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            poll.unregister(pidfd)
            waiting.discard(pidfd)
    return len(waiting)


def _start(pid: int) -> int | None:
    from memunit.master.proctree import start_ticks  # noqa: PLC0415  as above

    return start_ticks(pid)


def _group_leader(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def _tell(instance: str, text: str) -> None:
    from memunit.core.messages import Message  # noqa: PLC0415  as above
    from memunit.master.journal import Log  # noqa: PLC0415

    # From root, by which `journalctl -u` of the service finds it, whose unit this is not: journalctl(1), -u.
    about = {"OBJECT_SYSTEMD_UNIT": _unit(instance)}
    Log(instance).send(text, Message.LEFT_ENDED.id, Message.LEFT_ENDED.priority, **about)
