"""One request and one WebSocket through a socket pair before READY=1.

uvicorn's insides and the parser libraries change from version to version. A worker that says it is ready and then
resets each connection takes the place of one that works; one that ends before that does not.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Callable, List

from memunit.worker.connection import Connection
from memunit.worker.httpserver import Connections, HttpServer

_PATIENCE = 10.0  # seconds: none of it is waited for, on a machine that has a processor to give
_LARGEST = 65536
_REQUEST = b"POST /?a=b HTTP/1.1\r\nHost: memunit\r\nContent-Length: 2\r\n\r\nok"
_HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: memunit\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Failed(Exception):
    """The answer was not the expected one."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Echoes a body, or accepts a WebSocket and closes it. Has an uneventful lifespan."""
    message = await receive()
    if scope["type"] == "lifespan":
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": message["body"]})


def wsgi(environ: Any, start_response: Any) -> List[bytes]:
    """Echoes a body, by WSGI."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["wsgi.input"].read()]


async def run(make: Callable[[Connections], HttpServer]) -> None:
    """Try a server of app() or wsgi(), made by `make` for these connections. Raises what goes wrong."""
    connections = Connections()
    server = make(connections)
    await asyncio.wait_for(_exchange(server, _REQUEST, b"HTTP/1.1 200 ", b"ok"), _PATIENCE)
    if server.websocket is not None:
        await asyncio.wait_for(
            _exchange(server, _HANDSHAKE, b"HTTP/1.1 101 ", b"\x88\x02\x03\xe8"), _PATIENCE
        )
    for connection in list(connections):
        connection.transport.abort()


async def _exchange(server: HttpServer, request: bytes, begins: bytes, ends: bytes) -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        await loop.connect_accepted_socket(lambda: Connection(server), ours)
        await loop.sock_sendall(theirs, request)
        answer = b""
        while not (answer.startswith(begins) and answer.endswith(ends)):
            block = await loop.sock_recv(theirs, _LARGEST)
            answer += block
            if not block:
                raise Failed(f"the answer to a request is {answer[:200]!r}")
