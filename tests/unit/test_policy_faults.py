"""Faults that policy had, each by its kind: the input that showed it, and others of the kind. Time is simulated."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import pytest

from memunit.core import facts as f
from memunit.core.actions import SaveGate, Send, Signal
from memunit.core.model import Cause, Gate, Headroom, Phase, Policy, WorkerId
from memunit.core.policy import step
from memunit.core.status import sentence
from memunit.records import replace
from tests.exploration.simulation import Simulation, Way
from tests.support.sim import M, Sim, causes, results, sent, spawned

LIMIT = 100 * M
POLICY = Policy(count=2, limit=LIMIT, ceiling=300 * M, patience=2.0, min_lifetime=10.0, grace=30.0)
A, B = WorkerId(0, 1), WorkerId(1, 1)
A2, B2 = WorkerId(0, 2), WorkerId(1, 2)
WELL = Way(name="well")
NO_ROOM = Headroom(1000 * M, 0, "the machine")

# Ways to fail, by name.
DIES = {
    "at its start": Way(name="", ready=math.inf, exits=0.3),
    "by a fork that fails": Way(name="", forks=False),
    "right after READY": Way(name="", exits=0.3),
    "eleven seconds after READY": Way(name="", exits=11.0),
    "clean": Way(name="", exits=1.0, status=0),
}
HANGS = {
    "never ready": Way(name="", ready=math.inf),
    "silent after READY": Way(name="", hangs=0.05),
    "asks for the watchdog": Way(name="", trigger=0.5),
    "deaf to SIGABRT too": Way(name="", hangs=0.05, aborts=False),
}
STOPS = {
    "and exits with 1": Way(name="", stopping=0.2, exits=0.4),
    "and exits with 0": Way(name="", stopping=0.2, exits=0.4, status=0),
    "and is killed": Way(name="", stopping=0.2, exits=0.4, code="killed", status=9),
    "and drains for all of its grace": Way(name="", stopping=0.2),
}
GROWS = {
    "to the ceiling at once": Way(name="", leap=400 * M),
    "over the limit with the first request": Way(name="", leap=150 * M),
    "by a little, from close under the limit": Way(name="", base=94 * M, leap=103 * M),
    "over the limit before READY": Way(name="", base=150 * M),
}
ALL = {**DIES, **HANGS, **STOPS, **GROWS}


def by_name(ways: dict[str, Way]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("way", [pytest.param(way, id=name) for name, way in ways.items()])


def simulated(policy: Policy, ways: Callable[[WorkerId], Way], room: Headroom | None = None) -> Simulation:
    return Simulation(policy=policy, ways=ways, room=room)


# -- a replacement waits for other replacements alone ---------------------------------------------------------


@pytest.mark.parametrize("surge", [0, 1])
@pytest.mark.parametrize("room", [None, NO_ROOM], ids=["room", "no room"])
@by_name({**DIES, **HANGS, **STOPS})
def test_a_slot_that_fails_keeps_no_other_from_being_recycled(
    way: Way, room: Headroom | None, surge: int
) -> None:
    """It was at 900M of 100M for six hours."""
    leaks = Way(name="", leap=150 * M)
    policy = replace(POLICY, surge=surge)
    sim = simulated(policy, lambda who: way if who.slot == 1 else WELL, room)
    sim.run(sim.now + 600)
    sim.ways = lambda who: way if who.slot == 1 else leaks
    began = sim.now
    old = next(w.id for w in sim.state.workers.values() if w.id.slot == 0 and w.phase is Phase.RUNNING)
    sim.step([f.RecycleRequested(old)])
    sim.run(began + 120)
    assert old not in sim.state.workers


def test_what_serves_is_not_given_away_to_an_app_that_does_not_start() -> None:
    """Nor is that the end of all others, one after the other: with surge 0, four workers were stopped in a second."""
    sim = Sim(replace(POLICY, count=4, surge=0))
    sim.up()
    sim.advance(60)
    sim.step(*[f.RecycleRequested(w.id) for w in sim.workers()])
    stopped = []
    for _ in range(29):
        for who in [*sim.alive]:
            if sim.state.workers[who].phase is Phase.STOP_SIGTERM:
                stopped.append(who)
                sim.exit(who)
            elif sim.state.workers[who].phase is Phase.STARTING:
                sim.exit(who, "exited", 1)
        sim.advance(1.0)
    assert len(stopped) == 1
    assert sim.state.running() == 3


@pytest.mark.parametrize(
    "hangs", [False, True], ids=["its sibling crashes", "its sibling hangs as it starts"]
)
def test_what_was_stopped_for_its_replacement_is_replaced_at_once(hangs: bool) -> None:
    """The crash loop of its sibling opened no gap, and yet kept it from being started for half a minute."""
    sim = Sim(replace(POLICY, surge=0, start_timeout=30.0))
    sim.up()
    for generation in range(1, 12):
        sim.exit(WorkerId(0, generation), "killed", 11)
        while not sim.workers(Phase.STARTING):
            sim.advance(1.0)
        sim.ready()
    assert sent(sim.step(f.RecycleRequested(B)), Signal.TERM) == [B]
    sim.exit(WorkerId(0, 12), "killed", 11)
    assert sim.state.running() == 0
    if hangs:
        while not sim.workers(Phase.STARTING):
            sim.advance(1.0)
    assert spawned(sim.exit(B)) == [B2]
    # That one fails as well: then it waits as any does.
    sim.exit(B2, "killed", 11)
    assert [each.id for each in sim.workers(Phase.STARTING) if each.id.slot == 1] == []


def given_away(sim: Sim) -> None:
    """Worker 0 is stopped for a replacement, and that one fails."""
    sim.up()
    sim.advance(60)
    sim.step(f.RecycleRequested(A))
    sim.exit(A)
    sim.exit(A2, "exited", 1)


def test_a_replacement_that_fails_again_and_again_makes_one_pause() -> None:
    """Else the slot of an app that can't start would keep each other worker from being replaced, for ever."""
    sim = Sim(replace(POLICY, surge=0))
    given_away(sim)
    began = sim.now
    sim.step(f.RecycleRequested(B))
    while sim.now < began + 31:
        for who in [who for who in sim.alive if who.slot == 0]:
            sim.exit(who, "exited", 1)
        sim.advance(0.5)
    assert [at - began for at, each in sim.history if sent([each], Signal.TERM) == [B]] == [
        pytest.approx(30, abs=1)
    ]


