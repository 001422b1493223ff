"""Answers that do not end by themselves: ASGI as `app`, WSGI as `wsgi`."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Iterator
from typing import Any

from telling import tell  # type: ignore[import-not-found]

from memunit.worker import grace

# The steps of an orderly end are seconds apart, within a grace of a few: else they are one on a machine that is busy.
grace._SHARE, grace._MOST = 0.9, 60.0


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        tell("shut down")
        await send({"type": "lifespan.shutdown.complete"})
        return
    path = scope["path"]
    try:
        await _WAYS[path](receive, send)
    finally:
        tell(f"finally {path}")


async def _start(send: Any, kind: bytes, *headers: tuple[bytes, bytes]) -> None:
    headers = ((b"content-type", kind), *headers)
    await send({"type": "http.response.start", "status": 200, "headers": list(headers)})


async def _send_for_ever(send: Any) -> None:
    while True:
        await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": True})
        await asyncio.sleep(0.01)


async def _events(_receive: Any, send: Any) -> None:
    await _start(send, b"text/event-stream; charset=utf-8")
    await _send_for_ever(send)


async def _silent_events(_receive: Any, send: Any) -> None:
    """As one who waits for what never comes, and looks at nothing else."""
    await _start(send, b"text/event-stream")
    await send({"type": "http.response.body", "body": b": hello\n\n", "more_body": True})
    await asyncio.Event().wait()


async def _stream(_receive: Any, send: Any) -> None:
    await _start(send, b"text/csv")
    await _send_for_ever(send)


async def _listens(receive: Any, send: Any) -> None:
    """Hears of the end, and ends its answer by itself."""
    await _start(send, b"text/csv")
    await send({"type": "http.response.body", "body": b"1\n", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass
    await send({"type": "http.response.body", "body": b"total 1\n"})


async def _polls(receive: Any, send: Any) -> None:
    """A long poll that has not answered."""
    while (await receive())["type"] != "http.disconnect":
        pass
    await _start(send, b"text/plain", (b"content-length", b"7"))
    await send({"type": "http.response.body", "body": b"nothing"})


async def _waits(_receive: Any, _send: Any) -> None:
    await asyncio.Event().wait()


async def _stubborn(_receive: Any, _send: Any) -> None:
    """Takes no notice of its being cancelled."""
    tell("stubborn")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            tell("cancelled")


async def _idle(_receive: Any, send: Any) -> None:
    await _start(send, b"text/plain", (b"content-length", b"2"))
    await send({"type": "http.response.body", "body": b"ok"})


_WAYS = {
    "/events": _events,
    "/silent": _silent_events,
    "/stream": _stream,
    "/listens": _listens,
    "/polls": _polls,
    "/waits": _waits,
    "/stubborn": _stubborn,
    "/idle": _idle,
}


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    kind = "text/event-stream" if environ["PATH_INFO"] == "/events" else "text/csv"
    start_response("200 OK", [("Content-Type", kind)])
    return _blocks(environ["PATH_INFO"])


def _blocks(path: str) -> Iterator[bytes]:
    try:
        while True:
            yield b"data: %d\n\n" % os.getpid()
            time.sleep(0.01)
    finally:
        tell(f"finally {path}")
