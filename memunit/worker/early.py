"""The first request of a connection, answered before the connection has a transport of the loop's.

Much of what a new connection costs is the transport: made, entered in epoll(7), taken out and closed again. Where the
first request has come by the time of accept(2), and the connection ends with its answer, nobody needs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any, Callable, Optional

from memunit.worker.answer import HIGH_WATER

if TYPE_CHECKING:
    from memunit.worker.connection import Connection

MOST = 4096
"""Bytes that are read at the accept. What else has come waits in the kernel, so that no bound is passed by it."""
_AT_ONCE = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


def read(sock: socket.socket) -> Optional[bytes]:
    """What has come on a connection, MOST bytes of it; b"" if its client has gone, None if nothing has come yet."""
    try:
        return sock.recv(MOST, socket.MSG_DONTWAIT)
    except (BlockingIOError, InterruptedError):
        return None
    except OSError:
        return b""


class Early:
    """Stands for the transport of `connection`, and reads nothing: to the connection it is one that is paused.

    If the connection wants to read on, or writes more than the kernel takes at once, it gets a transport of the loop:
    `open_transport(sock, early)` is called. From then on all data waits for that transport.
    """

    __slots__ = (
        "_aborted",
        "_again",
        "_closing",
        "_connection",
        "_eof",
        "_open_transport",
        "_opening",
        "_sock",
        "_unsent",
        "transport",
    )

    def __init__(
        self,
        sock: socket.socket,
        connection: Connection,
        open_transport: Callable[[socket.socket, Early], bool],
    ) -> None:
        self.transport: Any = None
        """The loop's, as soon as there is one."""
        self._sock = sock
        self._connection = connection
        self._open_transport = open_transport
        self._opening = False
        self._unsent = b""
        self._eof = False
        self._closing = False
        self._aborted = False
        self._again = b""

    # What a connection asks of its transport.

    def write(self, data: bytes) -> None:
        """Send, as asyncio.WriteTransport.write()."""
        if self._closing:
            return
        sent = 0
        if not self._opening:
            try:
                sent = self._sock.send(data, _AT_ONCE)
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as error:
                self._sock.close()
                self._lose(error)
                return
            if sent == len(data):
                return
        self._unsent += data[sent:]
        self._connection.pause_writing()
        self.resume_reading()

    def close(self) -> None:
        """Close the connection, when all has been sent."""
        if not self._closing:
            self._closing = True
            if not self._opening:
                self._sock.close()
                self._connection.connection_lost(None)

    def abort(self) -> None:
        """Close the connection, and drop what has not been sent."""
        self._aborted = True
        self.close()

    def is_closing(self) -> bool:
        """Whether it is closed, or will be."""
        return self._closing

    def can_write_eof(self) -> bool:
        """As a transport of a socket."""
        return True

    def write_eof(self) -> None:
        """Close the own half, when all has been sent."""
        self._eof = True
        self.resume_reading()

    def get_write_buffer_size(self) -> int:
        """Bytes that wait for the loop's transport."""
        return len(self._unsent)

    def get_extra_info(self, name: str) -> Any:
        """The socket, "peername" and "sockname"."""
        if name == "socket":
            return self._sock
        with contextlib.suppress(OSError):
            return self._sock.getpeername() if name == "peername" else self._sock.getsockname()
        return None

    def pause_reading(self) -> None:
        """Nothing is read here."""

    def resume_reading(self) -> None:
        """Have the loop's transport opened: it reads."""
        if not (self._opening or self._closing):
            self._opening = True
            opened = False
            try:
                opened = self._open_transport(self._sock, self)
            finally:
                if not opened:
                    self._lose(None)

    def read_again(self, data: bytes) -> None:
        """Give `data` to the connection anew, when there is the loop's transport."""
        self._again = data
        self.resume_reading()

    # What the loop's transport asks of its protocol.

    def connection_made(self, transport: Any) -> None:
        """From here on the connection has this transport."""
        self.transport = transport
        connection = self._connection
        connection.have(transport)
        transport.set_protocol(connection)
        if self._aborted:
            transport.abort()
            return
        if self._unsent:
            transport.write(self._unsent)
            if transport.get_write_buffer_size() <= HIGH_WATER:
                connection.resume_writing()
        if self._eof:
            transport.write_eof()
        if self._closing:
            transport.close()
        elif self._again:
            try:
                connection.data_received(self._again)
            except BaseException:
                transport.abort()  # as a loop does where data_received() raises; it does not where this method does
                raise

    def connection_lost(self, error: Optional[BaseException]) -> None:
        """There is to be no transport: the socket is closed."""
        self._lose(error)

    def _lose(self, error: Optional[BaseException]) -> None:
        # Not at once: the connection, or the app, is just about to use what it would lose.
        self._closing = True
        asyncio.get_running_loop().call_soon(self._connection.connection_lost, error)
