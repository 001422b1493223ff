"""`memunit check --import`: run the app's import in a throwaway process, and see whether it can be preloaded.

The one part of check that executes the app. It does so as the user of the unit where root asks, with the app's
interpreter, directory and variables, within `start_timeout`, and ends all that the import has started.
"""

import contextlib
import glob
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memunit.cli.inspection import Account, owner_of
from memunit.cli.start import command_line
from memunit.core.commands import shlex_split
from memunit.core.problems import Problem
from memunit.core.quantity import format_time
from memunit.core.settings import Settings
from memunit.master import proctree, system
from memunit.master.zygote_messages import Ready, Unusable, decode
from memunit.records import dataclass

_REMEDIES = {
    "auto": "do it in a function that app.after_fork names; until then each worker imports the app for itself",
    "True": "do it in a function that app.after_fork names, or say preload = false",
    "False": 'do it in a function that app.after_fork names before you say preload = "auto"',
}
_LARGEST = 65536
_LAST_WORDS = 5.0  # seconds for what the import wants done at its end, or for the stacks of one that hangs


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of it: problems if a worker could not import the app either, warnings if a fork breaks something."""

    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    summary: str = ""


def run_import(settings: Settings, source: str, account: Account | None) -> Imported:
    """Import the app of these settings, which has `run` and not `command`. What it prints goes to stderr."""
    if os.geteuid() == 0 and account is None and settings.app.directory is not None:
        account = owner_of(settings.app.directory)
    environment, unread = _environment(settings, source, account)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    begun = time.monotonic()
    system.set_child_subreaper()
    with ours, theirs:
        try:
            process = _start(settings, account, environment, theirs.fileno())
        except OSError as error:
            text = f"can't be executed: {error.strerror or error}"
            return Imported(
                (Problem(source, "app.python", text, "memunit check without --import says more"),)
            )
        theirs.close()
        try:
            packet, late = _wait(ours, process, settings.workers.start_timeout)
        finally:
            process.kill()
            process.wait()
            _end_rest()
    took = time.monotonic() - begun
    found = _judge(settings, source, process, packet, late=late, took=took)
    return Imported(found.problems, (*unread, *found.warnings), found.summary)


def _end_rest() -> None:
    """What the import has started is our child now, for we are the subreaper."""
    while rest := proctree.descendants(os.getpid()):
        for pid in rest:
            try:
                proctree.kill(pid)
            except PermissionError:
                return  # it has become another user's
        for pid in rest:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _start(
    settings: Settings, account: Account | None, environment: Mapping[str, str], descriptor: int
) -> "subprocess.Popen[bytes]":
    words = command_line(settings)
    become: dict[str, Any] = {}
    if account is not None and os.geteuid() == 0:
        become = {"user": account.uid, "group": account.gid, "extra_groups": account.groups}
    return subprocess.Popen(
        [*words[:2], "--examine", str(descriptor), *words[2:]],
        cwd=settings.app.directory or "/",
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        pass_fds=(descriptor,),
        start_new_session=True,
        **become,
    )


def _wait(ours: socket.socket, process: "subprocess.Popen[bytes]", seconds: float) -> tuple[bytes, bool]:
    """What it has said, and whether it has said nothing in time. Then its stacks are on stderr."""
    packet = b""
    late = not _readable(ours.fileno(), seconds)
    if late:
        process.send_signal(signal.SIGABRT)
    else:
        with contextlib.suppress(OSError):
            packet = ours.recv(_LARGEST)
    pidfd = os.pidfd_open(process.pid)
    try:
        _readable(pidfd, _LAST_WORDS)
    finally:
        os.close(pidfd)
    return packet, late


def _readable(descriptor: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _judge(
    settings: Settings,
    source: str,
    process: "subprocess.Popen[bytes]",
    packet: bytes,
    *,
    late: bool,
    took: float,
) -> Imported:
    said = decode(packet)
    if isinstance(said, Ready):
        key = "app.preload"
        warnings = [Problem(source, key, text, _REMEDIES[str(settings.app.preload)]) for text in said.hazards]
        count = len(said.hazards)
        verdict = f"{count} in the way of preload" if count else "nothing in the way of preload"
        return Imported((), tuple(warnings), f"took {format_time(round(took, 2))}, {verdict}")
    if isinstance(said, Unusable):
        return Imported((Problem(source, "app.run", said.text, "mend the app, or the path"),))
    if late:
        limit = format_time(settings.workers.start_timeout)
        text = (
            f"was not imported within start_timeout ({limit}); its stacks stand above, if it could write them"
        )
        return Imported((Problem(source, "app.run", text, "find out what it waits for"),))
    code = process.returncode
    how = f"was killed by signal {-code}" if code < 0 else f"ended the process with status {code}"
    return Imported((Problem(source, "app.run", f"its import {how}", "see what it has printed above"),))


def _environment(
    settings: Settings, source: str, account: Account | None
) -> tuple[dict[str, str], tuple[Problem, ...]]:
    """That of a worker, as far as it can be known from here, with the variables of the environment files."""
    home = account.home if account is not None else os.environ.get("HOME", "/")
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": home,
        "LANG": os.environ.get("LANG", "C.UTF-8"),
    }
    unread: list[Problem] = []
    patterns = [path.removeprefix("-") for path in settings.service.environment_files]
    more = [path for pattern in patterns for path in sorted(glob.glob(pattern))]  # noqa: PTH207  it is absolute
    for file in (str(Path(source).with_suffix(".env")), *more):
        try:
            environment |= _variables(file)
        except FileNotFoundError:
            continue
        except OSError as error:
            text = f"can't be read ({error.strerror}), so the app was imported without the variables in it"
            unread.append(Problem(file, "", text, "ask as root"))
    environment |= {"PYTHONUNBUFFERED": "1", **settings.app.environment, "PYTHONDONTWRITEBYTECODE": "1"}
    return environment, tuple(unread)


def _variables(file: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in Path(file).read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith(("#", ";")):
            with contextlib.suppress(ValueError):
                found[name.strip()] = " ".join(shlex_split(value))
    return found
