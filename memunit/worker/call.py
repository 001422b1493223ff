"""The thread's part of a WSGI request: the app is called, and what it yields is handed over to the event loop.

The thread hands over each block at once, and the loop sends the block while the thread goes on. If the client reads too
slowly, the thread waits; if the app reads too slowly, the client waits. An answer of one block is handed over once.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple

from memunit.worker import frameworks, signals
from memunit.worker.answer import HIGH_WATER, Answer, came_of
from memunit.worker.httpanswer import Head
from memunit.worker.httphead import Line
from memunit.worker.pep3333 import parse

if TYPE_CHECKING:
    from memunit.worker.connection import Connection
    from memunit.worker.wsgi import WsgiServer

_MOST_UNSENT = 256 * 1024  # bytes handed over and not sent yet; then the thread waits
_BODYLESS = (204, 304)
_logger = logging.getLogger("uvicorn.error")


class Gone(ConnectionResetError):
    """The client has closed the connection: what the app reads or writes from then on raises this."""

    def __init__(self) -> None:
        super().__init__("the client has closed the connection")


class Call(Answer):
    """`run()` is a thread's, and never raises. The lock guards what the thread and the loop hand each other."""

    __slots__ = (
        "_abandoned",
        "_ahead",
        "_bodyless",
        "_changed",
        "_environ",
        "_error",
        "_given",
        "_handed",
        "_length",
        "_line",
        "_lock",
        "_received",
        "_server",
        "_size",
        "_status",
        "_taken",
        "_told",
        "_unread",
        "_unsent",
        "blocked",
        "route",
        "steps",
    )

    def __init__(
        self,
        server: WsgiServer,
        connection: Connection,
        line: Line,
        environ: Dict[str, Any],
        *,
        more: bool,
        closes: bool,
        waits: bool,
        ahead: bool,
    ) -> None:
        super().__init__(connection, more=more, closes=closes, waits=waits)
        self.steps = 0
        """How often the app has got on so far, by handing over a block or by reading one."""
        self.blocked = False
        """Whether the thread waits for the client: to send more of the request, or to take more of the answer."""
        self.route: Optional[str] = None
        """What the framework calls the route, if that was to be found out."""
        self._server = server
        self._line = line
        self._environ = environ
        self._lock = threading.Lock()
        self._changed: Optional[threading.Condition] = None
        self._abandoned = False  # the thread is to hear that its client has gone
        # To the client.
        self._status = 0
        self._given: Optional[Head] = None
        self._length: Optional[int] = None  # bytes to come by the Content-Length
        self._bodyless = False
        self._handed = False  # the head
        self._unsent: List[bytes] = []
        self._size = 0
        self._taken = False  # all of the answer
        self._error: Optional[BaseException] = None
        self._told = False
        # From the client.
        self._received: List[bytes] = []
        self._unread = 0
        self._ahead = ahead  # the body is complete before it takes a thread

    @property
    def full(self) -> bool:
        return not self._ahead and self._unread > HIGH_WATER

    def deliver(self) -> None:
        """In the loop: send what the thread has handed over."""
        raise NotImplementedError

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.notify_all()

    def _resume(self) -> None:
        """In the loop: the client may send more."""
        if self.connection.cycle is self:
            self.connection.resume()

    def run(self) -> None:
        """Call the app, and hand over what it answers."""
        try:
            self._answer()
        except BaseException as error:
            if signals.forked:
                signals.leave(error)
            self._end(None if self._abandoned and came_of(error, Gone) else error)
        if signals.forked:
            signals.leave(None)
        self._environ = {}

    def read_into(self, buffer: memoryview) -> int:
        """The app wants to read: wait for more of the request's body. 0 at its end; raises Gone."""
        with self._lock:
            while not self._received:
                if self._abandoned:
                    raise Gone
                if not self.more:
                    return 0
                if self.waits and not self._server.call(self._go_on):
                    raise Gone
                self._wait()
            block = self._received[0]
            count = min(len(block), len(buffer))
            buffer[:count] = block[:count]
            if count < len(block):
                self._received[0] = block[count:]
            else:
                del self._received[0]
            full = self.full
            self._unread -= count
            if full and not self.full:
                self._server.call(self._resume)
            self.steps += 1
        return count

    def _answer(self) -> None:
        result = self._server.app(self._environ, self._start_response)
        try:
            if type(result) in (list, tuple) and len(result) == 1 and not self._handed:
                (block,) = result
                self._declare(len(block))
            for block in result:
                if block and self._taken:
                    break  # PEP 3333: all has been sent, and an iterator without an end would keep the thread
                self._put(block)
            self._end(None)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                self._close(close)

    def _close(self, close: Callable[[], Any]) -> None:
        if not self._taken:
            close()
            return
        try:  # the answer is out: there is nobody left to tell but the log
            close()
        except BaseException as error:
            _logger.error("Exception in close() of a WSGI answer\n", exc_info=error)

    def _start_response(
        self, status: str, headers: List[Tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        if exc_info is not None:
            try:
                if self._handed:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self._status:
            raise AssertionError("start_response() is called again, and without exc_info")
        self._status, self._given = parse(status, headers)
        if self.request is not None and self.request[1] is None:
            self.route = frameworks.of_wsgi(self._environ)
        self._length = self._given[1]
        self._bodyless = self._status in _BODYLESS or self._line[0] == b"HEAD"
        return self._put

    def _declare(self, length: int) -> None:
        """The whole body is known: say how long it is, if the app has not."""
        if self._given is None or self._length is not None or self._status in _BODYLESS:
            return
        if length or not self._bodyless:  # an app may answer HEAD without the body that GET would have had
            lines, _, closes, option, own = self._given
            self._given = lines, length, closes, option, own
            self._length = length

    def _put(self, block: Any) -> None:
        """Hand over a block; waits while too much is unsent. Raises Gone."""
        if signals.forked:
            signals.leave(None)
        if not isinstance(block, bytes):
            if not isinstance(block, (bytearray, memoryview)):
                raise TypeError(f"a WSGI answer is made of bytes, not of {type(block).__name__}")
            block = bytes(block)
        if self._taken:
            return
        if not block:
            if self._abandoned:
                raise Gone
            return
        if not self._status:
            raise AssertionError("the app answers before it has called start_response()")
        if self._length is not None and not self._bodyless:
            if len(block) > self._length:
                _logger.warning("The app's answer is longer than its Content-Length, and is cut off there.")
                block = block[: self._length]
            self._length -= len(block)
        self.steps += 1
        with self._lock:
            if self._abandoned:
                raise Gone
            self._handed = True
            if self._bodyless:
                self._taken = True
            else:
                self._unsent.append(block)
                self._size += len(block)
                self._taken = self._length == 0
            self._tell()
            while self._size > _MOST_UNSENT and not self._taken:
                self._wait()
                if self._abandoned:
                    raise Gone

    def _wait(self) -> None:
        if self._changed is None:
            self._changed = threading.Condition(self._lock)
        self.blocked = True
        self._changed.wait()
        self.blocked = False

    def _end(self, error: Optional[BaseException]) -> None:
        with self._lock:
            if self._taken:
                if error is not None:
                    _logger.error("Exception in WSGI application after its answer\n", exc_info=error)
                return
            if error is None and not self._abandoned and not self._handed:
                if not self._status:
                    error = AssertionError("the app has not called start_response()")
                else:
                    self._declare(0)
                    self._handed = True
            self._error = error
            self._taken = True
            self._tell()

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            if not self._server.tell(self):
                self._abandoned = True  # the loop is closed: the worker is at its end
