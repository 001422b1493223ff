"""Policy under every order of events that Hypothesis can think of, with a clock that moves when told.

tests/run tries the same ones each time, so that a change is judged by itself.
MEMUNIT_EXAMPLES=5000 tests/run properties -- -k Instance looks for others.
"""

import math
import os

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from memunit.core import facts as f
from memunit.core import kills, recycle
from memunit.core.actions import Action, Journal, ReloadResult, Send, Signal, Spawn
from memunit.core.messages import ENDS
from memunit.core.model import Headroom, Phase, Policy, WorkerId
from memunit.core.roster import Roster
from tests.support.sim import M, Sim, causes, entries, finished, spawned

_ = consumes  # hypothesis exports it beside the rules

EXITS = st.sampled_from(
    [
        ("exited", 0),
        ("exited", 1),
        ("exited", 143),
        ("killed", 9),
        ("killed", 15),
        ("dumped", 6),
        ("dumped", 11),
    ]
)
SIZES = st.sampled_from([10 * M, 94 * M, 99 * M, 100 * M, 150 * M, 299 * M, 300 * M, 1000 * M])
POLICIES = st.builds(
    Policy,
    count=st.integers(1, 4),
    surge=st.integers(0, 2),
    start_timeout=st.sampled_from([5.0, 30.0]),
    watchdog=st.sampled_from([10.0, 30.0, math.inf]),
    min_lifetime=st.sampled_from([0.0, 10.0]),
    max_age=st.sampled_from([60.0, math.inf]),
    limit=st.sampled_from([None, 100 * M]),
    ceiling=st.sampled_from([None, 300 * M]),
    patience=st.sampled_from([0.0, 2.0]),
    grace=st.sampled_from([0.0, 5.0, 30.0]),
    ready_on_exec=st.booleans(),
)


