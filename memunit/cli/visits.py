"""Visitors on sockets that somebody else listens on: each says something, and gets an answer.

One loop, in which nothing waits but for its next event: whoever is slow or hostile has a few kilobytes, ten seconds,
and one of the few places. What a visitor says and gets is not known here: scrapes.py has HTTP, provider.py varlink.
"""

import contextlib
import math
import selectors
import socket
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from memunit.records import dataclass, field

# Connections at a time; the oldest makes room. Seconds for one question, from its first byte to the end of its answer.
MOST = 32
PATIENCE = 10.0
_BLOCK = 4096


class Talk(Protocol):
    """What is said on one connection."""

    @property
    def over(self) -> bool:
        """Whether nothing more is said, once what `take` gave is sent."""

    def feed(self, block: bytes) -> None:
        """This has come. Raises ValueError when nothing good can come any more."""

    def take(self) -> bytes | None:
        """The answer to the next question; empty for one that wants none, None while there is no question.

        Raises ValueError as `feed` does.
        """


@dataclass(slots=True, eq=False)
class _Connection:
    """`done` when all is said: then its end is waited for, or what came unread would reset it."""

    socket: socket.socket
    talk: Talk
    deadline: float
    to_send: bytearray = field(default_factory=bytearray)
    events: int = selectors.EVENT_READ
    done: bool = False


class Visits:
    """Answers those who connect, until nobody has for `idle` seconds, or until the time that `leaves` gives."""

    def __init__(
        self,
        listeners: Iterable[tuple[socket.socket, Callable[[], Talk]]],
        *,
        idle: float,
        leaves: Callable[[], float] = lambda: math.inf,
    ) -> None:
        """Of each listener what makes the talk of one of its connections."""
        self._idle, self._leaves = idle, leaves
        self._listeners = dict(listeners)
        self._selector = selectors.DefaultSelector()
        self._connections: dict[_Connection, None] = {}
        self._idle_at = time.monotonic() + idle
        for listener in self._listeners:
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ)

    def run(self) -> None:
        """Answer until the time is over. The next process answers the clients that still wait in a socket."""
        while True:
            now = time.monotonic()
            leaves = self._leaves()
            if now >= leaves:
                self._accept_no_more()
            # A process that has stopped accepting does not begin again, even if `leaves` gives a later time by now.
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
        connection = _Connection(made, self._listeners[listener](), time.monotonic() + PATIENCE)
        self._connections[connection] = None
        self._selector.register(made, selectors.EVENT_READ, connection)

    def _accept_no_more(self) -> None:
        for listener in self._listeners:
            self._selector.unregister(listener)
        self._listeners.clear()

    def _go_on(self, connection: _Connection) -> None:
        """One block of what comes, and one answer of what goes: others are waiting too."""
        if connection not in self._connections:
            return
        try:
            if connection.events == selectors.EVENT_READ and not self._hears(connection):
                return
            if not connection.to_send:
                answer = connection.talk.take()
                if answer is None:
                    self._watch(connection, selectors.EVENT_READ)
                    return
                connection.to_send += answer
            self._watch(connection, selectors.EVENT_WRITE)
            self._send(connection)
        except BlockingIOError:
            pass
        except (OSError, ValueError):
            self._drop(connection)

    def _hears(self, connection: _Connection) -> bool:
        """Whether more has come of a talk that goes on."""
        block = connection.socket.recv(_BLOCK)
        if not block:
            self._drop(connection)
        elif not connection.done:
            connection.talk.feed(block)
        return bool(block) and not connection.done

    def _send(self, connection: _Connection) -> None:
        while connection.to_send:
            del connection.to_send[: connection.socket.send(connection.to_send)]
        if connection.talk.over:
            connection.done = True
            connection.socket.shutdown(socket.SHUT_WR)
            self._watch(connection, selectors.EVENT_READ)
        elif self._listeners:
            # The next question may be here already: the loop comes back for it. After the process has stopped
            # accepting, a client gets no further time.
            connection.deadline = time.monotonic() + PATIENCE

    def _watch(self, connection: _Connection, events: int) -> None:
        if events != connection.events:
            connection.events = events
            self._selector.modify(connection.socket, events, connection)

    def _drop(self, connection: _Connection) -> None:
        if self._connections.pop(connection, ...) is ...:
            return
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(connection.socket)
        connection.socket.close()
        self._idle_at = time.monotonic() + self._idle
