"""Slots that are wanted no more are given up by number; the only worker that serves is not."""

from __future__ import annotations

import pytest

from memunit.core import facts as f
from memunit.core import retirement
from memunit.core.actions import Signal
from memunit.core.adoption import adopted
from memunit.core.handover import Handover, LeftWorker
from memunit.core.model import Phase, Policy, WorkerId
from memunit.core.phases import PROBATION
from memunit.core.shown import replaceable
from memunit.core.state import initial
from memunit.core.status import sentence
from memunit.core.varlink import Refused
from memunit.records import replace
from tests.support.sim import M, Sim, causes, entries, sent, spawned

POLICY = Policy(count=2, limit=100 * M, ceiling=300 * M)
A, B, C = WorkerId(0, 1), WorkerId(1, 1), WorkerId(2, 1)


def crash_looping(count: int = 2) -> Sim:
    """Slot 0 fails again and again, and the others serve."""
    sim = Sim(replace(POLICY, count=count))
    sim.ready(*[WorkerId(slot, 1) for slot in range(1, count)])
    sim.exit(A, "exited", 1)
    return failing(sim)


def failing(sim: Sim) -> Sim:
    """The worker that starts in slot 0 fails, as often as gives the slot a backoff."""
    while (starting := [w.id for w in sim.workers(Phase.STARTING) if w.id.slot == 0]) or not waits(sim):
        if starting:
            sim.exit(starting[0], "exited", 1)
        else:
            sim.advance(0.5)
    return sim


def waits(sim: Sim) -> bool:
    return sim.state.slots[0].retry_at > sim.now + 1.0


def starting(sim: Sim, slot: int = 0) -> WorkerId:
    """Who starts in the slot, by the time that its backoff is over."""
    sim.advance(max(0.0, sim.state.slots[slot].retry_at - sim.now))
    return next(w.id for w in sim.workers(Phase.STARTING) if w.id.slot == slot)


def serving(sim: Sim) -> list[WorkerId]:
    return [w.id for w in sim.workers(Phase.RUNNING)]


@pytest.mark.parametrize("fact", [f.Scale(-1), f.ScaleTo(1)], ids=str)
def test_who_serves_alone_serves_on_until_another_can_be_relied_on(fact: f.Fact) -> None:
    sim = crash_looping()
    done = sim.step(fact)
    assert sent(done, Signal.TERM) == []
    (entry,) = entries(done, "SCALE")
    assert (
        entry.message == "Scaled to 1 worker; worker 1.1 serves on until a worker of a remaining slot serves"
    )
    for _ in range(3):
        # READY=1 and an end right after it is what the slot does: nobody relies on that.
        who = starting(sim)
        assert sent(sim.ready(who), Signal.TERM) == []
        sim.exit(who, "exited", 1)
        assert serving(sim) == [B]
    who = starting(sim)
    assert sent(sim.ready(who), Signal.TERM) == []
    assert sent(sim.advance(PROBATION), Signal.TERM) == [B]
    assert causes(sim.exit(B)) == ["scale-down"]
    assert serving(sim) == [who]
    assert spawned(sim.advance(60)) == []


def test_where_one_that_stays_only_starts_its_ready_is_enough() -> None:
    sim = Sim(POLICY)
    sim.ready(B)
    assert sent(sim.step(f.Scale(-1)), Signal.TERM) == []
    assert sent(sim.ready(A), Signal.TERM) == [B]


def test_who_starts_is_told_at_once_whoever_serves() -> None:
    assert sent(Sim(POLICY).step(f.Scale(-1)), Signal.TERM) == [B]
    sim = Sim(POLICY)
    sim.ready(A)
    assert sent(sim.step(f.Scale(-1)), Signal.TERM) == [B]
    sim = crash_looping()
    # The replacement of one that serves: that one goes on.
    assert spawned(sim.step(f.RecycleRequested(B))) == [WorkerId(1, 2)]
    assert sent(sim.step(f.Scale(-1)), Signal.TERM) == [WorkerId(1, 2)]
    assert serving(sim) == [B]


def test_the_status_line_says_what_is_wrong_though_as_many_serve_as_are_wanted() -> None:
    sim = crash_looping()
    sim.step(f.Scale(-1))
    assert sentence(sim.state, sim.now).startswith("1/1 workers")
    assert "worker 0 failed to start" in sentence(sim.state, sim.now)


def test_a_slot_that_is_wanted_again_keeps_its_worker() -> None:
    sim = crash_looping()
    sim.step(f.Scale(-1))
    sim.step(f.Scale(+1))
    who = starting(sim)
    sim.ready(who)
    sim.advance(60)
    assert serving(sim) == [who, B]


