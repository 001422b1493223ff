"""The sockets that the master hands to a worker: sd_listen_fds(3) in the standard library."""

from __future__ import annotations

import os
import socket
import stat
from typing import List, MutableMapping, NamedTuple, Optional

from memunit.worker.problem import Unusable

_FIRST = 3
_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, getattr(socket, "AF_VSOCK", None))
_KINDS = {
    socket.SOCK_DGRAM: "a datagram socket (ListenDatagram=)",
    socket.SOCK_SEQPACKET: "a sequential-packet socket (ListenSequentialPacket=)",
    socket.SOCK_RAW: "a raw socket",
}


class Inherited(NamedTuple):
    """One descriptor of LISTEN_FDS, with its name of LISTEN_FDNAMES."""

    name: str
    fd: int

    def __str__(self) -> str:
        return f"descriptor {self.fd} ({self.name})"


def take(environment: Optional[MutableMapping[str, str]] = None) -> List[Inherited]:
    """The descriptors passed to this very process, in the given order, closed on exec from now on.

    Takes LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES out of `environment` (os.environ), so that children of the
    app never take them for theirs. An empty list when there are none or they were meant for another process.
    """
    env = os.environ if environment is None else environment
    meant_for, count, names = (env.pop(key, "") for key in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if meant_for != str(os.getpid()) or not (count.isascii() and count.isdigit()):
        return []
    labels = names.split(":") if names else []
    found = []
    for index in range(int(count)):
        fd = _FIRST + index
        try:
            os.set_inheritable(fd, False)
        except OSError as error:
            raise Unusable(f"descriptor {fd} of LISTEN_FDS={count} is not open: {error.strerror}") from None
        found.append(Inherited(labels[index] if index < len(labels) else "unknown", fd))
    return found


def check(entries: List[Inherited]) -> None:
    """Raise Unusable for one that somebody has closed since take(), or put something else in its place."""
    for entry in entries:
        try:
            os.fstat(entry.fd)
        except OSError:
            raise Unusable(
                f"the app's import has closed {entry}, on which the worker has to serve; the app may close only what "
                "it has opened"
            ) from None


def of_nobody() -> Inherited:
    """A listening socket that no client can find: a Unix socket without a name (unix(7), autobind). Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind("")
        sock.listen(1)
        return Inherited("rehearsal", sock.detach())


def open_socket(entry: Inherited) -> socket.socket:
    """`entry` as a socket whose family, type and protocol are read from the descriptor itself (not assumed).

    Raises Unusable for what is no socket.
    """
    try:
        return socket.socket(fileno=entry.fd)
    except OSError:
        kind = "a FIFO (ListenFIFO=)" if stat.S_ISFIFO(os.fstat(entry.fd).st_mode) else "no socket"
        raise Unusable(f"{entry} is {kind}; this server needs sockets") from None


def open_stream_listeners(entries: List[Inherited]) -> List[socket.socket]:
    """All `entries` as listening stream sockets. Raises Unusable, which names an entry that is none."""
    if not entries:
        raise Unusable("no listening socket was passed; start with --listen ADDRESS or from a .socket unit")
    listeners: List[socket.socket] = []
    try:
        for entry in entries:
            listeners.append(_open_stream_listener(entry))
    except Unusable:
        for sock in listeners:
            sock.detach()
        raise
    return listeners


def _open_stream_listener(entry: Inherited) -> socket.socket:
    sock = open_socket(entry)
    try:
        if sock.type != socket.SOCK_STREAM:
            kind = _KINDS.get(sock.type, "no stream socket")
            raise Unusable(f"{entry} is {kind}; an HTTP app needs a stream socket (ListenStream=)")
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise Unusable(f"{entry} does not listen; an HTTP app needs a listening socket (Accept=no)")
        if sock.family not in _FAMILIES:
            raise Unusable(
                f"{entry} is of family {sock.family}; an HTTP app needs TCP, a Unix socket or vsock"
            )
    except Unusable:
        sock.detach()
        raise
    return sock
