"""One WSGI request between the event loop, which talks to the client, and a thread, in which the app runs.

Whatever the app yields is handed over at once and sent while the thread goes on; the thread waits when the
client takes less than it is given (and the client, when the app reads less than it is sent). An answer of one
block is handed over once.
"""

from __future__ import annotations

import io
import logging
import threading
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple
from urllib.parse import unquote

from memunit.worker import frameworks, signals
from memunit.worker.answer import HIGH_WATER, Answer, LeftOff
from memunit.worker.draining import came_of
from memunit.worker.httpanswer import Head
from memunit.worker.httphead import Line, Meaning
from memunit.worker.pep3333 import Body, parse

if TYPE_CHECKING:
    from memunit.worker.connection import Connection
    from memunit.worker.wsgi import WsgiServer

_MOST_AHEAD = 64 * 1024  # a body of up to so many bytes is complete before it takes a thread
_MOST_UNSENT = 256 * 1024  # bytes handed over and not sent yet; then the thread waits
_BODYLESS = (204, 304)
_logger = logging.getLogger("uvicorn.error")


class Gone(ConnectionResetError):
    """The client has closed the connection: what the app reads or writes from then on raises this."""

    def __init__(self) -> None:
        super().__init__("the client has closed the connection")


class Exchange(Answer):
    """A request and its answer. `run()` is the thread's part and never raises; all else public is the loop's."""

    __slots__ = (
        "_abandoned",
        "_ahead",
        "_bodyless",
        "_changed",
        "_client",
        "_environ",
        "_error",
        "_given",
        "_handed",
        "_held",
        "_length",
        "_line",
        "_lock",
        "_received",
        "_server",
        "_size",
        "_status",
        "_streams",
        "_submitted",
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
        meaning: Meaning,
        environ: Dict[str, Any],
    ) -> None:
        super().__init__(connection, more=meaning.length != 0, closes=meaning.closes, waits=meaning.waits)
        self.steps = 0
        """How often the app has got on so far, by handing over a block or by reading one."""
        self.blocked = False
        """Whether the thread waits for the client: to send more of the request, or to take more of the answer."""
        self.route: Optional[str] = None
        """What the framework calls the route, if that was to be found out."""
        self._server = server
        self._line = line
        self._environ = environ
        self._client = connection.client
        self._lock = threading.Lock()
        self._changed: Optional[threading.Condition] = None
        self._submitted = False
        self._streams = False  # the body is read by the app as it comes
        self._abandoned = False  # the thread is to hear that its client has gone
        self._held = False  # what was handed over waits for the client to take more
        # To the client, by the thread.
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
        # A client that waits for "100 Continue" gets it when the app reads, and only then.
        self._ahead = 0 < meaning.length <= _MOST_AHEAD and not meaning.waits

    @property
    def scope(self) -> Dict[str, Any]:
        method, target, minor, _ = self._line
        path, _, query = target.partition(b"?")
        return {
            "method": method.decode("ascii"),
            "path": unquote(path.decode("ascii")),
            "query_string": query,
            "http_version": "1." + minor.decode("ascii"),
            "client": self._client,
        }

    @property
    def asked(self) -> Tuple[str, bytes]:
        """The method, and the path without its query."""
        path = self._line[1].partition(b"?")[0]
        if path[0] != 47:  # "http://host/path", as to a proxy
            path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
        return self._line[0].decode("ascii"), path

    # The loop's part.

    def start(self) -> None:
        """Give it to a thread, or wait until its body has come."""
        if self.more:
            if self._ahead:
                return
            self._streams = True
            self._environ["wsgi.input"] = io.BufferedReader(Body(self.read_into), HIGH_WATER)
        else:
            self._environ["wsgi.input"] = io.BytesIO(b"".join(self._received))
        self._submitted = True
        self._server.submit(self.run)

    @property
    def full(self) -> bool:
        return not self._ahead and self._unread > HIGH_WATER

    def feed(self, block: bytes) -> bool:
        with self._lock:
            self._received.append(block)
            self._unread += len(block)
            self._wake()
        return self.full

    def fed(self) -> None:
        with self._lock:
            self.more = False
            self._wake()
        if not self._submitted and self in self._server.cycles:
            self.start()

    def writable(self) -> None:
        if self._held:
            self._held = False
            self.deliver()

    def lose(self) -> None:
        self.gone = True
        self.abandon()
        self.writable()
        if not self._submitted:
            self._server.done(self)

    def leave_off(self) -> None:
        """An app that computes, and has begun nothing, is left to its work: it can't be told, and may yet answer."""
        self.leaving = True
        if not self._submitted:
            self._break_off()
            self._server.done(self)
        elif self.begun or self._streams:
            self.abandon()

    def refuse(self) -> None:
        """Answer for the app that there are too many."""
        self.begun = self.complete = self.closes = True
        self.connection.write_last(503, "Service Unavailable", self.scope["method"])
        self.connection.answered()

    def cancel(self) -> None:
        self.request = (
            None  # on the page it stays in work: its thread may be what keeps this worker from its end
        )
        self.abandon()
        self._break_off()
        self._server.done(self)

    def deliver(self) -> None:
        """Send what the thread has handed over."""
        if self.connection.unwritable is not None and not self.gone:
            self._held = True  # and the thread, which believes that it has told, tells nothing more
            return
        with self._lock:
            given, self._given = (self._given, None) if self._handed else (None, self._given)
            blocks, self._unsent = self._unsent, []
            taken, self._told = self._taken, False
        if not (self.gone or self.complete):
            try:
                self._send(given, blocks[0] if len(blocks) == 1 else b"".join(blocks), taken=taken)
            except Exception as error:
                self.abandon()
                self._failed(error)
        if taken:
            self._error = None
            self._server.done(self)
        elif blocks:
            with self._lock:
                self._size -= sum(map(len, blocks))
                self._wake()

    def _send(self, given: Optional[Head], body: bytes, *, taken: bool) -> None:
        method, _, minor, _ = self._line
        if given is not None:
            self._start(method.decode("ascii"), self._status, given, chunks=minor == b"1")
        if not taken:
            if body:
                self._body(body, True)
            return
        error, self._error = self._error, None
        if error is not None:
            if body:
                self._body(body, True)
            if not isinstance(error, Exception):
                exit_, error = error, RuntimeError(f"the app raised {type(error).__name__}")
                error.__cause__ = exit_
            self._failed(error)
        elif not self._abandoned:
            self._body(body, False)
        elif self.leaving:
            self._break_off()

    def _failed(self, error: BaseException) -> None:
        if not came_of(error, LeftOff):
            self.connection.server.logger.error("Exception in WSGI application\n", exc_info=error)
        self._break_off()

    def abandon(self) -> None:
        """Nobody waits for the app: what it reads or writes from now on raises."""
        with self._lock:
            self._abandoned = True
            self._wake()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.notify_all()

    def _resume(self) -> None:
        if self.connection.cycle is self:
            self.connection.resume()

    # The thread's part.

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
