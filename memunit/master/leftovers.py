"""Processes that a master has left, and that nobody can take over: no file tells what they are."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Container

from memunit.master import proctree


def strangers(notify_path: str, known: Container[int]) -> dict[int, int]:
    """{pid: pidfd} of the processes that a master with this notify socket has left, but for the `known` and theirs.

    They are recognized by the environment of their execve(2). What a worker starts inherits it too, so descendants of a
    known process, and members of its process group, belong to that process. The caller closes the pidfds.
    """
    wanted = b"NOTIFY_SOCKET=" + os.fsencode(notify_path)
    held = {}
    for name in os.listdir("/proc"):
        pid = int(name) if name.isdigit() else 0
        if not pid or pid == os.getpid() or pid in known:
            continue
        with contextlib.suppress(OSError):
            if wanted not in proctree.environment_of(pid) or os.getpgid(pid) in known:
                continue
            if proctree.is_descendant(pid, known) is None:
                held[pid] = os.pidfd_open(pid)
    return held


class Leftovers:
    """They are told to stop once somebody serves in their place, and killed when their grace is over."""

    def __init__(self, pids: Collection[int], grace: float, kill: Callable[[], object]) -> None:
        """`kill` is called after the grace (seconds), for what these have started beside them."""
        self._held = proctree.hold(pids)
        self._grace = grace
        self._kill = kill
        self._told = False
        self.due = float("inf")
        """When `sweep` has something to do of itself, in seconds of CLOCK_MONOTONIC."""

    def __len__(self) -> int:
        return len(self._held)

    def sweep(self, *, serving: bool) -> None:
        """Tell them, if somebody is `serving` now, and kill those whose time is over."""
        if not self._held:
            return
        if serving and not self._told:
            self._told = True
            self.due = time.monotonic() + self._grace
            self._signal(signal.SIGTERM, leaders=True)
        elif time.monotonic() >= self.due:
            self.end()

    def end(self) -> None:
        """Kill them now."""
        self.due = float("inf")
        self._signal(signal.SIGKILL, leaders=False)
        self._kill()
        for pidfd in self._held.values():
            os.close(pidfd)
        self._held = {}

    def _signal(self, signum: int, *, leaders: bool) -> None:
        """To the first process of each worker, where there is one: a helper that a request runs is needed for it."""
        firsts = {pid for pid in self._held if leads(pid)} if leaders else set()
        for pid, pidfd in self._held.items():
            if not firsts or pid in firsts:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    signal.pidfd_send_signal(pidfd, signum)


def leads(pid: int) -> bool:
    """Whether it is there, and leads a process group of its own, as each worker does."""
    try:
        return os.getpgid(pid) == pid
    except ProcessLookupError:
        return False