def test_a_reload_waits_for_no_pause_that_the_old_app_has_made() -> None:
    sim = Sim(replace(POLICY, surge=0))
    given_away(sim)
    sim.reload(replace(POLICY, surge=0))
    sim.exit(WorkerId(0, 3), "killed", 15)
    sim.ready(WorkerId(0, 4))
    # Until the new configuration has lived for a second it is the only one that serves.
    assert sim.state.workers[B].phase is Phase.RUNNING
    sim.advance(2.0)
    assert sim.state.workers[B].phase is Phase.STOP_SIGTERM


def crashed_beside(policy: Policy) -> Sim:
    """One has crashed and starts again, and the others serve; without room for a surge, where there is one."""
    sim = Sim(policy)
    sim.up()
    sim.advance(60)
    if policy.surge:
        sim.step(f.MemoryAvailable(Headroom(1 << 30, 1 << 20, "the machine")))
    sim.exit(A, "killed", 11)
    sim.advance(5.0)
    assert sim.state.workers[A2].phase is Phase.STARTING
    return sim


@pytest.mark.parametrize("surge", [0, 1])
def test_the_only_one_that_serves_waits_for_one_that_starts(surge: int) -> None:
    """A crash beside a recycle: in reversed order, nobody served until the app had started again."""
    sim = crashed_beside(replace(POLICY, surge=surge))
    assert sent(sim.step(f.RecycleRequested(B)), Signal.TERM) == []
    assert sent(sim.ready(A2), Signal.TERM) == [B]


@pytest.mark.parametrize("surge", [0, 1])
def test_one_of_two_that_serve_waits_for_no_start(surge: int) -> None:
    sim = crashed_beside(replace(POLICY, count=3, surge=surge))
    assert sent(sim.step(f.RecycleRequested(B)), Signal.TERM) == [B]


@pytest.mark.parametrize("asked", [0.0, 3600.0])
def test_the_only_one_that_serves_waits_for_no_start_that_takes_too_long(asked: float) -> None:
    sim = crashed_beside(replace(POLICY, surge=0, start_timeout=30.0))
    began = sim.now
    if asked:
        sim.step(f.ExtendTimeout(A2, asked))
    assert sent(sim.step(f.RecycleRequested(B)), Signal.TERM) == []
    while B in sim.state.workers and sim.state.workers[B].phase is Phase.RUNNING and sim.now < began + 60:
        sim.advance(1.0)
    assert sim.state.workers[B].phase is Phase.STOP_SIGTERM
    assert sim.now - began <= 31