class Instance(RuleBasedStateMachine):
    """One instance and a world that does its worst."""

    def __init__(self) -> None:
        super().__init__()
        self.sim: Sim
        self.seen = 0
        self.ended: list[WorkerId] = []
        self.never_was: set[WorkerId] = set()
        self.started: set[WorkerId] = set()
        self.asked: set[int] = set()
        self.answered: list[int] = []
        self.token = 0
        self.roomy = True
        self.finishes = 0

    @initialize(policy=POLICIES)
    def start(self, policy: Policy) -> None:
        self.sim = Sim(policy)
        self.surges = {policy.surge}
        self.check()

    def pick(self, data: st.DataObject, *phases: Phase) -> WorkerId | None:
        names = [w.id for p in phases for w in self.sim.workers(p)]
        return data.draw(st.sampled_from(names)) if names else None

    # -- the world ---------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.5, 2.0, 7.0, 31.0, 90.0]))
    def time_passes(self, seconds: float) -> None:
        self.sim.advance(seconds)
        self.check()

    @rule(seconds=st.sampled_from([2.0, 60.0, 7200.0]))
    def master_does_not_run(self, seconds: float) -> None:
        """Stopped and continued: nobody is ended for it but who has used up its grace, or was forgiven before."""
        before = self.sim.state.copy().workers
        self.sim.now += seconds
        late = self.sim.deadline + 1.0 < self.sim.now
        done = self.sim.step()
        for action in done if late else []:
            if isinstance(action, Send) and action.id in before:
                worker = before[action.id]
                if action.signal is Signal.KILL and worker.grace > 0:
                    assert worker.phase is Phase.STOP_SIGTERM
                    assert worker.deadline <= self.sim.now
                elif action.signal is Signal.ABRT:
                    assert worker.forgiven or self.sim.state.stopping
        self.check()

    @rule(data=st.data())
    def becomes_ready(self, data: st.DataObject) -> None:
        who = self.pick(data, Phase.STARTING)
        if who is not None:
            self.sim.ready(who)
        self.check()

    @rule(data=st.data())
    def executes(self, data: st.DataObject) -> None:
        who = self.pick(data, Phase.STARTING)
        if who is not None:
            self.sim.step(f.Executed(who))
        self.check()

    @rule(data=st.data(), end=EXITS)
    def exits_somehow(self, data: st.DataObject, end: tuple[str, int]) -> None:
        if self.sim.alive:
            who = data.draw(st.sampled_from(sorted(self.sim.alive)))
            self.sim.exit(who, *end)
        self.check()

    @rule(data=st.data())
    def cannot_be_started(self, data: st.DataObject) -> None:
        who = self.pick(data, Phase.STARTING)
        if who is not None:
            del self.sim.alive[who]
            self.never_was.add(who)
            self.sim.step(f.SpawnFailed(who, "Cannot allocate memory"))
        self.check()

    @rule(data=st.data(), size=SIZES)
    def is_measured(self, data: st.DataObject, size: int) -> None:
        who = self.pick(data, *Phase)
        if who is not None:
            self.sim.sample(who, size)
        self.check()

    @rule(size=SIZES)
    def all_are_measured(self, size: int) -> None:
        self.sim.step(*[f.Sampled(w.id, size + w.id.slot, "uss") for w in self.sim.workers()])
        self.check()

    @rule(
        data=st.data(),
        fact=st.sampled_from([f.Ping, f.Stopping, f.WatchdogTrigger, f.RecycleRequested, f.Ready]),
    )
    def says_something(self, data: st.DataObject, fact: type[f.WorkerFact]) -> None:
        who = self.pick(data, *Phase)
        if who is not None:
            self.sim.step(fact(who))
        self.check()

    @rule(data=st.data(), seconds=st.sampled_from([0.0, 3.0, 100.0]))
    def asks_for_time(self, data: st.DataObject, seconds: float) -> None:
        who = self.pick(data, *Phase)
        if who is not None:
            self.sim.step(f.ExtendTimeout(who, seconds))
        self.check()

    @rule(policy=POLICIES)
    def is_reloaded(self, policy: Policy) -> None:
        self.token += 1
        self.asked.add(self.token)
        self.surges.add(policy.surge)
        self.sim.reload(policy, self.token)
        self.check()

    @rule()
    def is_reloaded_with_nonsense(self) -> None:
        self.token += 1
        self.asked.add(self.token)
        self.sim.step(f.ReloadRefused((self.token,), "nonsense"))
        self.check()

    @rule(delta=st.sampled_from([1, -1]))
    def is_scaled(self, delta: int) -> None:
        if self.sim.state.count + delta <= 6:
            self.sim.step(f.Scale(delta))
        self.check()

    @rule(free=st.sampled_from([1 * M, 10_000 * M]))
    def memory_comes_and_goes(self, free: int) -> None:
        self.roomy = self.roomy and free > 5000 * M
        self.sim.step(f.MemoryAvailable(Headroom(20_000 * M, free, "the machine")))
        self.check()

    @precondition(lambda self: self.sim.now > 1100)
    @rule(force=st.booleans())
    def is_stopped(self, force: bool) -> None:
        self.sim.step(f.StopRequested(force=force))
        self.check()

    # -- what must hold ----------------------------------------------------------------------------------------

    def check(self) -> None:
        """Look at what has been done since the last look."""
        new = [action for _, action in self.sim.history[self.seen :]]
        self.seen = len(self.sim.history)
        for action in new:
            self.look_at(action)

    def look_at(self, action: Action) -> None:
        if isinstance(action, Spawn):
            assert action.id not in self.started, "a worker's name is never given twice"
            self.started.add(action.id)
        if isinstance(action, Journal) and action.kind in ENDS:
            slot, generation = action.fields["MEMUNIT_SLOT"], action.fields["MEMUNIT_GENERATION"]
            self.ended.append(WorkerId(int(slot), int(generation)))
        if isinstance(action, ReloadResult):
            self.answered += action.tokens
        if finished([action]) is not None:
            self.finishes += 1

    @invariant()
    def each_exit_has_one_entry(self) -> None:
        if hasattr(self, "sim"):
            assert len(self.ended) == len(set(self.ended))
            assert set(self.ended) == self.started - self.never_was - set(self.sim.state.workers)

    @invariant()
    def one_serves_and_one_starts_in_a_slot_at_most(self) -> None:
        if hasattr(self, "sim"):
            for phase in (Phase.STARTING, Phase.RUNNING):
                slots = [w.id.slot for w in self.sim.workers(phase)]
                assert len(slots) == len(set(slots))

    @invariant()
    def never_more_than_the_surge_beside_one(self) -> None:
        """In a slot, and for the time that each has of its own; with surge 0 until it is gone."""
        if hasattr(self, "sim") and not self.sim.state.stopping:
            for slot in {w.id.slot for w in self.sim.workers()}:
                here = [w for w in self.sim.workers() if w.id.slot == slot]
                own = [w for w in here if self.sim.now < w.yields_at]
                assert len(own) <= 1 + max(self.surges)
                assert max(self.surges) > 0 or sum(not w.stuck for w in here) <= 1

    @invariant()
    def the_indexes_say_what_the_workers_say(self) -> None:
        """They are kept up to date by each change; made anew, they are the same."""
        if hasattr(self, "sim"):
            state = self.sim.state
            kept, made = state.roster, Roster(state.workers.values())
            for phase in Phase:
                assert kept.in_phase[phase].keys() == made.in_phase[phase].keys()
            assert kept.wanting.keys() == made.wanting.keys()
            assert kept.vacant(state.places) == made.vacant(state.places)
            due = [min(kills.due(w, self.sim.now), recycle.due(state, w)) for w in state.workers.values()]
            assert self.sim.deadline <= max(self.sim.now, min(due, default=math.inf))

    @invariant()
    def no_deadline_in_the_past(self) -> None:
        if hasattr(self, "sim"):
            assert self.sim.deadline >= self.sim.now

    @invariant()
    def every_reload_is_answered_once(self) -> None:
        if hasattr(self, "sim"):
            assert len(self.answered) == len(set(self.answered))
            waiting = set(self.sim.state.rollout.tokens) if self.sim.state.rollout else set[int]()
            assert set(self.answered) | waiting == self.asked

    @invariant()
    def nothing_is_started_once_it_stops(self) -> None:
        if hasattr(self, "sim") and self.sim.state.finished:
            assert self.finishes == 1
            assert not self.sim.state.workers

    def teardown(self) -> None:
        """The world turns kind: everything is filled and serves; then a stop ends it in bounded time."""
        if not hasattr(self, "sim") or self.sim.state.stopping:
            self.end_of_stop()
            return
        self.sim.step(f.MemoryAvailable(Headroom(20_000 * M, 20_000 * M, "the machine")))
        for _ in range(400):
            for worker in self.sim.workers(Phase.STARTING):
                self.sim.step(f.Ready(worker.id), f.Sampled(worker.id, 10 * M, "uss"))
            for worker in self.sim.workers(Phase.RUNNING):
                self.sim.step(f.Sampled(worker.id, 10 * M, "uss"), f.Ping(worker.id))
            for phase in (Phase.STOP_SIGTERM, Phase.STOP_SIGKILL):
                for worker in self.sim.workers(phase):
                    if worker.id in self.sim.alive:
                        self.sim.exit(worker.id)
            if self.settled():
                break
            self.sim.advance(1.0)
        state = self.sim.state
        assert state.stopping or self.settled()
        self.end_of_stop()

    def settled(self) -> bool:
        """Every slot has one worker of the wanted configuration, and nobody else is left."""
        state = self.sim.state
        fresh = {w.id.slot for w in self.sim.workers(Phase.RUNNING) if w.revision == state.revision}
        return (
            fresh == set(range(state.count)) and len(self.sim.workers()) == state.count and not state.rollout
        )

    def end_of_stop(self) -> None:
        if not hasattr(self, "sim"):
            return
        self.sim.step(f.StopRequested())
        # EXTEND_TIMEOUT_USEC may have moved a kill timer by 100 s.
        self.sim.advance(100.0 + 30.0 + 10.0 + 10.0 + 1.0)
        self.sim.step()
        assert self.sim.state.finished
        assert not [a for a in self.sim.step() if isinstance(a, Spawn)]


