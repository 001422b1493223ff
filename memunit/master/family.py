"""All processes of a command's worker. Behind a wrapper that does not exec, the first is not the one that serves.

`sh -c 'node server.js; echo x'`, `npm start` and `uv run` are the first process of a worker, and a signal to them alone
would leave the server under them to its SIGKILL. So a command is stopped as systemd stops a service (systemd.kill(5),
KillMode=control-group): the signal goes to each of its processes, and its end is that of the last of them. Workers that
memunit's own servers make are no such family: what their requests run beside them is still needed for the answers.
"""

import contextlib
import math
import os
import select
import signal
import time
from collections.abc import Container

from memunit.master import proctree
from memunit.master.group import members
from memunit.master.held import Child


class Family:
    """The processes of one worker: those of its group, or where there is none, its process group and descendants."""

    def __init__(self, child: Child, group: str, stop_signal: int, grace: float) -> None:
        """`group` is the path of its control group, "" for none; `grace` in seconds is for what is left unasked."""
        self.stop_signal = stop_signal
        self.told = False
        """Whether a signal has been sent that ends it."""
        self.shared = False
        """Whether others than the first process were told to end."""
        self.kill_at = math.inf
        """When `expire` has something to do, in seconds of CLOCK_MONOTONIC."""
        self.leader = child.pid
        self._child = child
        self.group = group
        self.grace = grace
        self._held: dict[int, int] = {}
        self._listening: select.epoll | None = None
        # Else the first one's end would be that of its process group: Child.
        child.spares_group = True

    def signal(self, signum: int) -> bool:
        """Send it to each process once; False if one of them has become another user's.

        In one go: a second look for what was forked meanwhile would meet what a handler of the first signal has just
        started to clean up.
        """
        self.told = True
        self._hold()
        self.shared = self.shared or len(self._held) > 1
        allowed = True
        for pidfd in self._held.values():
            try:
                signal.pidfd_send_signal(pidfd, signum)
            except ProcessLookupError:
                continue
            except PermissionError:
                allowed = False
        return allowed

    def kill(self) -> None:
        """SIGKILL to all of them, also to what they fork meanwhile."""
        self.told = True
        for _ in range(8):
            before = set(self._held)
            self._hold()
            for pidfd in self._held.values():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            if set(self._held) <= before:
                return

    def abandon(self) -> None:
        """The first process has ended unasked: tell the others to end, and kill them when their grace is over."""
        self.kill_at = time.monotonic() + self.grace
        self.signal(self.stop_signal)

    def expire(self) -> None:
        """Kill what is left if its time is over."""
        if time.monotonic() >= self.kill_at:
            self.kill_at = math.inf
            self.kill()

    def left(self, epoll: select.epoll) -> bool:
        """Whether others than the first, which has ended, are there; `epoll` is told of their ends from now on."""
        ended = [pid for pid, pidfd in self._held.items() if _ended(pidfd)]
        if self._listening is not None and not ended:
            return bool(self._held)
        self._listening = epoll
        for pid in ended:
            self._drop(pid)
        # Those too that one of them has forked before its end.
        self._hold()
        return bool(self._held)

    @property
    def pids(self) -> list[int]:
        """Those that `left` has found."""
        return sorted(self._held)

    def has(self, pid: int) -> bool:
        """Whether a process is one of them, or a child of one."""
        return pid in self._held or proctree.is_descendant(pid, self._held) is not None or pid in self._pids()

    def close(self) -> None:
        """Close what is open. The processes go on."""
        for pid in list(self._held):
            self._drop(pid)

    def _pids(self) -> Container[int]:
        return members(self.group) if self.group else ()

    def _hold(self) -> None:
        """A pidfd of each that is there, besides those that are held already."""
        if self.group:
            found = proctree.hold(members(self.group), besides=self._held)
            # Looked at again once the pidfds are there: a number may have been given to somebody else meanwhile.
            there = members(self.group)
        else:
            found = proctree.hold_family(self._child.pid, besides=self._held, ours=self._child.ours)
            there = set(found)
        for pidfd in self._child.left:
            os.close(pidfd)
        self._child.left.clear()
        for pid, pidfd in found.items():
            if pid not in there or _ended(pidfd):
                os.close(pidfd)
                continue
            self._held[pid] = pidfd
        if self._listening is not None:
            for pidfd in self._held.values():
                with contextlib.suppress(FileExistsError):
                    self._listening.register(pidfd, select.EPOLLIN)

    def _drop(self, pid: int) -> None:
        pidfd = self._held.pop(pid)
        if self._listening is not None:
            with contextlib.suppress(OSError):
                self._listening.unregister(pidfd)
        os.close(pidfd)


def _ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