@pytest.mark.parametrize("requested", [False, True])
def test_the_only_one_that_serves_does_not_wait_for_its_ceiling(requested: bool) -> None:
    """A ceiling loses requests, a gap does not: clients wait in the socket."""
    sim = crashed_beside(replace(POLICY, surge=0))
    told = sent(sim.step(f.RecycleRequested(B)), Signal.TERM) if requested else []
    for size in (60, 110, 160, 210, 260):
        told += sent(sim.sample(B, size * M), Signal.TERM)
        sim.advance(0.04)
    assert told == [B]
    assert sim.state.workers[A2].phase is Phase.STARTING


def test_a_replacement_that_has_come_up_gives_nobody_a_pause() -> None:
    """It ends an hour later: what the other waits for is the place, and not half a minute more."""
    sim = Sim(replace(POLICY, surge=0))
    sim.up()
    sim.advance(60)
    sim.step(f.RecycleRequested(A))
    sim.exit(A)
    sim.up()
    sim.advance(3600)
    sim.exit(A2, "exited", 1)
    sim.up()
    assert sent(sim.step(f.RecycleRequested(B)), Signal.TERM) == [B]


def test_who_fails_together_has_failed_once() -> None:
    """Else an instance of eight workers waits as long after its first failure as one of one worker after its eighth."""
    sim = Sim(replace(POLICY, count=8))
    sim.advance(0.3)
    ends = [f.Exited(who, "exited", 1) for who in sim.alive]
    assert len(ends) == 8
    assert len(spawned(sim.step(*ends))) == 1
    assert sim.state.gate.failures == 1


# -- one clock --------------------------------------------------------------------------------------------------


def starve(sim: Sim, seconds: float) -> list[tuple[float, Send]]:
    """The master is stopped for three seconds, and runs for a moment, again and again; what it has sent, and when."""
    before, end = len(sim.history), sim.now + seconds
    while sim.now < end:
        sim.now += 3.0
        sim.step()
        sim.advance(0.05)
    return [(at, a) for at, a in sim.history[before:] if isinstance(a, Send)]


def test_a_starved_master_kills_at_the_end_of_grace() -> None:
    sim = Sim(replace(POLICY, grace=4.0))
    sim.up()
    sim.advance(60)
    sim.step(f.RecycleRequested(A))
    sim.ready(A2)
    asked = sim.now
    (first, *_) = starve(sim, 30)
    assert (first[1].id, first[1].signal) == (A, Signal.KILL)
    assert first[0] <= asked + 4 + 3.05


def test_a_starved_master_kills_who_does_not_end_by_sigabrt() -> None:
    sim = Sim(POLICY)
    sim.up()
    sim.advance(60)
    sim.step(f.WatchdogTrigger(A))
    asked = sim.now
    kills = [at for at, a in starve(sim, 60) if a.id == A and a.signal is Signal.KILL]
    assert kills
    assert kills[0] <= asked + 10 + 3.05


@pytest.mark.parametrize("starts", [True, False])
def test_a_stall_is_forgiven_once(starts: bool) -> None:
    """Who does not get ready, and who does not ping: neither lives for ever by the master's absence."""
    sim = Sim(replace(POLICY, start_timeout=30.0, watchdog=30.0))
    if not starts:
        sim.up()
        sim.step(f.Ping(A))
    asked = sim.now
    aborts = [at for at, a in starve(sim, 90) if a.id == A and a.signal is Signal.ABRT]
    assert aborts
    assert asked + 30 <= aborts[0] <= asked + 30 + 2 * 3.05


def test_an_abort_gives_no_more_time_than_grace_leaves() -> None:
    sim = Sim(replace(POLICY, grace=12.0))
    sim.up()
    sim.advance(60)
    sim.step(f.RecycleRequested(A))
    sim.ready(A2)
    sim.advance(8)
    assert sent(sim.step(f.WatchdogTrigger(A)), Signal.ABRT) == [A]
    assert sent(sim.advance(4.1), Signal.KILL) == [A]


