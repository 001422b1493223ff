"""ASGI apps that set handlers of SIGTERM themselves, as HANDLER says: how, and WHERE: when."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
from typing import Any

from telling import tell  # type: ignore[import-not-found]

HANDLER, WHERE = os.environ["HANDLER"], os.environ["WHERE"]
_set: list[str] = []


def leaves(*_: Any) -> None:
    tell("own handler")
    sys.exit(3)


def stops_the_loop() -> None:
    tell("own handler")
    asyncio.get_running_loop().stop()


def cancels_all(*_: Any) -> None:
    tell("own handler")
    for task in asyncio.all_tasks():
        task.cancel()


def remembers(word: str) -> None:
    tell(f"own handler {word}")


def raises(*_: Any) -> None:
    tell("own handler")
    raise LookupError("the app's handler")


def install(moment: str) -> None:
    if moment != WHERE or _set:
        return
    _set.append(moment)
    if HANDLER == "leaves":
        signal.signal(signal.SIGTERM, leaves)
    elif HANDLER == "raises":
        signal.signal(signal.SIGTERM, raises)
    elif HANDLER == "default":
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    elif HANDLER == "blocks":
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    elif HANDLER == "removes":
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
    elif HANDLER == "stops":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stops_the_loop)
    elif HANDLER == "cancels":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, cancels_all)
    elif HANDLER == "partial":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, functools.partial(remembers, "partial"))
    else:
        raise LookupError(HANDLER)


install("import")


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        install("lifespan")
        await send({"type": "lifespan.startup.complete"})
        try:
            await receive()
        finally:
            tell("shut down")
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/set":
        install("request")
    else:
        tell("slow")
        await asyncio.sleep(0.2)
    body = b"ok %d" % os.getpid()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]}
    )
    await send({"type": "http.response.body", "body": body})


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    if environ["PATH_INFO"] != "/set":
        tell("slow")
        import time

        time.sleep(0.2)
    start_response("200 OK", [])
    return [b"ok %d" % os.getpid()]


def serve(sockets: list[Any], stopping: Any) -> None:
    stopping.wait()
    tell("served")
