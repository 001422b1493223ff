"""The WebSockets of an ASGI worker: when it stops, each of them is closed with 1001. The stop itself is in life.py.

This module works on the ASGI interface, which is the same in all versions of uvicorn.
"""

from __future__ import annotations

import asyncio
from typing import Any, Awaitable, Callable, Coroutine, Dict, Set

from memunit.worker.answer import came_of
from memunit.worker.farewell import wait_for_answer
from memunit.worker.lifespans import Lifespan
from memunit.worker.proxied import unmapped

Message = Dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_GOING_AWAY = 1001  # RFC 6455, 7.4.1


class Application:
    """Stands between server and app, but for HTTP."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.lifespan = Lifespan()
        self._app = app
        self._draining = False
        self._websockets: Set["_WebSocket"] = set()
        self._closing: Set["asyncio.Task[None]"] = set()

    def __call__(self, scope: Message, receive: Receive, send: Send) -> Awaitable[None]:
        kind = scope["type"]
        if kind == "websocket":
            return self._websocket(scope, receive, send)
        return self.lifespan.run(self._app, scope, receive, send)

    def drain(self) -> None:
        """Close the WebSockets, and what becomes one from now on."""
        self._draining = True
        for websocket in list(self._websockets):
            self._spawn(websocket.go_away())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._closing.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._closing.discard)

    async def _websocket(self, scope: Message, receive: Receive, send: Send) -> None:
        for end in ("client", "server"):
            address = scope.get(end)
            if address and address[1] is not None:
                scope[end] = (unmapped(address[0]), *address[1:])
        websocket = _WebSocket(send, lambda: self._draining)
        self._websockets.add(websocket)
        try:
            await self._app(scope, receive, websocket.send)
        except Exception as error:
            if not came_of(error, _Gone):
                raise
        finally:
            self._websockets.discard(websocket)


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
            wait_for_answer(self._send)
            await self._send({"type": "websocket.close", "code": _GOING_AWAY, "reason": ""})
