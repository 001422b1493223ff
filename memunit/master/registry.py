"""The children of the master by the names that policy has for them, and the one epoll that hears of their ends."""

import contextlib
import os
import select
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from memunit.master import system
from memunit.master.spawn import Child, End, reap, reap_known

Name = TypeVar("Name", bound=Hashable)


class Registry(Generic[Name]):
    """Every living child under a name; a name is known from `add` until its end has been collected."""

    def __init__(self, epoll: select.epoll, *, sole: bool = True) -> None:
        """`epoll` gets a descriptor for each child; whoever waits on it calls `executed` and `collect` after.

        With `sole`, every child of this process is ours, and strays are reaped and at the end killed; without,
        other children and their exit statuses are left alone.
        """
        self._epoll = epoll
        self._sole = sole
        self._children: dict[int, Child] = {}
        self._names: dict[int, Name] = {}
        self._pids: dict[Name, int] = {}
        self._executing: set[int] = set()

    def add(self, name: Name, child: Child, *, await_exec: bool) -> None:
        """Keep a child that was just started; with `await_exec`, `executed` will tell when it is its program."""
        self._children[child.pid] = child
        self._names[child.pid] = name
        self._pids[name] = child.pid
        self._epoll.register(child.pidfd, select.EPOLLIN)
        if await_exec:
            self._executing.add(child.pid)
            self._epoll.register(child.exec_fd, select.EPOLLIN)

    def pid(self, name: Name) -> int | None:
        """The pid, while the child is there."""
        return self._pids.get(name)

    def speaker(self, pid: int) -> Name | None:
        """For whom a process speaks: for the child that it is, or is a descendant of."""
        known = pid if pid in self._names else system.is_descendant(pid, self._names)
        return None if known is None else self._names[known]

    def signal(self, name: Name, signum: int) -> None:
        """Send a signal, if the child is still there. Raises PermissionError if it changed its user."""
        if name in self._pids:
            self._children[self._pids[name]].signal(signum)

    def kill(self, name: Name) -> None:
        """SIGKILL to the child's whole tree, if it is still there."""
        if name in self._pids:
            self._children[self._pids[name]].kill_tree()

    def executed(self) -> list[Name]:
        """Whose execve(2) has succeeded since the last call. A failure is told with the end."""
        done = []
        for pid in list(self._executing):
            child = self._children[pid]
            if child.executed():
                done.append(self._names[pid])
            elif child.failure() is None:
                continue
            self._heard_of_exec(child)
        return done

    def collect(self, unknown: Callable[[], object] = lambda: None) -> list[tuple[Name, End, OSError | None]]:
        """Reap what has ended, strays too. Of each child: name, end, and why it never became its program.

        `unknown` is called before a stray is reaped, and may add it.
        """
        found = []
        ends = reap(self._children, unknown)[0] if self._sole else reap_known(self._children)
        for end in ends:
            child, name = self._children.pop(end.pid), self._names.pop(end.pid)
            del self._pids[name]
            found.append((name, end, child.failure()))
            self._heard_of_exec(child)
            self._epoll.unregister(child.pidfd)
            child.close()
        return found

    def close(self) -> None:
        """Kill what is still there, and what workers left behind: it was reparented to us, the subreaper."""
        for child in self._children.values():
            child.kill_tree()
            child.close()
        for pid in system.descendants(os.getpid()) if self._sole else ():
            with contextlib.suppress(PermissionError):
                system.kill(pid)

    def _heard_of_exec(self, child: Child) -> None:
        if child.pid in self._executing:
            self._executing.discard(child.pid)
            self._epoll.unregister(child.exec_fd)
