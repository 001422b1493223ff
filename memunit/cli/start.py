"""From settings to a running master: what `serve`, `run` and the library call have in common."""

import errno
import fcntl
import math
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from memunit.cli import allocating, early, readers
from memunit.cli.preflight import preflight
from memunit.cli.room import budget_of, budget_problem, within_total, worker_count
from memunit.core.exitcodes import OK
from memunit.core.interfaces import INSTANCE
from memunit.core.model import Policy
from memunit.core.problems import Problem, SettingsError
from memunit.core.settings import Parsed, Settings, label
from memunit.master.filenames import given_directory
from memunit.master.journal import Log
from memunit.master.sampling import memory_available
from memunit.master.setting import Configuration, ConfigurationError
from memunit.master.signals import STOP
from memunit.master.sockets import describe, is_stream

WORKER = Path(early.WORKER)
_LONGEST_PATH = 107
NO_SOCKET = "there is no socket to serve on"
_OFF = "/dev/null"
MEANT_FOR_US = "a shell or a wrapper in between has to exec memunit, so that it keeps the pid"


class StopBeforeStart:
    """What asks to stop until the master listens: by default it would leave the paths of sockets, and a folder.

    What a handler raises in a finalizer, or in a callback as at the end of an import, Python drops: so `check` raises
    it once more.
    """

    def __init__(
        self, early: "early.Early", act: Callable[[], object] = lambda: None, *, interrupted: int = OK
    ) -> None:
        """`act` is called at the signal; `interrupted` is the exit code after SIGINT."""
        self._act = act
        self._interrupted = interrupted
        self._code: int | None = None
        for number in STOP:
            signal.signal(number, self._stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, early.withheld)

    def check(self) -> None:
        """Raises SystemExit if a signal has come."""
        if self._code is not None:
            raise SystemExit(self._code)

    def _stop(self, number: int, _frame: object) -> NoReturn:
        for each in STOP:
            signal.signal(each, signal.SIG_IGN)
        self._code = self._interrupted if number == signal.SIGINT else OK
        self._act()
        raise SystemExit(self._code)


def configure(
    parsed: Parsed,
    source: str,
    *,
    unit: str | None,
    sockets: Iterable[socket.socket] = (),
    here: bool | None = None,
    environment: Mapping[str, str] | None = None,
) -> Configuration:
    """What a master needs, from examined settings. Raises ConfigurationError with every problem, one a line.

    `environment`, ours unless given, is what the workers' is made of; `here` is as in preflight().
    """
    settings = parsed.settings
    given = os.environ if environment is None else environment
    found = preflight(settings, source, unit=unit, environment=given, doubtful=parsed.doubtful, here=here)
    problems = [*parsed.problems, *found]
    problems += [_no_stream(source, sock) for sock in sockets if not is_stream(sock)]
    room = within_total(memory_available(), settings, source)
    budget = budget_of(settings, room.total, room.source, parsed.doubtful)
    too_small = budget_problem(budget, source)
    if too_small is not None:
        problems.append(too_small)
    if problems:
        raise ConfigurationError("\n".join(map(str, problems)))
    # An administrator has said in the unit that nobody is to be told (systemd.resource-control(5)).
    off = given.get("MEMORY_PRESSURE_WATCH") == _OFF
    warnings = [str(warning) for warning in parsed.warnings]
    if budget.kind == "no-surge":
        warnings.append(str(Problem(source, label(source, "memory.limit"), budget.text)))
    read_group, unrecognized = readers.admitted(settings, source, unit)
    warnings += map(str, unrecognized)
    return Configuration(
        policy=policy_of(
            settings,
            reverse=budget.kind == "no-surge",
            in_unit=unit is not None,
            give_back=settings.memory.give_back is True or (settings.memory.give_back == "auto" and not off),
        ),
        watch=_OFF if off else "",
        argv=command_line(settings),
        environment=_environment(settings, given),
        directory=settings.app.directory,
        metric=settings.memory.measured,
        interval=settings.memory.interval,
        preload=settings.app.preload is not False and settings.app.run is not None and not is_node(settings),
        node=is_node(settings),
        profiler="V8" if is_node(settings) else "memray" if settings.app.run is not None else "",
        careful=settings.app.preload == "auto",
        stops_all=settings.app.command is not None,
        spread=settings.app.run is not None and settings.app.server in ("asgi", "wsgi"),
        board=settings.app.run is not None or is_node(settings),
        examine_time=settings.examine.time if is_examined(settings) or is_node(settings) else 0.0,
        examine_memory=settings.examine.memory,
        accounts=not is_examined(settings) and settings.examine.time > 0,
        examine_command=(settings.examine.command or ()) if settings.examine.time > 0 else (),
        command_time=settings.examine.time,
        recorder=settings.recorder.size,
        read_group=read_group,
        warnings=tuple(warnings),
    )


def unusable_runtime(path: str, error: OSError, remedy: str) -> Problem:
    """The problem of a runtime directory where the master can't make its sockets."""
    return Problem(path, "", f"can't use the runtime directory: {error.strerror or error}", remedy)


