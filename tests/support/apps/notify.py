"""An app whose module is called like one of the worker's own, and which reports what it can see."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
from typing import Any


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answers with its surroundings, as JSON."""
    if scope["type"] != "http":
        return
    import memunit

    seen = {
        "path": sys.path,
        "variables": sorted(os.environ),
        "version": memunit.__version__,
        "start": importlib.util.find_spec("start") is not None,
        "units": importlib.util.find_spec("units") is not None,
        "inheritable": _inheritable(),
    }
    body = json.dumps(seen).encode()
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", str(len(body)).encode())],
        }
    )
    await send({"type": "http.response.body", "body": body})


def _inheritable() -> list[int]:
    """Descriptors that a program started by the app would get."""
    found = []
    for fd in range(3, 64):
        with contextlib.suppress(OSError):
            if os.get_inheritable(fd):
                found.append(fd)
    return found
