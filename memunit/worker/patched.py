"""gevent's and eventlet's monkey patches, which leave nothing of threads and selectors that a loop could stand on."""

from __future__ import annotations

import contextlib
import sys
from typing import List

from memunit.worker.problem import Unusable

_WANTED = ("threading", "socket", "select")


def refuse(server: str) -> None:
    """Raise Unusable if the app's import has patched what `server` ("asgi", "wsgi") needs."""
    library, modules = _patches()
    if modules:
        raise Unusable(
            f"{library} has replaced {', '.join(modules)} in the app's import (monkey patching), and memunit's "
            f"{server} "
            f"server needs the originals: remove the patch, or let {library} serve, with server = "
            '"callable" (docs/wsgi.md)'
        )


def _patches() -> "tuple[str, List[str]]":
    """By the libraries' own word; "" and nothing where neither has patched anything."""
    found: List[str] = []
    with contextlib.suppress(Exception):
        if "gevent.monkey" in sys.modules:
            ask = sys.modules["gevent.monkey"].is_module_patched
            found = [name for name in _WANTED if ask(name)]
            if found:
                return "gevent", found
        if "eventlet.patcher" in sys.modules:
            ask = sys.modules["eventlet.patcher"].is_monkey_patched
            found = [name for name in _WANTED if ask("thread" if name == "threading" else name)]
            if found:
                return "eventlet", found
    return "", found
