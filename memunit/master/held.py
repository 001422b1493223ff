"""A process held by its pidfd: signals to it and to its whole tree, and its end.

A pid may be another process's as soon as its own is reaped; a pidfd always names the same process (pidfd_open(2)).
"""

import contextlib
import os
import select
import signal
from collections.abc import Callable, Container, Iterable

from memunit.master import proctree
from memunit.records import dataclass, field

_CODES = {os.CLD_EXITED: "exited", os.CLD_KILLED: "killed", os.CLD_DUMPED: "dumped"}
_STOP_ROUNDS = 8
_TICKS = 0.05  # proc_pid_stat(5) rounds down to hundredths of a second


@dataclass(frozen=True, slots=True)
class End:
    """How a child ended: `code` is "exited", "killed" or "dumped" as in waitid(2), `status` the number with it;
    "unknown" if somebody else has reaped it.
    """

    pid: int
    code: str
    status: int


@dataclass(slots=True)
class Child:
    """A process that we forked. The pidfd is readable once it has ended, `exec_fd` once execve(2) has succeeded
    or failed.

    Both stay readable, so a caller that polls takes each out of its epoll after the first event, and before
    close().
    """

    pid: int
    pidfd: int
    exec_fd: int
    ended: bool = False
    ours: bool = True
    """Whether it is our child. If not, its pidfd shows that it has ended, and nothing shows how."""
    spares_group: bool = False
    """Whether the rest of its process group outlives it: `left` then has a pidfd of each, for end_left()."""
    left: list[int] = field(default_factory=list)
    _report: bytes = field(default=b"", repr=False)
    _outcome_known: bool = field(default=False, repr=False)

    def signal(self, signum: int) -> bool:
        """Send a signal; False when it has ended already. Raises PermissionError if it changed its user."""
        if self.ended:
            return False
        try:
            signal.pidfd_send_signal(self.pidfd, signum)
        except ProcessLookupError:
            return False
        return True

    def gone(self) -> bool:
        """Whether it has ended, by its pidfd."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def kill_tree(self) -> None:
        """SIGKILL the process, its process group and its descendants, also those with a session of their own.

        Descendants are stopped first, so that none forks a process that we miss. Nothing happens once it has been
        reaped: reap() kills the rest of its group while the zombie still keeps the number from being reused, or
        holds the rest in `left` if `spares_group` is set.
        """
        if self.ended:
            return
        with contextlib.suppress(PermissionError):
            self.signal(signal.SIGSTOP)
        held: dict[int, int] = {}
        try:
            for _ in range(_STOP_ROUNDS):
                found = proctree.hold_descendants(self.pid, besides=held)
                held |= found
                _signal_all(found.values(), signal.SIGSTOP)
                if not found:
                    break
            _signal_all(held.values(), signal.SIGKILL)
        finally:
            for pidfd in held.values():
                os.close(pidfd)
        self._kill_group()
        with contextlib.suppress(PermissionError):
            self.signal(signal.SIGKILL)

    def _kill_group(self) -> None:
        """Only while the process exists, if only as a zombie. Later the number may be another group's.

        A process that is not our child is gone once it has ended, because its own parent reaps it.
        """
        if not self.ours and self.gone():
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _settle_group(self) -> None:
        if self.spares_group:
            self.left = proctree.hold_group(self.pid)
        else:
            self._kill_group()

    def end_left(self) -> None:
        """SIGKILL to the processes in `left`."""
        _signal_all(self.left, signal.SIGKILL)
        for pidfd in self.left:
            os.close(pidfd)
        self.left.clear()

    def _read_outcome(self) -> None:
        while not self._outcome_known:
            try:
                block = os.read(self.exec_fd, 4096)
            except BlockingIOError:
                return
            except OSError:
                block = b""
            self._report += block
            self._outcome_known = not block

    def executed(self) -> bool:
        """Whether execve(2) has succeeded (for fork_call: whether the function has begun). Does not block."""
        self._read_outcome()
        return self._outcome_known and not self._report

    def failure(self) -> OSError | None:
        """Why it never became its program: the child's error, and the path that failed. Does not block.

        None as long as nothing has failed. Certain once the process has ended.
        """
        self._read_outcome()
        if not self._report:
            return None
        number, path, text = self._report.decode("utf-8", "replace").split("\0", 2)
        return OSError(int(number), text, path) if path else OSError(int(number), text)

    def close(self) -> None:
        """Close both descriptors. The process goes on if it has not ended."""
        for descriptor in (self.pidfd, self.exec_fd):
            if descriptor >= 0:
                os.close(descriptor)
        self.pidfd = self.exec_fd = -1


def _signal_all(pidfds: Iterable[int], signum: int) -> None:
    for pidfd in pidfds:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(pidfd, signum)


def reap_known(children: Iterable[Child]) -> list[End]:
    """Collect those of `children` that have ended, and no other child of this process. Does not block."""
    ends: list[End] = []
    for child in children:
        if child.ended or not child.ours:
            continue
        try:
            if os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            child._settle_group()
            found = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            # The wait() of our caller was faster. The child's pid may be another process's by now.
            child.ended = True
            ends.append(End(child.pid, "unknown", 0))
            continue
        assert found is not None
        child.ended = True
        ends.append(End(child.pid, _CODES.get(found.si_code, "exited"), found.si_status))
    return ends


def started_after(pid: int, when: float) -> bool:
    """Whether a child of ours began after `when` (CLOCK_BOOTTIME, s), as far as the kernel's clock ticks tell.

    True of a process that is gone, or is no child of ours: adopt() decides that.
    """
    began = proctree.process_start(pid)
    return began is None or proctree.parent_of(pid) != os.getpid() or began >= when - _TICKS


def adopt(pid: int) -> Child:
    """Hold a process that is our child and was forked by somebody else, as by a zygote under a subreaper.

    It may have ended, as long as nobody has reaped it. Raises ChildProcessError when it is no child of
    ours (any more), OSError when there can be no pidfd.
    """
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return Child(pid=pid, pidfd=os.pidfd_open(pid), exec_fd=-1)


def find(pid: int, start: int, among: Callable[[], Container[int]]) -> Child | None:
    """Hold the process that had this pid and this start (clock ticks), whoever its parent is; None if it is gone.

    Our own child is also found after its end, until it is reaped.

    Where the start can't be read (hidepid=, with another user namespace), it is that process if it is still in our
    control group: `among` gives the pids there.
    """
    try:
        child = adopt(pid)
    except ChildProcessError:
        try:
            child = Child(pid=pid, pidfd=os.pidfd_open(pid), exec_fd=-1, ours=False)
        except OSError:
            return None
    except OSError:
        return None
    # Looked at after the pidfd is open: from then on it names the process that is looked at.
    found = proctree.start_ticks(pid)
    same = found == start if found is not None else pid in among()
    if same and (child.ours or not child.gone()):
        return child
    child.close()
    return None


def reap(
    known: Callable[[int], Child | None], unknown: Callable[[], object] = lambda: None
) -> tuple[list[End], list[int]]:
    """Collect every child that has ended: (ends of those that are `known`, pids of strays). Does not block.

    Before a known child is reaped, the rest of its process group is killed, or held in the child's `left`: while the
    zombie exists, no other group gets the number. Then the child is reaped and marked as ended. Before a child that is
    not known is reaped, `unknown` is called, which may make that child known.
    """
    ends: list[End] = []
    strays: list[int] = []
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            break
        if found is None:
            break
        child = known(found.si_pid)
        if child is None:
            unknown()
            child = known(found.si_pid)
        if child is not None:
            child._settle_group()
        os.waitid(os.P_PID, found.si_pid, os.WEXITED | os.WNOHANG)
        if child is None:
            strays.append(found.si_pid)
        else:
            child.ended = True
            ends.append(End(found.si_pid, _CODES.get(found.si_code, "exited"), found.si_status))
    return ends, strays
