"""A worker at its limit is asked to give memory back before it is replaced: who, how often, and what comes of it."""

from __future__ import annotations

from typing import Any

import pytest

from memunit.core import facts as f
from memunit.core import giving, status
from memunit.core.actions import GiveBack
from memunit.core.adoption import adopted
from memunit.core.handover import Handover, LeftWorker, read, write
from memunit.core.invariants import broken
from memunit.core.messages import Message
from memunit.core.model import Cause, Headroom, Phase, Policy, WorkerId
from memunit.core.seen import Pass, snapshot
from memunit.core.state import initial
from memunit.records import replace
from tests.support.sim import M, Sim, causes, entries, spawned

POLICY = Policy(count=1, limit=400 * M, ceiling=600 * M, patience=2.0, min_lifetime=0.0, give_back=True)
FIRST = WorkerId(0, 1)


def asked(actions: list[Any]) -> list[WorkerId]:
    return [each.id for each in actions if isinstance(each, GiveBack)]


def serving(policy: Policy = POLICY, age: float = 300.0) -> Sim:
    """One that has served for long enough to be no early leaver."""
    sim = Sim(policy)
    sim.up()
    sim.advance(age)
    return sim


def gives(sim: Sim, held: int, left: int, who: WorkerId = FIRST) -> list[Any]:
    """It is at `held`, is asked, and has `left` when its time is over; all that was done."""
    done = sim.sample(who, held * M) + sim.advance(giving.SOON)
    sim.sizes[who] = left * M
    return done + sim.advance(POLICY.patience)


def test_at_the_limit_it_is_asked_once_and_what_falls_under_it_goes_on() -> None:
    sim = serving()
    # Not at once: what one request needs may be free again in a moment.
    assert asked(sim.sample(FIRST, 410 * M) + sim.advance(0.9)) == []
    assert asked(sim.advance(0.2)) == [FIRST]
    # Further samples while its time runs are no further questions.
    assert asked(sim.advance(0.5)) == []
    sim.sizes[FIRST] = 280 * M
    done = sim.advance(60.0)
    assert asked(done) == []
    assert spawned(done) == []
    (worker,) = sim.workers(Phase.RUNNING)
    assert (worker.id, worker.gifts, worker.given) == (FIRST, 1, 130 * M)
    (entry,) = entries(done, "GAVE_BACK")
    begin = f"Worker 0.1 (pid {worker.pid}) was asked to give memory back: it held 410M, holds 280M of "
    # Its limit is 400M less a jitter.
    assert entry.message.startswith(begin)
    assert entry.message.endswith("M (uss) now, and goes on serving")
    assert entry.fields["MEMUNIT_GIFTS"] == 1
    assert entry.fields["MEMUNIT_GIVEN_BYTES"] == 130 * M
    assert entry.fields["MEMUNIT_MEMORY_BYTES"] == 280 * M
    assert "gave back 130M once" in status.sentence(sim.state, sim.now)
    assert "gave back 130M once" in status.dump(sim.state, sim.now)


def test_what_gives_nothing_is_recycled_when_patience_ends_and_not_before() -> None:
    sim = serving()
    sim.sample(FIRST, 410 * M)
    assert [len(asked(sim.advance(seconds))) for seconds in (0.9, 0.2)] == [0, 1]
    assert spawned(sim.advance(0.8)) == []
    assert spawned(sim.advance(0.2)) == [WorkerId(0, 2)]
    assert entries([a for _, a in sim.history], "GAVE_BACK") == []


def test_what_is_at_its_limit_again_within_a_minute_is_recycled() -> None:
    sim = serving()
    gives(sim, 410, 280)
    sim.advance(giving.REST - 2 * POLICY.patience)
    done = gives(sim, 410, 410)
    assert asked(done) == []
    assert spawned(done) == [WorkerId(0, 2)]
    sim.ready()
    assert causes(sim.exit(FIRST)) == ["memory-limit"]
    (end,) = entries([a for _, a in sim.history], "ENDED")
    assert "it gave back 130M once before" in end.message
    assert end.fields["MEMUNIT_GIFTS"] == 1


def test_a_minute_later_it_is_asked_again_and_told_once_an_hour() -> None:
    sim = serving()
    told = []
    for _ in range(10):
        done = gives(sim, 410, 280)
        assert asked(done) == [FIRST]
        told += entries(done, "GAVE_BACK")
        sim.advance(597.0)
    assert len(told) == 2
    assert told[1].message.endswith("; it has given back 910M in 7 times")
    assert "gave back 130M 10 times" in status.sentence(sim.state, sim.now)


def test_who_gave_a_tenth_is_asked_again() -> None:
    sim = serving()
    gives(sim, 410, 369)
    sim.advance(giving.REST)
    assert asked(gives(sim, 410, 280)) == [FIRST]


