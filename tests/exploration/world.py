"""All that may happen to a small instance next, and a search through everything that comes of it, breadth first."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from memunit.core import facts as f
from memunit.core.actions import Action, Measure, Spawn
from memunit.core.invariants import broken
from memunit.core.model import Headroom, Phase, Policy, Worker
from memunit.core.seen import Pass, snapshot
from memunit.records import replace
from tests.exploration.canonical import canonical
from tests.exploration.kernel import State, copied, initial, step

LOW, LIMIT, CEILING = 10, 100, 200
POLICY = Policy(
    count=1,
    start_timeout=2.0,
    watchdog=2.0,
    min_lifetime=1.0,
    patience=1.0,
    grace=2.0,
)
MEASURED = replace(POLICY, limit=LIMIT, ceiling=CEILING)
# With patience for a question and its answer.
GIVING = replace(MEASURED, give_back=True, patience=2.0)
ROOMY, FULL = Headroom(10_000, 5_000, "the machine"), Headroom(10_000, 0, "the machine")
START = 1000.0
# How many processes at a time do not end by SIGKILL: they are in an uninterruptible sleep.
STUCK = 0
# What may happen, by name: each kind can be left out, for a smaller set.
LIFE, WORDS, LONG, WATCHDOG, MEMORY, ROOM, REQUEST, RELOAD, COUNTS, SCALE, STOP, STALL, GIVE = (
    "life", "words", "long", "watchdog", "memory", "room", "request", "reload", "counts", "scale", "stop", "stall",
    "give",
)  # fmt: skip


@dataclass(frozen=True)
class Event:
    """A fact, or time that passes: `late` without a pass of the loop at the deadline on the way."""

    fact: f.Fact | None = None
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.seconds:g} s pass" if self.fact is None else str(self.fact)


@dataclass(frozen=True)
class Node:
    """An instance at a time, and when it is to come again."""

    state: State
    now: float
    deadline: float
    wanted: float | None = None
    """When a replacement was asked for in a slot whose workers are kind (`Search.kind`), and has not begun yet."""


@dataclass
class Found:
    """What a search has found."""

    states: int = 0
    passes: int = 0
    closed: bool = True
    seconds: float = 0.0
    longest: float = 0.0
    """For how long a replacement has been asked for and has not begun, in seconds."""
    broken: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    """The first violation of each invariant, and the shortest way to it."""


def say(worker: Worker, kinds: frozenset[str]) -> Iterator[f.Fact]:
    """What may be heard of one worker next."""
    who, phase = worker.id, worker.phase
    if LIFE in kinds:
        yield f.Exited(who, "exited", 0)
        yield f.Exited(who, "exited", 1)
        if phase is Phase.STARTING:
            yield f.Ready(who)
            yield f.SpawnFailed(who, "Cannot allocate memory")
    if WATCHDOG in kinds and phase is not Phase.STOP_SIGKILL:
        yield f.Ping(who)
        yield f.WatchdogTrigger(who)
    if WORDS in kinds and phase is not Phase.STOP_SIGKILL:
        yield f.Stopping(who)
        yield f.ExtendTimeout(who, 2.0)
    if LONG in kinds and phase is not Phase.STOP_SIGKILL:
        yield f.ExtendTimeout(who, 1e12)
    if MEMORY in kinds and phase is not Phase.STOP_SIGKILL:
        for size in (LOW, LIMIT, CEILING):
            yield f.Sampled(who, size, "uss")
    if GIVE in kinds and phase is Phase.RUNNING and worker.give_from is not None:
        yield f.Unwatched(who)
    if REQUEST in kinds and phase is Phase.RUNNING:
        yield f.RecycleRequested(who)


def happen(node: Node, kinds: frozenset[str], most: int) -> Iterator[Event]:
    """Everything that may happen next."""
    state = node.state
    for worker in sorted(state.workers.values(), key=lambda each: each.id):
        for fact in say(worker, kinds):
            yield Event(fact)
    if ROOM in kinds:
        for room in (ROOMY, FULL):
            if state.headroom != room:
                yield Event(f.MemoryAvailable(room))
        yield Event(f.MemoryPressure())
    if RELOAD in kinds and not state.stopping:
        yield Event(f.Reload((highest(state),), state.policy, highest(state) + 1))
    if COUNTS in kinds and not state.stopping:
        # To each number of workers that there may be.
        for count in range(1, most + 1):
            yield Event(f.Reload((highest(state),), replace(state.policy, count=count), highest(state) + 1))
    if SCALE in kinds and not state.stopping:
        for delta in (1, -1):
            if 1 <= state.count + delta <= most:
                yield Event(f.Scale(delta))
    if STOP in kinds:
        if not state.stopping:
            yield Event(f.StopRequested())
        else:
            yield Event(f.StopRequested(force=True))
    killed = [w for w in state.workers.values() if w.phase is Phase.STOP_SIGKILL]
    later = max(0.0, min(node.deadline - node.now, 1.0))
    # SIGKILL ends a process in its time, but for one at most: each that it does not end is a state of its own.
    stuck = sum(w.deadline <= node.now + later or w.deadline == math.inf for w in killed)
    if stuck <= STUCK:
        yield Event(seconds=later)
    if STALL in kinds:
        yield Event(seconds=3.0)
        yield Event(f.Unheard())


def highest(state: State) -> int:
    """The highest revision that anything has."""
    return max([state.revision, *(worker.revision for worker in state.workers.values())])


def run(
    node: Node, event: Event, kind: int | None = None, *, done: list[Action] | None = None
) -> tuple[Node, list[tuple[str, str]]]:
    """One event, with the forks that come of it, and the invariants that it broke. `done` is added what was wanted.

    The workers of the slot `kind` are ready at once, and end at once when they are told to stop.
    """
    now, wrong = node.now + event.seconds, list[tuple[str, str]]()
    facts: list[f.Fact] = [] if event.fact is None else [event.fact]
    state, wanted, before = copied(node.state), node.wanted, snapshot(node.state)
    if isinstance(event.fact, f.RecycleRequested) and event.fact.id.slot == kind and wanted is None:
        wanted = now
    while True:
        state, actions, deadline = step(state, facts, now)
        after = snapshot(state)
        wrong += broken(Pass(before, facts, now, after, actions, deadline))
        before = after
        if done is not None:
            done += actions
        facts = [f.Spawned(a.id, 100) for a in actions if isinstance(a, Spawn)]
        # Whoever is to be measured has what it had last: it takes more, or less, by an event.
        for who in (a.id for a in actions if isinstance(a, Measure) and a.id in state.workers):
            facts.append(f.Sampled(who, state.workers[who].memory or LOW, "uss"))
        for worker in state.workers.values() if kind is not None and not facts else ():
            if worker.id.slot == kind and worker.phase is Phase.STARTING:
                facts.append(f.Ready(worker.id))
            elif worker.id.slot == kind and worker.phase is not Phase.RUNNING:
                wanted = None
                facts.append(f.Exited(worker.id, "exited", 0))
        if not facts:
            return Node(state, now, deadline, wanted), wrong


def wants(node: Node, event: Event) -> tuple[Node, list[Action]]:
    """One event, and all that policy wants upon it."""
    done: list[Action] = []
    after, _ = run(node, event, done=done)
    return after, done


def start(policy: Policy, *, room: Headroom | None = None) -> Node:
    """An instance that has just been started, and has forked its first workers."""
    state = initial(policy, now=START)
    state = replace(state, headroom=room)
    return run(Node(state, START, START), Event())[0]


def settle(node: Node, most: float) -> float:
    """How long until every slot serves and nobody else is left, in a world that turns kind; infinite for never."""
    now = node.now
    facts: list[f.Fact] = [f.MemoryAvailable(ROOMY)]
    state = copied(node.state)
    while now <= node.now + most:
        for _ in range(5):
            state, actions, deadline = step(state, facts, now)
            facts = [f.Spawned(a.id, 100) for a in actions if isinstance(a, Spawn)]
            asked = [a.id for a in actions if isinstance(a, Measure) and a.id in state.workers]
            facts += [f.Sampled(who, LOW, "uss") for who in asked]
            for worker in state.workers.values():
                facts += _kindly(worker)
            if _settled(state):
                return now - node.now
        now += max(0.5, min(deadline - now, 1.0))
    return math.inf


def _kindly(worker: Worker) -> Iterator[f.Fact]:
    if worker.phase is Phase.STARTING:
        yield f.Ready(worker.id)
    elif worker.phase is Phase.RUNNING:
        yield f.Ping(worker.id)
        yield f.Sampled(worker.id, LOW, "uss")
    else:
        yield f.Exited(worker.id, "exited", 0)


def _settled(state: State) -> bool:
    if state.stopping:
        return state.finished
    fresh = {
        w.id.slot for w in state.workers.values() if w.phase is Phase.RUNNING and w.revision == state.revision
    }
    return fresh == set(range(state.count)) and len(state.workers) == state.count and not state.rollout


def end(node: Node, most: float) -> float:
    """How long until the instance has left when it is told to stop, and only SIGKILL ends anybody, at once."""
    now, facts, state = node.now, list[f.Fact]([f.StopRequested()]), copied(node.state)
    for _ in range(100):
        state, _, deadline = step(state, facts, now)
        if state.finished:
            return now - node.now
        killed = [w.id for w in state.workers.values() if w.phase is Phase.STOP_SIGKILL]
        facts = [f.Exited(who, "killed", 9) for who in killed]
        if not facts:
            now = deadline
        if now > node.now + most:
            break
    return math.inf


def up(node: Node) -> Node:
    """The same once every worker serves and was measured."""
    for who in list(node.state.workers):
        node, _ = run(node, Event(f.Ready(who)))
        node, _ = run(node, Event(f.Sampled(who, LOW, "uss")))
    return node


def search(
    first: Node,
    kinds: frozenset[str],
    *,
    most: int = 2,
    kind: int | None = None,
    patience: float = math.inf,
    visit: Callable[[int, Node, bool], Iterable[tuple[str, str]]] | None = None,
    states: int = 10**9,
) -> Found:
    """Breadth first from `first`, through all that `kinds` lets happen, until no state is new; or `states` are found.

    `most` is how many slots Scale may make. In the slot `kind` the workers do what they are told at once, and nothing
    else happens to them but that their replacement is asked for; who waits for it for longer than `patience` is looked
    at no further. `visit` is told the form of each state that is come to, the state, and whether it is new; it may
    complain.
    """
    found, began = Found(states=1), time.process_time()
    way: dict[int, tuple[int, Event] | None] = {form(first): None}
    queue = deque([(form(first), first)])
    while queue and found.states < states:
        name, node = queue.popleft()
        for event in happen(node, kinds, most):
            if kind is not None and not _kind(event, kind):
                continue
            after, wrong = run(node, event, kind)
            found.passes += 1
            waited = 0.0 if after.wanted is None else after.now - after.wanted
            found.longest = max(found.longest, waited)
            if waited > patience:
                wrong.append(("a-wanted-recycle-comes", f"not for {waited:g} s"))
            key = form(after)
            ends = after.state.finished or waited > patience
            if visit is not None and not ends:
                wrong += visit(key, after, key not in way)
            for invariant, why in wrong:
                found.broken.setdefault(invariant, (why, [*_way_to(way, name), str(event)]))
            if key not in way and not ends:
                way[key] = (name, event)
                found.states += 1
                queue.append((key, after))
    found.closed = not queue
    found.seconds = time.process_time() - began
    return found


def form(node: Node) -> int:
    """Two nodes of one form are one."""
    waits = None if node.wanted is None else node.now - node.wanted
    return hash((canonical(node.state, node.now), waits))


def _kind(event: Event, slot: int) -> bool:
    fact = event.fact
    return not isinstance(fact, f.WorkerFact) or fact.id.slot != slot or isinstance(fact, f.RecycleRequested)


def _way_to(way: dict[int, tuple[int, Event] | None], name: int) -> list[str]:
    events: list[str] = []
    while (last := way[name]) is not None:
        name, event = last
        events.append(str(event))
    return events[::-1]
