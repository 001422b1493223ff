"""64 slots, each with a life of its own, for as many facts as are wanted: no invariant breaks, and no index lies.

MEMUNIT_FACTS says how many facts. Each run has a seed, MEMUNIT_SEED, which it prints. Three slots get a tenth of them:
there it happens often that one alone serves, or none. MEMUNIT_EACH=1 does each pass twice (see EACH): a fault of an
index that is seen once in six million facts else is seen in a hundred thousand.
"""

from __future__ import annotations

import os
import random
import sys

from memunit.core import facts as f
from memunit.core.actions import Action, Measure
from memunit.core.invariants import broken
from memunit.core.model import Headroom, Policy, WorkerId
from memunit.core.seen import Pass, snapshot
from memunit.records import replace
from tests.exploration.kernel import State, copied, step
from tests.exploration.simulation import M, Simulation, Way
from tests.exploration.ways import CEILING, LIMIT, WAYS

FACTS = int(os.environ.get("MEMUNIT_FACTS", "60000"))
SEED = int(os.environ.get("MEMUNIT_SEED", "7"))
SLOTS = 64
# One pass in so many is done twice: in place, and from a copy whose indexes are made anew.
EACH = int(os.environ.get("MEMUNIT_EACH", "20"))
POLICY = Policy(count=SLOTS, surge=2, limit=LIMIT, ceiling=CEILING, max_age=1800.0, watchdog=30.0)
# What a person sets until the next reload; one of them can't be set.
SETTINGS = (
    {"memory.limit": "150M"},
    {"memory.limit": "250M", "memory.patience": "0s"},
    {"memory.patience": "30s"},
    {"memory.ceiling": "300M"},
    {"workers.surge": "0", "workers.min_lifetime": "1s"},
    {"workers.max_age": "10m"},
)


class Checked(Simulation):
    """Looks at each pass."""

    def __post_init__(self) -> None:
        """Begin."""
        self.chance = random.Random(self.seed)
        super().__post_init__()

    def decide(self, facts: list[f.Fact]) -> tuple[State, tuple[Action, ...], float]:
        before = snapshot(self.state)
        twin = copied(self.state) if self.passes % EACH == 0 else None
        state, actions, deadline = step(self.state, facts, self.now)
        wrong = list(broken(Pass(before, facts, self.now, snapshot(state), actions, deadline)))
        assert not wrong, (self.now, facts, wrong)
        if twin is not None:
            other, done, due = step(twin, facts, self.now)
            for who in sorted(state.workers.keys() & other.workers.keys()):
                assert other.workers[who] == state.workers[who], (self.now, facts)
            assert (done, due) == (actions, deadline)
            assert other == state
        return state, actions, deadline

    def _do(self, action: Action) -> list[f.Fact]:
        facts = super()._do(action)
        if isinstance(action, Measure) and self.chance.random() < 0.1:
            # At the very moment of a sample, before it or after it, other memory is free.
            facts.insert(self.chance.choice([0, len(facts)]), room(self.chance))
        return facts


def room(chance: random.Random) -> f.MemoryAvailable:
    """So much of the machine's memory is free: little, enough, or plenty."""
    return f.MemoryAvailable(
        Headroom(100_000 * M, chance.choice([10 * M, 500 * M, 50_000 * M]), "the machine")
    )


class World:
    """What happens beside the workers: reloads, scaling, want of memory, a person, a master that does not run or is
    killed.
    """

    def __init__(self, simulation: Checked, chance: random.Random, slots: range) -> None:
        """With as many workers as there are in `slots`."""
        self._simulation, self._chance, self._slots = simulation, chance, slots
        self._revision = 1
        self._later()

    def _later(self) -> None:
        self._simulation.at(self._simulation.now + self._chance.expovariate(1 / 20.0), self._something)

    def _something(self) -> None:
        chance, simulation = self._chance, self._simulation
        workers = sorted(simulation.state.workers)
        one = chance.choice(workers) if workers else WorkerId(0, 1)
        self._revision += 1
        facts: list[f.Fact] = [
            f.Reload((self._revision,), self._policy(), self._revision),
            f.Scale(chance.choice([-1, 1])),
            f.Adjust(chance.choice(SETTINGS)),
            room(chance),
            f.MemoryPressure(),
            f.Unheard(),
            f.RecycleRequested(one),
            f.Stopping(one),
            f.ExtendTimeout(one, chance.choice([5.0, 1e12])),
            f.StatusText(one, "3 requests"),
            f.DumpState(),
        ]
        fact = chance.choice(facts)
        if not (isinstance(fact, f.Scale) and simulation.state.count + fact.delta not in self._slots):
            simulation.at(simulation.now, fact)
        if chance.random() < 0.02:
            simulation.succeed(self._policy())
        if chance.random() < 0.05:
            # The master does not run for a while.
            simulation.now += chance.choice([2.0, 40.0])
        self._later()

    def _policy(self) -> Policy:
        """Of a file that may have been changed."""
        count = self._chance.choice([self._slots[-1], self._chance.choice(self._slots)])
        return replace(POLICY, count=count, surge=self._chance.choice([0, 1, 2, 8]))


def test_nothing_breaks_whatever_64_slots_do() -> None:
    _simulate(range(SLOTS // 2, SLOTS + 1), FACTS)


def test_nothing_breaks_whatever_three_slots_do() -> None:
    _simulate(range(1, 4), FACTS // 10)


def _simulate(slots: range, facts: int) -> None:
    chance = random.Random(SEED)

    def way(_: WorkerId) -> Way:
        if chance.random() < 0.6:
            return Way(name="serves", exits=chance.expovariate(1 / 600.0), growth=chance.choice([0.0, 5e5]))
        return chance.choice(WAYS)

    simulation = Checked(replace(POLICY, count=slots[-1]), way, seed=SEED, interval=5.0)
    World(simulation, chance, slots)
    while simulation.facts < facts:
        simulation.run(simulation.now + 60.0)
    hours = (simulation.now - 1000.0) / 3600
    print(
        f"\nrandom: seed {SEED}, {slots[-1]} slots, {simulation.facts} facts in {simulation.passes} passes, "
        f"{hours:.1f} hours, {len(simulation.starts)} starts, {simulation.successors} successors; "
        f"{sys.implementation.name} {sys.version.split()[0]}"
    )
    assert len(simulation.starts) > slots[-1] * 2
