"""One WSGI request between the event loop, which talks to the client, and a thread, in which the app runs.

Whatever the app yields is handed over at once and sent while the thread goes on; the thread waits when the
client takes less than it is given (and the client, when the app reads less than it is sent). An answer of one
block costs one call from thread to loop.
"""

from __future__ import annotations

import asyncio
import io
import logging
import threading
from typing import Any, Awaitable, Callable, Dict, Iterable, List, Optional, Tuple

from memunit.worker.draining import came_of
from memunit.worker.pep3333 import Body, Headers, parse

Message = Dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_MOST_UNSENT = 256 * 1024  # bytes handed over and not sent yet; then the thread waits
_BODYLESS = (204, 304)
_logger = logging.getLogger("uvicorn.error")


class Gone(ConnectionResetError):
    """The client has closed the connection: what the app reads or writes from then on raises this."""

    def __init__(self) -> None:
        super().__init__("the client has closed the connection")


class Exchange:
    """A request and its answer.

    `run()` is the thread's part and never raises; `relay()` is the loop's, and raises what the app has
    raised. `body` is what has been received of the request; `more` says that the rest is still to come, and
    is to be streamed.
    """

    def __init__(
        self, app: Callable[..., Iterable[bytes]], environ: Dict[str, Any], body: bytes, more: bool
    ) -> None:
        self.blocks = 0
        """How often the app has got on so far, by handing over a block."""
        self._app = app
        self._environ = environ
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Condition(threading.Lock())
        # To the client.
        self._status = 0
        self._headers: Headers = []
        self._bodyless = False
        self._left: Optional[int] = None  # bytes to come by the Content-Length
        self._begun = False
        self._head: Optional[Message] = None
        self._unsent: List[bytes] = []
        self._size = 0
        self._ended = False
        self._error: Optional[BaseException] = None
        self._told = False
        self._waiter: "asyncio.Future[None]" = self._loop.create_future()
        # From the client.
        self._gone = False
        self._received: List[bytes] = []
        self._streaming = False  # the answer has begun, and is not all there
        self._wanted: Optional[asyncio.Event] = None
        self._more = more
        if more:
            self._received = [body] if body else []
            self._wanted = asyncio.Event()
            environ["wsgi.input"] = io.BufferedReader(Body(self.read_into), 64 * 1024)
        else:
            environ["wsgi.input"] = io.BytesIO(body)

    # The thread's part.

    def run(self) -> None:
        """Call the app, and hand over what it answers."""
        try:
            self._answer()
        except BaseException as error:
            self._end(None if self._gone and came_of(error, Gone) else error)
        self._environ = {}

    def read_into(self, buffer: memoryview) -> int:
        """The app wants to read: wait for more of the request's body. 0 at its end; raises Gone."""
        with self._lock:
            while not self._received:
                if self._gone:
                    raise Gone
                if not self._more:
                    return 0
                self._call(self._want)
                self._lock.wait()
            block = self._received[0]
            count = min(len(block), len(buffer))
            buffer[:count] = block[:count]
            if count < len(block):
                self._received[0] = block[count:]
            else:
                del self._received[0]
        return count

    def _answer(self) -> None:
        result = self._app(self._environ, self._start_response)
        try:
            if type(result) in (list, tuple) and len(result) == 1 and not self._begun:  # type: ignore[arg-type]
                (block,) = result
                self._declare(len(block))
            for block in result:
                self._put(block)
            self._end(None)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                self._close(close)

    def _close(self, close: Callable[[], Any]) -> None:
        if not self._ended:
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
                if self._begun:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self._status:
            raise AssertionError("start_response() is called again, and without exc_info")
        code, left, kept = parse(status, headers)
        if code in _BODYLESS and left is not None:  # uvicorn would wait for that body
            left, kept = None, [pair for pair in kept if pair[0] != b"content-length"]
        self._bodyless = code in _BODYLESS or self._environ["REQUEST_METHOD"] == "HEAD"
        self._status, self._left, self._headers = code, left, kept
        return self._put

    def _declare(self, length: int) -> None:
        """The whole body is known: say how long it is, if the app has not."""
        if not self._status or self._left is not None or self._status in _BODYLESS:
            return
        if length or not self._bodyless:  # an app may answer HEAD without the body that GET would have had
            self._left = length
            self._headers.append((b"content-length", b"%d" % length))

    def _put(self, block: Any) -> None:
        """Hand over a block; waits while too much is unsent. Raises Gone."""
        if not isinstance(block, bytes):
            if not isinstance(block, (bytearray, memoryview)):
                raise TypeError(f"a WSGI answer is made of bytes, not of {type(block).__name__}")
            block = bytes(block)
        if not block or self._ended:
            return
        if not self._begun and not self._status:
            raise AssertionError("the app answers before it has called start_response()")
        if self._left is not None:
            if len(block) > self._left:
                _logger.warning("The app's answer is longer than its Content-Length, and is cut off there.")
                block = block[: self._left]
            self._left -= len(block)
        self.blocks += 1
        with self._lock:
            if self._gone:
                raise Gone
            self._begin()
            if not self._bodyless:
                self._unsent.append(block)
                self._size += len(block)
            if self._left == 0:
                self._ended = True
            self._tell()
            while self._size > _MOST_UNSENT and not self._ended:
                self._lock.wait()
                if self._gone:
                    raise Gone

    def _end(self, error: Optional[BaseException]) -> None:
        with self._lock:
            if self._ended:
                if error is not None:
                    _logger.error("Exception in WSGI application after its answer\n", exc_info=error)
                return
            if error is None and not self._gone and not self._begun:
                if not self._status:
                    error = AssertionError("the app has not called start_response()")
                else:
                    self._declare(0)
                    self._begin()
            self._error = error
            self._ended = True
            self._tell()

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._head = {
                "type": "http.response.start",
                "status": self._status,
                "headers": self._headers,
            }

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            self._call(self._wake)

    def _call(self, function: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop is closed: the worker is at its end
            self._gone = True

    # The loop's part.

    async def relay(self, receive: Receive, send: Send) -> None:
        """Send what the thread hands over, to the end; raises what the app has raised before that."""
        listener: Optional["asyncio.Task[None]"] = None
        if self._more:
            listener = self._loop.create_task(self._listen(receive))
        try:
            while True:
                await self._waiter
                with self._lock:
                    head, self._head = self._head, None
                    blocks, self._unsent = self._unsent, []
                    ended, self._told = self._ended, False
                    if not ended:
                        self._waiter = self._loop.create_future()
                body = blocks[0] if len(blocks) == 1 else b"".join(blocks)
                if head is not None:
                    await send(head)
                    self._streaming = True
                    self._want()
                if ended:
                    await self._send_last(body, send)
                    return
                if body:
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                    with self._lock:
                        self._size -= len(body)
                        self._lock.notify_all()
                if listener is None:
                    listener = self._loop.create_task(self._listen(receive))
        finally:
            if listener is not None:
                listener.cancel()
            self._abandon()

    async def _send_last(self, body: bytes, send: Send) -> None:
        error, self._error = self._error, None
        try:
            if error is None:
                if not self._gone:
                    await send({"type": "http.response.body", "body": body})
            else:
                if body:
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                if isinstance(error, Exception):
                    raise error
                raise RuntimeError(f"the app raised {type(error).__name__}") from error
        finally:
            del error  # its traceback refers to this frame

    def _wake(self) -> None:
        if not self._waiter.done():
            self._waiter.set_result(None)

    def _want(self) -> None:
        if self._wanted is not None:
            self._wanted.set()

    async def _listen(self, receive: Receive) -> None:
        """Receive the body as the app reads it, and notice when the client goes."""
        while True:
            # One message ahead of the app, once the answer has begun: how else would a client's going be seen?
            if self._more and self._wanted is not None and (self._received or not self._streaming):
                await self._wanted.wait()
                self._wanted.clear()
            message = await receive()
            if message["type"] == "http.disconnect":
                self._abandon()
                return
            with self._lock:
                if body := message.get("body", b""):
                    self._received.append(body)
                self._more = self._more and message.get("more_body", False)
                self._lock.notify_all()

    def _abandon(self) -> None:
        with self._lock:
            self._gone = True
            self._lock.notify_all()
