"""An ASGI app that says what it was asked; /odd/NAME answers as no server can send, or as few do."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from telling import tell  # type: ignore[import-not-found]


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """See the module."""
    if scope["type"] != "http":
        raise RuntimeError(scope["type"])
    if scope["path"].startswith("/odd/"):
        await _odd(scope, receive, send)
    else:
        await _echo(scope, receive, send)


async def _echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Reads the whole body, and answers with method, target, headers and body as JSON."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            if (
                scope["path"] == "/told"
            ):  # the corpus has more of these than a queue that nobody reads has room for
                tell("lost")
            return
        body += message["body"]
        more = message["more_body"]
    if any(name == b"x-forwarded-proto" for name, _ in scope["headers"]):
        _seen.append(scope["path"])
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    said = {
        "request": f"{scope['method']} {target.decode()}" + (f" {body.decode('latin-1')}" if body else ""),
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
    }
    await _answer(send, 200, [], json.dumps(said).encode())


_seen: list[str] = []  # what nginx has let pass, and what it has not


_HEADERS: dict[str, list[tuple[Any, Any]]] = {
    "blank": [(b"x-a", b" \t1 "), (b"set-cookie", b" a=1")],
    "line-break": [(b"x-bad", b"1\r\nx-b: 2")],
    "lf": [(b"x-bad", b"1\n")],
    "nul": [(b"x-bad", b"1\x002")],
    "control": [(b"x-bad", b"\x01")],
    "no-name": [(b"", b"x-bad")],
    "bad-name": [(b"x-bad :", b"1")],
    "text-name": [("x-bad", b"1")],
    "text-value": [(b"x-bad", "1")],
    "negative": [(b"content-length", b"-5")],
    "no-number": [(b"content-length", b"x-bad")],
    "two-lengths": [(b"content-length", b"2"), (b"Content-Length", b"3")],
    "coding": [(b"transfer-encoding", b"gzip")],
    "own": [(b"Date", b"then"), (b"SERVER", b"shop"), (b"connection", b"keep-alive"), (b"keep-alive", b"5")],
}


async def _odd(scope: dict[str, Any], receive: Any, send: Any) -> None:
    name = scope["path"].removeprefix("/odd/")
    if name in _HEADERS:
        await _answer(send, 200, _HEADERS[name], b"ok")
    elif name.isdigit():
        await _answer(send, int(name), [], b"ok")
    elif name == "longer":
        await _start(send, 200, [(b"content-length", b"2")])
        await send({"type": "http.response.body", "body": b"ok", "more_body": True})
        await send({"type": "http.response.body", "body": b"and more"})
    elif name == "shorter":
        await _start(send, 200, [(b"content-length", b"10")])
        await send({"type": "http.response.body", "body": b"ok", "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    elif name == "nothing":
        return
    elif name == "half":
        await _start(send, 200, [])
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
    elif name == "raises":
        raise LookupError("asked for")
    elif name == "raises-late":
        await _start(send, 200, [])
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise LookupError("asked for")
    elif name == "stream":
        await _start(send, 200, [])
        for number in range(3):
            await send({"type": "http.response.body", "body": b"%d" % number, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body"})
    elif name == "texts":
        await _start(send, 200, [(b"content-length", b"4")])
        await send({"type": "http.response.body", "body": "text"})
    elif name == "hot":
        await _start(send, 200, [])
        while True:  # and nothing else: it never waits for anything but its client
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
    elif name == "large":
        await _start(send, 200, [(b"content-length", b"20000001")])
        await send({"type": "http.response.body", "body": bytes(20_000_000), "more_body": True})
        await send({"type": "http.response.body", "body": b"!"})
    elif name == "large-until-gone":
        await _start(send, 200, [])
        await send({"type": "http.response.body", "body": bytes(20_000_000), "more_body": True})
        await _disconnect(receive)
        tell("disconnected")
    elif name == "slower":
        await asyncio.sleep(1.6)
        await _answer(send, 200, [], b"slower")
    elif name == "drips":
        await _start(send, 200, [])
        gone = asyncio.ensure_future(_disconnect(receive))
        for number in range(8):
            if not gone.done():
                await send({"type": "http.response.body", "body": b"%d" % number, "more_body": True})
            await asyncio.sleep(0.2)
        await send({"type": "http.response.body"})
    elif name == "read-much-later":
        await asyncio.sleep(1.6)
        await _echo(scope, receive, send)
    elif name == "slow":
        tell("asked")
        await asyncio.sleep(0.3)
        await _answer(send, 200, [], b"slow")
    elif name == "waits":
        tell("asked")
        while (await receive())["type"] != "http.disconnect":
            pass
        tell("disconnected")
    elif name == "until-gone":
        await _start(send, 200, [])
        gone = asyncio.ensure_future(_disconnect(receive))
        while not gone.done():
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
            await asyncio.sleep(0.01)
        tell("disconnected")
    elif name == "unread":
        tell("asked")
        await asyncio.Event().wait()
    elif name == "seen":
        await _answer(send, 200, [], json.dumps({"targets": _seen}).encode())
    elif name == "read-later":
        tell("asked")
        await asyncio.sleep(0.1)
        await _echo(scope, receive, send)
    else:
        await _answer(send, 200, [], b"ok")


async def _disconnect(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _start(send: Any, status: int, headers: list[tuple[Any, Any]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _answer(send: Any, status: int, headers: list[tuple[Any, Any]], body: bytes) -> None:
    if not any(bytes(name).lower() == b"content-length" for name, _ in headers if isinstance(name, bytes)):
        headers = [*headers, (b"content-length", b"%d" % len(body))]
    await _start(send, status, headers)
    await send({"type": "http.response.body", "body": body})
