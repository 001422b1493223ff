"""An app that sends on to a client that has gone."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from memunit.worker.cycle import Cycle


class Connection:
    class server:
        now = 0.0

    unwritable = None


def test_what_is_sent_to_nobody_is_slow_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """An app that never looks whether its client is there took a whole processor."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    cycle = Cycle(cast("Any", Connection()), {}, more=False, closes=False, waits=False)
    cycle.lose()

    async def send() -> None:
        for _ in range(1500):
            await cycle.send({"type": "http.response.body", "body": b"x", "more_body": True})

    asyncio.run(send())
    # An app that comes to its end soon is not held up.
    assert set(pauses[:999]) == {0}
    assert set(pauses[999:]) == {0.001}
