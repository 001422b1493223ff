"""The child between fork(2) and its program: what has to be undone, put in place and closed.

Every way out of here is os._exit or execve(2): the master's own clean-up must not run twice.
"""

import contextlib
import errno
import fcntl
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Collection, Mapping
from typing import NoReturn

from memunit.master import system
from memunit.master.afresh import (
    NOT_FOR_WORKERS,
    close_all_but,
    move,
    read_from_nowhere,
    reset_signals,
)
from memunit.records import dataclass

EXIT_CHDIR = 200
EXIT_FDS = 202
EXIT_EXEC = 203
FIRST_SOCKET = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How to start one worker. `environment` is all it gets besides what the protocols of systemd add."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str | None = None
    sockets: tuple[tuple[str, int], ...] = ()
    notify_path: str | None = None
    notify_descriptor: bool = False
    """Whether the program gets, after its sockets, a datagram socket that is connected to notify_path, too."""
    watchdog_usec: int = 0
    parent_death_signal: int = 0
    stop_signal: int = signal.SIGTERM
    """What tells it to stop: never ignored when it begins."""
    cgroup: str = ""
    """The cgroup.procs file of the group that it belongs in; empty for that of its parent."""
    pressure_watch: str = ""
    """What it is told to watch (MEMORY_PRESSURE_WATCH), and no other: its own FIFO, or /dev/null; empty for nothing."""
    scoreboard: int = -1
    """The page that it shares with its siblings, which it gets after its sockets; -1 for none."""
    board: int = -1
    """The page that it alone writes, which it gets after that; -1 for none."""
    output: int = -1
    """What its standard output is; -1 for that of its parent."""

    @property
    def above(self) -> int:
        """The first descriptor that it does not get."""
        return FIRST_SOCKET + len(self.sockets) + len(self.pages) + self.notify_descriptor

    @property
    def pages(self) -> dict[str, int]:
        """The pages that it gets after its sockets, by the variables that tell it where."""
        pages = {"MEMUNIT_SCOREBOARD": self.scoreboard, "MEMUNIT_BOARD": self.board}
        return {name: page for name, page in pages.items() if page >= 0}


def _fail(report: int, error: BaseException, path: str, status: int) -> NoReturn:
    number = (error.errno if isinstance(error, OSError) else None) or errno.EINVAL
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    os.write(report, f"{number}\0{path}\0{text}".encode("utf-8", "replace")[: select.PIPE_BUF])
    os._exit(status)


def become_program(launch: Launch, report: int) -> NoReturn:
    path, status = "", EXIT_FDS
    try:
        # Above the place of all that it gets.
        report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, launch.above)
        path = launch.cgroup
        move(launch.cgroup)
        path = ""
        _reset(launch)
        _place_descriptors(launch)
        if launch.notify_descriptor:
            path = launch.notify_path or ""
            _connect_notify(path, launch.above - 1)
            path = ""
        close_all_but({*range(launch.above), report})
        if launch.directory is not None:
            path, status = launch.directory, EXIT_CHDIR
            os.chdir(launch.directory)
        path, status = launch.argv[0], EXIT_EXEC
        environment = environment_of(launch, os.getpid())
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
        move(launch.cgroup)
        path = ""
        _reset(launch, own_input=keep is not None and _own(0))
        if keep is None:
            _place_descriptors(launch)
            kept = {*range(launch.above)}
        else:
            kept = {0, 1, 2, *keep, *(descriptor for _, descriptor in launch.sockets)}
        close_all_but(kept | {report})
        if launch.directory is not None:
            path, status = launch.directory, EXIT_CHDIR
            os.chdir(launch.directory)
        environment = environment_of(launch, os.getpid(), with_sockets=keep is None)
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


def _own(descriptor: int) -> bool:
    """Whether this is a descriptor of the calling program's, which has started without standard input."""
    if sys.stdin is None:
        return True
    try:
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) != 0
    except OSError:
        return False


def _reset(launch: Launch, *, own_input: bool = False) -> None:
    """What execve(2) does not set right by itself, while all signals are still blocked.

    Standard input is /dev/null then, unless `own_input` says that descriptor 0 is something else.
    """
    reset_signals(launch.stop_signal)
    os.setpgid(0, 0)
    if launch.parent_death_signal:
        parent = os.getppid()
        system.set_parent_death_signal(launch.parent_death_signal)
        if os.getppid() != parent:
            os._exit(128 + launch.parent_death_signal)
    if not own_input:
        read_from_nowhere()


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _place_descriptors(launch: Launch) -> None:
    """Put the sockets at 3 and up, and what else it gets after them.

    In two steps, because a source may lie in the place of another.
    """
    sources = [descriptor for _, descriptor in launch.sockets]
    sources += launch.pages.values()
    copies = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, launch.above) for descriptor in sources]
    for place, copy in enumerate(copies, FIRST_SOCKET):
        os.dup2(copy, place)
    if launch.output >= 0:
        os.dup2(launch.output, 1)


def _connect_notify(path: str, place: int) -> None:
    """Each write(2) to it is a datagram, with the writer's credentials; it fails where the queue is full."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    client.connect(path)
    os.dup2(client.detach(), place)


def environment_of(launch: Launch, pid: int, *, with_sockets: bool = True) -> dict[str, str]:
    """The environment of the worker with this pid, which LISTEN_PID and WATCHDOG_PID have to name."""
    own = str(pid)
    environment = {key: value for key, value in launch.environment.items() if key not in NOT_FOR_WORKERS}
    if launch.sockets and with_sockets:
        environment["LISTEN_FDS"] = str(len(launch.sockets))
        environment["LISTEN_PID"] = own
        environment["LISTEN_FDNAMES"] = ":".join(name for name, _ in launch.sockets)
    for place, name in enumerate(launch.pages, FIRST_SOCKET + len(launch.sockets)):
        environment[name] = str(place)
    if launch.notify_path is not None:
        environment["NOTIFY_SOCKET"] = launch.notify_path
    if launch.pressure_watch:
        environment["MEMORY_PRESSURE_WATCH"] = launch.pressure_watch
    if launch.notify_descriptor:
        environment["MEMUNIT_NOTIFY_FD"] = str(launch.above - 1)
    if launch.watchdog_usec:
        environment["WATCHDOG_USEC"] = str(launch.watchdog_usec)
        environment["WATCHDOG_PID"] = own
    return environment