def policy_of(
    settings: Settings, *, reverse: bool = False, in_unit: bool = False, give_back: bool = False
) -> Policy:
    """Policy's numbers; `reverse` where the memory has no room for a surge at all, the other two as in Policy."""
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
        give_back=give_back,
        grace=settings.stop.grace,
        stop_signal=signal.Signals[settings.stop.signal],
        tells_stacks=settings.app.run is not None and settings.app.server != "node",
        ready_on_exec=settings.app.command is not None and settings.app.ready == "exec",
        in_unit=in_unit,
    )


def is_node(settings: Settings) -> bool:
    """Whether the app is a Node program that is to serve on what it inherits."""
    return settings.app.run is not None and settings.app.server == "node"


def is_examined(settings: Settings) -> bool:
    """Whether a worker can find what grew in it: one of Python's can."""
    return settings.app.run is not None and not is_node(settings)


def command_line(settings: Settings) -> tuple[str, ...]:
    """What a worker executes: the command, or the app's own interpreter with our program for a worker, or
    Node with a module of ours before the app.
    """
    app = settings.app
    if app.command is not None:
        return app.command
    assert app.run is not None
    if app.server == "node":
        return (app.node or "node", "--require", str(WORKER / "node" / "preload.cjs"), app.run)
    hooks = (
        ("--after-fork", app.after_fork),
        ("--before-stop", app.before_stop),
        ("--give-back", app.give_back),
    )
    said = [word for option, name in hooks if name is not None for word in (option, name)]
    return (app.python or sys.executable, early.PROGRAM, "--server", app.server, *said, app.run)


def _environment(settings: Settings, given: Mapping[str, str]) -> dict[str, str]:
    environment = dict(given)
    environment.pop("MEMUNIT_GRACE_USEC", None)
    if settings.app.run is not None and not is_node(settings):
        # What the app prints is in the journal when it is printed, and not when 8 KiB have gathered.
        environment.setdefault("PYTHONUNBUFFERED", "1")
    environment.update(settings.app.environment)
    if settings.app.run is not None and math.isfinite(settings.stop.grace):
        environment["MEMUNIT_GRACE_USEC"] = str(round(settings.stop.grace * 1e6))
    environment.pop("MEMUNIT_EXAMINE", None)
    if is_examined(settings) and settings.examine.time:
        environment["MEMUNIT_EXAMINE"] = "true"
    environment.pop("MEMUNIT_ACCESS_LOG", None)
    if settings.app.access_log:
        environment["MEMUNIT_ACCESS_LOG"] = "true"
    if settings.app.server == "wsgi":
        environment["MEMUNIT_THREADS"] = str(settings.app.threads)
    http = settings.http
    environment["MEMUNIT_HTTP_HEAD_SIZE"] = str(http.head_size)
    environment["MEMUNIT_HTTP_HEAD_TIMEOUT"] = str(http.head_timeout)
    environment["MEMUNIT_HTTP_BODY_SIZE"] = "infinity" if http.body_size is None else str(http.body_size)
    environment["MEMUNIT_HTTP_BODY_TIMEOUT"] = str(http.body_timeout)
    return allocating.added(environment, allocating.variables(settings))


def _no_stream(source: str, sock: socket.socket) -> Problem:
    where = describe(sock)
    return Problem(
        source,
        label(source, "socket.listen"),
        f"{where} is not a stream socket",
        "use ListenStream= in the .socket unit",
    )


def state_directory(runtime: "RuntimeDirectory") -> str | None:
    """systemd's StateDirectory=, in a unit of ours: a worker that is a memunit itself has its master's."""
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    return given or None if runtime.lasting else None


class RuntimeDirectory:
    """Where the master's own sockets are: systemd's RuntimeDirectory=, or a directory of our own, removed at exit."""

    def __init__(self, made: str | None = None) -> None:
        """Raises OSError when a directory of our own is needed and can't be made; one that was `made` goes on."""
        given = given_directory()
        # A worker that is a memunit itself has its master's in its environment, whose sockets it must not take away.
        ours, self._lock = _locked(given) if given else (False, None)
        self.lasting = given if ours else None
        self.path = self.lasting or made or _temporary()

    def __enter__(self) -> "RuntimeDirectory":
        return self

    def __exit__(self, *_: object) -> None:
        if self.lasting is None:
            import shutil  # noqa: PLC0415  systemd gives a directory, and time is short

            shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)

    def file(self, name: str) -> str:
        """The path of one of its files."""
        return f"{self.path}/{name}"

    def interface(self, log: Log) -> str | None:
        """The path of the interface's socket; None where it is longer than a socket's may be, which is told."""
        path = self.file(INSTANCE)
        if len(os.fsencode(path)) <= _LONGEST_PATH:
            return path
        text = f"{path} has more than {_LONGEST_PATH} bytes, the most for a socket (unix(7))"
        after = "memunit status, top, recycle, scale, set and stacks can't reach this master"
        log.send(f"There is no interface: {text}; {after}. Give the instance a shorter name", None, 4)
        return None


def _temporary() -> str:
    import tempfile  # noqa: PLC0415  systemd gives a directory, and time is short

    return tempfile.mkdtemp(prefix="memunit-")


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
