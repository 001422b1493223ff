"""`memunit serve INSTANCE`: what memunit@.service starts. Settings from the instance's file, sockets from systemd.

Exit codes: 0 after a stop, 69 if nothing ever became ready, 78 if the file can't be used.
"""

import math
import os
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from memunit.cli.files import instance_path, load_file
from memunit.cli.start import (
    NO_SOCKET,
    RuntimeDirectory,
    claimed,
    configure,
    ignore_signals,
    names,
    no_runtime,
    reloading,
    unusable_runtime,
)
from memunit.cli.usage import Parser
from memunit.core import backoff
from memunit.core.exitcodes import EX_CONFIG, EX_OSERR, OK
from memunit.core.problems import Problem, SettingsError
from memunit.master import messages
from memunit.master.journal import Log
from memunit.master.master import Master
from memunit.master.notify import Systemd
from memunit.master.setting import Configuration, ConfigurationError, Setting
from memunit.master.sockets import describe, inherited, is_connection
from memunit.master.spawn import launch
from memunit.master.startlog import Record, StartLog, inherited_record

# How long a successor of a master that could not use its file waits for the file to be mended, in seconds: under
# TimeoutStartSec= of the unit, and about the longest backoff.
LONGEST_WAIT = 40.0


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    parser = Parser("memunit serve", "Serve INSTANCE from /etc/memunit/INSTANCE.toml; started by its unit.")
    parser.add_argument("instance", metavar="INSTANCE", help="the part between @ and the dot of the unit")
    instance: str = parser.parse_args(arguments).instance
    ignore_signals()
    try:
        runtime = RuntimeDirectory()
    except OSError as error:
        Log(instance).send(str(no_runtime(error)), messages.CONFIGURATION, 3)
        return EX_OSERR
    with runtime:
        return _Serve(instance, runtime).run()


class _Serve:
    def __init__(self, instance: str, runtime: RuntimeDirectory) -> None:
        self._unit = f"memunit@{instance}.service"
        self._runtime = runtime
        self._instance = instance
        self._log = Log(instance)
        self._systemd = Systemd()
        self._start_log = StartLog(runtime.lasting)
        self._sockets: list[tuple[str, socket.socket]] = []
        self._no_sockets = NO_SOCKET
        self._remedy = f"systemctl start memunit@{instance}.socket, not the program by hand"
        self._failures = 0
        self._since = math.inf
        self._reported = ""
        signal.signal(signal.SIGTERM, self._stop_before_start)

    def run(self) -> int:
        try:
            self._sockets = inherited()
        except OSError as error:
            self._no_sockets = f"{NO_SOCKET}: {error.strerror} ({error.filename or 'LISTEN_FDS'})"
            self._remedy = "the .socket unit may have ListenStream= alone"
        if any(map(is_connection, (sock for _, sock in self._sockets))):
            self._sockets = []
            self._no_sockets = "a connection was passed, and not a socket that listens"
            self._remedy = "say Accept=no in the .socket unit"
        configuration = self._first_configuration()
        if isinstance(configuration, int):
            return configuration
        tree, treeless = claimed("say Delegate=memory in the unit")
        setting = Setting(
            tree=tree,
            treeless=treeless,
            instance=self._instance,
            sockets=names(self._sockets),
            notify_path=self._runtime.file("notify"),
            control_path=self._runtime.file("control"),
            log=self._log,
            systemd=self._systemd,
            start_log=self._start_log,
            load=reloading(self._load),
            start=launch,
        )
        try:
            master = Master(setting, configuration)
        except OSError as error:
            problem = unusable_runtime(self._runtime.path, error, "see RuntimeDirectory= of the unit")
            self._report(str(problem), waiting=False)
            return self._give_up(EX_OSERR)
        return master.run()

    def _stop_before_start(self, _number: int, _frame: object) -> NoReturn:
        """Until the master listens: a person has acted, and what failed before holds the next start back no more."""
        self._start_log.clear()
        raise SystemExit(OK)

    def _load(self) -> Configuration:
        path = instance_path(self._instance)
        parsed = load_file(path)
        found = [sock for _, sock in self._sockets]
        configuration = configure(parsed, str(path), unit=self._own_unit(), sockets=found)
        disagreement = self._disagreement(path, [str(address) for address in parsed.settings.socket.listen])
        if disagreement is None:
            return configuration
        return replace(configuration, warnings=(*configuration.warnings, str(disagreement)))

    def _file_problems(self) -> list[str]:
        try:
            self._load()
        except (ConfigurationError, SettingsError, OSError) as error:
            return str(error).splitlines()
        return []

    def _own_unit(self) -> str | None:
        return self._unit if "INVOCATION_ID" in os.environ else None

    def _disagreement(self, path: Path, wanted: list[str]) -> Problem | None:
        """The file's listen is for the .socket unit; what systemd has opened counts."""
        here = [describe(sock) for _, sock in self._sockets]
        if not wanted or sorted(wanted) == sorted(here):
            return None
        text = f"says {', '.join(wanted)}, but the socket unit listens on {', '.join(here)}, which counts"
        socket_unit = self._unit.removesuffix(".service") + ".socket"
        lines = " and ".join(f"ListenStream={address}" for address in ("", *wanted))
        remedy = f"systemctl edit {socket_unit}, with {lines} under [Socket]"
        return Problem(str(path), "socket.listen", text, remedy)

    def _first_configuration(self) -> Configuration | int:
        """The configuration to start with, or the exit code.

        A file that can't be used ends a start that a person has asked for at once. A start by systemd after such
        an end waits first, or the pair of them would go round without a pause as long as a client waits.
        """
        record = inherited_record(self._start_log, time.monotonic())
        while True:
            try:
                if not self._sockets:
                    problem = Problem(self._unit, "", self._no_sockets, self._remedy)
                    raise ConfigurationError("\n".join([str(problem), *self._file_problems()]))
                return self._load()
            except (ConfigurationError, SettingsError, OSError) as error:
                self._report(str(error), waiting=record is not None)
            if record is None:
                return self._give_up()
            if self._wait(record.retry_at):
                return OK
            self._failures, self._since = record.failures, record.since
            record = None

    def _report(self, text: str, *, waiting: bool) -> None:
        # Not again what was said before the wait.
        for line in text.splitlines() if text != self._reported else ():
            self._log.send(line, messages.CONFIGURATION, 3)
        self._reported = text
        first = text.splitlines()[0]
        more = len(text.splitlines()) - 1
        suffix = f" (and {more} more, see the journal)" if more else ""
        after = "; waiting for it to be mended" if waiting else ""
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
