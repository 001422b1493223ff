"""One connection that speaks HTTP/1.1 and 1.0: from its accept, before the first byte, to its close.

End of input is not end of interest: a client that has closed its own half is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import struct
from typing import Any, Optional, Union

from memunit.worker import httpanswer
from memunit.worker.answer import HIGH_WATER
from memunit.worker.early import Early
from memunit.worker.httphead import Refused
from memunit.worker.kernel import unread, unsent
from memunit.worker.reading import BODY, HEAD, IDLE, LINGER, OVER, WORK, Reading

_RESET = struct.pack("ii", 1, 0)
"""socket(7), SO_LINGER: with no time to linger, close(2) of a TCP socket sends a reset in place of the end of data."""


class Connection(Reading):
    """Hands each request to the app of its server."""

    __slots__ = ()

    @property
    def progressed(self) -> int:
        """A number that changes when bytes have come or gone."""
        return self.moved - int(self.transport.get_write_buffer_size())

    def drain(self) -> None:
        """Let the next answer say `Connection: close`, if nothing more has come by then; end when idle for long."""
        self.draining = True
        self.since = self.server.clock

    def disconnect(self) -> None:
        """Tell the app that its client has gone, and drop what it sends: the connection ends."""
        if self.cycle is not None and not self.cycle.complete:
            self.cut()

    def close_unless_at_work(self) -> None:
        """Close, if no request is in work, and none has arrived."""
        if self.cycle is None and self.transport is not None and not unread(self.sock):
            self.transport.close()

    def begin(self, early: Early, data: bytes) -> None:
        """Be a connection on which `data` has come by the time of its accept. No more is read before the answer."""
        self._paused = True
        self.connection_made(early)
        self.data_received(data)
        if self.state != WORK:
            self._resume_for_more()

    def have(self, transport: Any) -> None:
        """From now on this is the transport, and it reads."""
        self.transport = transport
        self._paused = False

    # Of asyncio.

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if self.sock is None:
            self.sock = transport.get_extra_info("socket")
        server = self.server
        server.made += 1
        server.connections.add(self)
        if not server.ticking:
            server.begin_ticking()
        self.since = server.clock
        self.draining = server.draining  # a stop may have come since its accept

    def connection_lost(self, exc: Optional[BaseException]) -> None:
        self.state = OVER
        cycle, self.cycle = self.cycle, None
        if cycle is not None:
            cycle.lose()
        if self.unwritable is not None:
            self.unwritable.set()
            self.unwritable = None
        self._buffer = b""
        self.server.connections.discard(self)

    def pause_writing(self) -> None:
        if self.unwritable is None:
            self.unwritable = asyncio.Event()

    def resume_writing(self) -> None:
        if self.unwritable is not None:
            self.unwritable.set()
            self.unwritable = None
        if self.cycle is not None:
            self.cycle.writable()

    def eof_received(self) -> bool:
        self._eof = True
        if self.state == WORK and not self._hung_up():
            self.since = self.server.clock
            return True
        if self.cycle is not None:
            self.cycle.lose()
        return False

    def answered(self) -> None:
        """The answer of the request in work is complete."""
        cycle, self.cycle = self.cycle, None
        if cycle is None:
            return
        if cycle.closes:
            self._end()
            return
        if self.state == BODY:
            self.resume()
            self.since = self.server.clock  # what is left of it is read and dropped
            return
        self._next(self._buffer)
        self._resume_for_more()

    def _resume_for_more(self) -> None:
        """Read on, unless there is enough already: what has come behind the last request can be many more.

        If the client goes on sending, each answer would read more than it has used up.
        """
        waiting = self.state == WORK and len(self._buffer) > HIGH_WATER
        if not waiting and (self.cycle is None or not self.cycle.full):
            self.resume()

    def _next(self, rest: Union[bytes, bytearray]) -> None:
        """The connection is free for the next request, of which `rest` has come."""
        self.state = IDLE
        self.since = self.server.clock
        self._buffer = b""
        if rest:
            self._head(bytes(rest))
        if self.state != WORK:
            if self._eof:
                self.transport.close()
            elif self.server.keep_alive == 0 and self.state == IDLE:
                asyncio.get_running_loop().call_soon(self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self.state == IDLE and not unread(self.sock):
            self.transport.close()

    def may_close(self) -> bool:
        """Whether nothing more has come by now than the request in work.

        To close over unread bytes is to reset the connection, which can cost the client the answer too.
        """
        return self.state == WORK and not self._buffer and not unread(self.sock)

    def refuse(self, refused: Refused) -> None:
        """Answer for the app, if it has not begun to, and end the connection."""
        cycle, self.cycle = self.cycle, None
        method = "GET"
        if cycle is not None:
            cycle.lose()
            method = cycle.scope["method"]
        if self.state == BODY and (cycle is None or cycle.begun):
            # There is an answer already, whole or in part.
            if cycle is not None and cycle.ends_with_the_connection:
                self.cut(abruptly=True)
            else:
                self._linger()
            return
        self.server.log_refusal(self.transport, refused)
        self.write_last(refused.status, str(refused), method)
        self._linger()

    def write_last(self, status: int, text: str, method: str) -> None:
        """Write an answer of the server's own, with which the connection ends."""
        self.transport.write(httpanswer.whole(status, text, self.server.fields[0], method))

    def cut(self, *, abruptly: bool = False) -> None:
        """End the connection in the middle of an answer. Never so that the answer looks complete.

        `abruptly`: where the end of data would be the end of the answer.
        """
        cycle, self.cycle = self.cycle, None
        if cycle is not None:
            cycle.lose()
        if abruptly:
            self.state = OVER
            _reset_at_close(self.sock)
            self.transport.abort()
        else:
            self._end()

    def _end(self) -> None:
        if self._eof:
            self.state = OVER
            self.transport.close()
        elif self.state != WORK or self._buffer or unread(self.sock):
            self._linger()
        else:
            self.state = OVER
            self.transport.close()

    def _linger(self) -> None:
        """Close the own half, and read what still comes: a close over it would reset what has been written."""
        self.state = LINGER
        self.since = self.server.clock
        self._buffer = b""
        self._body = None
        if self._eof or self.transport.is_closing():
            self.transport.close()
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.resume()

    def sweep(self) -> None:
        """Look whether a bound has been passed; called twice a second."""
        server, state = self.server, self.state
        now = server.clock
        age = now - self.since
        before, self._seen = self._seen, self.progressed
        waiting = self.transport.get_write_buffer_size()
        if waiting:
            self._seen -= unsent(self.sock)
        if not waiting or self._seen != before:
            self._stood = now
        elif now - self._stood > server.answer_time:
            self.cut(abruptly=True)
            return
        if state == IDLE:
            if age > (server.silent_time if self.silent else server.idle_time) and not unread(self.sock):
                self.transport.close()
        elif state == HEAD:
            if age > server.head_time:
                self.refuse(Refused(408, "the request's head has not come in time"))
        elif state == BODY:
            waiting = self._paused or (self.cycle is not None and self.cycle.waits)
            if age > server.body_time and not waiting:
                self.refuse(Refused(408, "the request's body has not come in time"))
        elif state == LINGER:
            if age > server.linger_time and not self.transport.get_write_buffer_size():
                self.transport.abort()
        elif state == WORK and self._eof and self.cycle is not None:
            # To a client that has gone altogether nothing can be sent twice: who is sent something needs no doubt.
            if self._seen != before:
                self.since = now
            elif age > server.doubt_time:
                self.cycle.doubt()

    def _hung_up(self) -> bool:
        """Whether the client has closed both halves, which a Unix socket tells and TCP does not."""
        sock = self.sock
        if sock is None or sock.family != socket.AF_UNIX:
            return False
        poll = select.poll()
        poll.register(sock.fileno(), 0)
        return any(events & select.POLLHUP for _, events in poll.poll(0))


def _reset_at_close(sock: Any) -> None:
    if sock is not None and sock.fileno() >= 0:
        # uvloop's own kind of socket sets no options.
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(sock.fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
