"""The smallest ASGI app: it answers with its pid."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

BODY = b"ok %d\n" % os.getpid()
HEADERS = [(b"content-type", b"text/plain"), (b"content-length", str(len(BODY)).encode())]


def _say_own_pid() -> None:
    """A worker that was forked from an import has another pid than that."""
    global BODY, HEADERS  # noqa: PLW0603
    BODY = b"ok %d\n" % os.getpid()
    HEADERS = [(b"content-type", b"text/plain"), (b"content-length", str(len(BODY)).encode())]


os.register_at_fork(after_in_child=_say_own_pid)


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer any request."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": f"{message['type']}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """The same by WSGI."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))])
    return [BODY]
