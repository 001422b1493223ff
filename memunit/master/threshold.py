"""A Unix socket at which clients connect, and the one descriptor by which the master waits for it and for them."""

import contextlib
import errno
import os
import select
import socket
import struct
from collections.abc import Iterator

from memunit.master.system import identity, prepare_socket_path
from memunit.records import dataclass

# The numbers may be those of an overflow, up to 2**32 - 2.
_PEERCRED = struct.Struct("iII")
# asm-generic/socket.h, from Linux 4.13 on; Python has no name for it.
_SO_PEERGROUPS = 59
# Bytes of the answer: the most that Python asks for. A group has four.
_MOST_GROUPS = 1024


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end (SO_PEERCRED, unix(7)), as it was when it connected."""

    pid: int
    uid: int
    gid: int = -1


def peer_of(connection: socket.socket) -> Peer:
    """Who has connected."""
    pid, uid, gid = _PEERCRED.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    )
    return Peer(pid, uid, gid)


def groups_of(connection: socket.socket) -> frozenset[int]:
    """The groups of who has connected, from the same moment as Peer; none where the kernel does not tell them.

    They are not read from /proc, because another process may have the pid by now. More than 256 groups: none.
    """
    try:
        told = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_GROUPS)
    except OSError:
        return frozenset()
    return frozenset(struct.unpack(f"{len(told) // 4}I", told))


class Threshold:
    """Listens at a path. Its clients are to be registered in `epoll` as they come and go."""

    def __init__(self, path: str, backlog: int, kept: int | None = None, *, mode: int = 0o600) -> None:
        """Listen at `path`, whose directory is made with mode 0700 if it is missing. Raises OSError.

        Or go on with the listening descriptor that is `kept` of a predecessor in this process.
        """
        self.path = path
        self._backlog, self._mode = backlog, mode
        self._listener = self._listening() if kept is None else socket.socket(fileno=kept)
        self._identity = identity(path)
        try:
            self.epoll = select.epoll()
        except BaseException:
            self._listener.close()
            raise
        self.epoll.register(self._listener.fileno(), select.EPOLLIN)
        self._spare = _spare()

    def fileno(self) -> int:
        """One descriptor for all: readable whenever a client has come, or one that is registered has something."""
        return self.epoll.fileno()

    def kept(self) -> int:
        """The descriptor that a successor in this process goes on with."""
        return self._listener.fileno()

    def set_mode(self, mode: int) -> None:
        """The mode of the file from now on."""
        self._mode = mode
        if self.reachable():
            with contextlib.suppress(OSError):
                os.chmod(self.path, mode)

    def reachable(self) -> bool:
        """Whether the path still leads here."""
        return self._identity is not None and identity(self.path) == self._identity

    def renew(self) -> None:
        """Listen anew at the path, whose directory is made too. Raises OSError, also if another listens there."""
        made = self._listening(socket.SOCK_STREAM)
        self.epoll.unregister(self._listener.fileno())
        self._listener.close()
        self._listener, self._identity = made, identity(self.path)
        self.epoll.register(made.fileno(), select.EPOLLIN)

    def poll(self, most: int = -1) -> tuple[list[tuple[int, int]], bool]:
        """What there is now, of so many at most: (descriptor, events) of clients, and whether new ones wait.

        The new ones are to be accepted last: room may be made for them, and the numbers of descriptors that are closed
        are given out again.
        """
        found = self.epoll.poll(0, most)
        ours = self._listener.fileno()
        events = [each for each in found if each[0] != ours]
        return events, len(events) < len(found)

    def accepted(self, most: int) -> Iterator[socket.socket]:
        """The connections of those that wait, so many at most."""
        for _ in range(most):
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._turn_away()
                return
            connection.setblocking(False)
            yield connection

    def close(self) -> None:
        """Take the path away, if it still leads here."""
        if self._listener.fileno() >= 0:
            self.epoll.close()
            self._listener.close()
            with contextlib.suppress(OSError):
                os.close(self._spare)
            if self.reachable():
                with contextlib.suppress(OSError):
                    os.unlink(self.path)

    def _listening(self, taken: int = 0) -> socket.socket:
        prepare_socket_path(self.path, taken=taken)
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            made.bind(self.path)
            os.chmod(self.path, self._mode)
            made.listen(self._backlog)
        except BaseException:
            made.close()
            raise
        return made

    def _turn_away(self) -> None:
        """Out of descriptors: hang up on the next one, or the listener would stay readable and the loop spin."""
        with contextlib.suppress(OSError):
            os.close(self._spare)
            self._listener.accept()[0].close()
        self._spare = -1
        # Where the whole machine is out of files, somebody else may have taken the one that was given back.
        with contextlib.suppress(OSError):
            self._spare = _spare()


def _spare() -> int:
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
