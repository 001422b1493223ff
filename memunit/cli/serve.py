"""`memunit serve INSTANCE`: what memunit@.service starts. Settings from the instance's file, sockets from systemd.

Exit codes: 0 after a stop, 69 if nothing ever became ready, 78 if the file can't be used.
"""

import faulthandler
import math
import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from memunit.cli import environ, few
from memunit.cli.early import Early
from memunit.cli.files import instance_path, load_file
from memunit.cli.listening import belongs
from memunit.cli.start import (
    MEANT_FOR_US,
    NO_SOCKET,
    RuntimeDirectory,
    StopBeforeStart,
    configure,
    names,
    no_runtime,
    reloading,
    state_directory,
    unusable_runtime,
)
from memunit.cli.usage import Parser
from memunit.core import backoff
from memunit.core.exitcodes import EX_CONFIG, EX_OSERR, EX_SOFTWARE, OK
from memunit.core.messages import Message
from memunit.core.names import is_instance
from memunit.core.problems import Problem, SettingsError
from memunit.core.settings import Service, Settings, Socket
from memunit.master.continuity import Inherited, take
from memunit.master.filenames import NOTIFY
from memunit.master.journal import Log
from memunit.master.master import Master
from memunit.master.notify import Systemd
from memunit.master.reexec import received
from memunit.master.setting import Configuration, ConfigurationError, Setting
from memunit.master.sockets import describe, inherited, is_connection, passed_to_another, unblock
from memunit.master.spawn import launch
from memunit.master.startlog import Record, StartLog, inherited_record
from memunit.records import fields, replace

# How long a successor of a master that could not use its file waits for the file to be mended, in seconds: under
# TimeoutStartSec= of the unit, and about the longest backoff.
LONGEST_WAIT = 40.0


_DESCRIPTION = """\
Serve INSTANCE from /etc/memunit/INSTANCE.toml, with the sockets of memunit@INSTANCE.socket. The unit
memunit@INSTANCE.service starts this command."""
_EPILOG = """\
examples:
  systemctl start memunit@shop.socket    listen; the first client starts the service
  systemctl start memunit@shop.service   start it at once

exit codes: 0 stopped as requested, 64 wrong command line, 69 no worker became ready, 70 memunit has failed,
71 a system call failed, 78 the configuration can't be used"""


def parser() -> Parser:
    """What may be typed after its name."""
    made = Parser("memunit serve", _DESCRIPTION, epilog=_EPILOG)
    made.add_argument("instance", metavar="INSTANCE", help="the part between @ and the dot of the unit")
    return made


def main(arguments: Sequence[str], early: Early) -> int:
    """Run the command; returns the exit code."""
    instance: str = parser().parse_args(arguments).instance
    # At SIGABRT, systemd's word to a master that hangs, it says where (faulthandler).
    faulthandler.enable()
    passed = received()
    try:
        runtime = RuntimeDirectory()
    except OSError as error:
        Log(instance).send(str(no_runtime(error)), Message.CONFIGURATION.id, 3)
        return EX_OSERR
    with runtime:
        return _Serve(instance, runtime, take(passed, runtime.lasting), early).run()


