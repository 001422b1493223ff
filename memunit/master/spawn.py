"""Start workers: programs, and functions of the program that has called us.

The master is single-threaded, so fork(2) is safe here and gives what posix_spawn cannot: LISTEN_PID is the
pid of the very process that executes the program (sd_listen_fds(3)).
"""

import contextlib
import errno
import fcntl
import os
import signal
from collections.abc import Callable, Collection
from typing import NoReturn

from memunit.master.child import (
    EXIT_FDS,
    Launch,
    become_function,
    become_program,
    flush,
)
from memunit.master.held import Child


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
