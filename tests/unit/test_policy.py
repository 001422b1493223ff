"""Policy by example: each rule of DESIGN.md in a few facts."""

import itertools
import math

import pytest

from memunit.core import facts as f
from memunit.core.actions import (
    ClearGate,
    NotifyReady,
    NotifyReloading,
    NotifyStopping,
    SaveGate,
    Signal,
    UseRevision,
)
from memunit.core.model import Cause, Gate, Headroom, Phase, Policy, WorkerId
from memunit.core.policy import healthy, step
from memunit.core.status import sentence
from memunit.core.transitions import TABLE
from memunit.records import replace
from tests.support.sim import M, Sim, causes, entries, finished, results, sent, spawned

LIMIT = 100 * M
POLICY = Policy(count=2, limit=LIMIT, ceiling=300 * M, patience=2.0, min_lifetime=10.0, grace=30.0)
EXEC = replace(POLICY, count=1, ready_on_exec=True)
A, B = WorkerId(0, 1), WorkerId(1, 1)
A2, B2 = WorkerId(0, 2), WorkerId(1, 2)


def serving(policy: Policy = POLICY) -> Sim:
    """Two workers that have served for a minute."""
    sim = Sim(policy)
    sim.up()
    sim.advance(60)
    return sim


def test_every_phase_decides_on_every_fact() -> None:
    assert set(TABLE) == set(itertools.product(Phase, f.WORKER_FACTS))


def test_ready_goes_up_when_all_are_ready_and_not_before() -> None:
    sim = Sim(POLICY)
    assert spawned([a for _, a in sim.history]) == [A, B]
    assert NotifyReady() not in sim.ready(A)
    assert NotifyReady() in sim.ready(B)


def test_replacement_is_ready_before_the_old_is_told() -> None:
    sim = serving()
    sim.sample(A, LIMIT)
    assert spawned(sim.advance(1.9)) == []
    done = sim.advance(0.2)
    assert spawned(done) == [A2]
    assert sent(done, Signal.TERM) == []
    assert sent(sim.ready(A2), Signal.TERM) == [A]
    done = sim.exit(A)
    assert causes(done) == ["memory-limit"]
    entry = entries(done, "ENDED")[0]
    assert entry.replacement == A2
    assert entry.fields["MEMUNIT_MEMORY_BYTES"] == LIMIT
    assert "MEMUNIT_STOP_REASON" not in entry.fields
    assert spawned(done) == []


def test_an_end_names_who_took_the_place_also_when_that_one_has_ended_since() -> None:
    sim = serving()
    sim.step(f.RecycleRequested(A))
    pid = sim.alive[A2]
    sim.ready(A2)
    sim.exit(A2, "killed", 11)
    sim.ready(WorkerId(0, 3))
    (entry,) = entries(sim.exit(A), "ENDED")
    assert (entry.replacement, entry.replacement_pid) == (A2, pid)