def test_who_gave_under_a_tenth_is_asked_no_more() -> None:
    sim = serving()
    done = gives(sim, 410, 372)
    assert asked(done) == [FIRST]
    assert spawned(done) == []
    assert sim.workers()[0].gifts == 1
    sim.advance(300.0)
    done = gives(sim, 410, 280)
    assert asked(done) == []
    # It has come under the limit by itself: a spike.
    assert spawned(done) == []
    sim.advance(300.0)
    assert spawned(gives(sim, 410, 410)) == [WorkerId(0, 2)]


def test_a_leak_is_recycled_after_all() -> None:
    """Each gift is smaller than the one before, for what leaks stays."""
    sim = serving()
    done: list[Any] = []
    for left in (280, 320, 360, 370, 370):
        assert spawned(done) == []
        done = gives(sim, 410, left)
        sim.advance(120.0)
    assert (asked(done), sim.workers()[0].gifts) == ([], 4)
    assert spawned(gives(sim, 410, 400)) == [WorkerId(0, 2)]


def test_in_a_long_patience_it_is_asked_each_minute() -> None:
    """The first question may come while a request still holds what will be free."""
    sim = serving(replace(POLICY, patience=600.0))
    sim.sample(FIRST, 410 * M)
    assert len(asked(sim.advance(150.0))) == 3
    sim.sizes[FIRST] = 280 * M
    assert entries(sim.advance(60.0), "GAVE_BACK")[0].fields["MEMUNIT_GIVEN_BYTES"] == 130 * M
    assert sim.workers()[0].id == FIRST


def test_a_short_patience_leaves_half_of_it_for_the_answer() -> None:
    """The question comes after the first half, and what was given is known after the second."""
    sim = serving(replace(POLICY, patience=0.5))
    assert asked(sim.sample(FIRST, 410 * M) + sim.advance(0.2)) == []
    assert asked(sim.advance(0.1)) == [FIRST]
    sim.sizes[FIRST] = 280 * M
    done = sim.advance(0.25)
    assert entries(done, "GAVE_BACK")[0].fields["MEMUNIT_GIVEN_BYTES"] == 130 * M
    assert spawned(done + sim.advance(60.0)) == []


def test_nobody_is_asked_without_patience_nor_where_it_is_off() -> None:
    for policy in (replace(POLICY, patience=0.0), replace(POLICY, give_back=False)):
        sim = serving(policy)
        # Such a worker gets no MEMORY_PRESSURE_WATCH either.
        assert not sim.workers()[0].gives
        done = sim.sample(FIRST, 410 * M) + sim.advance(3.0)
        assert asked(done) == []
        assert spawned(done) == [WorkerId(0, 2)]


def test_a_question_that_nobody_reads_is_none() -> None:
    """It is put again after a minute: a program may open what it watches whenever it likes."""
    sim = serving()
    assert asked(sim.sample(FIRST, 410 * M) + sim.advance(giving.SOON)) == [FIRST]
    sim.step(f.Unwatched(FIRST))
    sim.sample(FIRST, 370 * M)
    sim.advance(120.0)
    assert sim.workers()[0].gifts == 0
    assert asked(gives(sim, 410, 280)) == [FIRST]
    assert sim.workers()[0].gifts == 1


def test_what_would_be_at_its_ceiling_is_not_waited_for() -> None:
    sim = serving()
    sim.sample(FIRST, 410 * M)
    sim.sizes[FIRST] = 440 * M
    assert asked(sim.advance(1.1)) == [FIRST]
    sim.now += 0.2
    sim.sample(FIRST, 510 * M)
    sim.now += 0.2
    assert spawned(sim.sample(FIRST, 580 * M)) == [WorkerId(0, 2)]


def test_all_are_asked_when_memory_is_short_and_the_biggest_goes_only_then() -> None:
    sim = serving(replace(POLICY, count=2))
    second = WorkerId(1, 1)
    sim.step(f.Sampled(FIRST, 300 * M, "uss"), f.Sampled(second, 100 * M, "uss"))
    scarce = f.MemoryAvailable(Headroom(1000 * M, 10 * M, "the machine"))
    done = sim.step(scarce, f.MemoryPressure())
    assert asked(done) == [FIRST, second]
    assert sim.step(scarce, f.MemoryPressure()) == []
    sim.advance(3.0)
    sim.step(scarce, f.MemoryPressure())
    assert [worker.wants for worker in sim.workers(Phase.RUNNING)] == [Cause.PRESSURE, None]
    assert asked([a for _, a in sim.history]) == [FIRST, second]
    # Nothing was given, and nothing is told of it.
    assert entries([a for _, a in sim.history], "GAVE_BACK") == []
    assert [worker.gifts for worker in sim.workers(Phase.RUNNING)] == [0, 0]


