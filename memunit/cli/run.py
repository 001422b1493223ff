"""`memunit run`: the same in the foreground, without systemd or under it. Fit to be PID 1 of a container.

Exit codes: 0 after a stop, 69 if nothing ever became ready, 71 a port in use and the like, 77 may not bind,
78 settings that can't be used.
"""

import contextlib
import functools
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from memunit.cli.flags import parse_flags
from memunit.cli.report import print_problems
from memunit.cli.start import (
    NO_SOCKET,
    RuntimeDirectory,
    claimed,
    configure,
    ignore_signals,
    names,
    no_runtime,
    refused,
    reloading,
    unusable_runtime,
)
from memunit.core.address import Address
from memunit.core.exitcodes import EX_CONFIG, EX_OSERR
from memunit.core.problems import COMMAND_LINE, Problem, SettingsError
from memunit.core.settings import Settings
from memunit.master.journal import Log
from memunit.master.master import Master
from memunit.master.notify import Systemd
from memunit.master.setting import ConfigurationError, Setting
from memunit.master.sockets import bind, describe, inherited
from memunit.master.spawn import launch
from memunit.master.startlog import StartLog


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    # A Unix socket's path goes with it, whatever the end.
    with contextlib.ExitStack() as opened:
        try:
            return _run(arguments, opened)
        except (SettingsError, ConfigurationError) as error:
            for line in str(error).splitlines():
                print_problems([Problem("", "", line)])
            return EX_CONFIG


def _run(arguments: Sequence[str], opened: contextlib.ExitStack) -> int:
    parsed = parse_flags(arguments)
    settings = parsed.settings
    sockets = [(name, opened.enter_context(sock)) for name, sock in _inherited()]
    taken = bool(sockets)
    # Before anything listens: a client of what can't be started is refused, and not reset.
    load = functools.partial(
        configure, parsed, COMMAND_LINE, unit=None, sockets=[sock for _, sock in sockets]
    )
    configuration = load()
    if not (taken or settings.socket.listen):
        remedy = 'say where to listen, as in "--listen 127.0.0.1:8000", or start it from a .socket unit'
        raise SettingsError([Problem(COMMAND_LINE, "--listen", NO_SOCKET, remedy)])
    for address in () if taken else settings.socket.listen:
        try:
            # A name in LISTEN_FDNAMES may have no colon, and an address has.
            sockets.append(("memunit", opened.enter_context(bind(_plain(address)))))
        except OSError as error:
            problem, code = refused(error, "--listen", COMMAND_LINE)
            print_problems([problem])
            return code
    ignore_signals()
    instance = _name(settings)
    log = Log(instance)
    if taken and settings.socket.listen:
        here = ", ".join(describe(sock) for _, sock in sockets)
        log.send(f"--listen is not used: the inherited sockets count ({here})", None, 4)
    for _, sock in sockets:
        log.send(f"Listening on {describe(sock)}", None, 6)
    try:
        runtime = opened.enter_context(RuntimeDirectory())
    except OSError as error:
        print_problems([no_runtime(error)])
        return EX_OSERR
    tree, treeless = claimed("systemd-run --user --scope -p Delegate=yes memunit run gives it one")
    setting = Setting(
        tree=tree,
        treeless=treeless,
        instance=instance,
        sockets=names(sockets),
        notify_path=runtime.file("notify"),
        control_path=runtime.file("control"),
        log=log,
        systemd=Systemd(),
        start_log=StartLog(runtime.lasting),
        load=reloading(load),
        start=launch,
        # Nobody else would tell the workers that the master was killed. Under systemd, the unit's KillMode= does.
        parent_death_signal=signal.SIGTERM,
    )
    try:
        master = Master(setting, configuration)
    except OSError as error:
        remedy = "see RUNTIME_DIRECTORY in the environment"
        print_problems([unusable_runtime(runtime.path, error, remedy)])
        return EX_OSERR
    return master.run()


def _inherited() -> list[tuple[str, socket.socket]]:
    try:
        return inherited()
    except OSError as error:
        text = f"{error.strerror} ({error.filename})" if error.filename else str(error.strerror)
        remedy = "pass listening sockets as sd_listen_fds(3) has it, or none and --listen"
        raise SettingsError([Problem("environment", "LISTEN_FDS", text, remedy)]) from None


def _plain(address: Address) -> tuple[str, str, int] | tuple[str, str]:
    if address.kind == "unix":
        return ("unix", address.path)
    return ("tcp", address.host, address.port)


def _name(settings: Settings) -> str:
    """What the journal calls it: there is no instance's name on a command line."""
    return settings.app.run or Path((settings.app.command or ("memunit",))[0]).name
