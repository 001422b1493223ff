"""Every kind of client at once, over recycles and reloads of two workers: nothing is lost.

MEMUNIT_RECYCLES=50 MEMUNIT_RELOADS=10 tests/run process -- -k mixed is the long form.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import Unit, finished
from tests.support.mixed import MixedProcess

pytest_plugins = ["tests.support.units"]

RECYCLES = int(os.environ.get("MEMUNIT_RECYCLES", "10"))
RELOADS = int(os.environ.get("MEMUNIT_RELOADS", "2"))


@pytest.mark.parametrize("server", ["asgi", "wsgi"])
def test_mixed_clients_lose_nothing(unit: Unit, tmp_path: Path, server: str) -> None:
    """What HTTP/1.1 allows is counted apart; of that, none is reopened, for no connection is idle for long."""
    app = {"run": "plain:app" if server == "asgi" else "plainwsgi:app", "server": server}
    tables: dict[str, Any] = {
        # A client that gets no processor for a while is not idle for too long.
        "app": {**app, "environment": {"UVICORN_WS": "wsproto", "UVICORN_TIMEOUT_KEEP_ALIVE": "600"}},
        "workers": {"count": 2, "min_lifetime": 0},
        "memory": {"interval": "0.05s", "patience": 0, "limit": "60M"},
        "stop": {"grace": "120s"},
    }
    unit.write(**tables)
    service = unit.serve().ready()
    clients = MixedProcess(tmp_path, unit.target, leak=256, websockets=server == "asgi")
    for number in range(1, RELOADS + 1):
        _recycles(service, RECYCLES * number // RELOADS)
        code, text = finished(unit.reload(), service)
        assert code == 0, text
    report = clients.finish()
    examples = report.pop("examples")
    print(json.dumps(report, indent=1))
    assert len(report) == (6 if server == "asgi" else 5)
    for kind, counts in report.items():
        assert counts["lost"] == 0, (kind, counts, examples)
        assert counts["ok"] == counts["sent"] > 0, (kind, counts)
        assert counts["reopened"] == 0, (kind, counts)
    assert sum(counts["told"] for counts in report.values()) > RECYCLES
    causes = [entry.cause for entry in service.entries("ended")]
    assert set(causes) <= {"memory-limit", "reload"}
    assert service.stop() == 0


def _recycles(service: Any, count: int) -> None:
    def enough() -> bool | None:
        ended = [entry for entry in service.entries("ended") if entry.cause == "memory-limit"]
        return len(ended) >= count or None

    service.until(enough, f"{count} recycles", timeout=60.0 + 10.0 * count)
