"""As much of HTTP as a scrape needs: a GET, its Accept, and one answer; on sockets that somebody else listens on.

One loop, in which nothing waits but for its next event: whoever is slow or hostile has a few kilobytes, ten seconds,
and one of the few places.
"""

import contextlib
import math
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

# Connections at a time; the oldest makes room. Bytes of a request; seconds of a connection from first to last.
MOST = 32
MOST_HEAD = 8192
PATIENCE = 10.0
_BLOCK = 4096
_PATHS = ("/metrics", "/")
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
}
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a scrape gets."""

    body: bytes
    kind: str = _TEXT
    status: int = 200


@dataclass(slots=True, eq=False)
class _Connection:
    """`done` when all of the answer is sent: then its end is waited for, or what came unread would reset it."""

    socket: socket.socket
    deadline: float
    head: bytearray = field(default_factory=bytearray)
    to_send: bytearray = field(default_factory=bytearray)
    done: bool = False


class Scrapes:
    """Answers those who connect, until nobody has for `idle` seconds, or until the time that `leaves` gives."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        answer: Callable[[str], Answer],
        *,
        idle: float,
        leaves: Callable[[], float] = lambda: math.inf,
    ) -> None:
        """`answer` is asked for each scrape, with what its Accept says."""
        self._answer, self._idle, self._leaves = answer, idle, leaves
        self._listeners = list(listeners)
        self._selector = selectors.DefaultSelector()
        self._connections: dict[_Connection, None] = {}
        self._idle_at = time.monotonic() + idle
        for listener in self._listeners:
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ)

    def run(self) -> None:
        """Returns when it is over. Who waits in a socket by then is for the next process."""
        while True:
            now = time.monotonic()
            leaves = self._leaves()
            if now >= leaves:
                self._accept_no_more()
            # Whoever has left its sockets does not take them back, whatever time `leaves` gives by now.
            if not self._connections and (not self._listeners or now >= min(leaves, self._idle_at)):
                return
            due = [each.deadline for each in self._connections] or [self._idle_at]
            if self._listeners:
                due.append(leaves)
            heard = set()
            for key, _ in self._selector.select(max(0.0, min(due) - now)):
                if isinstance(key.data, _Connection):
                    heard.add(key.data)
                    self._go_on(key.data)
                else:
                    self._accept(key.fileobj)  # type: ignore[arg-type]  # what was registered without data
            # Not before: the time in which the master was asked is nobody's fault here.
            now = time.monotonic()
            for late in [each for each in self._connections if now >= each.deadline]:
                if late.done or late not in heard:
                    self._drop(late)

    def _accept(self, listener: socket.socket) -> None:
        try:
            made, _ = listener.accept()
        except OSError:
            # It has gone again, or there are no descriptors left, which a place that becomes free mends.
            return
        made.setblocking(False)
        while len(self._connections) >= MOST:
            self._drop(next(iter(self._connections)))
        connection = _Connection(made, time.monotonic() + PATIENCE)
        self._connections[connection] = None
        self._selector.register(made, selectors.EVENT_READ, connection)

    def _accept_no_more(self) -> None:
        for listener in self._listeners:
            self._selector.unregister(listener)
        self._listeners.clear()

    def _go_on(self, connection: _Connection) -> None:
        if connection not in self._connections:
            return
        try:
            if not connection.to_send:
                self._read(connection)
            if connection.to_send:
                self._send(connection)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(connection)

    def _read(self, connection: _Connection) -> None:
        block = connection.socket.recv(_BLOCK)
        if not block:
            self._drop(connection)
        elif not connection.done:
            connection.head += block
            end = connection.head.find(b"\r\n\r\n")
            if end >= 0:
                connection.to_send += self._answered(bytes(connection.head[:end]))
            elif len(connection.head) > MOST_HEAD:
                connection.to_send += _reply(Answer(b"the request is too long\n", status=431))

    def _send(self, connection: _Connection) -> None:
        self._selector.modify(connection.socket, selectors.EVENT_WRITE, connection)
        while connection.to_send:
            del connection.to_send[: connection.socket.send(connection.to_send)]
        connection.done = True
        connection.socket.shutdown(socket.SHUT_WR)
        self._selector.modify(connection.socket, selectors.EVENT_READ, connection)

    def _answered(self, head: bytes) -> bytes:
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _reply(Answer(b"this is no request of HTTP/1.1\n", status=400))
        method, target, _ = words
        if method not in ("GET", "HEAD"):
            return _reply(Answer(b"only GET is answered\n", status=405))
        if target.partition("?")[0] not in _PATHS:
            return _reply(Answer(b"metrics are at /metrics\n", status=404))
        fields = [line.partition(":") for line in lines]
        accept = ",".join(value.strip() for name, _, value in fields if name.strip().lower() == "accept")
        return _reply(self._answer(accept), head=method == "HEAD")

    def _drop(self, connection: _Connection) -> None:
        if self._connections.pop(connection, ...) is ...:
            return
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(connection.socket)
        connection.socket.close()
        self._idle_at = time.monotonic() + self._idle


def _reply(answer: Answer, *, head: bool = False) -> bytes:
    lines = (
        f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}",
        f"Content-Type: {answer.kind}",
        f"Content-Length: {len(answer.body)}",
        *(("Allow: GET, HEAD",) if answer.status == 405 else ()),
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode("latin-1") + (b"" if head else answer.body)
