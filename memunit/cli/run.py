"""`memunit run`: the same in the foreground, without systemd or under it. Fit to be PID 1 of a container.

Exit codes: 0 after a stop, 69 if nothing ever became ready, 71 a port in use and the like, 77 may not bind,
78 settings that can't be used.
"""

import contextlib
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from memunit.cli import few
from memunit.cli.early import Early
from memunit.cli.files import load_document, named_path
from memunit.cli.flags import Flags, examine_both, examine_flags, read_flags, typed_label
from memunit.cli.listening import access_of, open_listeners, refused, unused
from memunit.cli.report import print_problems
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
from memunit.core.exitcodes import EX_CONFIG, EX_OSERR, INTERRUPTED
from memunit.core.problems import COMMAND_LINE, Problem, SettingsError
from memunit.core.settings import Parsed, Settings, label
from memunit.master.continuity import take
from memunit.master.filenames import NOTIFY
from memunit.master.journal import Log
from memunit.master.master import Master
from memunit.master.notify import Systemd
from memunit.master.reexec import received
from memunit.master.setting import Configuration, ConfigurationError, Setting
from memunit.master.sockets import Listener, describe, inherited, passed_to_another, unblock
from memunit.master.spawn import launch
from memunit.master.startlog import StartLog


def main(arguments: Sequence[str], early: Early) -> int:
    """Run the command; returns the exit code."""
    stop = StopBeforeStart(early, interrupted=INTERRUPTED)
    # A Unix socket's path goes with it, whatever the end.
    with contextlib.ExitStack() as opened:
        try:
            return _run(arguments, early, opened, stop)
        except (SettingsError, ConfigurationError) as error:
            for line in str(error).splitlines():
                print_problems([Problem("", "", line)])
            return EX_CONFIG


def _run(arguments: Sequence[str], early: Early, opened: contextlib.ExitStack, stop: StopBeforeStart) -> int:
    flags = read_flags(arguments)
    instance, path = (None, None) if flags.config is None else named_path(flags.config)
    source = COMMAND_LINE if path is None else str(path)
    parsed = _examined(flags, path)
    settings = parsed.settings
    elsewhere = passed_to_another()
    passed = received()
    left = take(passed, None)
    place = {} if left.passed is None else left.passed.place
    own = [Listener.again(int(number)) for number in place.get("listeners", "").split()]
    found = [("memunit", sock) for sock in own] if own else _inherited(used=passed is not None)
    sockets = [(name, opened.enter_context(sock)) for name, sock in found]
    taken = bool(sockets) and not own

    def load() -> Configuration:
        passed = [sock for _, sock in sockets] if taken else []
        try:
            return configure(_examined(flags, path), source, unit=None, sockets=passed, here=True)
        except ConfigurationError as error:
            raise ConfigurationError(_with_options(str(error), flags, source)) from None

    # Before anything listens: a client of what can't be started is refused, and not reset.
    configuration = load() if left.passed is None else left.passed.newest
    if configuration.spread or configuration.node:
        unblock(sock for _, sock in sockets)
    if not (sockets or settings.socket.listen):
        raise SettingsError([_no_socket(source, elsewhere)])
    if not sockets:
        access = access_of(settings.socket, source)
        try:
            # A name in LISTEN_FDNAMES may have no colon, and an address has.
            sockets += [("memunit", made) for made in open_listeners(settings.socket.listen, access, opened)]
        except OSError as error:
            problem, code = refused(error, source, settings.socket)
            for line in _with_options(str(problem), flags, source).splitlines():
                print_problems([Problem("", "", line)])
            return code
    name = instance or (_name(settings) if path is None else path.stem)
    log = Log(name)
    if taken and passed is None:
        here = ", ".join(describe(sock) for _, sock in sockets)
        for option in unused(settings.socket, source):
            log.send(f"{option} is not used: the inherited sockets are used ({here})", None, 4)
    for _, sock in sockets if passed is None else ():
        log.send(f"Listening on {describe(sock)}", None, 6)
    try:
        runtime = opened.enter_context(RuntimeDirectory(place.get("runtime")))
    except OSError as error:
        print_problems([no_runtime(error)])
        return EX_OSERR
    tree, treeless = early.claimed()
    setting = Setting(
        tree=tree,
        treeless=treeless,
        instance=name,
        sockets=names(sockets),
        notify_path=runtime.file(NOTIFY),
        control_path=runtime.file("control"),
        interface_path=runtime.interface(log),
        log=log,
        systemd=Systemd(),
        start_log=StartLog(runtime.lasting),
        directory=runtime.lasting,
        state_directory=state_directory(runtime),
        load=reloading(load),
        start=launch if early.ahead is None else early.ahead.start,
        ahead=early.ahead is not None,
        # Nobody else would tell the workers that the master was killed. Under systemd, the unit's KillMode= does.
        parent_death_signal=signal.SIGTERM,
        place=_place(None if taken else sockets, runtime),
    )
    try:
        master = Master(setting, configuration, left)
    except OSError as error:
        if few.is_want(error):
            raise
        remedy = "see RUNTIME_DIRECTORY in the environment"
        print_problems([unusable_runtime(runtime.path, error, remedy)])
        return EX_OSERR
    stop.check()
    return master.run()


def _place(own: Sequence[tuple[str, socket.socket]] | None, runtime: RuntimeDirectory) -> dict[str, str]:
    """What this process needs to begin anew: which sockets it has bound itself, and where its own are."""
    place = {} if runtime.lasting is not None else {"runtime": runtime.path}
    return place if own is None else place | {"listeners": " ".join(str(sock.fileno()) for _, sock in own)}


def _inherited(*, used: bool) -> list[tuple[str, socket.socket]]:
    try:
        return inherited(used=used)
    except OSError as error:
        if few.is_want(error):
            raise
        text = f"{error.strerror} ({error.filename})" if error.filename else str(error.strerror)
        remedy = "pass listening sockets as sd_listen_fds(3) describes, or pass none and say --listen"
        raise SettingsError([Problem("environment", "LISTEN_FDS", text, remedy)]) from None


def _examined(flags: Flags, path: Path | None) -> Parsed:
    return examine_flags(flags) if path is None else examine_both(flags, load_document(path), str(path))


def _with_options(text: str, flags: Flags, source: str) -> str:
    """Problems, one a line, in which what was typed is named by its option, and not by the key of the file."""
    return "\n".join(_with_option(line, flags, source) for line in text.splitlines())


def _with_option(line: str, flags: Flags, source: str) -> str:
    place, colon, rest = line.removeprefix(f"{source}: ").partition(": ")
    option = typed_label(flags, place)
    return f"{COMMAND_LINE}: {option}: {rest}" if colon and option and source != COMMAND_LINE else line


def _no_socket(source: str, elsewhere: str) -> Problem:
    if elsewhere:
        return Problem("environment", "LISTEN_FDS", f"{NO_SOCKET}: {elsewhere}", MEANT_FOR_US)
    remedy = 'say where to listen, as in "--listen 127.0.0.1:8000", or start it from a .socket unit'
    return Problem(source, label(source, "socket.listen"), NO_SOCKET, remedy)


def _name(settings: Settings) -> str:
    """What the journal calls it: there is no instance's name on a command line."""
    return settings.app.run or Path((settings.app.command or ("memunit",))[0]).name