# -- one account ------------------------------------------------------------------------------------------------


def rate(sim: Simulation, slot: int) -> tuple[float, int]:
    """Starts a minute of a slot from the tenth minute on, and the most in one minute."""
    times = [at for at, who in sim.starts if who.slot == slot and at >= 1600.0]
    worst = max((sum(start <= at < start + 60 for at in times) for start in times), default=0)
    return len(times) / ((sim.now - 1600.0) / 60), worst


@pytest.mark.parametrize(("surge", "count"), [(0, 1), (1, 1), (1, 2)])
@by_name(ALL)
def test_no_way_to_fail_costs_two_starts_a_minute(way: Way, surge: int, count: int) -> None:
    policy = replace(POLICY, count=count, surge=surge, grace=5.0)
    sim = simulated(policy, lambda who: way if who.slot == 0 else WELL)
    sim.run(1000.0 + 2400)
    often, worst = rate(sim, 0)
    assert 0 < often < 2 or way in GROWS.values()
    assert worst <= 2


@pytest.mark.parametrize("lives", [(45.0, 1.0), (31.0, 0.1, 0.1), (29.0,), (61.0, 1.0, 1.0, 1.0)])
def test_no_order_of_failures_costs_two_starts_a_minute(lives: tuple[float, ...]) -> None:
    """A long life once paid for all short ones before it."""
    sim = simulated(
        replace(POLICY, count=1),
        lambda who: Way(name="", ready=0.0, exits=lives[who.generation % len(lives)]),
    )
    sim.run(1000.0 + 7200)
    assert rate(sim, 0)[0] < 2


@by_name(STOPS)
def test_who_stops_by_itself_right_after_ready_leaves_a_record(way: Way) -> None:
    """It counted as no failure: no backoff, no record for a successor, no word in the status."""
    sim = Sim(replace(POLICY, count=1, grace=5.0))
    for _ in range(12):
        for worker in sim.workers(Phase.STARTING):
            sim.ready(worker.id)
            done = sim.step(f.Stopping(worker.id))
            assert [a.failures for a in done if isinstance(a, SaveGate)] == [sim.state.slots[0].failures]
            assert "; worker 0 stopped by itself" in sentence(sim.state, sim.now)
            if not math.isinf(way.exits):
                sim.exit(worker.id, way.code, way.status)
        sim.advance(6)
    assert sim.state.slots[0].failures > 5


@pytest.mark.parametrize("count", [1, 2])
@by_name({**STOPS, **{name: DIES[name] for name in ("right after READY", "clean")}})
def test_a_reload_to_an_app_that_ends_right_after_ready_fails(way: Way, count: int) -> None:
    """With one worker it was done; with two it never failed, and took away all that served."""
    policy = replace(POLICY, count=count)
    sim = simulated(policy, lambda who: WELL)
    sim.run(sim.now + 60)
    before = {w.id for w in sim.state.workers.values()}
    sim.ways = lambda who: way
    sim.step([f.Reload((1,), policy, 2)])
    sim.run(sim.now + 60)
    assert sim.state.rollout is None
    assert sim.state.revision == 1
    assert before == {w.id for w in sim.state.workers.values() if w.phase is Phase.RUNNING}


def test_a_leak_is_no_failure_however_fast() -> None:
    """At its limit three seconds after READY, sixty times: none is put off, and none gets to the ceiling."""
    leak = Way(name="", ready=0.2, base=10 * M, growth=30 * M)
    policy = replace(POLICY, count=1, patience=0.5, min_lifetime=1.0)
    sim = Simulation(policy=policy, ways=lambda who: leak, interval=0.5)
    sim.run(1000.0 + 3600)
    assert sim.state.ended.keys() == {"memory-limit"}
    starts = [at for at, _ in sim.starts]
    gaps = [after - before for before, after in itertools.pairwise(starts)]
    assert len(gaps) >= 60
    assert max(gaps) < 5.0


def test_a_leak_of_which_the_kernel_tells_is_recycled_without_delay() -> None:
    """Nobody measures it between READY and its limit, and there is no patience: there is no doubt for its good."""
    policy = replace(POLICY, count=1, patience=0.0, min_lifetime=0.0, ceiling=150 * M)
    sim = Sim(policy)
    for generation in range(1, 61):
        who = WorkerId(0, generation)
        sim.ready(who)
        sim.sample(who, 10 * M)
        for old in sim.workers(Phase.STOP_SIGTERM):
            sim.exit(old.id)
        sim.advance(3.0)
        sim.sample(who, 100 * M)
        assert WorkerId(0, generation + 1) in sim.alive
        sim.advance(0.1)
        sim.sizes[who] = 103 * M


