"""64 slots, each with a life of its own, for as many facts as are wanted: no invariant breaks, and no index lies.

MEMUNIT_FACTS says how many facts. Each run has a seed, MEMUNIT_SEED, which it prints.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace

from memunit.core import facts as f
from memunit.core.actions import Action
from memunit.core.invariants import Pass, broken, snapshot
from memunit.core.model import Headroom, Policy, WorkerId
from tests.exploration.kernel import State, copied, step
from tests.exploration.simulation import M, Simulation, Way
from tests.exploration.ways import CEILING, LIMIT, WAYS

FACTS = int(os.environ.get("MEMUNIT_FACTS", "60000"))
SEED = int(os.environ.get("MEMUNIT_SEED", "7"))
SLOTS = 64
# One pass in so many is done twice: in place, and from a copy whose indexes are made anew.
EACH = 20
POLICY = Policy(count=SLOTS, surge=2, limit=LIMIT, ceiling=CEILING, max_age=1800.0, watchdog=30.0)


class Checked(Simulation):
    """Looks at each pass."""

    def decide(self, facts: list[f.Fact]) -> tuple[State, tuple[Action, ...], float]:
        before = snapshot(self.state)
        twin = copied(self.state) if self.passes % EACH == 0 else None
        state, actions, deadline = step(self.state, facts, self.now)
        wrong = list(broken(Pass(before, facts, self.now, snapshot(state), actions, deadline)))
        assert not wrong, (self.now, facts, wrong)
        if twin is not None:
            other, done, due = step(twin, facts, self.now)
            assert (done, due) == (actions, deadline)
            assert other == state
        return state, actions, deadline


class World:
    """What happens beside the workers: reloads, scaling, want of memory, a person, a master that does not run."""

    def __init__(self, simulation: Checked, chance: random.Random) -> None:
        self._simulation, self._chance = simulation, chance
        self._revision = 1
        self._later()

    def _later(self) -> None:
        self._simulation.at(self._simulation.now + self._chance.expovariate(1 / 20.0), self._something)

    def _something(self) -> None:
        chance, simulation = self._chance, self._simulation
        workers = sorted(simulation.state.workers)
        one = chance.choice(workers) if workers else WorkerId(0, 1)
        free = chance.choice([10 * M, 500 * M, 50_000 * M])
        self._revision += 1
        facts: list[f.Fact] = [
            f.Reload((self._revision,), replace(POLICY, surge=chance.choice([0, 1, 2, 8])), self._revision),
            f.Scale(chance.choice([-1, 1])),
            f.MemoryAvailable(Headroom(100_000 * M, free, "the machine")),
            f.MemoryPressure(),
            f.Unheard(),
            f.RecycleRequested(one),
            f.Stopping(one),
            f.ExtendTimeout(one, chance.choice([5.0, 1e12])),
            f.StatusText(one, "3 requests"),
            f.DumpState(),
        ]
        fact = chance.choice(facts)
        if not (isinstance(fact, f.Scale) and not SLOTS // 2 < simulation.state.count + fact.delta <= SLOTS):
            simulation.at(simulation.now, fact)
        if chance.random() < 0.05:
            # The master does not run for a while.
            simulation.now += chance.choice([2.0, 40.0])
        self._later()


def test_nothing_breaks_whatever_64_slots_do() -> None:
    chance = random.Random(SEED)

    def way(_: WorkerId) -> Way:
        if chance.random() < 0.6:
            return Way(name="serves", exits=chance.expovariate(1 / 600.0), growth=chance.choice([0.0, 5e5]))
        return chance.choice(WAYS)

    simulation = Checked(POLICY, way, seed=SEED, interval=5.0)
    World(simulation, chance)
    while simulation.facts < FACTS:
        simulation.run(simulation.now + 60.0)
    hours = (simulation.now - 1000.0) / 3600
    print(
        f"\nrandom: seed {SEED}, {simulation.facts} facts in {simulation.passes} passes, {hours:.1f} hours, "
        f"{len(simulation.starts)} starts, {simulation.successors} successors"
    )
    assert len(simulation.starts) > SLOTS * 2
