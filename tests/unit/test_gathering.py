"""How long the master's loop sleeps: until something is due, and no moment less."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace
from typing import Any

import pytest

from memunit.master.gathering import Gathering


class _Epoll:
    def __init__(self) -> None:
        self.waits: list[float] = []

    def poll(self, seconds: float) -> list[tuple[int, int]]:
        """Nothing comes."""
        self.waits.append(seconds)
        return []


def waited(monkeypatch: pytest.MonkeyPatch, seconds: float, **due: float) -> float:
    """What it asks epoll for, with policy's deadline in so many seconds, and what else is due."""
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    epoll = _Epoll()

    def part(name: str) -> Any:
        return SimpleNamespace(due=1000.0 + due.get(name, math.inf))

    parts: Any = SimpleNamespace(
        epoll=epoll,
        measuring=SimpleNamespace(sensors=part("sensors")),
        **{name: part(name) for name in ("report", "processes", "doors", "interface")},
    )
    no_actions: Any = None
    Gathering(parts, no_actions).wait(1000.0 + seconds, busy=False)
    (found,) = epoll.waits
    return found


@pytest.mark.parametrize(
    ("seconds", "asked"),
    [(5.0, 5.0), (0.25, 0.25), (0.0101, 0.011), (0.0, 0.0), (-3.0, 0.0), (math.inf, 86400.0)],
)
def test_it_sleeps_until_the_deadline(monkeypatch: pytest.MonkeyPatch, seconds: float, asked: float) -> None:
    """One that woke up each millisecond would take a share of a core for doing nothing."""
    assert waited(monkeypatch, seconds) == pytest.approx(asked, abs=1e-9)


@pytest.mark.parametrize("name", ["sensors", "report", "processes", "doors", "interface"])
def test_what_is_due_first_ends_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert waited(monkeypatch, 60.0, **{name: 2.0}) == 2.0
