"""ASGI apps that cannot be had, each in its own way."""

from __future__ import annotations

import asyncio
from typing import Any

from telling import tell  # type: ignore[import-not-found]

number = 7


def create_app() -> Any:
    """A factory."""

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
            await send({"type": "http.response.body", "body": b"made"})

    return app


def broken_factory() -> Any:
    """Raises."""
    raise LookupError("no settings")


async def no_start(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Its start-up fails."""
    assert scope["type"] == "lifespan"
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "Traceback: ...\nOSError: no d\u00e4tabase"})


async def slow_start(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Its start-up never ends."""
    tell("starting")
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        print("cleaned up", flush=True)


async def bad_end(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Its shutdown fails."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "OSError: disk full"})
