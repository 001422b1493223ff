"""What a worker that does not come to its end is asked, and what its entry quotes."""

from __future__ import annotations

import pytest

from memunit.core import facts as f
from memunit.core import wording
from memunit.core.actions import Signal
from memunit.core.model import Policy, WorkerId
from memunit.records import replace
from tests.support.sim import Sim, entries, sent

POLICY = Policy(count=1, grace=30.0, tells_stacks=True)
A, A2 = WorkerId(0, 1), WorkerId(0, 2)


def draining(policy: Policy) -> Sim:
    """A worker that was told to stop a moment ago, for its replacement serves."""
    sim = Sim(policy)
    sim.up()
    sim.step(f.RecycleRequested(A))
    sim.ready(A2)
    return sim


@pytest.mark.parametrize(
    ("grace", "asked", "left"), [(30.0, 24.0, "6.00 s"), (2.0, 1.5, "0.50 s"), (600.0, 594.0, "6.00 s")]
)
def test_stacks_are_asked_for_once_a_moment_before_the_kill(grace: float, asked: float, left: str) -> None:
    sim = draining(replace(POLICY, grace=grace))
    assert sent(sim.advance(asked - 0.1), Signal.STACKS) == []
    done = sim.advance(0.2)
    assert sent(done, Signal.STACKS) == [A]
    assert f" has {left} of its grace left" in entries(done, "WORKER_STOPPING")[0].message
    assert entries(done, "WORKER_STOPPING")[0].message.endswith("; its stacks follow")
    done = sim.advance(grace - asked + 0.1)
    assert (sent(done, Signal.STACKS), sent(done, Signal.KILL)) == ([], [A])


def test_whom_it_would_end_is_not_asked() -> None:
    """A command, and a worker that has never become ready: it may not have its handler yet."""
    sim = draining(replace(POLICY, tells_stacks=False))
    sim.advance(31)
    starting = Sim(POLICY)
    starting.step(f.StopRequested())
    starting.advance(31)
    assert sent([a for _, a in [*sim.history, *starting.history]], Signal.STACKS) == []


def test_one_that_makes_it_in_time_is_not_asked() -> None:
    sim = draining(POLICY)
    sim.advance(23)
    sim.exit(A)
    assert sent(sim.advance(60), Signal.STACKS) == []


def test_the_last_status_is_in_the_entry_and_in_its_field() -> None:
    sim = draining(POLICY)
    sim.step(f.StatusText(A, "finishing 3 requests"))
    assert "of its grace left, last status: finishing 3 requests; its" in str(sim.advance(24.5))
    sim.advance(6)
    (entry,) = entries(sim.exit(A, "killed", 9), "ENDED")
    assert entry.message.endswith(", last status: finishing 3 requests")
    assert entry.fields["MEMUNIT_WORKER_STATUS"] == "finishing 3 requests"


def test_who_ends_as_it_should_is_not_quoted() -> None:
    sim = draining(POLICY)
    sim.step(f.StatusText(A, "finishing open requests"))
    (entry,) = entries(sim.exit(A), "ENDED")
    assert "finishing" not in entry.message
    assert entry.fields["MEMUNIT_WORKER_STATUS"] == "finishing open requests"


@pytest.mark.parametrize(
    ("count", "longest", "told"),
    [
        (0, (), ""),
        (1, (("GET /a", 12.0),), "GET /a for 12 s in work"),
        (2, (("GET /a", 12.0), ("GET /b", 0.5)), "GET /a for 12 s and GET /b for 0.50 s in work"),
        (9, (("GET /a", 12.0), ("GET /b", 1.0)), "GET /a for 12 s, GET /b for 1.00 s and 7 more in work"),
        (1, (), "1 request in work"),
        (70, (), "70 requests in work"),
    ],
)
def test_what_was_in_work_in_words(count: int, longest: tuple[tuple[str, float], ...], told: str) -> None:
    assert wording.requests(count, longest) == told


def test_an_accident_names_what_it_has_cut_off() -> None:
    sim = Sim(POLICY)
    sim.up()
    sim.step(f.InWork(A, 3, (("GET /report", 12.0), ("GET /", 0.5))))
    (entry,) = entries(sim.exit(A, "killed", 11), "ENDED")
    assert "; with GET /report for 12 s, GET / for 0.50 s and 1 more in work" in entry.message
    assert entry.fields["MEMUNIT_IN_WORK"] == 3
    assert entry.fields["MEMUNIT_IN_WORK_ROUTE"] == "GET /report"
    assert entry.fields["MEMUNIT_IN_WORK_USEC"] == 12_000_000


def test_an_end_in_order_has_cut_off_nothing() -> None:
    """What it still says to be in work is an answer that nobody waits for."""
    sim = draining(POLICY)
    sim.step(f.InWork(A, 1, (("GET /report", 12.0),)))
    (entry,) = entries(sim.exit(A), "ENDED")
    assert "in work" not in entry.message
    assert "MEMUNIT_IN_WORK" not in entry.fields
