"""Apps of allocators.py, WSGI and ASGI: what each does with memory is one path."""

import json
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

_sizes = random.Random(7)
_kept: list[bytearray] = []
_uploads: "OrderedDict[int, bytearray]" = OrderedDict()


def _documents() -> None:
    """20,000 small dicts to JSON and back."""
    rows = [{"id": number, "name": f"row {number}", "tags": ["a", "b"]} for number in range(20_000)]
    json.loads(json.dumps(rows))


def _blocks() -> None:
    """80 MiB in blocks of 1 to 60 KiB, of which one in twenty is kept."""
    blocks = [bytearray(_sizes.randrange(1 << 10, 60 << 10)) for _ in range(2600)]
    _kept[:] = blocks[::20]


def _upload() -> None:
    """A body of 100 KiB to 4 MiB; the last sixteen are kept."""
    _uploads[len(_uploads) + _sizes.randrange(1 << 40)] = bytearray(_sizes.randrange(100 << 10, 4 << 20))
    while len(_uploads) > 16:
        _uploads.popitem(last=False)


PATHS: dict[str, Callable[[], None]] = {
    "/": lambda: None, "/documents": _documents, "/blocks": _blocks, "/uploads": _upload
}  # fmt: skip


def _done(path: str) -> bytes:
    PATHS[path]()
    return b"ok\n"


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """ASGI."""
    if scope["type"] != "http":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = _done(scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
    await send({"type": "http.response.body", "body": body})


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """WSGI."""
    body = _done(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", "3")])
    return [body]
