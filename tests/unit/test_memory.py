"""What a sample says, at the borders: of the limit, of what counts as clearly under it, and of the span of a pace."""

from __future__ import annotations

from typing import Any

import pytest

from memunit.core import memory
from memunit.core.model import Worker
from tests.support.sim import M, worker

LIMIT = 128 * M


def serving(baseline: int = 10 * M, **more: Any) -> Worker:
    """One that became ready at 100 s."""
    return worker(limit=LIMIT, ready_at=100.0, baseline=baseline, **more)


def test_who_is_over_the_limit_stays_so_until_it_is_clearly_under() -> None:
    each = serving()
    over: list[bool] = []
    for size in (LIMIT - 1, LIMIT, LIMIT - 2 * M, LIMIT - 2 * M - 1, LIMIT - 1):
        memory.observe(each, size, "uss", 200.0 + len(over))
        over.append(each.over_since is not None)
    assert over == [False, True, True, False, False]


@pytest.mark.parametrize(
    ("since", "now", "known"),
    [(0.0, 0.019, False), (0.0, 0.02, True), (150.0, 150.01, False), (150.0, 150.1, True)],
)
def test_a_pace_has_a_span(since: float, now: float, known: bool) -> None:
    """A page more in a thousandth of a second is no leak of megabytes a second."""
    each = serving(memory=50 * M, sampled_at=since)
    memory.observe(each, 51 * M, "uss", now)
    assert (each.pace > 0) is known


@pytest.mark.parametrize(("baseline", "grows"), [(LIMIT * 7 // 8, False), (LIMIT * 7 // 8 - M, True)])
def test_who_begins_close_under_its_limit_is_no_leak(baseline: int, grows: bool) -> None:
    each = serving(baseline, memory=LIMIT + M, sampled_at=200.0, steady_pace=float(M))
    assert memory.grows_on(each) is grows


def test_a_leak_is_told_by_a_sample_from_a_quarter_of_its_life_ago() -> None:
    """One that is younger by a moment tells nothing yet."""
    for at, grows in ((175.0, True), (175.1, None)):
        each = serving(memory=LIMIT, sampled_at=200.0, history=((100.0, 10 * M), (at, 90 * M)))
        assert memory.grows_on(each) is grows


def test_who_was_decided_on_at_ready_has_no_growth_before_it() -> None:
    each = serving(memory=LIMIT + M, sampled_at=200.0, decided_memory=LIMIT)
    assert memory.has_grown_since(each, 100.0) is None
    assert memory.has_grown_since(each, 150.0) is not None


@pytest.mark.parametrize(("more", "grows"), [(0, False), (M - 1, False), (M, True), (3 * M, True)])
def test_who_serves_less_while_its_replacement_starts_is_a_leak_still(more: int, grows: bool) -> None:
    """It grew by 2M a second for 50 s, and now for 4 s by a part of that."""
    each = serving(memory=110 * M + more, sampled_at=154.0, decided_memory=110 * M)
    assert memory.has_grown_since(each, 150.0) is grows


@pytest.mark.parametrize(("at", "out"), [(209.0, False), (210.0, True)])
def test_who_would_be_at_its_ceiling_just_then_runs_out(at: float, out: bool) -> None:
    each = serving(memory=190 * M, ceiling=200 * M, sampled_at=200.0, steady_pace=float(M))
    assert memory.runs_out(each, at, None) is out
