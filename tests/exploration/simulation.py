"""Whole instances in simulated time, with workers that fail in ways that are said beforehand, and a successor after 69.

The clock jumps from one thing that happens to the next. Policy has its own constants here.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from memunit.core import facts as f
from memunit.core.actions import (
    Action,
    ClearGate,
    Finish,
    Measure,
    SaveGate,
    Send,
    Signal,
    Spawn,
)
from memunit.core.adoption import adopted
from memunit.core.handover import Handover
from memunit.core.left import left_of
from memunit.core.model import Gate, Headroom, Phase, Policy, WorkerId
from tests.exploration.kernel import State, initial, step

M = 1 << 20
BASE = 50 * M
# systemd's RestartSec= of the unit.
RESTART = 1.0
PING = 10.0


@dataclass(frozen=True, kw_only=True)
class Way:
    """How the workers of a slot live and die. Seconds; infinite for never."""

    name: str
    forks: bool = True
    ready: float = 0.5
    # From its start if it is never ready, else from READY=1.
    exits: float = math.inf
    code: str = "exited"
    status: int = 1
    stopping: float = math.inf
    trigger: float = math.inf
    # When it pings for the last time after READY=1; negative for never at all.
    hangs: float = math.inf
    base: int = BASE
    # Bytes a second from READY=1 on, and a step to so many bytes a second later.
    growth: float = 0.0
    leap: int = 0
    # How long it takes to end when it is told to, and whether SIGABRT ends it.
    drain: float = 0.1
    aborts: bool = True
    # It asks for so much time, whenever it starts or stops.
    extends: float = 0.0

    def memory(self, served: float) -> int:
        """Bytes after it has served so long."""
        return max(self.leap if served >= 1.0 else 0, self.base + int(self.growth * max(0.0, served)))


@dataclass
class _Process:
    way: Way
    born: float
    ready_at: float = math.inf
    gone: bool = False


def taken_over(left: State, first: State, now: float) -> State:
    """The state of a successor, which begins with `first`, with the workers of a master that was killed."""
    workers = tuple(
        left_of(each, pid=each.pid, start=1, whole=False, line=None, zygote=None)
        for each in left.workers.values()
    )
    generations = tuple(slot.next_generation for slot in left.slots)
    handover = Handover(
        master=2,
        program="1",
        stopping=False,
        revision=left.revision,
        generations=generations,
        workers=workers,
    )
    return adopted(first, handover, now=now, afresh=True)


Watch = Callable[[float, list[f.Fact], "tuple[Action, ...]"], None]


@dataclass
class Simulation:
    """One instance. `ways` says how the workers of each slot live; `watch` is told of each pass."""

    policy: Policy
    ways: Callable[[WorkerId], Way]
    seed: int = 7
    interval: float = 1.0
    room: Headroom | None = None
    now: float = 1000.0
    starts: list[tuple[float, WorkerId]] = field(default_factory=list)
    facts: int = 0
    passes: int = 0
    successors: int = 0

    def __post_init__(self) -> None:
        """Begin, and start what is to be started."""
        self._queue: list[tuple[float, int, f.Fact | Callable[[], None]]] = []
        self._count = 0
        self._pid = 100
        self._processes: dict[WorkerId, _Process] = {}
        self._gate: Gate | None = None
        self._begin()

    def _begin(self) -> None:
        self.state: State = initial(self.policy, now=self.now, seed=self.seed, gate=self._gate)
        self._processes.clear()
        self._queue.clear()
        first: list[f.Fact] = [] if self.room is None else [f.MemoryAvailable(self.room)]
        self._sample_at = self.now + self.interval
        self.step(first)

    def succeed(self, policy: Policy) -> None:
        """The master is killed, and a successor with this policy takes over who is there."""
        state = self.state
        if state.stopping:
            return
        self.state = taken_over(
            state, initial(policy, now=self.now, seed=self.seed, gate=self._gate), self.now
        )
        for worker in list(self.state.workers.values()):
            if not worker.serving:
                self._signal(worker.id, Signal.KILL if worker.phase is Phase.STOP_SIGKILL else Signal.TERM)
        self.step([] if state.headroom is None else [f.MemoryAvailable(state.headroom)])

    # -- the clock -----------------------------------------------------------------------------------------------

    def at(self, when: float, what: f.Fact | Callable[[], None]) -> None:
        """Let something happen at a time."""
        if when < math.inf:
            self._count += 1
            heapq.heappush(self._queue, (when, self._count, what))

    def run(self, until: float) -> None:
        """Let time pass."""
        while True:
            next_event = self._queue[0][0] if self._queue else math.inf
            due = min(next_event, self.deadline, self._sample_at)
            if due > until:
                self.now = until
                return
            self.now = max(self.now, due)
            facts: list[f.Fact] = []
            while self._queue and self._queue[0][0] <= self.now:
                what = heapq.heappop(self._queue)[2]
                if isinstance(what, f.Fact):
                    facts += self._true(what)
                else:
                    what()
            if self.now >= self._sample_at:
                self._sample_at = self.now + self.interval
                facts += self._samples(self._processes)
            self.step(facts)

    def step(self, facts: list[f.Fact]) -> None:
        """A pass now, and further ones for what comes of it at once."""
        while True:
            self.facts += len(facts)
            self.passes += 1
            self.state, actions, self.deadline = self.decide(facts)
            facts = []
            for action in actions:
                facts += self._do(action)
            if not facts:
                return

    def decide(self, facts: list[f.Fact]) -> tuple[State, tuple[Action, ...], float]:
        """The pass itself, for who wants to look at it."""
        return step(self.state, facts, self.now)

    # -- the workers ---------------------------------------------------------------------------------------------

    def _true(self, fact: f.Fact) -> list[f.Fact]:
        """The fact, unless its worker is gone; an end ends it."""
        if not isinstance(fact, f.WorkerFact):
            return [fact]
        process = self._processes.get(fact.id)
        if process is None or process.gone:
            return []
        if isinstance(fact, f.Exited):
            process.gone = True
        elif isinstance(fact, f.Ready):
            self._serves(fact.id, process)
        elif isinstance(fact, f.Ping):
            served = self.now - process.ready_at
            if served >= process.way.hangs:
                return []
            self.at(self.now + PING, fact)
        return [fact]

    def _serves(self, who: WorkerId, process: _Process) -> None:
        process.ready_at, way = self.now, process.way
        if way.hangs >= 0:
            self.at(self.now, f.Ping(who))
        self.at(self.now + way.exits, f.Exited(who, way.code, way.status))
        self.at(self.now + way.stopping, f.Stopping(who))
        self.at(self.now + way.trigger, f.WatchdogTrigger(who))

    def _samples(self, whom: Iterable[WorkerId]) -> list[f.Fact]:
        found: list[f.Fact] = []
        for who in whom:
            process = self._processes[who]
            if not process.gone:
                found.append(f.Sampled(who, process.way.memory(self.now - process.ready_at), "uss"))
        return found

    def did(self, action: Action) -> None:
        """An action is carried out, for who wants to look at it."""

    def _do(self, action: Action) -> list[f.Fact]:
        self.did(action)
        if isinstance(action, Spawn):
            return self._spawn(action.id)
        if isinstance(action, Send):
            self._signal(action.id, action.signal)
        elif isinstance(action, Measure) and action.id in self._processes:
            return self._samples([action.id])
        elif isinstance(action, SaveGate):
            self._gate = Gate(failures=action.failures, since=action.since, retry_at=action.retry_at)
        elif isinstance(action, ClearGate):
            self._gate = None
        elif isinstance(action, Finish) and action.exit_code:
            self.successors += 1
            self.at(self.now + RESTART, self._begin)
        return []

    def _spawn(self, who: WorkerId) -> list[f.Fact]:
        way = self.ways(who)
        self.starts.append((self.now, who))
        if not way.forks:
            return [f.SpawnFailed(who, "Cannot allocate memory")]
        self._pid += 1
        self._processes[who] = _Process(way, self.now)
        if way.ready < math.inf:
            self.at(self.now + way.ready, f.Ready(who))
        else:
            self.at(self.now + way.exits, f.Exited(who, way.code, way.status))
        facts: list[f.Fact] = [f.Spawned(who, self._pid)]
        return [*facts, f.ExtendTimeout(who, way.extends)] if way.extends else facts

    def _signal(self, who: WorkerId, signal: Signal) -> None:
        process = self._processes.get(who)
        if process is None or process.gone:
            return
        way = process.way
        if signal is Signal.TERM:
            self.at(self.now + way.drain, f.Exited(who, "exited", 0))
            if way.extends:
                self.at(self.now, f.ExtendTimeout(who, way.extends))
        elif signal is Signal.ABRT and way.aborts:
            self.at(self.now + 0.1, f.Exited(who, "dumped", 6))
        elif signal is Signal.KILL:
            self.at(self.now + 0.1, f.Exited(who, "killed", 9))