def test_a_leak_in_doubt_is_judged_once() -> None:
    """The first sample after it was told to stop showed that it grew on; it drains, and takes no more."""
    sim = Sim(replace(POLICY, count=1, patience=0.0, min_lifetime=0.0))
    for generation in (1, 2):
        who = WorkerId(0, generation)
        sim.ready(who)
        sim.sample(who, 10 * M)
        for old in sim.workers(Phase.STOP_SIGTERM):
            sim.exit(old.id)
        sim.advance(3.0)
        sim.sample(who, 100 * M)
        sim.advance(0.1)
        sim.sizes[who] = 103 * M
    sim.ready(WorkerId(0, 3))
    assert [worker.id for worker in sim.workers(Phase.STOP_SIGTERM)] == [who]
    sim.advance(1.0)
    sim.sample(who, 103 * M)
    assert sim.state.slots[0].futile == 0
    assert not sim.state.tally.in_vain


def test_a_step_of_which_the_kernel_tells_is_recycled_at_once_but_once() -> None:
    policy = replace(POLICY, count=1, patience=0.0, min_lifetime=0.0)
    sim = Sim(policy)
    ages = []
    for generation in range(1, 6):
        who = WorkerId(0, generation)
        sim.ready(who)
        sim.sample(who, 10 * M)
        for old in sim.workers(Phase.STOP_SIGTERM):
            sim.exit(old.id)
        ready = sim.now
        sim.advance(0.5)
        sim.sample(who, 110 * M)
        while WorkerId(0, generation + 1) not in sim.alive:
            sim.advance(0.1)
        ages.append(sim.now - ready)
        sim.advance(0.1)
    assert ages == pytest.approx([0.5, 0.5, 4.0, 8.0, 16.0], abs=0.3)


def test_a_step_is_a_recycle_that_does_not_help() -> None:
    """The first request loads a model: nothing grows on, and each further recycle comes later."""
    load = Way(name="", ready=0.2, base=10 * M, leap=150 * M)
    policy = replace(POLICY, count=1, patience=0.5, min_lifetime=1.0)
    sim = Simulation(policy=policy, ways=lambda who: load, interval=0.5)
    sim.run(1000.0 + 3600)
    starts = [at for at, _ in sim.starts]
    assert len(starts) <= 13
    assert rate(sim, 0)[1] <= 2


def test_a_step_that_has_served_its_time_is_decided_on_in_the_pass_that_finds_it() -> None:
    """Once that took a quarter of a second more, and a second pass of the same moment said otherwise."""
    sim = Sim(replace(POLICY, count=1, patience=8.0, min_lifetime=1.0))
    for generation in (1, 2):
        who = WorkerId(0, generation)
        sim.ready(who)
        for old in sim.workers(Phase.STOP_SIGTERM):
            sim.exit(old.id)
        sim.sample(who, 10 * M)
        sim.advance(2.0)
        sim.sample(who, 110 * M)
        # Its slot wants two seconds of service, and the worker has served ten. The end of `patience` measures it once.
        sim.advance(8.0)
        assert WorkerId(0, generation + 1) in sim.alive
    assert sim.state.tally.in_vain == 1


def test_who_is_no_better_for_a_recycle_has_all_its_time_short_of_its_ceiling() -> None:
    """By the end of that time it would be there; recycled for that now, a limit that is too low would be a loop."""
    sim = Sim(replace(POLICY, count=1))
    sim.ready(A)
    sim.sample(A, 150 * M)
    done = []
    for seconds in range(1, 26):
        sim.now += 1
        done.append(spawned(sim.sample(A, (195 + 4 * seconds) * M)))
    # Then it would be at its ceiling within `patience`.
    assert done == [[]] * 24 + [[A2]]


