"""An ASGI app in nothing but the standard library, for process tests: it does what the path says."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from telling import tell  # type: ignore[import-not-found]

_kept: list[bytearray] = []


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """`/` answers "ok PID"; see the branches for the rest."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    if scope["type"] == "websocket":
        await _websocket(scope, receive, send)
        return
    path = scope["path"]
    query = {key: values[0] for key, values in parse_qs(scope["query_string"].decode()).items()}
    if path in ("/slow", "/told"):
        if path == "/told":
            tell("slow")
        await asyncio.sleep(float(query.get("s", "0.1")))
    elif path == "/held":
        tell("held")
        await _let_go(query["on"])
    elif path == "/leak":
        _kept.append(bytearray(int(query.get("kb", "64")) * 1024))
    elif path == "/stream":
        await _stream(send, int(query.get("n", "10")), float(query.get("s", "0.01")))
        return
    elif path == "/large":
        await _answer(send, b"x" * int(query["size"]))
        return
    elif path == "/echo":
        await _answer(send, await _body(receive))
        return
    elif path == "/unread":
        await _answer(send, b"ok unread")  # the body is left where it is
        return
    elif path == "/nodelay":
        await _answer(send, str(_nodelay(scope["client"])).encode())
        return
    elif path == "/error":
        raise RuntimeError("asked for")
    elif path == "/scope":
        await _answer(send, _told(scope).encode())
        return
    elif path == "/stuck":
        _stuck()
    await _answer(send, f"ok {os.getpid()}".encode())


async def _lifespan(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:
            tell("shut down")
            await send({"type": "lifespan.shutdown.complete"})
            return


async def _websocket(scope: dict[str, Any], receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while True:
        if scope["path"] == "/deaf":
            await asyncio.sleep(0.01)
            await send({"type": "websocket.send", "text": "tick"})
            continue
        message = await receive()
        if message["type"] == "websocket.disconnect":
            tell(f"websocket closed with {message.get('code')}")
            return
        text = _told(scope) if scope["path"] == "/scope" else "ok " + (message.get("text") or "")
        await send({"type": "websocket.send", "text": text})


async def _let_go(fifo: str) -> None:
    """Wait until somebody writes there."""
    loop, written = asyncio.get_running_loop(), asyncio.Event()
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    loop.add_reader(reader, written.set)
    try:
        await written.wait()
    finally:
        loop.remove_reader(reader)
        os.close(reader)


def _told(scope: dict[str, Any]) -> str:
    """What the server says of the client and of where the app is."""
    told = {key: scope[key] for key in ("client", "scheme", "root_path", "path")}
    return json.dumps({**told, "query_string": scope["query_string"].decode()})


async def _answer(send: Any, body: bytes) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _stream(send: Any, count: int, pause: float) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    for number in range(count):
        await send({"type": "http.response.body", "body": f"{number}\n".encode(), "more_body": True})
        await asyncio.sleep(pause)
    await send({"type": "http.response.body", "body": b"ok"})


async def _body(receive: Any) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _nodelay(client: tuple[str, int]) -> int:
    """TCP_NODELAY of this process's own end of the connection from `client`."""
    for entry in Path("/proc/self/fd").iterdir():
        try:
            sock = socket.socket(fileno=os.dup(int(entry.name)))
        except OSError:
            continue  # no socket, or the descriptor of the listing itself
        with sock:
            try:
                if sock.getpeername()[:2] == tuple(client):
                    return int(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0)
            except OSError:
                continue
    raise LookupError(client)


def _stuck() -> None:
    tell("stuck")
    read, _write = os.pipe()
    os.read(read, 1)
