"""An ASGI app that is measured by prometheus_client in multiprocess mode: `/` gives what all of its processes say."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

_MODES = ("livesum", "liveall", "livemax", "livemin", "max")
_gauges = [Gauge(f"app_{mode}", "One a process.", multiprocess_mode=mode) for mode in _MODES]
_starts = Counter("app_starts", "Processes so far.")


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        for each in _gauges:
            each.set(1)
        _starts.inc()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    body = generate_latest(registry)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
