"""An ASGI app that has SIGTERM come while its worker begins: MOMENT says when. With OWN it has a handler of its own."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from telling import tell  # type: ignore[import-not-found]

from memunit.worker import signals
from memunit.worker.life import Worker

MOMENT = os.environ["MOMENT"]
_main, _look, _attach = Worker.main, signals.Claim.look, signals.Claim._attach
_sent: list[int] = []


def send() -> None:
    """Once, and it is there when this returns."""
    if not _sent:
        _sent.append(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)


async def main(worker: Worker) -> int:
    send()
    return await _main(worker)


def look(claim: signals.Claim) -> None:
    _look(claim)
    send()


def attach(claim: signals.Claim, loop: Any) -> None:
    _attach(claim, loop)
    send()


if MOMENT == "main":
    Worker.main = main  # type: ignore[method-assign,assignment]
elif MOMENT == "look":
    signals.Claim.look = look  # type: ignore[method-assign,assignment]
elif MOMENT == "attach":
    signals.Claim._attach = attach  # type: ignore[method-assign,assignment]
if "OWN" in os.environ:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        tell("started up")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