class _Serve:
    def __init__(self, instance: str, runtime: RuntimeDirectory, left: Inherited, early: Early) -> None:
        self._early = early
        self._unit = f"memunit@{instance}.service"
        self._runtime = runtime
        self._left = left
        self._instance = instance
        self._log = Log(instance)
        self._systemd = Systemd()
        self._start_log = StartLog(runtime.lasting)
        self._sockets: list[tuple[str, socket.socket]] = []
        self._no_sockets = NO_SOCKET
        # A restart, for a daemon-reload closes the sockets of a .socket unit whose addresses are others than before.
        self._remedy = f"systemctl restart memunit@{instance}.socket, and do not start the program by hand"
        self._service: Service | None = None
        self._failures = 0
        self._since = math.inf
        # What failed before, until it has been waited for.
        self._record: Record | None = None
        self._reported = ""
        # A person has acted, and what failed before holds the next start back no more.
        self._stop = StopBeforeStart(early, self._start_log.clear)

    def run(self) -> int:
        """Serve until the end; returns the exit code."""
        try:
            return self._run()
        except Exception as error:
            if self._left.left is None:
                if few.is_want(error):
                    return self._unusable(error)
                if self._failed(error) == OK:
                    return OK
            raise

    def _run(self) -> int:
        elsewhere = passed_to_another()
        if elsewhere:
            self._no_sockets, self._remedy = f"{NO_SOCKET}: {elsewhere}", MEANT_FOR_US
        passed = self._left.passed
        if passed is None:
            self._record = inherited_record(self._start_log, time.monotonic())
        try:
            self._sockets = inherited(used=passed is not None)
        except OSError as error:
            if few.is_want(error):
                raise
            self._no_sockets = f"{NO_SOCKET}: {error.strerror} ({error.filename or 'LISTEN_FDS'})"
            self._remedy = "keep only ListenStream= in the .socket unit"
        if any(map(is_connection, (sock for _, sock in self._sockets))):
            self._sockets = []
            self._no_sockets = "a connection was passed, and not a socket that listens"
            self._remedy = "say Accept=no in the .socket unit"
        configuration = self._first_configuration() if passed is None else passed.newest
        if isinstance(configuration, int):
            return configuration
        if configuration.spread or configuration.node:
            unblock(sock for _, sock in self._sockets)
        tree, treeless = self._early.claimed()
        ahead = self._early.ahead
        setting = Setting(
            tree=tree,
            treeless=treeless,
            instance=self._instance,
            sockets=names(self._sockets),
            notify_path=self._runtime.file(NOTIFY),
            control_path=self._runtime.file("control"),
            interface_path=self._runtime.interface(self._log),
            log=self._log,
            systemd=self._systemd,
            start_log=self._start_log,
            load=reloading(self._load),
            start=launch if ahead is None else ahead.start,
            ahead=ahead is not None,
            directory=self._runtime.lasting,
            state_directory=state_directory(self._runtime),
        )
        try:
            master = Master(setting, configuration, self._left)
        except OSError as error:
            return self._unusable(error)
        self._stop.check()
        try:
            return master.run()
        except OSError as error:
            # It comes from before the loop, which handles its own errors. If there are workers to take over, a
            # successor takes them over.
            if self._left.left is not None:
                raise
            return self._unusable(error)

    def _failed(self, error: Exception) -> int:
        """A defect of memunit is a failed start too: systemd would make one a second. The exit code."""
        self._stop.check()
        self._report(f"memunit itself has failed: {type(error).__name__}: {error}", waiting=False)
        return self._end_late(EX_SOFTWARE)

    def _unusable(self, error: OSError) -> int:
        if few.is_want(error):
            problem = few.too_low(self._unit, error)
        else:
            problem = unusable_runtime(self._runtime.path, error, "see RuntimeDirectory= of the unit")
        self._report(str(problem), waiting=False)
        return self._end_late(EX_OSERR)

    def _end_late(self, exit_code: int) -> int:
        """End when the next start is due by what failed before: with a usable file, nothing has waited for that yet."""
        if self._record is not None and self._waits_in_vain(self._record):
            return OK
        return self._give_up(exit_code)

    def _waits_in_vain(self, record: Record) -> bool:
        """Wait until the next try is due; whether there is to be none."""
        if self._wait(record.retry_at):
            return True
        self._failures, self._since, self._record = record.failures, record.since, None
        return False

    def _load(self) -> Configuration:
        path = instance_path(self._instance)
        parsed = load_file(path)
        found = [sock for _, sock in self._sockets]
        environment = environ.left(self._runtime.lasting, os.environ)
        configuration = configure(
            parsed, str(path), unit=self._own_unit(), sockets=found, environment=environment
        )
        more = [*self._disagreements(path, parsed.settings.socket), *self._later(path, parsed.settings)]
        return replace(configuration, warnings=(*configuration.warnings, *map(str, more)))

    def _file_problems(self) -> list[str]:
        try:
            self._load()
        except (ConfigurationError, SettingsError, OSError) as error:
            return str(error).splitlines()
        return []

    def _own_unit(self) -> str | None:
        return self._unit if "INVOCATION_ID" in os.environ else None

    def _disagreements(self, path: Path, wanted: Socket) -> Iterator[Problem]:
        """What the file says of the sockets is for the .socket unit; as systemd has opened them, so they are."""
        here = [describe(sock) for _, sock in self._sockets]
        listen = [str(place) for address in wanted.listen for place in address.places]
        socket_unit = self._unit.removesuffix(".service") + ".socket"
        if listen and sorted(listen) != sorted(here):
            text = (
                f"says {', '.join(listen)}, but the socket unit listens on {', '.join(here)}, and only there"
            )
            remedy = f"systemctl daemon-reload and systemctl restart {socket_unit}"
            yield Problem(str(path), "socket.listen", text, remedy)
        said = {"mode": None if wanted.mode is None else f"{wanted.mode:04o}", "user": wanted.user}
        for name, value in {**said, "group": wanted.group}.items():
            other = next((f for f in here if value and not belongs(f, name, value)), None)
            if other is not None:
                text = f"says {value}, but the socket unit has made {other} with another {name}"
                remedy = f"systemctl daemon-reload and systemctl restart {socket_unit}"
                yield Problem(str(path), f"socket.{name}", text, remedy)

    def _later(self, path: Path, settings: Settings) -> Iterator[Problem]:
        """What systemd did for us before we were started, and does anew before we are started again."""
        if self._service is None:
            self._service = settings.service
        now, then = settings.service, self._service
        for name in (
            each.name for each in fields(now) if getattr(now, each.name) != getattr(then, each.name)
        ):
            text = "has changed in the file, but a running service keeps the value from its start"
            remedy = f"systemctl daemon-reload and systemctl restart {self._unit}"
            yield Problem(str(path), f"service.{name}", text, remedy)

    def _first_configuration(self) -> Configuration | int:
        """The configuration to start with, or the exit code.

        A file that can't be used ends a start that a person has asked for at once. A start by systemd after such
        an end waits first, or the pair of them would go round without a pause as long as a client waits.
        """
        while True:
            try:
                if not self._sockets:
                    problem = Problem(self._unit, "", self._no_sockets, self._remedy)
                    # A name that can't be has no socket, and with a ":" systemd's names of them can't be told apart.
                    first = [str(problem)] if is_instance(self._instance) else []
                    raise ConfigurationError("\n".join([*first, *self._file_problems()]))
                return self._load()
            except (ConfigurationError, SettingsError, OSError) as error:
                self._report(str(error), waiting=self._record is not None)
            if self._record is None:
                return self._give_up()
            if self._waits_in_vain(self._record):
                return OK

    def _report(self, text: str, *, waiting: bool) -> None:
        # Not again what was said before the wait.
        for line in text.splitlines() if text != self._reported else ():
            self._log.send(line, Message.CONFIGURATION.id, 3)
        self._reported = text
        first = text.splitlines()[0]
        more = len(text.splitlines()) - 1
        suffix = f" (and {more} more, see the journal)" if more else ""
        after = "; waiting until the file is mended" if waiting else ""
        self._systemd.send(f"STATUS={first}{suffix}{after}")

    def _give_up(self, exit_code: int = EX_CONFIG) -> int:
        failures = self._failures + 1
        now = time.monotonic()
        since = min(self._since, now)
        wait = backoff.delay(failures, seed=time.monotonic_ns(), slot=-1, lasted=now - since)
        saved = (
            self._start_log.save(Record(failures, now + wait, now, since)) or self._runtime.lasting is None
        )
        # Without a record its successor would not know that it has to wait.
        return OK if not saved and self._wait(now + backoff.CAP) else exit_code

    def _wait(self, until: float) -> bool:
        """Wait until then, or a signal: True if it asks to stop, False to try at once (SIGHUP) or when time is up."""
        seconds = min(max(0.0, until - time.monotonic()), LONGEST_WAIT)
        awaited = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
        try:
            self._systemd.send(f"EXTEND_TIMEOUT_USEC={int((seconds + 60) * 1e6)}")
            got = signal.sigtimedwait(awaited, seconds)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if got is None:
            return False
        # A person has acted: what failed before holds nothing back any more.
        self._start_log.clear()
        return got.si_signo != signal.SIGHUP
