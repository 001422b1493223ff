"""What comes in on a connection: heads and bodies, one request after the other.

What comes behind the request in work waits unread, and in the end in the kernel.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Optional, Union, cast

from memunit.worker import addresses
from memunit.worker.answer import HIGH_WATER, Answer
from memunit.worker.early import Early
from memunit.worker.httpbody import Chunks, Counted
from memunit.worker.httphead import CHUNKED, Line, Meaning, Refused, judge, judge_fields, judge_part

if TYPE_CHECKING:
    from memunit.worker.connection import Connection
    from memunit.worker.httpserver import HttpServer

# How far the connection has come.
IDLE = 0  # nothing of a request has come
HEAD = 1  # a part of a head has
BODY = 2  # a head has, and its body not to its end
WORK = 3  # a request has come whole, its answer is not complete
LINGER = 4  # all has been said, and the client's last bytes are waited for
OVER = 5  # closed, or another protocol's


class Reading(asyncio.Protocol):
    """The half of a connection that reads. The other half is connection.Connection."""

    __slots__ = (
        "_body",
        "_buffer",
        "_eof",
        "_looked_at",
        "_paused",
        "_seen",
        "_stood",
        "_taken",
        "client",
        "cycle",
        "draining",
        "local",
        "moved",
        "server",
        "silent",
        "since",
        "sock",
        "state",
        "transport",
        "unwritable",
    )

    def __init__(
        self,
        server: HttpServer,
        sock: Any = None,
        client: Optional[addresses.Address] = None,
        local: Optional[addresses.Local] = None,
    ) -> None:
        self.server = server
        self.sock = sock
        """The socket, to ask the kernel about; its fileno() is -1 from the close on."""
        self.transport: Any = None
        self.silent = True
        """Whether nothing has come from the client so far."""
        self.state = IDLE
        self.since = server.clock
        """The time of the last progress, by the server's clock, from which the bounds count."""
        self.cycle: Optional[Answer] = None
        """The request in work."""
        self.draining = server.draining
        """Whether the next answer that can be the last is."""
        self.unwritable: Optional[asyncio.Event] = None
        """Set when the client has taken enough of what was sent; None if it has."""
        self.moved = 0
        self.client = client
        self.local = local
        """This end's address; None if that is not looked up yet, and then the client's is not either."""
        self._buffer = b""  # type: Union[bytes, bytearray]
        self._looked_at = 0  # bytes of a part of a head that judge_part() has seen
        self._body: Any = None
        self._taken = 0  # bytes of the request's body so far
        self._paused = False
        self._eof = False
        self._seen = 0  # progressed, when that was last looked at
        self._stood = server.clock  # since when the client has taken nothing of what is to be sent

    def data_received(self, data: bytes) -> None:
        self.silent = False
        if self.state == IDLE:
            self._head(data)
        elif self.state == BODY:
            self._more_body(data)
        elif self.state == HEAD:
            self._buffer += data
            self._more_head()
        elif self.state == WORK:
            self._buffer = self._buffer + data if self._buffer else data
            if len(self._buffer) > HIGH_WATER:
                self._pause()

    def _head(self, data: bytes) -> None:
        """Read the head with which `data` begins."""
        if data[0] == 13:
            data = self._without_empty_lines(data)
            if not data:
                return
        end = data.find(b"\r\n\r\n") + 4
        if end < 4 or end > self.server.head_size:
            self.state = HEAD
            if data != b"\r":
                self.since = self.server.clock
            self._buffer = bytearray(data)
            self._looked_at = 0
            self._more_head()
        elif end == len(data):
            self._request(data, b"")
        else:
            self._request(data[:end], data[end:])

    def _without_empty_lines(self, data: bytes) -> bytes:
        """RFC 9112, 2.2: some clients send one behind a body. They are no progress: `since` stays."""
        place = 0
        while data.startswith(b"\r\n", place):
            place += 2
        return data[place:]

    def _more_head(self) -> None:
        buffer, most = self._buffer, self.server.head_size
        assert isinstance(buffer, bytearray)
        if buffer[:2] == b"\r\n":
            self.state, self._buffer = IDLE, b""
            self._head(bytes(buffer))
            return
        end = buffer.find(b"\r\n\r\n", max(0, self._looked_at - 3)) + 4
        try:
            if end < 4 or end > most:
                judge_part(buffer, self._looked_at, most)
                if len(buffer) > most:
                    raise Refused(431, f"the request's head is larger than {most} bytes")
                self._looked_at = len(buffer)
                return
        except Refused as refused:
            self.refuse(refused)
            return
        self._buffer = b""
        self._request(bytes(buffer[:end]), bytes(buffer[end:]))

    def _request(self, head: bytes, rest: bytes) -> None:
        """A head is complete; `rest` has come with it."""
        server = self.server
        try:
            line = judge(head)
            headers = server.reader.read(head, line)
            meaning = judge_fields(line, headers)
            server.reader.next(meaning)
            length = meaning.length
            if length > server.body_size:
                raise Refused(413, f"the request's body is larger than {server.body_size} bytes")
            if meaning.upgrade is not None and self._upgrade(meaning, line, head, rest):
                return
        except Refused as refused:
            server.reader.reset()
            self.refuse(refused)
            return
        if self.local is None:
            self.client, self.local = addresses.remote(self.transport), addresses.local(self.transport)
        cycle = self.cycle = server.make(cast("Connection", self), line, headers, meaning)
        self.state = WORK
        if length:
            self.state = BODY
            self._body = Chunks(server.head_size) if length == CHUNKED else Counted(length)
            self._taken = 0
            self.since = server.clock
            if rest:
                self._more_body(rest)
        elif rest:
            self._buffer = rest
        if self.cycle is cycle:
            server.start(cycle)

    def _upgrade(self, meaning: Meaning, line: Line, head: bytes, rest: bytes) -> bool:
        """Hand over to a WebSocket's protocol if that is asked for. An upgrade that is not taken changes nothing."""
        server = self.server
        if meaning.upgrade != b"websocket" or line[0] != b"GET" or server.websocket is None:
            return False
        if meaning.length:
            raise Refused(400, "a WebSocket's handshake has no body")
        if isinstance(self.transport, Early):  # a WebSocket's protocol has no use for it
            self.state = IDLE
            self.transport.read_again(head + rest)
            return True
        self.state = OVER
        protocol = server.websocket()
        protocol.connection_made(self.transport)
        server.connections.discard(self)
        try:
            protocol.data_received(head + rest)
        finally:  # who can't read it has to hear that the connection ends
            self.transport.set_protocol(protocol)
        return True

    def _more_body(self, data: bytes) -> None:
        self.moved += len(data)
        self.since = self.server.clock
        cycle = self.cycle
        try:
            block, rest, end = self._body.feed(data)
            self._taken += len(block)
            if self._taken > self.server.body_size:
                raise Refused(413, f"the request's body is larger than {self.server.body_size} bytes")
        except Refused as refused:
            self.refuse(refused)
            return
        if cycle is not None:
            cycle.waits = False
            if block and cycle.feed(block) and not end:
                self._pause()
            if end:
                cycle.fed()
                self.state = WORK
                self._buffer = rest
        elif end:
            self._next(rest)

    def _pause(self) -> None:
        if not self._paused and not self._eof:
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on, if that has been paused for the app."""
        if self._paused:
            self._paused = False
            self.since = self.server.clock
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def refuse(self, refused: Refused) -> None:
        """Answer for the app, if it has not begun to, and end the connection."""
        raise NotImplementedError

    def _next(self, rest: Union[bytes, bytearray]) -> None:
        """The connection is free for the next request, of which `rest` has come."""
        raise NotImplementedError
