"""Accepting connections, so that at any moment each one is known by how far it has come.

A server library's own accept loop hides connections that it has accepted and not yet given a protocol, and
those on which nothing has been read; on shutdown they are reset. Here they are counted: `adopting`, then
`silent`, then they are the server's.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import socket
import struct
import sys
import termios
from typing import Any, Callable, Dict, List, Optional, Set

# Not all at once: siblings wait at the same socket, and what this process takes it must also answer. One by one
# would cost a pass of the loop each, and 40 % more CPU a connection (docs/fairness.md).
_BATCH = 4
_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_RETRY = 1.0  # seconds without accepting when descriptors or memory have run out
_LEAST_PATIENCE = 1.0  # seconds that a silent connection has at a stop, however short the keep-alive time


def unread(transport: Any) -> bool:
    """Whether the kernel holds bytes of `transport` that the process has not read yet."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return False
    try:
        return bool(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.FIONREAD, b"\0\0\0\0"))[0])
    except OSError:
        return False


class Acceptor:
    """Takes connections from `listeners` and hands each to `make_protocol()` at its first byte.

    `changed()` is called whenever a connection has left this object's care. Owns the sockets in `listeners`.
    """

    def __init__(
        self,
        listeners: List[socket.socket],
        make_protocol: Callable[[], Any],
        *,
        keep_alive: float,
        changed: Callable[[], None],
    ) -> None:
        self.adopting: Dict["asyncio.Task[Any]", socket.socket] = {}
        self.silent: Set["_Silent"] = set()
        self.make_protocol = make_protocol
        self.changed = changed
        self._listeners = listeners
        self._patience = max(keep_alive, _LEAST_PATIENCE)
        self._loop = asyncio.get_running_loop()
        self._pauses: Dict[socket.socket, asyncio.TimerHandle] = {}
        self._accepting = False
        self._held = False

    def start(self) -> None:
        """Begin to accept."""
        self._accepting = True
        for listener in self._listeners:
            listener.setblocking(False)
            if listener.family != socket.AF_UNIX:
                # Accepted sockets inherit it. Without it, a keep-alive client waits 40 ms for each answer.
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    def stop(self) -> None:
        """Accept no more, and let go of the listeners (they stay open in other processes).

        Connections that have sent nothing so far get the keep-alive time from now to do so.
        """
        if not self._accepting:
            return
        self._accepting = False
        for pause in self._pauses.values():
            pause.cancel()
        for listener in self._listeners:
            self._loop.remove_reader(listener.fileno())
            listener.close()
        self._loop.call_later(self._patience, self._close_silent)

    def hold(self, held: bool) -> None:
        """Leave connections to the siblings while `held`: what is taken now would have to wait."""
        if held == self._held:
            return
        self._held = held
        if not self._accepting:
            return
        for listener in self._listeners:
            if listener in self._pauses:
                continue
            if held:
                self._loop.remove_reader(listener.fileno())
            else:
                self._loop.add_reader(listener.fileno(), self._accept, listener)

    @property
    def busy(self) -> bool:
        """Whether there are connections that have not reached the server yet."""
        return bool(self.adopting or self.silent)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_BATCH):
            if not self._accepting or self._held:
                return
            try:
                connection, _address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _OUT_OF_RESOURCES:
                    raise
                self._pause(listener, error)
                return
            task = self._loop.create_task(self._loop.connect_accepted_socket(self._silent, connection))
            self.adopting[task] = connection
            task.add_done_callback(self._adopted)

    def _silent(self) -> _Silent:
        return _Silent(self)

    def _adopted(self, task: "asyncio.Task[Any]") -> None:
        connection = self.adopting.pop(task)
        if task.cancelled() or task.exception() is not None:
            connection.close()  # the client has gone already
        self.changed()

    def _pause(self, listener: socket.socket, error: OSError) -> None:
        print(f"memunit worker: cannot accept: {error.strerror}; trying again in 1 s", file=sys.stderr)
        self._loop.remove_reader(listener.fileno())

        def resume() -> None:
            del self._pauses[listener]
            if not self._held:
                self._loop.add_reader(listener.fileno(), self._accept, listener)

        self._pauses[listener] = self._loop.call_later(_RETRY, resume)

    def _close_silent(self) -> None:
        for connection in list(self.silent):
            connection.close_unless_spoken()


class _Silent(asyncio.Protocol):
    """A connection before its first byte."""

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._acceptor.silent.add(self)

    def data_received(self, data: bytes) -> None:
        protocol = self._acceptor.make_protocol()
        protocol.connection_made(self._transport)
        self._transport.set_protocol(protocol)
        self._acceptor.silent.discard(self)
        protocol.data_received(data)

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._acceptor.silent.discard(self)
        self._acceptor.changed()

    def close_unless_spoken(self) -> None:
        """Close, but never over bytes that have arrived: the loop is about to read those."""
        if not unread(self._transport):
            self._transport.close()
