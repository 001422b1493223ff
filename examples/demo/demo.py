"""The app of memunit@demo: plain ASGI without a framework, with a route that leaks.

/            "ok PID"
/leak?kb=N   keeps N KiB for ever (default 64), then answers "ok PID"
/slow?s=F    waits F seconds (default 1), then answers "ok PID"
/rss         "rss BYTES", the resident memory of the worker that answers
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_LONGEST_WAIT = 3600.0
_kept: list[bytes] = []


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Serve one HTTP request, or the app's start-up and shutdown."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
    elif scope["type"] == "http":
        try:
            status, text = await _answer(scope["path"], parse_qs(scope["query_string"].decode("latin-1")))
        except ValueError as error:
            status, text = 400, str(error)
        body = f"{text}\n".encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
    else:
        # No WebSockets: a close before the handshake is a 403.
        await receive()
        await send({"type": "websocket.close"})


async def _answer(path: str, query: dict[str, list[str]]) -> tuple[int, str]:
    """Status and text. Raises ValueError if a number is not a number."""
    if path == "/rss":
        return 200, f"rss {_resident()}"
    if path == "/leak":
        # Bytes other than zero: pages that were never written take no memory.
        _kept.append(b"\xa5" * (1024 * int(_number(query, "kb", 64.0, most=2.0**30))))
    elif path == "/slow":
        await asyncio.sleep(_number(query, "s", 1.0, most=_LONGEST_WAIT))
    elif path != "/":
        return 404, "not found: there are /, /leak?kb=N, /slow?s=F and /rss"
    return 200, f"ok {os.getpid()}"


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _number(query: dict[str, list[str]], name: str, default: float, *, most: float) -> float:
    text = query.get(name, [str(default)])[-1]
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.0 <= number <= most:
        raise ValueError(f"{name} is a number from 0 to {most:g}")
    return number


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
