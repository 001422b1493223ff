"""One HTTP request and its answer, as ASGI's http scope has them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Awaitable, Callable, Dict, List, Optional

from memunit.worker import httpanswer, signals
from memunit.worker.answer import HIGH_WATER, Answer, LeftOff, came_of

if TYPE_CHECKING:
    from memunit.worker.connection import Connection

Message = Dict[str, Any]

# So many messages to a client that has gone are dropped at once; each later message takes so many seconds. An app that
# never asks whether its client is there took all of a processor until its worker ended.
_AT_ONCE, _PAUSE = 1000, 0.001


class Cycle(Answer):
    """A request whose app is a coroutine."""

    # `_unheard` is there from the first of what it counts on: most requests have none.
    __slots__ = ("_blocks", "_event", "_scope", "_size", "_told", "_unheard", "task")

    def __init__(
        self, connection: Connection, scope: Message, *, more: bool, closes: bool, waits: bool
    ) -> None:
        super().__init__(connection, more=more, closes=closes, waits=waits)
        self._scope = scope
        self.task: Optional["asyncio.Task[None]"] = None
        self._blocks: List[bytes] = []  # of the request's body, not given to the app yet
        self._size = 0
        self._told = False  # whether the app has been given the end of the request's body
        self._event: Optional[asyncio.Event] = None

    @property
    def scope(self) -> Message:
        return self._scope

    # The connection's side.

    def feed(self, block: bytes) -> bool:
        self._blocks.append(block)
        self._size += len(block)
        if self._event is not None:
            self._event.set()
        return self.full

    @property
    def full(self) -> bool:
        return self._size > HIGH_WATER

    def fed(self) -> None:
        self.more = False
        if self._event is not None:
            self._event.set()

    def lose(self) -> None:
        self.gone = True
        if self._event is not None:
            self._event.set()

    def doubt(self) -> None:
        self.doubted = True
        if self._event is not None:
            self._event.set()

    def leave_off(self) -> None:
        """receive() gives http.disconnect, and send() takes the end of an answer alone."""
        self.leaving = True
        if self._event is not None:
            self._event.set()

    def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()

    async def run(self, app: Callable[..., Awaitable[Any]]) -> None:
        """Have the app answer. Never raises but for KeyboardInterrupt and SystemExit, which end the loop."""
        server = self.connection.server
        try:
            result = await app(self._scope, self.receive, self.send)
        except BaseException as error:
            if signals.forked:
                signals.leave(error)
            self._failed(error)
        else:
            if signals.forked:
                signals.leave(None)
            if result is not None:
                server.logger.error("ASGI callable should return None, but returned '%s'.", result)
                self._break_off()
            elif self.leaving or self.doubted or (self._events and server.draining):
                self._break_off()
            elif not self.complete and not self.gone:
                what = "completing" if self.begun or self._head is not None else "starting"
                server.logger.error("ASGI callable returned without %s response.", what)
                self._break_off()
        finally:
            server.cycles.discard(self)
            if server.end is not None and self.request is not None and not server.end(self.request):
                server.name(self)
            if server.after_request is not None:
                server.after_request()
            if server.draining and not server.cycles:
                server.changed()

    def _failed(self, error: BaseException) -> None:
        told = self.gone or self.leaving or self.doubted
        if not (told and isinstance(error, asyncio.CancelledError)) and not came_of(error, LeftOff):
            self.connection.server.logger.error("Exception in ASGI application\n", exc_info=error)
        self._break_off()

    # The app's side.

    async def receive(self) -> Message:
        """ASGI's receive()."""
        self._go_on()
        while not (self.gone or self.complete or self.leaving or self.doubted):
            if self._blocks or not (self.more or self._told):
                blocks = self._blocks
                body = blocks[0] if len(blocks) == 1 else b"".join(blocks)
                if blocks:
                    self._blocks = []
                    self._size = 0
                    if self.more:
                        self.connection.resume()
                self._told = not self.more
                return {"type": "http.request", "body": body, "more_body": self.more}
            if self._event is None:
                self._event = asyncio.Event()
            self._event.clear()
            await self._event.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """ASGI's send(). Raises RuntimeError for what can't be sent, LeftOff (an OSError) when it is to leave off."""
        connection = self.connection
        while connection.unwritable is not None and not self.gone:
            await connection.unwritable.wait()
        if self.gone:
            # Nothing else here waits: an app that streams on would have the loop to itself, and all others wait.
            self._unheard: int = getattr(self, "_unheard", 0) + 1
            await asyncio.sleep(0 if self._unheard < _AT_ONCE else _PAUSE)
            return
        kind = message["type"]
        if self._head is None:
            if kind != "http.response.start":
                raise RuntimeError(f"Expected ASGI message 'http.response.start', but got '{kind}'.")
            status, scope = message["status"], self._scope
            given = httpanswer.head(status, message.get("headers", ()))
            self._start(scope["method"], status, given, chunks=scope["http_version"] == "1.1")
        elif self.complete:
            raise RuntimeError(f"Unexpected ASGI message '{kind}' sent, after response already completed.")
        elif kind != "http.response.body":
            raise RuntimeError(f"Expected ASGI message 'http.response.body', but got '{kind}'.")
        else:
            body = message.get("body", b"")
            if self._body(body if type(body) is bytes else _bytes(body), message.get("more_body", False)):
                if self._event is not None:
                    self._event.set()
            elif connection.transport.is_closing():
                await asyncio.sleep(0)  # or connection_lost() has no turn


def _bytes(body: Any) -> bytes:
    """Of a buffer, which may change while it waits to be sent."""
    if not isinstance(body, (bytes, bytearray, memoryview)):
        raise TypeError(f"the body of an answer is made of bytes, not of {type(body).__name__}")
    return bytes(body)
