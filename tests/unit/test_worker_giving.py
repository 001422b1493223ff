"""What a worker does when it is asked to give memory back, and how long its loop may stand still for that."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import pytest

from memunit.worker import allocators, giving


class Clock:
    """Time that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_allowance_begins_small_and_grows_by_a_two_thousandth() -> None:
    clock = Clock()
    allowance = giving.Allowance(clock)
    assert allowance.has(0.030)
    assert not allowance.has(0.031)
    clock.now += 60
    assert allowance.has(0.060)
    allowance.spend(0.060)
    assert not allowance.has(0.011)
    # What takes so little is in no percentile.
    assert allowance.has(giving.HARMLESS)
    clock.now += 1e6
    assert allowance.has(0.250)
    assert not allowance.has(0.251)


def test_in_any_hour_the_loop_stands_still_for_less_than_a_thousandth() -> None:
    """Whatever the heap, with a question each minute: of each of 60 windows, and of the whole."""
    for cost in (0.005, 0.012, 0.05, 0.2):
        clock = Clock()
        allowance = giving.Allowance(clock)
        spent = 0.0
        for _ in range(60):
            clock.now += 60
            if allowance.has(cost):
                allowance.spend(cost)
                spent += cost
        assert spent < 3600 / 1000


class Fake(allocators.Allocator):
    """An allocator with so many bytes free."""

    def __init__(self, free: int | None) -> None:
        super().__init__(self._released, lambda: free)
        self.released = 0

    def _released(self) -> None:
        self.released += 1


@pytest.mark.parametrize(("free", "released"), [(0, 0), (1 << 40, 0), (32 << 20, 1), (None, 1)])
def test_what_is_not_worth_it_and_what_takes_too_long_is_left(
    monkeypatch: pytest.MonkeyPatch, free: int | None, released: int
) -> None:
    """32 MiB are 8 ms by what is thought at first, and what is not known is taken for 64 MiB."""
    fake = Fake(free)
    monkeypatch.setattr(allocators, "found", lambda: fake)
    monkeypatch.setattr(giving, "_resident", lambda: 100 << 20)
    monkeypatch.setattr(gc, "collect", lambda *_: 0)
    giver = giving.Giver()
    giver.give()
    assert bool(fake.released) == bool(released)


def test_what_the_zygote_has_frozen_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    collected: list[tuple[int, ...]] = []
    monkeypatch.setattr(allocators, "found", lambda: None)
    monkeypatch.setattr(gc, "collect", lambda *which: collected.append(which))
    monkeypatch.setattr(sys, "getallocatedblocks", lambda: 50_000_000)
    giving.Giver().give()
    assert collected == [(1,)]
    monkeypatch.setattr(giving._Inherited, "frozen", 49_990_000)
    giving.Giver().give()
    assert collected == [(1,), (1,), ()]


def test_it_takes_its_own_fifo_and_nothing_else(tmp_path: Path) -> None:
    fifo = tmp_path / "0.1"
    os.mkfifo(fifo)
    for path, left in ((str(fifo), False), ("/dev/null", True), (str(tmp_path), True), ("/nowhere", True)):
        environment = {"MEMORY_PRESSURE_WATCH": path}
        giving.take(environment)
        assert ("MEMORY_PRESSURE_WATCH" in environment) == left
    giving._Inherited.path = ""


def test_the_allocator_of_this_process_is_known() -> None:
    """glibc's, on Debian: what is free is a number, and it can be told."""
    found = allocators.found()
    assert found is not None
    assert (found.free() or 0) >= 0
    found.release()
