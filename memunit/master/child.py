"""The child between fork(2) and its program: what has to be undone, put in place and closed.

Every way out of here is os._exit or execve(2): the master's own clean-up must not run twice.
"""

import contextlib
import errno
import fcntl
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import NoReturn

from memunit.master import system

EXIT_CHDIR = 200
EXIT_FDS = 202
EXIT_EXEC = 203
FIRST_SOCKET = 3

# What systemd hands to its own child and means for nobody else.
NOT_FOR_WORKERS = frozenset(
    {
        "FDSTORE",
        "LISTEN_FDNAMES",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_PIDFDID",
        "MAINPID",
        "NOTIFY_SOCKET",
        "SYSTEMD_EXEC_PID",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How to start one worker. `environment` is all it gets besides what the protocols of systemd add."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str | None = None
    sockets: tuple[tuple[str, int], ...] = ()
    notify_path: str | None = None
    watchdog_usec: int = 0
    parent_death_signal: int = 0
    cgroup: str = ""
    """The cgroup.procs file of the group that it belongs in; empty for that of its parent."""


def _fail(report: int, error: BaseException, path: str, status: int) -> NoReturn:
    number = (error.errno if isinstance(error, OSError) else None) or errno.EINVAL
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    os.write(report, f"{number}\0{path}\0{text}".encode("utf-8", "replace")[: select.PIPE_BUF])
    os._exit(status)


def become_program(launch: Launch, report: int) -> NoReturn:
    path, status = "", EXIT_FDS
    try:
        # Above every socket's place.
        report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, FIRST_SOCKET + len(launch.sockets))
        path = launch.cgroup
        _move(launch)
        path = ""
        _reset(launch)
        _place_sockets(launch)
        _close_all_but({*range(FIRST_SOCKET + len(launch.sockets)), report})
        if launch.directory is not None:
            path, status = launch.directory, EXIT_CHDIR
            os.chdir(launch.directory)
        path, status = launch.argv[0], EXIT_EXEC
        environment = _environment(launch, with_sockets=True)
        _unblock_signals()
        os.execvpe(launch.argv[0], launch.argv, environment)  # noqa: S606  no shell is the point
    except BaseException as error:
        _fail(report, error, path, status)


def become_function(
    function: Callable[[], int], launch: Launch, report: int, keep: Collection[int] | None
) -> NoReturn:
    path, status = "", EXIT_FDS
    try:
        report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, FIRST_SOCKET + len(launch.sockets))
        path = launch.cgroup
        _move(launch)
        path = ""
        _reset(launch)
        if keep is None:
            _place_sockets(launch)
            kept = {*range(FIRST_SOCKET + len(launch.sockets))}
        else:
            kept = {0, 1, 2, *keep, *(descriptor for _, descriptor in launch.sockets)}
        _close_all_but(kept | {report})
        if launch.directory is not None:
            path, status = launch.directory, EXIT_CHDIR
            os.chdir(launch.directory)
        environment = _environment(launch, with_sockets=keep is None)
        os.environ.clear()
        os.environ.update(environment)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    except BaseException as error:
        _fail(report, error, path, status)
    os.close(report)
    os._exit(_call(function))


def _call(function: Callable[[], int]) -> int:
    status = 1
    try:
        _unblock_signals()
        status = function() & 0xFF
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            status = (end.code or 0) & 0xFF
        else:
            _say(f"{end.code}\n")
    except BaseException:
        _say(traceback.format_exc())
    flush()
    return status


def flush() -> None:
    """Write out what print() holds back; the calling program may have put anything in the place of these."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _say(text: str) -> None:
    """To descriptor 2: what the calling program has put in the place of sys.stderr may be closed here."""
    with contextlib.suppress(OSError), open(2, "w", errors="backslashreplace", closefd=False) as stderr:
        stderr.write(text)


def _reset(launch: Launch) -> None:
    """What execve(2) does not reset by itself, while all signals are still blocked."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    os.setpgid(0, 0)
    if launch.parent_death_signal:
        parent = os.getppid()
        system.set_parent_death_signal(launch.parent_death_signal)
        if os.getppid() != parent:
            os._exit(128 + launch.parent_death_signal)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    if null == 0:
        os.set_inheritable(0, True)
    else:
        os.dup2(null, 0)
        os.close(null)


def _move(launch: Launch) -> None:
    """By itself and before all else: what it has touched by then stays charged to the master."""
    if launch.cgroup:
        descriptor = os.open(launch.cgroup, os.O_WRONLY | os.O_CLOEXEC)
        os.write(descriptor, b"0")
        os.close(descriptor)


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _place_sockets(launch: Launch) -> None:
    """Put the sockets at 3 and up. In two steps, because a source may lie in the place of another."""
    above = FIRST_SOCKET + len(launch.sockets)
    copies = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, above) for _, descriptor in launch.sockets]
    for place, copy in enumerate(copies, FIRST_SOCKET):
        os.dup2(copy, place)


def _close_all_but(kept: Collection[int]) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(name))


def _environment(launch: Launch, *, with_sockets: bool) -> dict[str, str]:
    """The environment of the calling process, which is the worker: LISTEN_PID and WATCHDOG_PID are its own
    pid.
    """
    own = str(os.getpid())
    environment = {key: value for key, value in launch.environment.items() if key not in NOT_FOR_WORKERS}
    if launch.sockets and with_sockets:
        environment["LISTEN_FDS"] = str(len(launch.sockets))
        environment["LISTEN_PID"] = own
        environment["LISTEN_FDNAMES"] = ":".join(name for name, _ in launch.sockets)
    if launch.notify_path is not None:
        environment["NOTIFY_SOCKET"] = launch.notify_path
    if launch.watchdog_usec:
        environment["WATCHDOG_USEC"] = str(launch.watchdog_usec)
        environment["WATCHDOG_PID"] = own
    return environment
