"""Apps that hold what they could give back, for process tests: ASGI, WSGI and callable do what the path says."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

import asked  # type: ignore[import-not-found]
from telling import tell  # type: ignore[import-not-found]

_kept: list[bytearray] = []
_cache: list[bytearray] = []


def _blocks(query: dict[str, str]) -> list[bytearray]:
    """So many MiB in blocks that malloc(3) takes from its heap."""
    sizes = random.Random(7)
    left, blocks = int(query.get("mb", "60")) << 20, []
    while left > 0:
        blocks.append(bytearray(sizes.randrange(1 << 10, 60 << 10)))
        left -= len(blocks[-1])
    return blocks


def _fragment(query: dict[str, str]) -> str:
    """All but one block in twenty is free again, and none of it goes back to the kernel by itself."""
    _kept[:] = _blocks(query)[::20]
    return f"ok {os.getpid()}"


def _fill(query: dict[str, str]) -> str:
    """A cache that only the hook empties, with a block at the end of the heap that stays."""
    _cache[:] = _blocks(query)
    _kept.append(bytearray(1 << 10))
    return f"ok {os.getpid()}"


def _watch(query: dict[str, str]) -> str:
    """What a process that the app starts would be told to watch, and how many threads there are."""
    return f"{os.environ.get('MEMORY_PRESSURE_WATCH', '-')} {threading.active_count()}"


PATHS: dict[str, Callable[[dict[str, str]], str]] = {
    "/": lambda _: f"ok {os.getpid()}",
    "/fragment": _fragment,
    "/fill": _fill,
    "/watch": _watch,
    "/allocator": lambda _: os.environ.get("MALLOC_ARENA_MAX", "-"),
}
asked._PATHS.update(PATHS)
run = asked.run


def empty() -> None:
    """The hook."""
    _cache.clear()
    tell(f"emptied in {threading.current_thread().name}")


async def empty_in_the_loop() -> None:
    """The hook, for what was made in the loop."""
    await asyncio.sleep(0)
    empty()


def fail() -> None:
    """A hook that raises."""
    tell("failing")
    raise RuntimeError("the hook fails")


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """ASGI."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = PATHS[scope["path"]](_query(scope["query_string"].decode())).encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """WSGI."""
    body = PATHS[environ["PATH_INFO"]](_query(environ["QUERY_STRING"])).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def _query(text: str) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(text).items()}
