"""Execute this very process anew: execve(2) keeps its pid, its children, and the descriptors that are named."""

import contextlib
import os
import socket
import sys
from collections.abc import Iterable, Mapping
from typing import NoReturn

_VARIABLE = "MEMUNIT_HANDOVER"
_LARGEST = 64 << 20


def execute(text: bytes, descriptors: Iterable[int], variables: Mapping[str, str]) -> NoReturn:
    """Become the program that this process was started as, with `text` for `received` and these open descriptors.

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
        environment = {**os.environ, **variables, _VARIABLE: f"{os.getpid()}:{passed}"}
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


def received() -> bytes | None:
    """What `execute` has passed to this process, once; None if it was started by somebody else."""
    said = os.environ.pop(_VARIABLE, "")
    pid, _, number = said.partition(":")
    # A child of such a process may have the variable too.
    if pid != str(os.getpid()) or not (number.isascii() and number.isdigit()):
        return None
    try:
        with open(int(number), "rb") as file:
            return file.read(_LARGEST)
    except (OSError, OverflowError):
        return None


def close_rest() -> None:
    """Close each Unix socket that execve(2) has kept, if what was passed on does not say what the sockets are.

    A client that asks at such a socket would wait for ever. The sockets of LISTEN_FDS, on which workers serve, stay.
    """
    ours = os.environ.get("LISTEN_PID") == str(os.getpid())
    count = os.environ.get("LISTEN_FDS", "") if ours else ""
    first = 3 + (int(count) if count.isascii() and count.isdigit() else 0)
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        # Only what was kept is inheritable; that of the listing is gone by now.
        with contextlib.suppress(OSError):
            if descriptor >= first and os.get_inheritable(descriptor) and _is_unix(descriptor):
                os.close(descriptor)


def _is_unix(descriptor: int) -> bool:
    """Raises OSError for what is no socket."""
    found = socket.socket(fileno=descriptor)
    try:
        return found.family == socket.AF_UNIX
    finally:
        found.detach()
