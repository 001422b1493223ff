"""Five apps, each broken in its own way, for whoever is on call. All of it is what apps really do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any

_kept: list[bytes] = []


def cache_result(kib: int) -> None:
    """A cache without a bound."""
    for _ in range(kib // 64):
        _kept.append(b"\xa5" * 65536)


def build_export(mib: int) -> bytes:
    """One request that needs everything at once."""
    rows = []
    for _ in range(mib):
        rows.append(b"\xa5" * (1 << 20))
    return b"".join(rows)


def query_without_timeout() -> None:
    """A call that blocks, in the middle of the event loop."""
    time.sleep(3600)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The app of leak, hang and ceiling."""
    if scope["type"] != "http":
        return
    path = scope["path"]
    if path == "/leak":
        cache_result(512)
    elif path == "/hang":
        query_without_timeout()
    elif path == "/export":
        build_export(400)
    headers = [(b"content-length", b"3")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok\n"})


def connect() -> str:
    """What the app of crash does at its import, and can't."""
    return os.environ["DATABASE_URL"]


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The app of drain: a request that takes longer than any grace."""
    if environ["PATH_INFO"] == "/report":
        render_report()
    start_response("200 OK", [("Content-Length", "3")])
    return [b"ok\n"]


def render_report() -> None:
    """Minutes of it."""
    print("rendering", flush=True)
    time.sleep(3600)
