"""Execute this very process anew: execve(2) keeps its pid, its children, and the descriptors that are named."""

import contextlib
import os
import socket
import sys
from collections.abc import Iterable, Mapping
from typing import NoReturn

from memunit.records import dataclass

_VARIABLE = "MEMUNIT_HANDOVER"
# Beside the text: a version that can't read the text still has to answer who has asked for it.
_ASKERS = "MEMUNIT_ASKERS"
_LARGEST = 64 << 20


@dataclass(frozen=True, slots=True)
class Received:
    """What a process has passed on to itself: a text, and the connections of those who have asked it to."""

    text: bytes
    askers: tuple[int, ...] = ()


def execute(
    text: bytes, descriptors: Iterable[int], variables: Mapping[str, str], askers: Iterable[int] = ()
) -> NoReturn:
    """Become the program that this process was started as, with all this for `received`, and these open descriptors.

    `variables` come on top of the environment. What is at the program's path now is executed: after an upgrade, the
    new version. Raises OSError where that can't be, with all as it was before.
    """
    kept = []
    passed = os.memfd_create("memunit-handover", 0)
    try:
        with open(passed, "wb", closefd=False) as file:
            file.write(text)
        os.lseek(passed, 0, os.SEEK_SET)
        for descriptor in descriptors:
            if not os.get_inheritable(descriptor):
                os.set_inheritable(descriptor, True)
                kept.append(descriptor)
        environment = {
            **os.environ,
            **variables,
            _VARIABLE: f"{os.getpid()}:{passed}",
            _ASKERS: f"{os.fstat(passed).st_ino}:{' '.join(map(str, askers))}",
        }
        sys.stdout.flush()
        sys.stderr.flush()
        program = sys.executable or "/proc/self/exe"
        os.execve(program, [program, *sys.orig_argv[1:]], environment)  # noqa: S606  no shell is the point
    finally:
        # Only where there is no other program now.
        os.close(passed)
        for descriptor in kept:
            with contextlib.suppress(OSError):
                os.set_inheritable(descriptor, False)


def received() -> Received | None:
    """What `execute` has passed to this process, once; None if it was started by somebody else."""
    said, asked = os.environ.pop(_VARIABLE, ""), os.environ.pop(_ASKERS, "")
    pid, _, number = said.partition(":")
    # A child of such a process may have the variable too.
    if pid != str(os.getpid()) or not (number.isascii() and number.isdigit()):
        return None
    try:
        with open(int(number), "rb") as file:
            inode, _, askers = asked.partition(":")
            # A version in between that did not know this variable has passed it on, and another text.
            known = inode == str(os.fstat(file.fileno()).st_ino)
            return Received(file.read(_LARGEST), tuple(map(int, askers.split())) if known else ())
    except (OSError, OverflowError, ValueError):
        return None


def kept_sockets() -> list[int]:
    """Each Unix socket that execve(2) has kept, for when what was passed on does not say what the sockets are.

    The sockets of LISTEN_FDS, on which workers serve, are not among them.
    """
    ours = os.environ.get("LISTEN_PID") == str(os.getpid())
    count = os.environ.get("LISTEN_FDS", "") if ours else ""
    first = 3 + (int(count) if count.isascii() and count.isdigit() else 0)
    found = []
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        # Only what was kept is inheritable; that of the listing is gone by now.
        with contextlib.suppress(OSError):
            if descriptor >= first and os.get_inheritable(descriptor) and _is_unix(descriptor):
                found.append(descriptor)
    return found


def _is_unix(descriptor: int) -> bool:
    """Raises OSError for what is no socket."""
    found = socket.socket(fileno=descriptor)
    try:
        return found.family == socket.AF_UNIX
    finally:
        found.detach()