def test_a_leak_upon_a_step_is_recycled_before_its_ceiling() -> None:
    """What is put off is not put off until requests are lost."""
    sim = Sim(replace(POLICY, count=1, patience=0.5, min_lifetime=1.0))
    sim.ready()
    for generation in range(1, 4):
        who = WorkerId(0, generation)
        assert sim.state.workers[who].phase is Phase.RUNNING
        sim.sample(who, 10 * M)
        size, grown = 120 * M, 0
        while sim.state.workers[who].phase is Phase.RUNNING:
            sim.advance(0.5)
            grown += 1
            # It stands still for ten seconds, and then grows on.
            sim.sample(who, size + max(0, grown - 20) * 4 * M)
            sim.ready()
        sim.exit(who)
    assert set(causes([a for _, a in sim.history])) == {"memory-limit"}


# -- with surge 0, old and new are never there at once ------------------------------------------------------------


def alone(sim: Sim, seconds: float) -> None:
    """For so long, no slot has two processes."""
    end = sim.now + seconds
    while sim.now < end:
        slots = [who.slot for who in sim.alive]
        assert len(set(slots)) == len(slots)
        sim.advance(min(0.5, end - sim.now) or 0.5)


@pytest.mark.parametrize(
    "ends", [f.WatchdogTrigger, f.Stopping, f.RecycleRequested], ids=["watchdog", "stopping", "requested"]
)
def test_without_surge_the_old_one_is_gone_first(ends: type[f.WorkerFact]) -> None:
    sim = Sim(replace(POLICY, surge=0, grace=5.0))
    sim.up()
    sim.advance(60)
    sim.step(ends(A))
    alone(sim, 4)
    assert A in sim.alive
    sim.exit(A, "killed", 6)
    assert A2 in sim.alive


def test_without_surge_a_start_timeout_is_gone_first() -> None:
    sim = Sim(replace(POLICY, surge=0))
    sim.ready(B)
    sim.advance(30.1)
    assert sim.state.workers[A].phase is Phase.STOP_SIGTERM
    alone(sim, 5)
    sim.exit(A, "dumped", 6)
    sim.advance(1)
    assert A2 in sim.alive


def test_without_surge_a_reload_waits_for_who_starts() -> None:
    sim = Sim(replace(POLICY, surge=0))
    sim.ready(B)
    sim.reload(replace(POLICY, surge=0), 1)
    assert sent([a for _, a in sim.history], Signal.TERM)[0] == A
    alone(sim, 5)
    assert A2 not in sim.alive
    sim.exit(A, "killed", 15)
    assert A2 in sim.alive


# -- memory is decided on by a sample of that moment ---------------------------------------------------------------


def over(policy: Policy = POLICY) -> Sim:
    """A worker that was over its limit when it was last measured, and has given it back since."""
    sim = Sim(policy)
    sim.up()
    sim.advance(60)
    sim.sample(A, 2 * LIMIT)
    return sim


def test_a_peak_between_two_samples_recycles_nobody() -> None:
    sim = over()
    sim.sizes[A] = 10 * M
    assert spawned(sim.advance(60)) == []


def test_a_peak_before_its_minimum_life_recycles_nobody() -> None:
    sim = Sim(POLICY)
    sim.up()
    sim.advance(1)
    sim.sample(A, 2 * LIMIT)
    sim.advance(8)
    sim.sizes[A] = 10 * M
    assert spawned(sim.advance(60)) == []


def test_who_has_given_it_back_when_its_turn_comes_is_spared() -> None:
    sim = over()
    sim.step(f.Sampled(B, 3 * LIMIT - 1, "uss"))
    assert spawned(sim.advance(2.1)) == [B2]
    sim.ready(B2)
    sim.advance(20)
    sim.sizes[A] = 10 * M
    assert spawned(sim.exit(B)) == []
    assert spawned(sim.advance(60)) == []


@pytest.mark.parametrize(
    "fails",
    [
        lambda who: f.Exited(who, "exited", 1),
        lambda who: f.SpawnFailed(who, "Cannot allocate memory"),
        f.WatchdogTrigger,
    ],
    ids=["exits", "not started", "hangs"],
)
def test_who_has_given_it_back_is_spared_when_its_replacement_fails(
    fails: Callable[[WorkerId], f.Fact],
) -> None:
    """In that pass, and not by the next sample: till then it was one that is to be replaced."""
    sim = over()
    sim.step(f.Sampled(B, 3 * LIMIT - 1, "uss"))
    assert spawned(sim.advance(2.1)) == [B2]
    sim.step(f.Sampled(B, 10 * M, "uss"))
    assert B in sim.state.roster.wanting
    sim.step(fails(B2))
    assert B not in sim.state.roster.wanting
    assert sim.state.workers[B].wants is None