EXAMPLES = int(os.environ.get("MEMUNIT_EXAMPLES", "0"))
Instance.TestCase.settings = settings(
    max_examples=EXAMPLES or 150,
    stateful_step_count=40,
    deadline=None,
    derandomize=not EXAMPLES,
    suppress_health_check=list(HealthCheck),
)
TestInstance = Instance.TestCase


def test_recycles_never_leave_a_slot_without_a_ready_worker() -> None:
    """A long run of leaks in all workers at once, with room: at no moment fewer than `count` ready.

    A recycle helps for half a minute: else it would be put off.
    """
    sim = Sim(Policy(count=4, limit=100 * M, patience=0.0, min_lifetime=1.0))
    sim.up()
    size: dict[WorkerId, int] = {}
    recycled = 0
    for _ in range(3000):
        sim.advance(0.4)
        for worker in sim.workers(Phase.RUNNING):
            size[worker.id] = size.get(worker.id, 10 * M) + M
            sim.sample(worker.id, size[worker.id])
        assert len(sim.workers(Phase.RUNNING)) == 4
        assert len(sim.alive) <= 5
        for worker in sim.workers(Phase.STARTING):
            sim.ready(worker.id)
        for worker in sim.workers(Phase.STOP_SIGTERM):
            recycled += causes(sim.exit(worker.id)) == ["memory-limit"]
    assert recycled > 100
    assert not entries([a for _, a in sim.history], "BASELINE_OVER_LIMIT")
    assert len(spawned([a for _, a in sim.history])) == recycled + 4 + len(sim.workers(Phase.STARTING))