def test_a_spike_is_not_a_leak() -> None:
    sim = serving()
    sim.sample(A, LIMIT * 2)
    sim.advance(1.5)
    sim.sample(A, LIMIT // 2)
    assert spawned(sim.advance(60)) == []


def test_a_value_that_flutters_about_the_limit_does_not_escape_patience() -> None:
    sim = serving()
    bound = sim.state.workers[A].limit
    assert bound is not None
    sim.sample(A, bound)
    sim.advance(1)
    sim.sample(A, bound - 1000)
    assert spawned(sim.advance(1.1)) == [A2]


def test_one_surge_at_a_time_and_the_biggest_first() -> None:
    sim = serving()
    sim.step(f.Sampled(A, LIMIT + 1, "uss"), f.Sampled(B, LIMIT * 2, "uss"))
    assert spawned(sim.advance(3)) == [B2]
    assert spawned(sim.ready(B2)) == []
    assert spawned(sim.exit(B)) == [A2]


def test_one_that_falls_below_while_it_waits_for_its_turn_is_spared() -> None:
    sim = serving()
    sim.step(f.Sampled(A, LIMIT + 1, "uss"), f.Sampled(B, LIMIT * 2, "uss"))
    sim.advance(3)
    sim.sample(A, 10 * M)
    sim.ready(B2)
    assert spawned(sim.exit(B)) == []


def test_a_replacement_that_fails_leaves_the_old_serving_and_is_tried_again_with_backoff() -> None:
    sim = serving()
    sim.sample(A, LIMIT)
    sim.advance(2.1)
    starts = []
    for generation in range(2, 14):
        who = WorkerId(0, generation)
        assert who in sim.alive
        starts.append(sim.now)
        assert causes(sim.exit(who, "exited", 1)) == ["start-failed"]
        assert sim.state.workers[A].phase is Phase.RUNNING
        while WorkerId(0, generation + 1) not in sim.alive:
            sim.advance(sim.deadline - sim.now)
    gaps = [b - a for a, b in itertools.pairwise(starts)]
    assert gaps[0] == 0
    assert gaps == sorted(gaps)
    assert 25 <= gaps[-1] <= 37.5
    assert sent([a for _, a in sim.history], Signal.TERM) == []


def test_kill_timer_and_its_cause() -> None:
    sim = serving()
    sim.sample(A, LIMIT)
    sim.advance(2.1)
    sim.ready(A2)
    assert sent(sim.advance(29.9), Signal.KILL) == []
    assert sent(sim.advance(0.2), Signal.KILL) == [A]
    done = sim.exit(A, "killed", 9)
    assert causes(done) == ["grace-expired"]
    assert entries(done, "ENDED")[0].fields["MEMUNIT_STOP_REASON"] == "memory-limit"


def test_one_that_made_it_just_before_the_sigkill_was_not_killed() -> None:
    sim = serving()
    sim.step(f.RecycleRequested(A))
    sim.ready(A2)
    sim.advance(31)
    assert causes(sim.exit(A, "exited", 0)) == ["requested"]


@pytest.mark.parametrize(
    ("code", "status", "cause"),
    [
        ("exited", 0, "crash-exit"),
        ("exited", 3, "crash-exit"),
        ("killed", 9, "crash-signal"),
        ("dumped", 11, "crash-signal"),
    ],
)
def test_an_accident_is_replaced_once_and_at_once(code: str, status: int, cause: str) -> None:
    sim = serving()
    done = sim.exit(A, code, status)
    assert causes(done) == [cause]
    assert spawned(done) == [A2]
    assert entries(done, "ENDED")[0].replacement == A2
    assert spawned(sim.ready(A2)) == []
    assert spawned(sim.advance(300)) == []


@pytest.mark.parametrize(
    ("code", "status", "cause", "reason"),
    [
        ("exited", 0, "memory-limit", None),
        ("killed", 15, "memory-limit", None),
        ("exited", 143, "memory-limit", None),
        ("exited", 1, "crash-exit", "memory-limit"),
        ("killed", 11, "crash-signal", "memory-limit"),
        ("killed", 9, "crash-signal", "memory-limit"),
    ],
)
def test_how_a_drain_ends_decides_the_cause(code: str, status: int, cause: str, reason: str | None) -> None:
    sim = serving()
    sim.sample(A, LIMIT)
    sim.advance(2.1)
    sim.ready(A2)
    done = sim.exit(A, code, status)
    assert causes(done) == [cause]
    assert entries(done, "ENDED")[0].fields.get("MEMUNIT_STOP_REASON") == reason
    assert spawned(done) == []


def test_start_timeout_aborts_and_then_kills() -> None:
    sim = serving()
    sim.exit(A, "killed", 9)
    done = sim.advance(30.1)
    assert sent(done, Signal.ABRT) == [A2]
    assert sent(sim.advance(10.1), Signal.KILL) == [A2]
    assert causes(sim.exit(A2, "killed", 9)) == ["start-timeout"]


def test_a_worker_may_ask_for_time_to_start() -> None:
    sim = Sim(replace(POLICY, count=1))
    sim.advance(29)
    sim.step(f.ExtendTimeout(A, 20.0))
    assert sent([a for _, a in sim.history], Signal.ABRT) == []
    assert sim.state.workers[A].deadline == pytest.approx(1049.0)


def test_the_watchdog_is_armed_by_the_first_ping() -> None:
    sim = serving()
    assert sent(sim.advance(1000), Signal.ABRT) == []
    sim.step(f.Ping(A))
    sim.advance(29)
    sim.step(f.Ping(A))
    assert sent(sim.advance(29.9), Signal.ABRT) == []
    assert sent(sim.advance(0.2), Signal.ABRT) == [A]
    assert spawned(sim.step()) == [] or A2 in sim.alive
    assert causes(sim.exit(A, "dumped", 6)) == ["watchdog"]


def test_a_drain_longer_than_the_watchdog_goes_on_while_it_pings() -> None:
    sim = serving(replace(POLICY, grace=300.0))
    sim.step(f.Ping(A), f.RecycleRequested(A))
    sim.ready(A2)
    for _ in range(10):
        sim.advance(20)
        sim.step(f.Ping(A))
    assert sim.state.workers[A].phase is Phase.STOP_SIGTERM
    done = sim.advance(31)
    assert sent(done, Signal.ABRT) == [A]
    done = sim.exit(A, "dumped", 6)
    assert causes(done) == ["watchdog"]
    assert entries(done, "ENDED")[0].fields["MEMUNIT_STOP_REASON"] == "requested"


def test_nobody_is_blamed_for_the_time_that_the_master_did_not_run() -> None:
    sim = serving()
    sim.step(f.Ping(A), f.Ping(B))
    sim.now += 3600
    assert sent(sim.step(), Signal.ABRT) == []
    assert sent(sim.advance(29), Signal.ABRT) == []
    assert set(sent(sim.advance(2), Signal.ABRT)) == {A, B}


def test_max_age_is_spread_and_replaces_first() -> None:
    sim = Sim(replace(POLICY, max_age=1000.0))
    sim.up()
    assert spawned(sim.advance(899)) == []
    while not (done := spawned(sim.advance(1))):
        assert sim.now < 1000.0 + 1001
    assert len(done) == 1
    sim.ready()
    old = sim.workers(Phase.STOP_SIGTERM)[0]
    assert causes(sim.exit(old.id)) == ["max-age"]


def test_too_young_for_its_memory() -> None:
    sim = Sim(POLICY)
    sim.up()
    sim.sample(A, LIMIT * 2)
    assert spawned(sim.advance(9.9)) == []
    assert spawned(sim.advance(0.2)) == [A2]


def test_the_ceiling_kills_at_once_also_during_a_drain() -> None:
    sim = serving()
    done = sim.sample(A, POLICY.ceiling or 0)
    assert sent(done, Signal.KILL) == [A]
    done = sim.exit(A, "killed", 9)
    assert causes(done) == ["memory-ceiling"]
    assert "MEMUNIT_STOP_REASON" not in entries(done, "ENDED")[0].fields
    sim.ready(A2)
    sim.step(f.RecycleRequested(A2))
    sim.ready(WorkerId(0, 3))
    assert sent(sim.sample(A2, 400 * M), Signal.KILL) == [A2]
    done = sim.exit(A2, "killed", 9)
    assert causes(done) == ["memory-ceiling"]
    assert entries(done, "ENDED")[0].fields["MEMUNIT_STOP_REASON"] == "requested"


def test_a_limit_under_the_baseline_is_said_once_and_bounded() -> None:
    sim = Sim(POLICY)
    starts = 0
    for worker in sim.workers(Phase.STARTING):
        sim.ready(worker.id)
        sim.sample(worker.id, LIMIT * 2)
    for _ in range(24 * 3600 // 10):
        starts += len(spawned(sim.advance(10)))
        for worker in sim.workers(Phase.STARTING):
            sim.ready(worker.id)
            sim.sample(worker.id, LIMIT * 2)
        for worker in sim.workers(Phase.STOP_SIGTERM):
            sim.exit(worker.id)
    said = entries([a for _, a in sim.history], "BASELINE_OVER_LIMIT")
    assert len(said) == 1
    assert "raise memory.limit" in said[0].message
    assert starts <= 2 * (24 + 10)


def test_what_a_worker_held_before_it_was_ready_recycles_no_one() -> None:
    """READY comes a pass before the baseline that it asks for, and the minimum life may be none."""
    sim = Sim(replace(POLICY, patience=0.0, min_lifetime=0.0))
    sim.sample(A, LIMIT * 2)
    sim.sizes.clear()
    sim.ready(B)
    done = sim.ready(A) + sim.advance(1)
    assert spawned(done) == []
    done = sim.sample(A, LIMIT * 2)
    assert len(entries(done, "BASELINE_OVER_LIMIT")) == 1
    assert spawned(done + sim.advance(9)) == []
    sim.sample(B, LIMIT // 2)
    assert spawned(sim.sample(B, LIMIT)) == [B2]


def test_when_memory_is_short_the_fat_one_goes_early() -> None:
    sim = Sim(replace(POLICY, count=3))
    sim.up()
    sim.advance(60)
    c = WorkerId(2, 1)
    sim.step(f.Sampled(A, 20 * M, "uss"), f.Sampled(B, 60 * M, "uss"), f.Sampled(c, 20 * M, "uss"))
    assert spawned(sim.step(f.MemoryPressure())) == [B2]
    # One at a time.
    assert spawned(sim.step(f.MemoryPressure())) == []
    sim.ready()
    assert causes(sim.exit(B)) == ["pressure"]
    sim.advance(60)
    sim.step(f.Sampled(A, 20 * M, "uss"), f.Sampled(B2, 22 * M, "uss"), f.Sampled(c, 20 * M, "uss"))
    assert spawned(sim.step(f.MemoryPressure())) == []


def test_who_takes_what_its_replacement_needs_does_not_wait_for_it() -> None:
    """The order is reversed in the middle: for all of start_timeout the replacement would wait for memory."""
    sim = Sim(replace(POLICY, count=2))
    sim.up()
    sim.advance(60)
    room = f.MemoryAvailable(Headroom(100 * M, 22 * M, "the machine"))
    sim.step(f.Sampled(A, 20 * M, "uss"), f.Sampled(B, 50 * M, "uss"))
    assert spawned(sim.step(room, f.MemoryPressure())) == [B2]
    # What the replacement has taken is needed no more.
    sim.sample(B2, 6 * M)
    enough = f.MemoryAvailable(Headroom(100 * M, 4 * M, "the machine"))
    assert sent(sim.step(enough, f.MemoryPressure()), Signal.TERM) == []
    scarce = f.MemoryAvailable(Headroom(100 * M, 4 * M - 1, "the machine"))
    done = sim.step(scarce, f.MemoryPressure())
    assert sent(done, Signal.TERM) == [B]
    (said,) = entries(done, "SURGE_REVERSED")
    assert said.message.startswith("The old worker stops before its replacement is ready: ")
    done = sim.step(scarce, f.MemoryPressure()) + sim.exit(B)
    assert (causes(done), spawned(done)) == (["pressure"], [])
    sim.ready(B2)
    assert [w.id for w in sim.workers(Phase.RUNNING)] == [A, B2]


def test_a_reload_under_pressure_takes_nothing_from_who_serves() -> None:
    """It may fail, and then the old ones are all there is."""
    sim = Sim(replace(POLICY, count=2))
    sim.up()
    sim.advance(60)
    assert spawned(sim.reload(replace(POLICY, count=2))) == [A2]
    scarce = f.MemoryAvailable(Headroom(100 * M, 0, "the machine"))
    assert sent(sim.step(scarce, f.MemoryPressure()), Signal.TERM) == []


def test_pressure_of_a_worker_upon_itself_is_no_shortage() -> None:
    """It waits at its own trip-wire, for its own page cache, and there is plenty for the others."""
    sim = Sim(replace(POLICY, count=2))
    sim.ready()
    sim.advance(30)
    sim.sample(A, 20 * M)
    sim.sample(B, 60 * M)
    plenty = f.MemoryAvailable(Headroom(1000 * M, 700 * M, "the machine"))
    assert spawned(sim.step(plenty, f.MemoryPressure())) == []
    scarce = f.MemoryAvailable(Headroom(1000 * M, 100 * M, "the machine"))
    assert spawned(sim.step(scarce, f.MemoryPressure())) == [B2]


def test_pressure_recycles_nobody_who_is_young_or_alone() -> None:
    sim = Sim(POLICY)
    sim.up()
    sim.step(f.Sampled(A, 20 * M, "uss"), f.Sampled(B, 60 * M, "uss"))
    assert spawned(sim.step(f.MemoryPressure())) == []
    sim = Sim(replace(POLICY, count=1))
    sim.up()
    sim.advance(60)
    sim.sample(A, 90 * M)
    assert spawned(sim.step(f.MemoryPressure())) == []


def test_one_without_a_handler_for_sigterm_has_lost_what_it_did() -> None:
    sim = serving()
    sim.step(f.RecycleRequested(A))
    sim.ready(A2)
    sim.step(f.Deaf(A))
    (entry,) = entries(sim.exit(A, "killed", 15), "ENDED")
    assert entry.fields["MEMUNIT_CAUSE"] == "requested"
    assert "; it does not handle SIGTERM: what it was doing is lost" in entry.message
    assert entry.priority == 4
    # One that has said STOPPING=1 has a handler, and has come to its end.
    sim.step(f.RecycleRequested(B))
    sim.ready(B2)
    sim.step(f.Stopping(B))
    (entry,) = entries(sim.exit(B, "killed", 15), "ENDED")
    assert "does not handle" not in entry.message
    assert entry.priority == 5


def test_memory_that_cannot_be_measured_is_told_once() -> None:
    sim = Sim(POLICY)
    sim.ready()
    sim.advance(4)
    done = sim.step()
    assert entries(done, "UNMEASURED") == []
    done = sim.advance(2) + sim.step() + sim.step()
    assert len(entries(done, "UNMEASURED")) == 1
    assert "no limit is in effect" in sentence(sim.state, sim.now)
    sim = Sim(replace(POLICY, limit=None, ceiling=None))
    sim.ready()
    sim.advance(60)
    assert entries(sim.step(), "UNMEASURED") == []


def test_giving_up_starts_nobody_and_says_who_was_late() -> None:
    sim = Sim(replace(POLICY, start_timeout=10.0))
    sim.sample(A, M)
    before = len(spawned([a for _, a in sim.history]))
    while not sim.state.stopping:
        sim.advance(1)
        for worker in sim.workers(Phase.STOP_SIGTERM):
            sim.exit(worker.id, "killed", 6)
    at = sim.now
    late = [a for when, a in sim.history if when >= at]
    assert spawned(late) == []
    assert before == 2
    for worker in sim.workers():
        sim.exit(worker.id)
    ends = entries([a for _, a in sim.history], "ENDED")
    assert {end.fields["MEMUNIT_CAUSE"] for end in ends} == {"start-timeout"}


def test_a_worker_that_stops_by_itself_is_replaced_at_once_and_is_no_crash() -> None:
    sim = serving()
    done = sim.step(f.Stopping(A))
    assert spawned(done) == [A2]
    assert sent(done, Signal.TERM) == []
    sim.ready(A2)
    assert causes(sim.exit(A)) == ["requested"]


def test_one_that_stops_right_after_ready_is_held_back_and_does_not_pile_up() -> None:
    sim = Sim(replace(POLICY, count=1, grace=300.0, start_timeout=600.0))
    starts = 0
    for _ in range(600):
        for worker in sim.workers(Phase.STARTING):
            starts += 1
            sim.ready(worker.id)
            sim.step(f.Stopping(worker.id))
        sim.advance(0.5)
        assert len(sim.alive) <= 3
    assert starts <= 3
    sim = Sim(replace(POLICY, count=1, start_timeout=600.0))
    for _ in range(600):
        for worker in sim.workers(Phase.STARTING):
            starts += 1
            sim.ready(worker.id)
            sim.step(f.Stopping(worker.id))
            sim.exit(worker.id)
        sim.advance(0.5)
    assert starts <= 25


def test_a_reload_does_not_judge_the_old_workers_by_what_they_were_never_told() -> None:
    sim = serving()
    sim.step(f.Ping(A), f.Ping(B))
    sim.step(f.Sampled(A, 90 * M, "uss"), f.Sampled(B, 90 * M, "uss"))
    done = sim.reload(replace(POLICY, ceiling=80 * M, watchdog=1.0, grace=1.0), 1)
    done += sim.step(f.Sampled(A, 90 * M, "uss"), f.Sampled(B, 90 * M, "uss"), f.Ping(A), f.Ping(B))
    done += sim.advance(20)
    assert sent(done, Signal.KILL) == []
    assert sent(done, Signal.ABRT) == []
    new = sim.workers(Phase.STARTING)[0].id
    sim.ready(new)
    sim.advance(1)
    old = sim.workers(Phase.STOP_SIGTERM)[0].id
    assert sent(sim.advance(8), Signal.KILL) == []
    assert causes(sim.exit(old)) == ["reload"]
    assert sent(sim.sample(new, 85 * M), Signal.KILL) == [new]


def test_stop_reaches_all_and_finishes_when_the_last_is_gone() -> None:
    sim = serving()
    done = sim.step(f.StopRequested())
    assert sent(done, Signal.TERM) == [A, B]
    assert NotifyStopping() in done
    assert finished(sim.exit(A)) is None
    done = sim.exit(B, "killed", 15)
    assert finished(done) == 0
    assert causes([a for _, a in sim.history]) == ["stop", "stop"]


def test_an_exit_in_the_same_pass_as_the_stop_is_part_of_it() -> None:
    sim = serving()
    del sim.alive[A]
    done = sim.step(f.Exited(A, "exited", 0), f.StopRequested())
    assert spawned(done) == []
    assert causes(done) == ["stop"]


def test_stop_is_bounded_by_grace_even_with_an_unkillable_worker() -> None:
    sim = serving()
    sim.step(f.StopRequested())
    done = sim.advance(30.1 + 10.1)
    assert sent(done, Signal.KILL) == [A, B]
    assert finished(done) == 0


@pytest.mark.parametrize("fact", [f.Scale(+1), f.ScaleTo(3), f.Adjust({"memory.limit": "90M"})])
def test_a_stop_takes_no_wishes(fact: f.Fact) -> None:
    """What is told of them would be untrue: nobody is started or judged any more."""
    sim = serving()
    sim.step(f.StopRequested())
    assert sim.step(fact) == []
    assert (sim.state.count, sim.state.settings) == (2, {})


def test_a_dump_is_one_entry_with_each_worker() -> None:
    (entry,) = entries(serving().step(f.DumpState()), "STATE_DUMP")
    assert all(f"worker {who.slot}.{who.generation}" in entry.message for who in (A, B))


def test_a_second_interrupt_does_not_wait() -> None:
    sim = serving()
    # The first one tells nobody that requests will be lost.
    assert len(entries(sim.step(f.StopRequested()), "MASTER_STOPPING")) == 1
    actions = sim.step(f.StopRequested(force=True))
    assert sent(actions, Signal.KILL) == [A, B]
    # The cause of their ends is grace-expired, of a grace that was not over.
    assert (
        "by a second signal: 2 workers will not have the rest of stop.grace"
        in entries(actions, "MASTER_STOPPING")[0].message
    )


def test_systemd_hears_once_that_a_reload_begins_and_not_before_ready() -> None:
    sim = Sim(POLICY)
    assert NotifyReloading() not in sim.reload(POLICY, 5)
    sim = serving()
    assert NotifyReloading() in sim.reload(POLICY, 5)
    assert NotifyReloading() not in sim.reload(POLICY, 6)


def test_reload_replaces_all_one_by_one_and_reports() -> None:
    sim = serving()
    done = sim.reload(POLICY, 5)
    assert NotifyReloading() in done
    first = spawned(done)
    assert len(first) == 1
    for _ in range(2):
        sim.ready()
        sim.advance(1)
        assert len(sim.workers(Phase.RUNNING)) == 2
        old = sim.workers(Phase.STOP_SIGTERM)[0]
        sim.exit(old.id)
    history = [a for _, a in sim.history]
    assert [r.ok for r in results(history)] == [True]
    assert causes(history) == ["reload", "reload"]
    assert history.count(NotifyReady()) == 2
    assert all(w.revision == 2 for w in sim.workers())


def test_a_broken_reload_leaves_the_old_generation_serving() -> None:
    sim = serving()
    sim.reload(replace(POLICY, count=1, limit=50 * M), 5)
    for generation in (2, 3):
        new = WorkerId(0, generation)
        assert new in sim.alive
        sim.exit(new, "exited", 78)
        sim.advance(0.01)
    assert [r.ok for r in results([a for _, a in sim.history])] == [False]
    assert {w.id for w in sim.workers(Phase.RUNNING)} == {A, B}
    assert sent([a for _, a in sim.history], Signal.TERM) == []
    assert sim.state.policy.limit == LIMIT
    assert spawned(sim.advance(300)) == []
    assert "reload failed" in sentence(sim.state, sim.now)


def test_a_reload_that_hangs_fails_at_its_start_timeout() -> None:
    sim = serving()
    sim.reload(POLICY, 5)
    new = sim.workers(Phase.STARTING)[0].id
    sim.advance(40.2)
    sim.exit(new, "killed", 9)
    assert [r.ok for r in results([a for _, a in sim.history])] == [False]
    assert {w.id for w in sim.workers(Phase.RUNNING)} == {A, B}


def test_a_reload_that_breaks_half_way_is_rolled_back() -> None:
    sim = serving()
    sim.reload(POLICY, 5)
    sim.ready()
    sim.advance(1)
    sim.exit(sim.workers(Phase.STOP_SIGTERM)[0].id)
    for _ in range(2):
        sim.exit(sim.workers(Phase.STARTING)[0].id, "exited", 1)
        sim.advance(0.01)
    assert [r.ok for r in results([a for _, a in sim.history])] == [False]
    sim.advance(1)
    sim.ready()
    assert {w.revision for w in sim.workers(Phase.RUNNING)} == {1}


def test_a_later_reload_supersedes_the_one_on_its_way() -> None:
    sim = serving()
    sim.reload(POLICY, 1)
    assert [done for _, done in sim.history if isinstance(done, UseRevision)] == []
    # Not the one that it supersedes, which may still import.
    assert UseRevision(1) in sim.reload(POLICY, 2)
    for _ in range(10):
        sim.ready()
        sim.advance(1)
        for worker in sim.workers(Phase.STOP_SIGTERM):
            sim.exit(worker.id)
    assert [(r.tokens, r.ok) for r in results([a for _, a in sim.history])] == [((1, 2), True)]
    assert {w.revision for w in sim.workers()} == {3}


def test_reload_during_recycle_and_stop_during_both() -> None:
    sim = serving()
    sim.sample(A, LIMIT)
    sim.advance(2.1)
    sim.reload(POLICY, 1)
    done = sim.step(f.StopRequested())
    assert [r.ok for r in results(done)] == [False]
    assert done.index(NotifyReady()) < done.index(NotifyStopping())
    for who in list(sim.alive):
        done = sim.exit(who, "killed", 15)
    assert finished(done) == 0


def test_a_refused_reload_is_answered_and_changes_nothing() -> None:
    sim = serving()
    done = sim.step(f.ReloadRefused((3,), "app.toml: memory.limt: unknown key"))
    assert [(r.tokens, r.ok) for r in results(done)] == [((3,), False)]
    assert done.count(NotifyReady()) == 1
    assert spawned(done) == []


def test_a_reload_refused_beside_one_under_way_says_which_goes_on() -> None:
    sim = serving()
    sim.reload(POLICY, 1)
    (refused,) = results(sim.step(f.ReloadRefused((2,), "app.toml: memory.limt: unknown key")))
    assert refused.text.startswith("Reload refused, the one under way goes on: app.toml: ")
    for _ in range(10):
        sim.ready()
        sim.advance(1)
        for worker in sim.workers(Phase.STOP_SIGTERM):
            sim.exit(worker.id)
    assert "reload failed" not in sentence(sim.state, sim.now)


def test_a_failed_reload_takes_back_no_scaling() -> None:
    sim = serving()
    sim.reload(POLICY, 1)
    sim.step(f.Scale(+1))
    while sim.state.rollout is not None:
        sim.exit(sim.workers(Phase.STARTING)[0].id, "exited", 1)
        sim.advance(0.2)
    assert sim.state.count == POLICY.count + 1
    assert sim.state.settings == {"workers.count": str(POLICY.count + 1)}


def test_scaling() -> None:
    sim = serving()
    assert spawned(sim.step(f.Scale(+1))) == [WorkerId(2, 1)]
    sim.ready()
    assert sent(sim.step(f.Scale(-1)), Signal.TERM) == [WorkerId(2, 1)]
    assert causes(sim.exit(WorkerId(2, 1))) == ["scale-down"]
    assert sent(sim.step(f.Scale(-1)), Signal.TERM) == [B]
    assert sent(sim.step(f.Scale(-1)), Signal.TERM) == []
    sim.step(f.MemoryAvailable(Headroom(150 * M, 100 * M, "the machine")))
    assert spawned(sim.step(f.Scale(+1))) == []


@pytest.mark.parametrize("surge", [0, 1])
def test_without_room_the_order_is_reversed_one_slot_at_a_time(surge: int) -> None:
    sim = serving(replace(POLICY, surge=surge))
    if surge:
        sim.step(f.MemoryAvailable(Headroom(1000 * M, 5 * M, "the machine")))
    sim.step(f.Sampled(A, LIMIT + 1, "uss"), f.Sampled(B, LIMIT * 2, "uss"))
    done = sim.advance(2.1)
    assert spawned(done) == []
    assert sent(done, Signal.TERM) == [B]
    assert spawned(sim.exit(B)) == [B2]
    assert sent(sim.advance(1), Signal.TERM) == []
    assert sent(sim.ready(B2), Signal.TERM) == [A]
    assert len(entries([a for _, a in sim.history], "SURGE_REVERSED")) == surge


def test_what_a_stopped_worker_gave_back_is_its_successors() -> None:
    """It is free until the successor has grown, and was once taken for room for a second one."""
    sim = serving()

    def free(size: int) -> f.MemoryAvailable:
        return f.MemoryAvailable(Headroom(360 * M, size * M, "MemoryMax="))

    sim.step(free(5), f.Sampled(A, LIMIT + 1, "uss"), f.Sampled(B, LIMIT * 2, "uss"))
    assert sent(sim.advance(2.1), Signal.TERM) == [B]
    assert spawned(sim.exit(B)) == [B2]
    done = sim.step(free(12)) + sim.advance(1) + sim.step(free(19))
    assert spawned(done) == []
    assert entries(done, "SURGE_REVERSED") == []
    # With room for both it is another thing.
    assert spawned(sim.step(free(21))) == [A2]
    assert len(entries([a for _, a in sim.history], "SURGE_REVERSED")) == 2


def test_an_app_that_never_starts_costs_two_tries_a_minute_and_ends_with_69() -> None:
    sim = Sim(POLICY)
    while finished([a for _, a in sim.history]) is None:
        for who in list(sim.alive):
            sim.exit(who, "exited", 1)
        if finished([a for _, a in sim.history]) is None:
            sim.advance(max(0.001, min(sim.deadline - sim.now, 5.0)))
    assert finished([a for _, a in sim.history]) == 69
    assert 29.9 <= sim.now - 1000.0 <= 30.1
    saved = [a for _, a in sim.history if isinstance(a, SaveGate)]
    assert [s.failures for s in saved] == list(range(1, len(saved) + 1))


@pytest.mark.parametrize("takes", [0.0, 0.9, 4.0, 7.0, 12.0, 19.0, 28.0])
def test_successors_of_a_failed_master_keep_to_two_tries_a_minute(takes: float) -> None:
    """An hour of masters that each end with 69 and are started again a second later; each try `takes` seconds."""
    tries: list[float] = []
    gate, clock = None, 1000.0
    while clock < 4600.0:
        sim = Sim.__new__(Sim)
        Sim.__init__(sim, POLICY, gate=gate)
        offset = clock - 1000.0
        gate = None if gate is None else gate
        while finished([a for _, a in sim.history]) is None:
            if sim.alive:
                sim.advance(takes)
            for who in list(sim.alive):
                sim.exit(who, "exited", 1)
            if finished([a for _, a in sim.history]) is None:
                sim.advance(max(0.001, min(sim.deadline - sim.now, 5.0)))
        tries += [offset + at for at, a in sim.history if spawned([a])]
        clock += sim.now - 1000.0 + 1.0
        last = sim.state.gate
        shift = 1000.0 - (sim.now + 1.0)
        gate = Gate(failures=last.failures, since=last.since + shift, retry_at=last.retry_at + shift)
    after = [t for t in tries if t >= 1000.0 + 60]
    assert len(after) > 50
    for start in after:
        assert sum(start <= t < start + 60 for t in after) <= 2


def test_a_try_that_had_to_wait_has_all_of_start_timeout() -> None:
    """The app was mended meanwhile: the try is not cut off because the master waited before it."""
    wait = POLICY.start_timeout - 1.0
    sim = Sim(replace(POLICY, count=1), gate=Gate(failures=9, retry_at=1000.0 + wait))
    assert spawned(sim.advance(wait)) == [A]
    # The loop came round late once, which forgives time and takes none.
    sim.advance(POLICY.start_timeout - 2.0)
    sim.ready(A)
    assert finished([a for _, a in sim.history]) is None
    assert sim.state.running() == 1
    # And one that fails for good still ends the master in bounded time.
    sim = Sim(replace(POLICY, count=1), gate=Gate(failures=9, retry_at=1000.0 + wait))
    while finished([a for _, a in sim.history]) is None:
        for who in list(sim.alive):
            sim.exit(who, "exited", 1)
        if finished([a for _, a in sim.history]) is None:
            sim.advance(max(0.001, min(sim.deadline - sim.now, 5.0)))
    assert sim.now - 1000.0 <= wait + POLICY.start_timeout + 0.1


def test_a_person_or_a_ready_worker_opens_the_gate() -> None:
    sim = Sim(replace(POLICY, count=1), gate=Gate(failures=9, retry_at=1020.0))
    assert spawned([a for _, a in sim.history]) == []
    assert ClearGate() in sim.step(f.StopRequested())
    sim = Sim(replace(POLICY, count=2), gate=Gate(failures=9, retry_at=1020.0))
    assert spawned(sim.advance(20.1)) == [A]
    done = sim.ready(A)
    assert ClearGate() in done
    assert spawned(done) == [B]


def test_an_app_that_becomes_ready_and_crashes_at_once_is_held_back_too() -> None:
    """And by one master: its successor would know of no crash, and start without a pause each time."""
    sim = Sim(replace(POLICY, count=1))
    while sim.now < 4600.0:
        for who in list(sim.alive):
            sim.ready(who)
            sim.advance(2.0)
            sim.exit(who, "killed", 11)
        sim.advance(0.5)
        assert healthy(sim.state, sim.now)
    assert finished([a for _, a in sim.history]) is None
    starts = [at for at, a in sim.history if spawned([a]) and at >= 1090.0]
    assert len(starts) > 80
    assert all(sum(at <= other < at + 60 for other in starts) <= 2 for at in starts)
    last = [a for _, a in sim.history if isinstance(a, SaveGate)][-1]
    assert last.failures >= 10
    # One that fails before it serves is another thing: that ends the master, a try later.
    while finished([a for _, a in sim.history]) is None:
        for who in list(sim.alive):
            sim.exit(who, "exited", 1)
        sim.advance(0.5)
    assert sim.now < 4600.0 + 80.0


def test_what_a_predecessor_has_counted_is_not_over_at_ready() -> None:
    sim = Sim(replace(POLICY, count=1), gate=Gate(failures=9, since=900.0, retry_at=1000.0))
    sim.ready(A)
    sim.advance(3)
    assert spawned(sim.exit(A, "killed", 11)) == []
    assert sim.state.gate.retry_at >= sim.now + 12
    # Each half minute of serving takes one from it.
    sim = Sim(replace(POLICY, count=1), gate=Gate(failures=9, since=900.0, retry_at=1000.0))
    sim.ready(A)
    sim.advance(9 * 30)
    assert spawned(sim.exit(A, "killed", 11)) == [A2]


def test_a_slow_drain_in_the_reversed_order_is_no_failure_to_serve() -> None:
    sim = serving(replace(POLICY, count=1, surge=0, grace=300.0))
    sim.step(f.RecycleRequested(A))
    sim.advance(200)
    assert not sim.state.stopping
    assert spawned(sim.exit(A)) == [A2]


def test_a_worker_that_asked_for_time_is_not_given_up() -> None:
    sim = Sim(replace(POLICY, count=1))
    sim.step(f.ExtendTimeout(A, 100.0))
    sim.advance(99)
    assert not sim.state.stopping
    assert NotifyReady() in sim.ready(A)


def test_an_unkillable_worker_does_not_hold_its_slot_for_ever() -> None:
    sim = serving(replace(POLICY, count=1, surge=0))
    sim.step(f.RecycleRequested(A))
    assert spawned(sim.advance(39)) == []
    assert spawned(sim.advance(2)) == [A2]


def test_an_unkillable_worker_ends_when_its_process_does() -> None:
    """Until then it holds its memory and its group, and no entry says that it has gone."""
    sim = serving(replace(POLICY, count=1))
    sim.step(f.RecycleRequested(A))
    sim.ready(A2)
    assert entries(sim.advance(100), "ENDED") == []
    assert [worker.id for worker in sim.workers()] == [A, A2]
    assert causes(sim.exit(A, "killed", 9)) == ["grace-expired"]
    assert [worker.id for worker in sim.workers()] == [A2]


def test_healthy_slots_serve_on_while_one_crashes() -> None:
    sim = serving()
    for _ in range(20):
        broken = [w for w in sim.alive if w.slot == 0]
        for who in broken:
            sim.exit(who, "exited", 1)
        sim.advance(5)
    assert sim.state.workers[B].phase is Phase.RUNNING
    assert not sim.state.stopping
    assert healthy(sim.state, sim.now)


@pytest.mark.parametrize("in_unit", [True, False])
def test_a_master_whose_workers_are_all_gone_gives_up_and_says_why(in_unit: bool) -> None:
    sim = serving(replace(POLICY, count=1, in_unit=in_unit))
    sim.exit(A, "killed", 11)
    while finished([a for _, a in sim.history]) is None:
        for who in list(sim.alive):
            sim.step(f.StatusText(who, "cannot import shop: No module named 'x'"))
            sim.exit(who, "exited", 78)
        sim.advance(1)
    assert finished([a for _, a in sim.history]) == 69
    said = entries([a for _, a in sim.history], "NOTHING_READY")
    assert len(said) == 1
    assert "No module named 'x'" in said[0].message
    # In the foreground there is no socket unit that holds the clients, and nobody who starts it again.
    assert ("systemd starts a successor" in said[0].message) == in_unit


def test_ready_in_part_at_the_start_timeout_is_ready() -> None:
    sim = Sim(POLICY)
    sim.ready(A)
    done = sim.advance(29)
    assert NotifyReady() not in done
    assert NotifyReady() in sim.advance(1.1)


def test_exec_counts_as_ready_where_asked() -> None:
    sim = Sim(EXEC)
    assert NotifyReady() in sim.step(f.Executed(A))
    sim = Sim(replace(POLICY, count=1))
    assert NotifyReady() not in sim.step(f.Executed(A))


def test_what_never_speaks_has_to_outlast_what_it_replaces() -> None:
    """Else a program that crashes at once would take the place of each that serves, and the reload be called done."""
    sim = Sim(EXEC)
    sim.step(f.Executed(A))
    sim.reload(EXEC, 5)
    sim.step(f.Executed(A2))
    assert sim.state.workers[A].phase is Phase.RUNNING
    sim.exit(A2, "exited", 1)
    assert sim.state.workers[A].phase is Phase.RUNNING
    sim.advance(20)
    (again,) = (who for who in sim.alive if who.generation == 3)
    sim.step(f.Executed(again))
    (result,) = results(sim.exit(again, "exited", 1))
    assert not result.ok
    assert sim.state.workers[A].phase is Phase.RUNNING

    sim.reload(EXEC, 6)
    (good,) = (who for who in sim.alive if who.generation == 4)
    sim.step(f.Executed(good))
    assert results(sim.advance(0.9)) == []
    (result,) = results(sim.advance(0.2))
    assert result.ok
    assert sim.state.workers[A].phase is Phase.STOP_SIGTERM


def on_probation() -> Sim:
    """A reload whose first worker has just become its program."""
    sim = Sim(EXEC)
    sim.step(f.Executed(A))
    sim.advance(20)
    sim.reload(EXEC, 5)
    sim.step(f.Executed(A2))
    return sim


def test_one_that_stops_by_itself_does_not_pass_its_probation() -> None:
    sim = on_probation()
    sim.advance(0.3)
    sim.step(f.Stopping(A2))
    assert results(sim.advance(10)) == []
    assert sim.state.workers[A].phase is Phase.RUNNING
    assert causes(sim.exit(A2, "exited", 1)) == ["start-failed"]
    # Told in the pass in which it has become its program.
    sim = Sim(EXEC)
    sim.step(f.Executed(A))
    sim.reload(EXEC, 5)
    sim.step(f.Stopping(A2), f.Executed(A2))
    assert results(sim.advance(10)) == []
    assert sim.state.workers[A].phase is Phase.RUNNING


def test_one_that_stops_in_its_probation_is_not_ended_for_a_stall_of_the_master() -> None:
    sim = on_probation()
    sim.step(f.Stopping(A2))
    sim.now += 3600
    assert sent(sim.step(), Signal.ABRT) == []
    # Once.
    sim.now += 3600
    assert sent(sim.step(), Signal.ABRT) == [A2]


def test_a_probation_can_not_be_prolonged() -> None:
    sim = on_probation()
    sim.step(f.ExtendTimeout(A2, 300.0))
    (result,) = results(sim.advance(1.1))
    assert result.ok


def test_nothing_is_given_up_while_a_program_is_on_probation() -> None:
    policy = replace(EXEC, start_timeout=10.0)
    sim = Sim(policy)
    sim.step(f.Executed(A))
    sim.advance(20)
    sim.exit(A)
    sim.advance(9.5)
    sim.reload(policy, 5)
    (starting,) = sim.workers(Phase.STARTING)
    sim.step(f.Executed(starting.id))
    done = sim.advance(1.1)
    assert finished(done) is None
    (result,) = results(done)
    assert result.ok


def test_what_a_program_on_probation_ends_with_is_its_own() -> None:
    sim = on_probation()
    (entry,) = entries(sim.exit(A2, "exited", 203), "ENDED")
    assert "exited with status 203 after" in entry.message
    sim = on_probation()
    sim.reload(EXEC, 6)
    sim.step(f.Deaf(A2))
    (entry,) = entries(sim.exit(A2, "killed", 15), "ENDED")
    assert "what it was doing is lost" in entry.message


def test_a_fork_that_fails_is_an_accident_with_backoff_and_no_end() -> None:
    sim = serving()
    sim.sample(A, LIMIT)
    sim.advance(2.1)
    done = sim.step(f.SpawnFailed(A2, "Cannot allocate memory"))
    assert causes(done) == []
    assert "Cannot allocate memory" in entries(done, "LAUNCH_FAILED")[0].message
    assert sim.state.workers[A].phase is Phase.RUNNING


def test_the_sentence() -> None:
    sim = serving()
    sim.exit(A, "killed", 9)
    sim.ready()
    sim.sample(B, LIMIT)
    sim.advance(2.1)
    sim.ready()
    sim.exit(B)
    sim.sample(A2, 20 * M)
    text = sentence(sim.state, sim.now)
    assert text == "2/2 workers, 20M of 100M at most, 2 recycled (1 crash-signal, 1 memory-limit)"


def test_a_copy_of_the_state_shares_nothing_that_changes() -> None:
    sim = serving()
    sim.step(f.Sampled(A, LIMIT, "uss"), f.Ping(B))
    sim.exit(B, "killed", 9)
    sim.reload(POLICY, 1)
    before, kept = sim.state, sim.state.copy()
    assert kept == before
    facts: list[f.Fact] = [f.Exited(A, "killed", 9), f.Scale(+1), f.StopRequested()]
    first = step(kept.copy(), facts, sim.now)
    assert kept == before
    # And its indexes, which are made anew, lead to the same.
    assert step(kept, facts, sim.now) == first


def test_sampling_never_recycles_without_a_limit() -> None:
    sim = serving(replace(POLICY, limit=None, ceiling=None))
    sim.sample(A, 10**12)
    assert spawned(sim.advance(1000)) == []
    assert math.isinf(sim.state.workers[A].watchdog_at)
    assert Cause.MEMORY_LIMIT not in sim.state.ended
