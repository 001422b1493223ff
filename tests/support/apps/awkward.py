"""Apps that do what surprises a server: AWKWARD says which."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import os
import signal
import sys
import threading
from typing import Any

from telling import tell  # type: ignore[import-not-found]

WHICH = os.environ.get("AWKWARD", "")


def _hang() -> None:
    """Ends never: nobody sets it."""
    threading.Event().wait()


def _thread(**options: Any) -> None:
    threading.Thread(target=_hang, name="shop-consumer", **options).start()


if WHICH == "endless-shutdown":
    atexit.register(tell, "flushed")
if WHICH == "blocked-handler":
    signal.signal(signal.SIGTERM, lambda *_: _hang())
if WHICH == "import-thread":
    _thread()


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    global _pool  # noqa: PLW0603
    if scope["type"] == "lifespan":
        await _lifespan(scope, receive, send)
        return
    if scope["path"] == "/stubborn":
        _pool = asyncio.ensure_future(_stubborn())
    if scope["path"] == "/executor":
        asyncio.get_running_loop().run_in_executor(None, _hang)
    body = b"ok %d" % os.getpid()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]}
    )
    await send({"type": "http.response.body", "body": body})


async def _lifespan(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if WHICH == "declines":
        raise ValueError("Shop can only handle HTTP connections, not lifespan.")
    if WHICH == "path":
        scope["path"]
    await receive()
    if WHICH == "startup":
        raise ConnectionError("no database")
    if WHICH == "exit":
        sys.exit("no licence")
    if WHICH == "long-startup":  # a FIFO: until somebody opens it to write
        await asyncio.get_running_loop().run_in_executor(None, open, os.environ["HOLD"])
    await send({"type": "lifespan.startup.complete"})
    if WHICH == "later":
        raise LookupError("lost")
    await receive()
    if WHICH == "shutdown":
        raise OSError("cannot flush")
    if WHICH == "endless-shutdown":
        await asyncio.sleep(float("inf"))
    if WHICH == "blocked-shutdown":
        _hang()
    await send({"type": "lifespan.shutdown.complete"})


async def _stubborn() -> None:
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    global _pool  # noqa: PLW0603
    if environ["PATH_INFO"] == "/thread":
        _thread()
    elif environ["PATH_INFO"] == "/pool":
        _pool = concurrent.futures.ThreadPoolExecutor(1, "shop-pool")
        _pool.submit(int)
    elif environ["PATH_INFO"] == "/ends":
        threading.Timer(0.3, tell, ("the work is done",)).start()
    start_response("200 OK", [])
    return [b"ok %d" % os.getpid()]


_pool: Any = None
