"""A request in work and its answer, as the connection sees them, whatever interface the app has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Optional, Set

from memunit.worker import httpanswer
from memunit.worker.httpanswer import Head

if TYPE_CHECKING:
    from memunit.worker.connection import Connection
    from memunit.worker.work import Request

HIGH_WATER = 64 * 1024  # bytes of a body that wait for the app, beyond which the client has to wait
_JOINED = 16 * 1024  # bytes of a body up to which head and body are made one block
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class LeftOff(ConnectionAbortedError):
    """The app goes on with an answer that it has been told to leave off: ASGI asks for an OSError."""

    def __init__(self) -> None:
        super().__init__("this worker is going away")


class Answer:
    """What `connection` has begun to read, and the app is answering. Lives in the loop."""

    __slots__ = (
        "_chunked",
        "_events",
        "_head",
        "_left",
        "begun",
        "closes",
        "complete",
        "connection",
        "doubted",
        "gone",
        "leaving",
        "more",
        "request",
        "started",
        "status",
        "waits",
    )

    def __init__(self, connection: Connection, *, more: bool, closes: bool, waits: bool) -> None:
        self.connection = connection
        self.started = connection.server.now
        """When its head was complete, by the loop's clock, to half a second."""
        self.closes = closes
        """Whether the connection ends with this answer."""
        self.waits = waits
        """Whether the client is waiting for `100 Continue`."""
        self.more = more
        """Whether more of the request's body is to come."""
        self.begun = False
        """Whether something of the answer has been sent."""
        self.complete = False
        """Whether all of the answer has been sent."""
        self.gone = False
        """Whether nobody waits for the answer: what the app sends from now on is dropped."""
        self.doubted = False
        """Whether the client may have gone: receive() says that it has, and what the app sends is sent all the same."""
        self.leaving = False
        """Whether the app has been told to leave off, while its client still listens."""
        self.request: "Optional[Request]" = None
        """Its place on the worker's page (work.py), once it is in work."""
        self.status = 0
        """That of the answer, once it has begun."""
        self._events = False  # whether the answer is a stream of events, to whose clients an end is a pause
        self._head: Optional[List[bytes]] = None  # the answer's head: not sent yet, or an empty list
        self._left: Optional[int] = None  # bytes to come by Content-Length; None: as many as the app gives
        self._chunked = False

    @property
    def scope(self) -> Dict[str, Any]:
        """ "method", "path" and what else ASGI's scope has, for whoever wants to know what is in work."""
        raise NotImplementedError

    @property
    def ends_with_the_connection(self) -> bool:
        """Whether nothing else says where the body of the answer ends (HTTP/1.0)."""
        return self._left is None and not self._chunked

    # The connection's side.

    @property
    def full(self) -> bool:
        """Whether the client should wait with more of the request's body."""
        raise NotImplementedError

    def feed(self, block: bytes) -> bool:
        """More of the request's body has come; whether the client should wait with the rest."""
        raise NotImplementedError

    def fed(self) -> None:
        """The request's body is complete."""
        raise NotImplementedError

    def writable(self) -> None:
        """The client has taken enough of what was sent for more of it."""

    def lose(self) -> None:
        """Nobody waits for the answer any more."""
        raise NotImplementedError

    def doubt(self) -> None:
        """The client has closed its half, and nothing tells whether it still listens."""
        self.doubted = True

    def leave_off(self) -> None:
        """The worker has to end: the app is told, and may still complete its answer, but not go on with it.

        The client has not gone, so an app that now completes its answer is heard.
        """
        raise NotImplementedError

    def cancel(self) -> None:
        """The worker ends: nothing more is waited for."""
        raise NotImplementedError

    # The app's side.

    def _go_on(self) -> None:
        """The app reads: a client that waits for it is told to send its body."""
        if self.waits and not self.gone:
            self.waits = False
            self.connection.since = self.connection.server.clock  # the body's time begins
            if not self.begun:
                self.connection.transport.write(_CONTINUE)

    def _start(self, method: str, status: int, given: Head, *, chunks: bool) -> None:
        """The head of the answer. It is sent with the first block of the body; at once, if that may take long.

        `chunks`: whether the client knows them.
        """
        connection = self.connection
        server = connection.server
        self.status = status
        lines, length, closes, option, own = given
        lines.insert(1, server.fields[own])
        now = False
        if length is not None:
            lines.append(b"content-length: %d\r\n" % length)
            self._left = length
        if not httpanswer.has_body(status, method):
            self._left = -1
        elif length is None:
            self._events = any(
                value.startswith(b"text/event-stream") and name.lower() == b"content-type: "
                for name, value in zip(lines, lines[1:])  # noqa: B905, RUF007  Python 3.9
            )
            now = True  # a stream: its client may wait for the head alone, as an EventSource does
            if chunks:
                self._chunked = True
                lines.append(b"transfer-encoding: chunked\r\n")
            else:
                closes = True  # RFC 9112, 6.3: the end of the connection is the end of the answer
        if closes or self.waits or (connection.draining and connection.may_close()):
            # A client that has not been told to continue may send its body or not: nobody knows what comes next.
            self.closes = True
        if self.closes:
            lines.append(b"connection: close\r\n\r\n")
        else:
            lines.append(b"connection: %b\r\n\r\n" % option if option else b"\r\n")
        self._head = lines
        if server.access_log:
            server.log_access(self.scope, status)
        if now:
            self.begun = True
            connection.transport.write(b"".join(lines))
            lines.clear()

    def _body(self, body: bytes, more: bool) -> bool:
        """A block of the answer; whether that was all. Raises LeftOff, and RuntimeError for what the head forbids."""
        left = self._left
        if more and self.leaving:
            raise LeftOff
        if left is None:
            if self._chunked:
                body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
                if not more:
                    body += b"0\r\n\r\n"
        elif left < 0:
            # The answer is its head. The client waits for nothing more, however long a stream this would be for GET.
            self.gone = more
            body, more = b"", False
        else:
            left -= len(body)
            if left < 0:
                raise RuntimeError("Response content longer than Content-Length")
            if left and not more:
                raise RuntimeError("Response content shorter than Content-Length")
            self._left = left
        connection = self.connection
        head = self._head
        self.begun = True
        if head:
            if len(body) <= _JOINED:
                head.append(body)
                body = b"".join(head)
            else:
                connection.transport.write(b"".join(head))
            head.clear()
        if body:
            connection.transport.write(body)
        if more:
            connection.moved += len(body)
            return False
        self.complete = True
        connection.answered()
        return True

    def _break_off(self) -> None:
        """The app will not send what is missing: a 500 if nothing has been sent, else an end that is seen as one."""
        if self.complete or self.gone:
            return
        if self._events and self._chunked and self.connection.server.draining:
            self.complete = self.closes = True
            self.connection.transport.write(b"0\r\n\r\n")
            self.connection.answered()
            return
        if self.begun:
            self.connection.cut(abruptly=self.ends_with_the_connection)
            return
        self.begun = self.complete = self.closes = True
        told = self.leaving or self.doubted
        status, text = (503, "Service Unavailable") if told else (500, "Internal Server Error")
        self.connection.write_last(status, text, self.scope["method"])
        self.connection.answered()


def came_of(error: Optional[BaseException], kind: type) -> bool:
    """Whether `error`, or what it was raised for, is a `kind`."""
    seen: Set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, kind):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False
