"""Apps in whose memory one route leaves something behind: bytes at each request, or many at few requests."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs

_kept: list[bytearray] = []
_LEAKS = os.environ.get("LEAKS", "/product")
_SIZE = int(os.environ.get("SIZE", "65536"))


def _work(path: str, query: str) -> bytes:
    if path == "/noted":
        return _noted(parse_qs(query).get("say", [""])[0])
    bytearray(_SIZE // 2)  # what every request needs for a moment
    if path.startswith(_LEAKS):
        kept = bytearray(_SIZE)
        kept[::4096] = b"x" * len(kept[::4096])
        _kept.append(kept)
    return b"ok"


def _noted(say: str) -> bytes:
    """Make a note now; and say whom the notes blame."""
    from memunit.worker import routes

    notes = routes.own()
    assert notes is not None
    notes._due = 0.0
    notes.look()
    if not say:
        return b"noted"
    blamed = routes.blame(notes)
    return f"{blamed.route} {blamed.share:.2f}".encode() if blamed else b"nobody"


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """By ASGI."""
    if scope["type"] != "http":
        return
    body = _work(scope["path"], scope["query_string"].decode())
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """By WSGI."""
    body = _work(environ["PATH_INFO"], environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
