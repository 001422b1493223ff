"""From settings to a running master: what `serve`, `run` and the library call have in common."""

import errno
import fcntl
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from memunit.cli.preflight import budget_of, budget_problem, preflight, worker_count
from memunit.core.budget import kept_back
from memunit.core.exitcodes import EX_NOPERM, EX_OSERR
from memunit.core.model import Policy
from memunit.core.problems import Problem, SettingsError
from memunit.core.settings import Parsed, Settings, label
from memunit.master.cgroup import Tree, Unavailable, claim
from memunit.master.sampling import memory_available
from memunit.master.setting import Configuration, ConfigurationError
from memunit.master.sockets import describe, is_stream

WORKER = Path(__file__).parent.parent / "worker"
NO_SOCKET = "there is no socket to serve on"


def ignore_signals() -> None:
    """Until the master listens to them: by default they end or stop a process, and nobody who sends one means that."""
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(number, signal.SIG_IGN)


def configure(
    parsed: Parsed, source: str, *, unit: str | None, sockets: Iterable[socket.socket] = ()
) -> Configuration:
    """What a master needs, from examined settings. Raises ConfigurationError with every problem, one a line."""
    settings = parsed.settings
    problems = [*parsed.problems, *preflight(settings, source, unit=unit, doubtful=parsed.doubtful)]
    problems += [_no_stream(source, sock) for sock in sockets if not is_stream(sock)]
    room = memory_available()
    budget = budget_of(settings, room.total, room.source, parsed.doubtful)
    too_small = budget_problem(budget, source)
    if too_small is not None:
        problems.append(too_small)
    if problems:
        raise ConfigurationError("\n".join(map(str, problems)))
    warnings = [str(warning) for warning in parsed.warnings]
    if budget.kind == "no-surge":
        warnings.append(str(Problem(source, label(source, "memory.limit"), budget.text)))
    return Configuration(
        policy=policy_of(settings, reverse=budget.kind == "no-surge", in_unit=unit is not None),
        argv=command_line(settings),
        environment=_environment(settings),
        directory=settings.app.directory,
        metric=settings.memory.measured,
        interval=settings.memory.interval,
        preload=settings.app.preload and settings.app.run is not None,
        warnings=tuple(warnings),
    )


def claimed(remedy: str) -> tuple[Tree | None, str]:
    """The delegated part of the cgroup tree, with this process in a leaf of it; or why there is none."""
    try:
        return claim(remedy, kept_back), ""
    except Unavailable as unavailable:
        return None, str(unavailable)


def unusable_runtime(path: str, error: OSError, remedy: str) -> Problem:
    """The problem of a runtime directory where the master can't make its sockets."""
    return Problem(path, "", f"can't use the runtime directory: {error.strerror or error}", remedy)


def policy_of(settings: Settings, *, reverse: bool = False, in_unit: bool = False) -> Policy:
    """Policy's numbers; `reverse` where the memory has no room for a surge at all, `in_unit` as in Policy."""
    workers = settings.workers
    return Policy(
        count=worker_count(settings),
        surge=0 if reverse else workers.surge,
        start_timeout=workers.start_timeout,
        watchdog=workers.watchdog,
        min_lifetime=workers.min_lifetime,
        max_age=workers.max_age,
        limit=settings.memory.limit,
        ceiling=settings.memory.ceiling,
        patience=settings.memory.patience,
        grace=settings.stop.grace,
        ready_on_exec=settings.app.command is not None and settings.app.ready == "exec",
        in_unit=in_unit,
    )


def command_line(settings: Settings) -> tuple[str, ...]:
    """What a worker executes: the command, or the app's own interpreter with our worker directory as program."""
    app = settings.app
    if app.command is not None:
        return app.command
    assert app.run is not None
    hooks = (("--after-fork", app.after_fork), ("--before-stop", app.before_stop))
    said = [word for option, name in hooks if name is not None for word in (option, name)]
    return (app.python or sys.executable, str(WORKER), "--server", app.server, *said, app.run)


def _environment(settings: Settings) -> dict[str, str]:
    environment = dict(os.environ)
    if settings.app.run is not None:
        # What the app prints is in the journal when it is printed, and not when 8 KiB have gathered.
        environment.setdefault("PYTHONUNBUFFERED", "1")
    environment.update(settings.app.environment)
    if settings.app.server == "wsgi":
        environment["MEMUNIT_THREADS"] = str(settings.app.threads)
    return environment


def _no_stream(source: str, sock: socket.socket) -> Problem:
    where = describe(sock)
    return Problem(
        source,
        label(source, "socket.listen"),
        f"{where} is not a stream socket",
        "use ListenStream= in the .socket unit",
    )


def refused(error: OSError, key: str, source: str) -> tuple[Problem, int]:
    """A socket that can't be bound, as a problem and its exit code: 77 if we may not, else 71."""
    where = str(error.filename or "the socket")
    said = (error.strerror or str(error)).lower()
    if error.errno == errno.EADDRINUSE:
        remedy = "stop the other server, or listen elsewhere"
    elif error.errno in (errno.EACCES, errno.EPERM):
        remedy = "use a port over 1023, or let systemd open it in a .socket unit"
    elif error.errno in (errno.ENOENT, errno.ENOTDIR):
        remedy = "make the directory first"
    else:
        remedy = "listen elsewhere"
    code = EX_NOPERM if error.errno in (errno.EACCES, errno.EPERM) else EX_OSERR
    return Problem(source, key, f"can't listen on {where}: {said}", remedy), code


class RuntimeDirectory:
    """Where the master's own sockets are: systemd's RuntimeDirectory=, or a directory of our own, removed at exit."""

    def __init__(self) -> None:
        """Raises OSError when a directory of our own is needed and can't be made."""
        given = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
        # A worker that is a memunit itself has its master's in its environment, whose sockets it must not take away.
        ours, self._lock = _locked(given) if given else (False, None)
        self.lasting = given if ours else None
        self.path = self.lasting or tempfile.mkdtemp(prefix="memunit-")

    def __enter__(self) -> "RuntimeDirectory":
        return self

    def __exit__(self, *_: object) -> None:
        if self.lasting is None:
            shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)

    def file(self, name: str) -> str:
        """The path of one of its files."""
        return str(Path(self.path, name))


def _locked(path: str) -> tuple[bool, int | None]:
    """Whether the directory may be used, and a descriptor by which it is this process's until it ends.

    One that can't be locked may be: what is wrong with it is told when sockets are made there.
    """
    try:
        Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return True, None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        return error.errno != errno.EWOULDBLOCK, None
    return True, descriptor


def no_runtime(error: OSError) -> Problem:
    """The problem of a master that has no runtime directory and can't make one."""
    text = f"is not set, and no directory can be made: {error.strerror or error}"
    remedy = "set it to a directory that may be written, or mount a tmpfs on /tmp"
    return Problem("environment", "RUNTIME_DIRECTORY", text, remedy)


def reloading(load: Callable[[], Configuration]) -> Callable[[], Configuration]:
    """`load`, with every way in which settings can be unusable as one error."""

    def again() -> Configuration:
        try:
            return load()
        except (SettingsError, OSError) as error:
            # An OSError is one that nobody foresaw; it must not end a service that serves.
            raise ConfigurationError(str(error)) from None

    return again


def names(sockets: Sequence[tuple[str, socket.socket]]) -> tuple[tuple[str, int], ...]:
    """(name, descriptor) of each socket, as a launch wants them."""
    return tuple((name, sock.fileno()) for name, sock in sockets)
