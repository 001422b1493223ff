"""The state of a master that finds workers: kept as they were, or taken over and replaced in their turn."""

from __future__ import annotations

import math

import pytest

from memunit.core import facts as f
from memunit.core.adoption import FORMER, adopted, texts_are_known
from memunit.core.handover import Handover, LeftWorker
from memunit.core.model import Cause, Gate, Phase, Policy, WorkerId
from memunit.core.state import State, initial
from memunit.records import replace
from tests.support.sim import Sim

NOW = 1000.0
POLICY = Policy(count=2, grace=7.0)
RUNS = LeftWorker(
    slot=0,
    generation=3,
    pid=50,
    start=5,
    revision=4,
    phase="running",
    born=10.0,
    ready_at=11.0,
    deadline=math.inf,
    grace=9.0,
    watchdog=20.0,
    stop_signal=2,
    limit=100,
    ceiling=200,
)
STARTS = replace(RUNS, slot=1, generation=2, phase="starting", ready_at=None, deadline=1025.0)
STOPS = replace(
    RUNS, slot=1, generation=1, phase="stop-sigterm", deadline=1003.0, stop_at=990.0, reason="max-age"
)


def left(*workers: LeftWorker, generations: tuple[int, ...] = (4, 3)) -> Handover:
    return Handover(
        master=9, program="1", stopping=False, revision=4, generations=generations, workers=workers
    )


def taken(*workers: LeftWorker, afresh: bool, policy: Policy = POLICY, **more: tuple[int, ...]) -> State:
    return adopted(initial(policy, now=NOW, seed=7), left(*workers, **more), now=NOW, afresh=afresh)


@pytest.mark.parametrize("afresh", [True, False])
def test_what_the_worker_was_told_is_kept(afresh: bool) -> None:
    (worker,) = taken(RUNS, afresh=afresh).workers.values()
    assert worker.id == WorkerId(0, 3)
    assert (worker.pid, worker.born, worker.ready_at, worker.since) == (50, 10.0, 11.0, NOW)
    assert (worker.limit, worker.ceiling, worker.watchdog) == (100, 200, 20.0)
    assert (worker.grace, worker.stop_signal) == (9.0, 2)
    assert worker.phase is Phase.RUNNING
    assert worker.deadline == worker.yields_at == math.inf
    assert worker.reason is None


def test_kept_in_the_same_process_it_is_what_it_was() -> None:
    state = taken(RUNS, STARTS, STOPS, afresh=False)
    runs, stops, starts = (state.workers[who] for who in sorted(state.workers))
    assert (runs.revision, runs.wants, runs.wants_since) == (4, None, math.inf)
    assert (starts.phase, starts.deadline, starts.yields_at) == (Phase.STARTING, 1025.0, 1025.0)
    assert (stops.phase, stops.deadline, stops.yields_at) == (Phase.STOP_SIGTERM, 1003.0, 1003.0)
    assert (stops.reason, stops.stop_at) == (Cause.MAX_AGE, 990.0)
    assert state.revision == 4


def test_taken_over_each_is_to_be_replaced_and_who_starts_is_told_to_stop() -> None:
    state = taken(RUNS, STARTS, STOPS, afresh=True)
    runs, stops, starts = (state.workers[who] for who in sorted(state.workers))
    assert (runs.revision, runs.wants, runs.wants_since) == (FORMER, Cause.ADOPTED, NOW)
    assert (starts.phase, starts.reason, starts.wants) == (Phase.STOP_SIGTERM, Cause.ADOPTED, None)
    assert (starts.stop_at, starts.deadline, starts.yields_at) == (NOW, NOW + 9.0, NOW + 9.0)
    assert (stops.phase, stops.reason, stops.deadline, stops.stop_at) == (
        Phase.STOP_SIGTERM,
        Cause.MAX_AGE,
        1003.0,
        990.0,
    )
    assert state.revision == 1


@pytest.mark.parametrize("afresh", [True, False])
def test_one_too_many_is_left_to_policy_if_the_number_is_that_of_the_file_again(afresh: bool) -> None:
    """Whether it may stop depends on who else serves: retirement.py asks."""
    sim = Sim(POLICY)
    sim.state = taken(RUNS, replace(RUNS, slot=2, pid=51), replace(STOPS, slot=3, pid=52), afresh=afresh)
    extra, stops = sim.state.workers[WorkerId(2, 3)], sim.state.workers[WorkerId(3, 1)]
    assert (stops.reason, stops.deadline) == (Cause.MAX_AGE, 1003.0)
    assert (extra.phase, extra.reason) == (Phase.RUNNING, None)
    sim.step()
    assert (extra.phase, extra.reason) == (Phase.STOP_SIGTERM, Cause.SCALE_DOWN)
    assert (extra.stop_at, extra.deadline, extra.yields_at) == (NOW, NOW + 9.0, NOW + 9.0)


@pytest.mark.parametrize(
    ("generations", "following"),
    [((4, 3), [4, 3]), ((), [4, 3]), ((9, 9), [9, 9]), ((0, 0, 6), [4, 3, 6]), ((2, 1), [4, 3])],
)
def test_no_name_is_given_twice(generations: tuple[int, ...], following: list[int]) -> None:
    state = taken(RUNS, STARTS, afresh=True, generations=generations)
    assert [slot.next_generation for slot in state.slots] == following
    assert [slot.index for slot in state.slots] == list(range(len(following)))


def test_the_failures_that_were_inherited_stay() -> None:
    state = initial(POLICY, now=NOW, seed=7, gate=Gate(failures=5, since=900.0, retry_at=NOW + 20))
    state = adopted(state, left(RUNS), now=NOW, afresh=True)
    assert [slot.failures for slot in state.slots] == [5, 5]


def test_somebody_serves_or_the_time_without_service_runs() -> None:
    assert taken(RUNS, afresh=True).idle_since == math.inf
    assert taken(RUNS, STOPS, afresh=True).idle_since == math.inf
    assert taken(STARTS, STOPS, afresh=True).idle_since == NOW


def test_policy_goes_on_from_there() -> None:
    """Each is replaced in its turn, and its slot's next generation has a name of its own."""
    sim = Sim(POLICY)
    sim.state = taken(RUNS, replace(RUNS, slot=1, pid=51), afresh=True)
    sim.alive = {WorkerId(0, 3): 50, WorkerId(1, 3): 51}
    sim.step()
    assert [worker.id for worker in sim.workers(Phase.STARTING)] == [WorkerId(0, 4)]
    sim.ready()
    assert sim.state.workers[WorkerId(0, 3)].reason is Cause.ADOPTED
    sim.step(f.Exited(WorkerId(0, 3), "unknown", 0))
    assert [worker.id for worker in sim.workers(Phase.STARTING)] == [WorkerId(1, 4)]


@pytest.mark.parametrize(
    ("fields", "known"),
    [
        ({}, True),
        ({"phase": "asleep"}, False),
        ({"reason": "boredom"}, False),
        ({"phase": "stop-sigterm", "reason": "reload"}, True),
    ],
)
def test_words_of_another_version_are_not_known(fields: dict[str, str], known: bool) -> None:
    assert texts_are_known(left(STOPS, replace(RUNS, **fields))) is known  # type: ignore[arg-type]