def test_short_memory_asks_each_once_a_minute_and_waits_for_the_answer_of_one() -> None:
    """An event of pressure comes each few seconds: a program would do nothing else but collect its garbage."""
    sim = serving(replace(POLICY, count=2))
    second = WorkerId(1, 1)
    sim.step(f.Sampled(FIRST, 300 * M, "uss"), f.Sampled(second, 100 * M, "uss"))
    scarce = f.MemoryAvailable(Headroom(1000 * M, 10 * M, "the machine"))
    assert asked(sim.step(scarce, f.MemoryPressure())) == [FIRST, second]
    sim.sizes |= {FIRST: 119 * M, second: 101 * M}
    sim.advance(10.0)
    assert [worker.gifts for worker in sim.workers()] == [1, 0]
    assert asked(sim.step(scarce, f.MemoryPressure())) == []
    sim.sample(FIRST, 300 * M)
    sim.advance(giving.REST - 10.0)
    # The second gave nothing, and is asked no more. The answer of the first is waited for.
    assert asked(sim.step(scarce, f.MemoryPressure())) == [FIRST]
    assert [worker.wants for worker in sim.workers()] == [None, None]


def test_one_that_can_not_be_measured_is_waited_for_without_a_pass() -> None:
    """What it is asked, and what it has given, hangs on a sample that does not come: the master does not spin."""
    sim = serving()
    sim.sample(FIRST, 410 * M)
    sim.sizes.clear()
    passes = len(sim.history)
    assert asked(sim.advance(3600.0)) == []
    assert len(sim.history) - passes <= 2


def test_a_gift_that_leaves_it_over_its_limit_is_none() -> None:
    sim = serving(replace(POLICY, patience=600.0))
    sim.sample(FIRST, 500 * M)
    sim.advance(2.0)
    sim.sizes[FIRST] = 420 * M
    done = sim.advance(100.0)
    assert entries(done, "GAVE_BACK") == []
    assert sim.workers()[0].gifts == 0


def test_without_patience_from_now_on_nobody_is_asked() -> None:
    sim = serving(replace(POLICY, count=2))
    sim.step(f.Sampled(FIRST, 300 * M, "uss"), f.Sampled(WorkerId(1, 1), 100 * M, "uss"))
    sim.step(f.Adjust({"memory.patience": "0s"}))
    scarce = f.MemoryAvailable(Headroom(1000 * M, 10 * M, "the machine"))
    assert asked(sim.step(scarce, f.MemoryPressure())) == []
    assert sim.workers()[0].wants is Cause.PRESSURE


def test_the_growth_after_a_gift_is_that_since_then() -> None:
    sim = serving()
    for minute in range(12):
        sim.sample(FIRST, (100 + 24 * minute) * M)
        sim.advance(60.0)
    assert sim.workers()[0].growth > 0
    gives(sim, 410, 200)
    assert sim.workers()[0].growth == 0
    for minute in range(12):
        sim.sample(FIRST, (200 + minute) * M)
        sim.advance(60.0)
    assert sim.workers()[0].growth == pytest.approx(M / 60, rel=0.3)


def test_a_successor_knows_what_was_given() -> None:
    left = LeftWorker(
        slot=0, generation=1, pid=100, start=1, revision=1, phase="running", born=1.0, ready_at=2.0,
        deadline=float("inf"), limit=400 * M, gives=True, give_at=990.0, gifts=3, given=300 * M,
    )  # fmt: skip
    handover = Handover(master=1, program="1", stopping=False, revision=1, generations=(2,), workers=(left,))
    found = read(write(handover, "boot"), "boot")
    assert found == handover
    assert found is not None
    for afresh in (False, True):
        state = adopted(initial(POLICY, now=1000.0), found, now=1000.0, afresh=afresh)
        worker = state.workers[FIRST]
        assert (worker.gives, worker.give_at, worker.gifts, worker.given) == (True, 990.0, 3, 300 * M)


def test_the_invariant_finds_a_question_too_many() -> None:
    sim = serving()
    sim.sample(FIRST, 410 * M)
    sim.advance(giving.SOON)
    before = snapshot(sim.state)
    done = Pass(before, [], sim.now + 1, before, [GiveBack(FIRST)], sim.now + 2)
    assert [name for name, _ in broken(done)] == ["who-serves-is-asked-now-and-then"]
    done = Pass(before, [], sim.now + 61, before, [GiveBack(FIRST)], sim.now + 62)
    assert list(broken(done)) == []
    done = Pass(before, [], sim.now + 61, before, [GiveBack(WorkerId(0, 9))], sim.now + 62)
    assert [name for name, _ in broken(done)] == ["who-serves-is-asked-now-and-then"]


def test_the_entry_has_its_own_kind() -> None:
    assert Message.GAVE_BACK.id == "f29c2e2436474017a7d51cb4e98996a1"
