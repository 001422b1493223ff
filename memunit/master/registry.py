"""The processes of the master by the names that policy has for them, and the one epoll that hears of their ends."""

import contextlib
import os
import select
import time
from collections.abc import Callable, Collection, Hashable, Iterator
from typing import Generic, TypeVar

from memunit.master import proctree
from memunit.master.held import Child, End, reap, reap_known
from memunit.records import dataclass

Name = TypeVar("Name", bound=Hashable)


@dataclass(slots=True, eq=False)
class Process(Generic[Name]):
    """One process that is ours to end: a worker's first, or a zygote."""

    name: Name
    child: Child
    start: int
    """When it was started, in clock ticks since the boot: its pid may be another's later."""
    parent: Hashable = None
    """The zygote that has forked it, if one has."""
    awaited: bool = False
    """Whether its execve(2) is still to be told of."""


class Registry(Generic[Name]):
    """Every living process under a name; a name is known from `add` until its end has been collected."""

    def __init__(self, epoll: select.epoll, *, sole: bool = True) -> None:
        """`epoll` gets a descriptor for each process; whoever waits on it calls `executed` and `collect` after.

        With `sole`, every child of this process is ours, and strays are reaped and at the end killed; without,
        other children and their exit statuses are left alone.
        """
        self._epoll = epoll
        self._sole = sole
        self._by_pid: dict[int, Process[Name]] = {}
        self._by_name: dict[Name, Process[Name]] = {}
        self._awaited: set[Name] = set()
        self._strange: set[int] = set()

    def __iter__(self) -> Iterator[Process[Name]]:
        return iter(list(self._by_pid.values()))

    def add(self, name: Name, child: Child, *, await_exec: bool, parent: Hashable = None) -> None:
        """Keep a child that was just started; with `await_exec`, `executed` will tell when it is its program."""
        start = proctree.start_ticks(child.pid) or 0
        process = Process(name, child, start, parent, await_exec)
        self._by_pid[child.pid] = self._by_name[name] = process
        self._epoll.register(child.pidfd, select.EPOLLIN)
        if not child.ours:
            self._strange.add(child.pid)
        if await_exec:
            self._awaited.add(name)
            self._epoll.register(child.exec_fd, select.EPOLLIN)

    def get(self, name: Name) -> Process[Name] | None:
        """The process of this name, while it is there."""
        return self._by_name.get(name)

    def pid(self, name: Name) -> int | None:
        """The pid, while the process is there."""
        process = self._by_name.get(name)
        return None if process is None else process.child.pid

    def child(self, name: Name) -> Child | None:
        """The child of this name, while it is there."""
        process = self._by_name.get(name)
        return None if process is None else process.child

    def knows(self, pid: int) -> bool:
        """Whether this is the pid of a process that is there."""
        return pid in self._by_pid

    def forked_from(self, parent: Hashable) -> bool:
        """Whether a process is there that this zygote has forked."""
        return any(process.parent == parent for process in self._by_pid.values())

    def speaker(self, pid: int) -> Name | None:
        """For whom a process speaks: for the child that it is, or is a descendant of."""
        known = pid if pid in self._by_pid else proctree.is_descendant(pid, self._by_pid)
        return None if known is None else self._by_pid[known].name

    def signal(self, name: Name, signum: int) -> None:
        """Send a signal, if the process is still there. Raises PermissionError if it changed its user."""
        if name in self._by_name:
            self._by_name[name].child.signal(signum)

    def kill(self, name: Name) -> None:
        """SIGKILL to the process's whole tree, if it is still there."""
        if name in self._by_name:
            self._by_name[name].child.kill_tree()

    def executed(self) -> list[Name]:
        """Whose execve(2) has succeeded since the last call. A failure is told with the end."""
        done = []
        for name in list(self._awaited):
            process = self._by_name[name]
            if process.child.executed():
                done.append(name)
            elif process.child.failure() is None:
                continue
            self._heard_of_exec(process)
        return done

    def collect(
        self, unknown: Callable[[], object] = lambda: None
    ) -> list[tuple[Process[Name], End, OSError | None]]:
        """Reap what has ended, strays too. Of each: the process, its end, and why it never became its program.

        `unknown` is called before a stray is reaped, and may add it.
        """
        found = []
        for end in self._ends(unknown):
            process = self._by_pid.pop(end.pid)
            del self._by_name[process.name]
            self._strange.discard(end.pid)
            found.append((process, end, process.child.failure()))
            self._heard_of_exec(process)
            self._epoll.unregister(process.child.pidfd)
            process.child.close()
        return found

    def _ends(self, unknown: Callable[[], object]) -> list[End]:
        def known(pid: int) -> Child | None:
            return self._by_pid[pid].child if pid in self._by_pid else None

        if self._sole:
            ends = reap(known, unknown)[0]
        else:
            ends = reap_known([process.child for process in self])
        for pid in self._strange:
            child = self._by_pid[pid].child
            if child.gone():
                child.ended = True
                ends.append(End(pid, "unknown", 0))
        return ends

    def await_ends(self, names: Collection[Name], seconds: float) -> list[Name]:
        """Wait until these have ended, so long at most; which of them have not."""
        left = []
        deadline = time.monotonic() + seconds
        for name in names:
            if name in self._by_name:
                poll = select.poll()
                poll.register(self._by_name[name].child.pidfd, select.POLLIN)
                if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                    left.append(name)
        return left

    def close(self) -> None:
        """Kill what is still there, and what workers left behind: it was reparented to us, the subreaper."""
        for process in self._by_pid.values():
            process.child.kill_tree()
            process.child.close()
        for pid in proctree.descendants(os.getpid()) if self._sole else ():
            with contextlib.suppress(PermissionError):
                proctree.kill(pid)

    def _heard_of_exec(self, process: Process[Name]) -> None:
        if process.name in self._awaited:
            self._awaited.discard(process.name)
            process.awaited = False
            self._epoll.unregister(process.child.exec_fd)