def test_with_a_higher_limit_nobody_is_wanted_for_the_old_one() -> None:
    """In the pass that sets it, before anybody is measured anew."""
    sim = over()
    sim.step(f.Sampled(B, LIMIT + 1, "uss"), f.Sampled(A, 2 * LIMIT - 1, "uss"))
    sim.advance(2.1)
    assert sim.state.roster.wanting.keys() == {A, B}
    sim.decide([f.Adjust({"memory.limit": "140M"})])
    assert sim.state.roster.wanting.keys() == {A}


def test_one_that_can_not_be_measured_is_not_recycled_by_what_it_was() -> None:
    sim = over()
    del sim.sizes[A]
    assert spawned(sim.advance(60)) == []
    assert spawned(sim.sample(A, 2 * LIMIT)) == [A2]


@pytest.mark.parametrize("seconds", [1.5, 4.0, 9.0])
@pytest.mark.parametrize("interval", [0.25, 1.0, 60.0])
def test_a_leak_that_will_be_at_the_ceiling_before_patience_ends_is_recycled_before(
    seconds: float, interval: float
) -> None:
    """From the limit to the ceiling in so many seconds, with a patience of ten."""
    leak = Way(name="", ready=0.1, base=10 * M, growth=200 * M / seconds)
    policy = replace(POLICY, count=1, patience=10.0)
    sim = Simulation(policy=policy, ways=lambda who: leak if who == A else WELL, interval=interval)
    if interval > seconds:
        # The kernel tells of the limit, and nobody looks again of himself.
        sim.at(1000.1 + 0.5 * seconds, f.Sampled(A, leak.memory(0.5 * seconds), "uss"))
    sim.run(1030.0)
    assert sim.state.ended == {"memory-limit": 1}


def test_a_spike_that_stands_still_has_all_of_patience() -> None:
    sim = Sim(replace(POLICY, count=1, patience=10.0))
    sim.up()
    sim.advance(60)
    for size in (101, 150, 190, 190, 190):
        sim.sample(A, size * M)
        assert spawned(sim.advance(0.5)) == []
    sim.sample(A, 10 * M)
    assert spawned(sim.advance(60)) == []


@pytest.mark.parametrize(
    ("free", "over"), [(900, (150, 190, 230)), (300, (150, 200, 240)), (20_000, (300, 600, 900))]
)
def test_a_fast_spike_far_from_the_end_of_the_memory_has_all_of_patience(
    free: int, over: Sequence[int]
) -> None:
    """At this pace all that is free would be gone in a moment; a spike's pace lasts for no longer than a moment."""
    sim = Sim(replace(POLICY, count=1, patience=10.0, ceiling=None))
    sim.up()
    sim.advance(60)
    for size in over:
        sim.step(f.MemoryAvailable(Headroom(2 * free * M, free * M, "the machine")))
        sim.sample(A, size * M)
        assert spawned(sim.advance(0.2)) == []
    sim.sample(A, 10 * M)
    assert spawned(sim.advance(60)) == []


def test_a_leak_that_will_take_all_that_is_free_before_patience_ends_is_recycled_before() -> None:
    sim = Sim(replace(POLICY, count=1, patience=10.0, ceiling=None))
    sim.up()
    sim.advance(60)
    for size in (101, 201, 301):
        sim.step(f.MemoryAvailable(Headroom(1000 * M, (400 - size) * M, "the machine")))
        actions = sim.sample(A, size * M)
        sim.advance(0.2)
    assert spawned(actions) == [A2] or A2 in sim.state.workers


# -- what a worker asks for is bounded, and stops nobody else -------------------------------------------------------

FOR_EVER = 9999999999999.999999


def test_a_drainer_that_asks_for_time_stops_no_recycle() -> None:
    sim = Sim(POLICY)
    sim.up()
    sim.advance(60)
    sim.step(f.RecycleRequested(A))
    sim.ready(A2)
    sim.step(f.ExtendTimeout(A, FOR_EVER), f.RecycleRequested(B))
    assert spawned(sim.advance(POLICY.grace + 0.1)) == [B2]


