"""Start workers, hold them by pidfd, end their whole tree, reap what has ended.

The master is single-threaded, so fork(2) is safe here and gives what posix_spawn cannot: LISTEN_PID is the
pid of the very process that executes the program (sd_listen_fds(3)).
"""

import contextlib
import errno
import fcntl
import os
import select
import signal
from collections.abc import Callable, Collection, Container, Iterable
from dataclasses import dataclass, field
from typing import NoReturn

from memunit.master import system
from memunit.master.child import (
    EXIT_CHDIR,
    EXIT_EXEC,
    EXIT_FDS,
    Launch,
    become_function,
    become_program,
    flush,
)

__all__ = [
    "EXIT_CHDIR",
    "EXIT_EXEC",
    "EXIT_FDS",
    "Child",
    "End",
    "Launch",
    "adopt",
    "find",
    "fork_call",
    "launch",
    "open_descriptors",
    "reap",
    "reap_known",
]


_CODES = {os.CLD_EXITED: "exited", os.CLD_KILLED: "killed", os.CLD_DUMPED: "dumped"}
_STOP_ROUNDS = 8
_TICKS = 0.05  # proc_pid_stat(5) rounds down to hundredths of a second


@dataclass(frozen=True, slots=True)
class End:
    """How a child ended: `code` is "exited", "killed" or "dumped" as in waitid(2), `status` the number with it;
    "unknown" of one that somebody else has waited for.
    """

    pid: int
    code: str
    status: int


@dataclass(slots=True)
class Child:
    """A process that we forked. The pidfd is readable once it has ended, `exec_fd` once execve(2) came out
    either way.

    Both stay readable, so a caller that polls takes each out of its epoll after the first event, and before
    close().
    """

    pid: int
    pidfd: int
    exec_fd: int
    ended: bool = False
    ours: bool = True
    """Whether it is our child. Of another, only its pidfd tells that it has ended, and nobody how."""
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

        Descendants are stopped first, so that none can fork out of the net while it closes. Nothing happens
        once it has been reaped: reap() killed the rest of the group while the zombie still kept the number
        from being reused.
        """
        if self.ended:
            return
        with contextlib.suppress(PermissionError):
            self.signal(signal.SIGSTOP)
        held: dict[int, int] = {}
        try:
            for _ in range(_STOP_ROUNDS):
                found = system.hold_descendants(self.pid, besides=held)
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
        """Only while the process is there, also as a zombie: after that the number may be another group's.

        One that is not ours is no longer there once it has ended, for somebody else has reaped it.
        """
        if not self.ours and self.gone():
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _settle_group(self) -> None:
        if self.spares_group:
            self.left = system.hold_group(self.pid)
        else:
            self._kill_group()

    def end_left(self) -> None:
        """SIGKILL to those that it has left."""
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
        """Why it never became its program: the child's error with the path that it is about. Does not block.

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


def open_descriptors() -> frozenset[int]:
    """The descriptors that are open in this process now: what a library call takes down before it opens its
    own.
    """
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(int(name), fcntl.F_GETFD)  # The one that listed is closed again by now.
            found.add(int(name))
    return frozenset(found)


def launch(launch: Launch) -> Child:
    """Start a program and return at once, before its execve(2).

    In the child: a process group of its own, stdin from /dev/null, every signal at its default and unblocked,
    the sockets from descriptor 3 on in order, nothing else but stdout and stderr. Sockets keep their
    O_NONBLOCK as it is: the flag is shared by all who hold the socket, and to clear it here would make the
    accept(2) of a running sibling block. A failing chdir or exec ends the child with 200 or 203
    (systemd.exec(5)); failure() has the error then. Raises OSError when there can be no process (fork, pidfd
    or pipe).
    """
    return _fork(lambda report: become_program(launch, report))


def fork_call(function: Callable[[], int], launch: Launch, *, keep: Collection[int] | None = None) -> Child:
    """Like launch(), but the child runs `function` and exits with what it returns; argv is not looked at.

    An exception gives its traceback on stderr and status 1, SystemExit its own status. With `keep`, the
    sockets stay at their numbers (the function holds their objects), LISTEN_* is not set, and besides them
    those descriptors survive: the ones that the calling program had open before the master opened its own.
    SIGPIPE and SIGXFSZ stay ignored, as Python code expects.
    """
    flush()
    return _fork(lambda report: become_function(function, launch, report, keep))


def _fork(child_main: Callable[[int], NoReturn]) -> Child:
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    # Blocked over the fork: until the child has put the dispositions back, a SIGTERM to it would run the
    # master's handler.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            try:
                child_main(writer)
            finally:
                os._exit(EXIT_FDS)
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    # The child does the same; whoever comes first, a signal to the group finds one. EACCES: it has executed
    # already.
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        os.close(reader)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    return Child(pid=pid, pidfd=pidfd, exec_fd=reader)


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
            # A wait() of the program that has called us was faster. Its number may be somebody else's by now.
            child.ended = True
            ends.append(End(child.pid, "unknown", 0))
            continue
        assert found is not None
        child.ended = True
        ends.append(End(child.pid, _CODES.get(found.si_code, "exited"), found.si_status))
    return ends


def started_after(pid: int, when: float) -> bool:
    """Whether a child of ours began after `when` (CLOCK_BOOTTIME, s), as far as the kernel's clock ticks tell.

    True of a process that is gone, or is no child of ours: adopt() has the word on that.
    """
    began = system.process_start(pid)
    return began is None or system.parent_of(pid) != os.getpid() or began >= when - _TICKS


def adopt(pid: int) -> Child:
    """Hold a process that is our child and was forked by somebody else, as by a zygote under a subreaper.

    Its end may lie behind it, as long as nobody has reaped it. Raises ChildProcessError when it is no child of
    ours (any more), OSError when there can be no pidfd.
    """
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return Child(pid=pid, pidfd=os.pidfd_open(pid), exec_fd=-1)


def find(pid: int, start: int, among: Callable[[], Container[int]]) -> Child | None:
    """Hold the process that had this pid and this start (clock ticks), whoever its parent is; None if it has ended.

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
    # Only now that the pidfd is there: it goes on to name what these words are about.
    found = system.start_ticks(pid)
    same = found == start if found is not None else pid in among()
    if same and (child.ours or not child.gone()):
        return child
    child.close()
    return None


def reap(
    known: Callable[[int], Child | None], unknown: Callable[[], object] = lambda: None
) -> tuple[list[End], list[int]]:
    """Collect every child that has ended: (ends of those that are `known`, pids of strays). Does not block.

    What is left of the process group of a known child is killed while its zombie still holds the number; then
    it is reaped and marked as ended. Before one that is not known is reaped, `unknown` is called, which may
    make it known.
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


# What of the system was used up, where the error alone does not name a key.
_USED_UP = {
    errno.EMFILE: " (LimitNOFILE= of the unit)",
    errno.ENFILE: " (fs.file-max of the machine)",
}


def fork_failure(number: int) -> str:
    """One clause on a fork(2) that has failed with this errno."""
    bound = " (TasksMax= or LimitNPROC= of the unit, or what the app has set)"
    return f"fork: {os.strerror(number)}{bound if number == errno.EAGAIN else _USED_UP.get(number, '')}"


def describe(error: OSError) -> str:
    """One clause on what a system call has failed of, and at which file."""
    text = (error.strerror or str(error)) + _USED_UP.get(error.errno or 0, "")
    return f"{error.filename}: {text}" if error.filename else text
