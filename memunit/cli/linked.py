"""What the commands that ask a master have in common: an instance by its name, and each way in which that can fail."""

from __future__ import annotations

import errno
import select
import time

from memunit.cli.failing import Failed
from memunit.cli.link import Link, path_of
from memunit.core.exitcodes import EX_NOPERM, EX_UNAVAILABLE, EX_USAGE, INTERRUPTED
from memunit.core.varlink import DENIED, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from memunit.cli.usage import Parser

# Seconds within which a master answers: within one pass of its loop, or it hangs.
PATIENCE = 5.0
# Between two tries to reach a master that is just being started, in seconds.
_PAUSE = 0.05
EXIT_CODES = """\
exit codes: 0 done, 64 wrong command line or refused by the master, 69 not running or the master does not answer,
77 only root and the user of the service may call"""
_SERVICE = "org.varlink.service."


def asker(name: str, description: str, epilog: str) -> Parser:
    """A parser with INSTANCE first, and --json."""
    from memunit.cli.usage import Parser  # noqa: PLC0415  `memunit status` needs none to ask a master

    parser = Parser(f"memunit {name}", description, epilog=f"{epilog}\n\n{EXIT_CODES}")
    parser.add_argument("--json", action="store_true", help="print JSON, for a program")
    parser.add_argument("instance", metavar="INSTANCE", help="the instance")
    return parser


def connected(instance: str, timeout: float = PATIENCE) -> Link:
    """A connection to the master of this instance. Raises Failed."""
    try:
        return Link(path_of(instance), timeout)
    except OSError as error:
        raise failure(instance, error) from None


def failure(instance: str, error: OSError) -> Failed:
    """What is wrong with a connection, and what to do."""
    if isinstance(error, PermissionError):
        who = f"only root and the service's own user may ask the master of {instance}"
        return Failed(f"{who}; put sudo before the command", EX_NOPERM)
    if isinstance(error, FileNotFoundError | ConnectionRefusedError | NotADirectoryError):
        text = f"{instance} is not running, or its master is of a version without an interface"
        return Failed(f"{text}; memunit why {instance} says more", EX_UNAVAILABLE)
    if isinstance(error, TimeoutError):
        text = f"the master of {instance} does not answer: {error.strerror}"
        return Failed(f"{text}; systemctl restart memunit@{instance} ends it", EX_UNAVAILABLE)
    if error.errno in (errno.ECONNRESET, errno.EPIPE):
        return Failed(
            f"the master of {instance} closed the connection before it answered; try again",
            EX_UNAVAILABLE,
        )
    why = error.strerror or str(error)
    return Failed(f"the master of {instance} can't be asked: {error.filename or ''}: {why}", EX_UNAVAILABLE)


def told(instance: str, refused: Refused) -> Failed:
    """What a master has refused, in words."""
    if refused.error == DENIED:
        text = f"only root and the service's own user may do this with {instance}"
        return Failed(f"{text} (interface.read_group may read); put sudo before the command", EX_NOPERM)
    reason = refused.parameters.get("reason")
    if isinstance(reason, str):
        setting = refused.parameters.get("setting")
        text = (
            f"{setting}: {reason}" if isinstance(setting, str) and not reason.startswith(setting) else reason
        )
        return Failed(f"{instance}: {text}", EX_USAGE)
    if refused.error.startswith(_SERVICE) and refused.error.endswith(("MethodNotFound", "InterfaceNotFound")):
        text = f"the master of {instance} is of another version of memunit and does not know this"
        return Failed(f"{text}; memunit reexec {instance} brings it up to date", EX_UNAVAILABLE)
    return Failed(
        f"{instance}: the master refuses: {refused.error} {refused.parameters or ''}".rstrip(), EX_USAGE
    )


def run(instance: str, work: Callable[[Link], int], timeout: float = PATIENCE) -> int:
    """Do `work` with a connection; returns its exit code, or prints the one line of what has failed."""
    try:
        with connected(instance, timeout) as link:
            try:
                return work(link)
            except Refused as refused:
                raise told(instance, refused) from None
            except OSError as error:
                raise failure(instance, error) from None
    except Failed as failed:
        return failed.tell()
    except KeyboardInterrupt:
        return INTERRUPTED


def followed(instance: str, link: Link, timeout: float) -> Iterator[tuple[dict[str, Any], bool]]:
    """The replies to link.follow("Follow"), each within `timeout` seconds; and whether a master began anew before it.

    A master that executes itself anew hangs up, and whoever comes after it knows the same workers. Raises OSError.
    """
    anew = False
    while True:
        try:
            for told in link.replies(timeout):
                yield told, anew
                anew = False
            return
        except ConnectionResetError:
            link.close()
            link, anew = _successor(instance), True
            link.follow("Follow")


def _successor(instance: str) -> Link:
    """A connection to whoever listens next, within PATIENCE. Raises OSError."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return Link(path_of(instance), PATIENCE)
        except (ConnectionRefusedError, FileNotFoundError):
            if time.monotonic() > until:
                raise
        select.select([], [], [], _PAUSE)


def name_of(worker: dict[str, Any]) -> str:
    """ "0.6"."""
    return f"{worker.get('slot')}.{worker.get('generation')}"
