"""The few system calls that Python has no name for, and what is asked of a path."""

import ctypes
import errno
import os
import socket

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_UNIX_PATH_MAX = 107
_STANDARD_ERROR = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def fill_standard_descriptors() -> None:
    """Open /dev/null in the place of descriptors 0 to 2 that are closed.

    What is opened next would get those numbers, and then the text of whoever writes to standard error.
    """
    while True:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        if null > _STANDARD_ERROR:
            os.close(null)
            return
        os.set_inheritable(null, True)


def set_child_subreaper() -> None:
    """Make orphaned descendants children of this process (prctl(2), PR_SET_CHILD_SUBREAPER).

    Raises OSError where the kernel refuses.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_parent_death_signal(signum: int) -> None:
    """Have the kernel send `signum` to this process when its parent ends; 0 takes that back.

    PR_SET_PDEATHSIG of prctl(2): cleared in a fork, kept over an exec. The caller compares getppid(2)
    afterwards, because the parent may be gone already. Raises OSError for a number that is no signal.
    """
    _prctl(_PR_SET_PDEATHSIG, signum)


def identity(path: str) -> tuple[int, int] | None:
    """Which file it is, by device and inode; None if it is not there, or can't be reached."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def prepare_socket_path(path: str, *, taken: int = 0) -> None:
    """Make the directory of a private Unix socket (mode 0700 if it is new) and take away what a dead process
    left there.

    Raises OSError: ENAMETOOLONG beyond the 107 bytes of unix(7), EADDRINUSE if a socket of the type `taken` is bound
    there by a living process, else what mkdir(2) or unlink(2) say.
    """
    if len(os.fsencode(path)) > _UNIX_PATH_MAX:
        raise OSError(errno.ENAMETOOLONG, f"a socket's path may be {_UNIX_PATH_MAX} bytes long at most", path)
    os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
    if taken and _answers(path, taken):
        raise OSError(errno.EADDRINUSE, "another process has made its own there", path)
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _answers(path: str, kind: int) -> bool:
    with socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as probe:
        return probe.connect_ex(path) in (0, errno.EAGAIN)


def boot_id() -> str:
    """Which boot of the machine this is: a monotonic clock and a pid mean nothing after the next."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
