"""The end of an ASGI worker that nobody notices: answers say `Connection: close`, WebSockets get 1001.

Works on the ASGI interface, which is the same in all versions of a server. Where it looks behind that (is
more of the same connection waiting?), a server that shows nothing only costs the connection its keep-alive
time.
"""

from __future__ import annotations

import asyncio
from typing import Any, Awaitable, Callable, Coroutine, Dict, Optional, Set

from memunit.worker.farewell import wait_for_answer
from memunit.worker.framing import unchunked
from memunit.worker.listening import unread

Message = Dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_GOING_AWAY = 1001  # RFC 6455, 7.4.1


class Connections(Set[Any]):
    """The server's set of open connections, that says when it has become empty."""

    on_empty: Optional[Callable[[], None]] = None

    def discard(self, element: Any) -> None:
        super().discard(element)
        self._look()

    def remove(self, element: Any) -> None:
        super().remove(element)
        self._look()

    def _look(self) -> None:
        if not self and self.on_empty is not None:
            self.on_empty()


class Application:
    """Stands between server and app. `start_failure` is what the app said when its start-up failed."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.start_failure = ""
        self._app = app
        self._draining = False
        self._websockets: Set["_WebSocket"] = set()
        self._closing: Set["asyncio.Task[None]"] = set()

    def __call__(self, scope: Message, receive: Receive, send: Send) -> Awaitable[None]:
        kind = scope["type"]
        if kind == "http":
            return self._app(scope, receive, self._telling(scope, send))
        if kind == "websocket":
            return self._websocket(scope, receive, send)
        return self._app(scope, receive, self._listening(send))

    def drain(self) -> None:
        """From now on tell every client that its connection ends, and close the WebSockets."""
        self._draining = True
        for websocket in list(self._websockets):
            self._spawn(websocket.go_away())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._closing.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._closing.discard)

    def _telling(self, scope: Message, send: Send) -> Send:
        async def answer(message: Message) -> None:
            if self._draining and message["type"] == "http.response.start" and may_close(scope, send):
                message = {**message, "headers": closing(message.get("headers", ()))}
            await forward(message)

        forward = unchunked(send) if scope.get("http_version") == "1.0" else send
        return answer

    async def _websocket(self, scope: Message, receive: Receive, send: Send) -> None:
        websocket = _WebSocket(send, lambda: self._draining)
        self._websockets.add(websocket)
        try:
            await self._app(scope, receive, websocket.send)
        except Exception as error:
            if not came_of(error, _Gone):
                raise
        finally:
            self._websockets.discard(websocket)

    def _listening(self, send: Send) -> Send:
        async def report(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                self.start_failure = str(message.get("message", ""))
            await send(message)

        return report


def closing(headers: Any) -> list[Any]:
    """`headers` with one `connection: close` in place of any other word about the connection."""
    kept = [pair for pair in headers if bytes(pair[0]).lower() != b"connection"]
    return [*kept, (b"connection", b"close")]


def may_close(scope: Message, send: Send) -> bool:
    """Whether the answer being sent can be the last of its connection.

    Not while more of this request or a pipelined one is coming: to close over unread bytes is to reset the
    connection, which can cost the client the answer too. The next answer is asked again.
    """
    if scope.get("http_version", "1.1") not in ("1.0", "1.1"):
        return False
    cycle = getattr(send, "__self__", None)
    transport = getattr(cycle, "transport", None)
    if transport is None:
        return True
    if getattr(cycle, "more_body", False) or unread(transport):
        return False
    connection = transport.get_protocol()
    if getattr(connection, "pipeline", None):  # httptools: requests parsed and waiting
        return False
    trailing = getattr(getattr(connection, "conn", None), "trailing_data", None)  # h11: bytes after this one
    return not (trailing and trailing[0])


def forgotten(connection: Any) -> bool:
    """Whether an HTTP connection waits for a request, and no timer of the server's is going to close it.

    uvicorn takes the timer away at each byte. A body that comes after its answer leaves a connection so.
    """
    if not hasattr(connection, "timeout_keep_alive_task") or not hasattr(connection, "cycle"):
        return False
    timer, cycle = connection.timeout_keep_alive_task, connection.cycle
    if (timer is not None and not timer.cancelled()) or (cycle is not None and not cycle.response_complete):
        return False
    trailing = getattr(getattr(connection, "conn", None), "trailing_data", None)
    if trailing is not None:  # h11
        half_a_request = bool(trailing[0])
    else:  # httptools: a scope is made when a request begins, a cycle when its head is complete
        half_a_request = connection.scope is not (cycle and cycle.scope)
    return not half_a_request and not unread(connection.transport)


class _Gone(OSError):
    """The app sends on a WebSocket that the drain has closed (ASGI asks for an OSError then)."""


class _WebSocket:
    def __init__(self, send: Send, draining: Callable[[], bool]) -> None:
        self._send = send
        self._draining = draining
        self._accepted = False
        self._closed = False

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if self._closed:
            if kind == "websocket.close":
                return
            raise _Gone("this worker is going away")
        if kind in ("websocket.close", "websocket.http.response.start"):
            self._closed = kind == "websocket.close"
            await self._send(message)
            return
        await self._send(message)
        if kind == "websocket.accept":
            self._accepted = True
            if self._draining():
                await self.go_away()

    async def go_away(self) -> None:
        """Close with 1001, if the handshake is over and it is not closed yet."""
        if self._accepted and not self._closed:
            self._closed = True
            wait_for_answer(getattr(self._send, "__self__", None))
            await self._send({"type": "websocket.close", "code": _GOING_AWAY, "reason": ""})


def came_of(error: Optional[BaseException], kind: type) -> bool:
    """Whether `error`, or what it was raised for, is a `kind`."""
    seen: Set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, kind):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False