def test_a_drainer_that_asks_for_time_stops_no_reload() -> None:
    sim = Sim(POLICY)
    sim.up()
    sim.advance(60)
    sim.reload(POLICY, 1)
    for _ in range(2):
        sim.ready()
        sim.advance(1)
        sim.step(*[f.ExtendTimeout(w.id, FOR_EVER) for w in sim.workers(Phase.STOP_SIGTERM)])
        sim.advance(POLICY.grace)
    assert [r.ok for r in results([a for _, a in sim.history])] == [True]


def test_one_that_asks_for_time_to_start_stops_no_other_replacement() -> None:
    sim = Sim(POLICY)
    sim.up()
    sim.advance(60)
    sim.step(f.RecycleRequested(A))
    sim.step(f.ExtendTimeout(A2, FOR_EVER), f.RecycleRequested(B))
    assert spawned(sim.advance(POLICY.start_timeout + 0.1)) == [B2]


def test_one_that_asks_for_time_to_start_stops_no_other_try() -> None:
    sim = Sim(POLICY, gate=Gate(failures=3, retry_at=1000.0))
    assert [*sim.alive] == [A]
    sim.step(f.ExtendTimeout(A, FOR_EVER))
    assert spawned(sim.advance(POLICY.start_timeout + 0.1)) == [B]


@pytest.mark.parametrize("starts", [True, False])
def test_nobody_gets_more_than_an_hour(starts: bool) -> None:
    sim = Sim(POLICY)
    sim.ready(B)
    if not starts:
        sim.ready(A)
        sim.advance(60)
        sim.step(f.RecycleRequested(A))
        sim.ready(A2)
    for _ in range(3):
        sim.step(f.ExtendTimeout(A, FOR_EVER))
    assert sent(sim.advance(3590), Signal.ABRT if starts else Signal.KILL) == []
    assert sent(sim.advance(20), Signal.ABRT if starts else Signal.KILL) == [A]


# -- who is ready and ends in one pass takes nobody's place ------------------------------------------------------


@pytest.mark.parametrize(
    "end",
    [f.Exited(A2, "exited", 1), f.Exited(A2, "exited", 0), f.Stopping(A2), f.WatchdogTrigger(A2)],
    ids=["crashes", "exits", "stops", "hangs"],
)
@pytest.mark.parametrize("surge", [1, 2])
def test_who_is_ready_and_ends_in_one_pass_takes_nobodys_place(end: f.WorkerFact, surge: int) -> None:
    """The end comes right behind READY=1: the one that served was told to stop, and the slot was empty."""
    sim = Sim(replace(POLICY, surge=surge))
    sim.up()
    sim.advance(60)
    sim.step(f.RecycleRequested(A))
    done = sim.step(f.Ready(A2), end)
    assert sent(done, Signal.TERM) == []
    assert sim.state.workers[A].phase is Phase.RUNNING
    if isinstance(end, f.Exited):
        del sim.alive[A2]
    else:
        sim.exit(A2, "killed", 6)
    sim.advance(60)
    sim.ready()
    assert sim.state.workers[A].phase is Phase.STOP_SIGTERM


# -- when a worker is due depends on nothing that changes unnoticed ----------------------------------------------


def test_less_free_memory_at_the_moment_of_a_sample_decides() -> None:
    """It was found by 4.7 million facts at random: the decision came a quarter of a second later."""
    sim = Sim(replace(POLICY, count=1, patience=8.0))
    sim.up()
    sim.advance(60)
    for size in (66, 80, 94, 112):
        sim.advance(1)
        sim.sample(A, size * M)
    assert sim.state.workers[A].wants is None
    sim.decide([f.MemoryAvailable(Headroom(1000 * M, 10 * M, "the machine"))])
    assert sim.state.workers[A].wants is Cause.MEMORY_LIMIT


def test_less_free_memory_moves_the_look_at_a_worker_that_grows() -> None:
    """It was found by half a million facts at random: the look came as if memory were still free."""
    sim = Sim(replace(POLICY, count=1, patience=8.0))
    sim.up()
    sim.advance(60)
    for size in (79, 84, 89, 94, 101):
        sim.advance(1)
        sim.sample(A, size * M)
    roomy = sim.deadline
    sim.step(f.MemoryAvailable(Headroom(1000 * M, 10 * M, "the machine")))
    assert sim.deadline < roomy
    _, _, due = step(sim.state.copy(), [], sim.now)
    assert sim.deadline == due