def test_as_many_as_are_wanted_serve_until_one_that_stays_does() -> None:
    """No more: the others may have the memory for want of which the one that stays can't start."""
    sim = crash_looping(3)
    done = sim.step(f.ScaleTo(1))
    assert sent(done, Signal.TERM) == [C]
    assert entries(done, "SCALE")[0].message.endswith(
        "; worker 1.1 serves on until a worker of a remaining slot serves"
    )
    who = starting(sim)
    sim.ready(who)
    assert sent(sim.advance(PROBATION), Signal.TERM) == [B]


def test_two_that_are_given_up_serve_on_where_two_are_wanted() -> None:
    sim = crash_looping(4)
    sim.exit(B, "exited", 1)
    while any(w.phase is Phase.STARTING for w in sim.state.workers.values()):
        for worker in sim.workers(Phase.STARTING):
            sim.exit(worker.id, "exited", 1)
    done = sim.step(f.ScaleTo(2))
    assert sent(done, Signal.TERM) == []
    assert entries(done, "SCALE")[0].message.endswith(
        "; worker 2.1 and worker 3.1 serve on until a worker of a remaining slot serves"
    )


def test_who_is_given_up_is_not_replaced_and_holds_up_nobody() -> None:
    sim = crash_looping()
    sim.step(f.Scale(-1))
    with pytest.raises(Refused):
        replaceable(sim.state, sim.workers(Phase.RUNNING))
    sim.step(f.Scale(+1))
    assert replaceable(sim.state, sim.workers(Phase.RUNNING)) == sim.workers(Phase.RUNNING)


def test_nobody_is_started_in_a_slot_that_is_given_up() -> None:
    sim = crash_looping()
    sim.step(f.Scale(-1))
    sim.exit(B, "exited", 1)
    sim.advance(60)
    assert {w.id.slot for w in sim.state.workers.values()} <= {0}


def test_a_reload_that_fails_gives_up_its_own_slots_as_late() -> None:
    """Its second slot is all that serves."""
    sim = Sim(replace(POLICY, count=1))
    sim.up()
    sim.advance(60)
    sim.reload(POLICY, 1)
    sim.ready(B)
    sim.advance(PROBATION)
    assert serving(sim) == [A, B]
    # The old worker crashes, and the new ones of its slot fail.
    sim.exit(A, "exited", 1)
    while sim.state.rollout is not None:
        for worker in sim.workers(Phase.STARTING):
            sim.exit(worker.id, "exited", 1)
        sim.advance(0.2)
    assert serving(sim) == [B]
    assert sim.state.workers[B].reason is None
    who = starting(sim)
    sim.ready(who)
    assert sent(sim.advance(PROBATION), Signal.TERM) == [] or not sim.workers(Phase.RUNNING)[1:]
    assert serving(sim) == [who]


def test_a_reload_to_fewer_that_supersedes_one_to_more_gives_up_what_that_had_begun() -> None:
    sim = Sim(replace(POLICY, count=1))
    sim.up()
    sim.advance(60)
    sim.reload(replace(POLICY, count=3), 1)
    sim.ready(B)
    sim.advance(PROBATION)
    done = sim.reload(replace(POLICY, count=1), 2)
    assert B in sent(done, Signal.TERM)
    assert C in sent(done, Signal.TERM)
    assert serving(sim) == [A]


def left(slot: int, phase: str) -> LeftWorker:
    ready_at = 11.0 if phase == "running" else None
    return LeftWorker(
        slot=slot,
        generation=1,
        pid=50 + slot,
        start=5,
        revision=1,
        phase=phase,
        born=10.0,
        ready_at=ready_at,
        deadline=1020.0,
    )


@pytest.mark.parametrize("phase", ["starting", "running", ""])
def test_a_successor_with_fewer_slots_keeps_the_only_one_that_serves(phase: str) -> None:
    workers = (*([left(0, phase)] if phase else []), left(1, "running"))
    sim = Sim(replace(POLICY, count=1))
    handover = Handover(
        master=9, program="1", stopping=False, revision=1, generations=(2, 2), workers=workers
    )
    sim.state = adopted(initial(sim.state.policy, now=sim.now, seed=7), handover, now=sim.now, afresh=True)
    sim.alive = {WorkerId(each.slot, each.generation): each.pid for each in workers}
    done = sim.step()
    if phase == "running":
        assert sent(done, Signal.TERM) == [B]
        return
    assert sent(done, Signal.TERM) == []
    assert serving(sim) == [B]
    assert sent(sim.ready(starting(sim)), Signal.TERM) == [B]


def test_nobody_serves_on_where_no_slot_is_given_up() -> None:
    """Before the first worker is relied on, too: there is nobody to name."""
    sim = Sim(POLICY)
    assert retirement.kept(sim.state, sim.now) == ""
    sim.up()
    assert retirement.kept(sim.state, sim.now) == ""
