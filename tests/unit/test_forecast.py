"""Growth and the time to the limit, by example."""

import math
from collections.abc import Sequence

import pytest

from memunit.core import facts as f
from memunit.core.forecast import POINTS, growth, remember, time_to_limit
from memunit.core.model import Phase, Policy
from memunit.core.status import sentence
from memunit.records import replace
from tests.support.sim import M, Sim, causes, entries

HOUR = 3600.0


def history(values: Sequence[float], step: float = 10.0) -> tuple[tuple[float, int], ...]:
    return tuple((number * step, int(value)) for number, value in enumerate(values))


def test_a_steady_leak_is_its_slope() -> None:
    assert growth(history([100 * M + 5000 * n for n in range(20)])) == 500.0


def test_spikes_do_not_bend_it() -> None:
    values = [100 * M + 5000.0 * n for n in range(24)]
    values[7] += 300 * M
    values[15] += 200 * M
    assert 400 < growth(history(values)) < 600


def test_a_leak_that_grows_by_steps_is_a_leak() -> None:
    """A chunk at a time, as an allocator asks for it: in between the worker is level, but not for most of its life."""
    assert growth(history([100 * M + n // 4 * M for n in range(24)])) == pytest.approx(M / 40, rel=0.2)


def test_noise_is_no_growth() -> None:
    values = [100 * M + (1 if n % 2 else -1) * M for n in range(24)]
    assert growth(history(values)) == 0.0
    assert growth(history([100 * M - 5000 * n for n in range(20)])) == 0.0


def test_too_little_to_say() -> None:
    assert growth(()) == 0.0
    assert growth(history([n * M for n in range(7)])) == 0.0
    assert growth(history([n * M for n in range(20)], step=1.0)) == 0.0
    # The clock does not begin with the worker.
    late = tuple((5000.0 + at, memory) for at, memory in history([n * M for n in range(20)], step=1.0))
    assert growth(late) == 0.0


def test_a_life_is_kept_in_few_points() -> None:
    """A week of samples each second, and the fit is still over all of it."""
    kept: tuple[tuple[float, int], ...] = ()
    for second in range(0, 7 * 86400, 7):
        kept = remember(kept, float(second), second * 10)
    assert len(kept) <= 2 * POINTS
    assert kept[0] == (0.0, 0)
    assert kept[-1][0] > 6.5 * 86400
    assert abs(growth(kept) - 10.0) < 0.01


def leaking(rate: float, limit: int = 200 * M) -> Sim:
    """Two workers of which the first grows, in bytes a second."""
    sim = Sim(Policy(count=2, limit=limit, min_lifetime=10.0, patience=0.0))
    sim.up()
    for _ in range(60):
        sim.advance(10)
        for worker in sim.workers():
            assert worker.ready_at is not None
            grown = rate * (sim.now - worker.ready_at) if worker.id.slot == 0 else 0
            sim.step(f.Sampled(worker.id, 100 * M + int(grown), "uss"))
    return sim


def test_the_status_says_who_is_there_next() -> None:
    rate = 90 * M / (10 * HOUR)
    text = sentence(leaking(rate).state, 600.0)
    assert "at most, worker 0 there in 1" in text
    assert " h, growing 9M an hour" in text
    assert "there in" not in sentence(leaking(0.0).state, 600.0)
    assert "there in" not in sentence(leaking(10.0).state, 600.0)


def test_without_growth_there_is_no_end() -> None:
    sim = leaking(0.0)
    assert all(math.isinf(time_to_limit(worker)) for worker in sim.workers())
    assert math.isinf(time_to_limit(replace(sim.workers()[0], limit=None, growth=1.0)))


def test_the_entry_of_the_end_says_the_growth() -> None:
    sim = Sim(Policy(count=1, limit=100 * M, min_lifetime=10.0, patience=0.0))
    sim.up()
    (worker,) = sim.alive
    done = []
    for step in range(200):
        sim.advance(10)
        if worker in sim.alive:
            done += sim.step(f.Sampled(worker, 50 * M + step * M, "uss"))
        done += sim.ready()
    done += sim.exit(worker)
    assert causes(done) == ["memory-limit"]
    (entry,) = entries(done, "ENDED")
    assert entry.fields["MEMUNIT_GROWTH_BYTES_PER_HOUR"] == 360 * M
    assert ", growing 360M an hour" in entry.message


def test_a_recycle_that_does_not_help_is_said_once() -> None:
    """Each worker is at the limit five seconds after READY: one request needs that much, and it comes again."""
    sim = Sim(Policy(count=1, limit=100 * M, min_lifetime=60.0, patience=0.0))
    sim.up()
    history = []
    for _ in range(4):
        (worker,) = (each.id for each in sim.workers(Phase.RUNNING))
        history += sim.step(f.Sampled(worker, 20 * M, "uss"))
        history += sim.advance(5)
        history += sim.step(f.Sampled(worker, 120 * M, "uss"))
        history += sim.advance(60)
        history += sim.ready()
        history += sim.exit(worker)
    said = entries(history, "RECYCLE_DID_NOT_HELP")
    assert len(said) == 1
    assert "is at 120M of" in said[0].message
    assert "again 5.00 s after it became ready, from 20M at its start" in said[0].message


def test_one_that_comes_and_goes_is_said_once_too() -> None:
    """Each worker needs that much for one request now and then; under its limit in between, it is not well again."""
    sim = Sim(Policy(count=1, limit=100 * M, min_lifetime=1.0, patience=0.0))
    sim.up()
    for _ in range(10):
        (worker,) = (each.id for each in sim.workers(Phase.RUNNING))
        for size, seconds in ((20, 1.5), (120, 5.0), (20, 40.0), (20, 5.0)):
            if not sim.workers(Phase.STARTING):
                sim.sample(worker, size * M)
                sim.advance(seconds)
        sim.sample(worker, 120 * M)
        sim.advance(3600.0)
        sim.ready()
        sim.exit(worker)
    history = [action for _, action in sim.history]
    assert len(entries(history, "ENDED")) == 10
    assert len(entries(history, "RECYCLE_DID_NOT_HELP")) == 1


def test_a_leak_that_takes_its_time_is_no_failure_to_help() -> None:
    sim = Sim(Policy(count=1, limit=100 * M, min_lifetime=10.0, patience=0.0))
    sim.up()
    history = []
    for _ in range(4):
        (worker,) = (each.id for each in sim.workers(Phase.RUNNING))
        history += sim.step(f.Sampled(worker, 20 * M, "uss"))
        history += sim.advance(60)
        history += sim.step(f.Sampled(worker, 120 * M, "uss"))
        history += sim.advance(1)
        history += sim.ready()
        history += sim.exit(worker)
    assert entries(history, "RECYCLE_DID_NOT_HELP") == []
