"""The sockets that memunit opens by itself: `memunit run` and the library, where nothing is inherited."""

import contextlib
import errno
import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterable
from typing import Any

from memunit.core.address import LOCALHOST, Address
from memunit.core.exitcodes import EX_NOPERM, EX_OSERR
from memunit.core.problems import Problem, SettingsError
from memunit.core.settings import Socket, label
from memunit.master.sockets import Access, Listener, NotGiven, bind

_NO_IPV6 = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def access_of(wanted: Socket, source: str) -> Access:
    """The mode and the owner of the files, with names looked up. Raises SettingsError for names that nobody has."""
    problems: list[Problem] = []
    uid = _number("user", wanted.user, lambda name: pwd.getpwnam(name).pw_uid, source, problems)
    gid = _number("group", wanted.group, lambda name: grp.getgrnam(name).gr_gid, source, problems)
    if problems:
        raise SettingsError(problems)
    return Access(wanted.mode, uid, gid)


def _number(
    what: str, name: str | None, look_up: Callable[[str], int], source: str, problems: list[Problem]
) -> int | None:
    if name is None:
        return None
    if name.isascii() and name.isdigit() and len(name) < 10:
        return int(name)
    try:
        return look_up(name)
    except (KeyError, ValueError):
        kind = "passwd" if what == "user" else "group"
        text = f'there is no {what} "{name}" on this machine'
        problems.append(
            Problem(source, label(source, f"socket.{what}"), text, f"getent {kind} lists the existing ones")
        )
        return None


def belongs(path: str, what: str, value: str) -> bool:
    """Whether the file of a socket has this mode, user or group; a socket without a file has none to be wrong."""
    try:
        if not path.startswith("/"):
            return True
        found = os.stat(path)  # noqa: PTH116  as the path is in the socket's name
        if what == "mode":
            return stat.S_IMODE(found.st_mode) == int(value, 8)
        wanted = access_of(Socket(user=value) if what == "user" else Socket(group=value), "")
    except (OSError, SettingsError):
        return False
    return found.st_uid == wanted.uid if what == "user" else found.st_gid == wanted.gid


def unused(said: Socket, source: str) -> list[str]:
    """The names of the keys that mean nothing where sockets are inherited."""
    keys = ("listen", "mode", "user", "group")
    return [label(source, f"socket.{key}") for key in keys if getattr(said, key) not in (None, ())]


def open_listeners(
    addresses: Iterable[Address], access: Access, opened: contextlib.ExitStack
) -> list[Listener]:
    """A listening socket for each place, closed with `opened`. Raises OSError as bind() does.

    localhost is both loopback addresses, with one port; on a machine without IPv6 it is 127.0.0.1 alone.
    """
    found: list[Listener] = []
    for address in addresses:
        port = address.port
        for place in address.places:
            try:
                made = opened.enter_context(bind(_plain(place, port), access))
            except OSError as error:
                if address.host == LOCALHOST and place.host == "::1" and error.errno in _NO_IPV6:
                    continue
                raise
            found.append(made)
            if address.kind == "tcp":
                name: Any = made.getsockname()
                port = name[1]
    return found


def _plain(address: Address, port: int) -> tuple[str, str, int] | tuple[str, str]:
    return ("unix", address.path) if address.kind == "unix" else (address.kind, address.host, port)


def refused(error: OSError, source: str, wanted: Socket) -> tuple[Problem, int]:
    """A socket that can't be bound, as a problem and its exit code: 77 if we may not, else 71."""
    where = str(error.filename or "the socket")
    said = (error.strerror or str(error)).lower()
    key = label(source, "socket.listen")
    denied = error.errno in (errno.EACCES, errno.EPERM)
    code = EX_NOPERM if denied else EX_OSERR
    if isinstance(error, NotGiven):
        owner = " and ".join(
            f'{what} "{name}"' for what, name in (("user", wanted.user), ("group", wanted.group)) if name
        )
        key = label(source, "socket.user" if wanted.user else "socket.group")
        text = f"uid {os.geteuid()} may not give {where} to {owner}: {said}"
        remedy = "only root may give a file to another user; a member of a group may give it to that group"
        return Problem(source, key, text, remedy), code
    if error.errno == errno.EADDRINUSE:
        remedy = "stop the other server, or listen elsewhere"
    elif denied and where.startswith("/"):
        folder = where.rpartition("/")[0] or "/"
        remedy = f"let uid {os.geteuid()} write into {folder}, or choose another folder"
    elif denied:
        remedy = "use a port over 1023, or let systemd open it in a .socket unit"
    elif error.errno in (errno.ENOENT, errno.ENOTDIR):
        remedy = "make the directory first"
    else:
        remedy = "listen elsewhere"
    return Problem(source, key, f"can't listen on {where}: {said}", remedy), code
