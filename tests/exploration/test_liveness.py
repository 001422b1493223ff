"""The table of liveness: what each way to fail costs, alone and beside another, in simulated hours.

MEMUNIT_EXPLORATION=all runs each pair, and prints the whole table of docs/proof.md.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import combinations_with_replacement

import pytest

from memunit.core import facts as f
from memunit.core.actions import Action, Send, Signal, Spawn
from memunit.core.model import Headroom, Phase, Policy, WorkerId
from tests.exploration.simulation import M, Simulation, Way
from tests.exploration.ways import CEILING, KIND, LIMIT, WAYS

ALL = os.environ.get("MEMUNIT_EXPLORATION") == "all"
ROOMY = Headroom(100_000 * M, 90_000 * M, "the machine")
FULL = Headroom(1000 * M, 0, "the machine")
# The long run begins after so many minutes, and lasts so many.
SETTLED, MINUTES = 10, 40 if ALL else 20
# In the long run fewer than two starts a minute, and two in the worst minute. In the first minute no more than a
# backoff that doubles from 0.1 s gives.
RATE, WORST, FIRST = 2.0, 2, 12
# A leak that comes to its limit is recycled as often as it does: those are no failures.
LEAKS = ("leaks, at its limit after 15 s", "leaks, at its limit after a minute")
# One of each kind, for the short form.
SOME = [
    way
    for way in WAYS
    if way.name
    in (
        "can't be forked",
        "is never ready, and deaf to SIGABRT",
        "exits right after READY=1",
        "crashes after 31 s",
        "READY=1, STOPPING=1, lingers",
        "hangs right after READY=1",
        "over the ceiling at its first request",
        "over the limit at its first request, drains all grace",
        "leaks, at its limit after 15 s",
    )
]


class Watched(Simulation):
    """Somebody asks for the replacement of the first slot's worker each three minutes, and waits for it to begin."""

    asked: float | None = None
    longest = 0.0
    asks = False

    def ask(self) -> None:
        """Ask now, and again later."""
        serving = [w.id for w in self.state.workers.values() if w.id.slot == 0 and w.phase is Phase.RUNNING]
        if serving and self.asked is None:
            self.asked = self.now
            self.at(self.now, f.RecycleRequested(serving[0]))
        self.at(self.now + 180.0, self.ask)

    def did(self, action: Action) -> None:
        """See whether it begins."""
        begun = (isinstance(action, Send) and action.signal is Signal.TERM) or isinstance(action, Spawn)
        if begun and self.asked is not None and getattr(action, "id", WorkerId(1, 1)).slot == 0:
            self.longest = max(self.longest, self.now - self.asked)
            self.asked = None


def measured(
    ways: Sequence[Way], policy: Policy, room: Headroom = ROOMY, *, asks: bool = False, interval: float = 5.0
) -> Watched:
    """A simulation that has run."""
    simulation = Watched(policy, lambda who: ways[who.slot], room=room, interval=interval)
    if asks:
        simulation.at(simulation.now + 60.0, simulation.ask)
    simulation.run(simulation.now + (SETTLED + MINUTES) * 60)
    if simulation.asked is not None:
        simulation.longest = max(simulation.longest, simulation.now - simulation.asked)
    return simulation


def rates(simulation: Simulation, slot: int) -> tuple[float, int, int]:
    """Starts a minute in the long run, the worst minute of it, and the worst of all."""
    began, per = 1000.0, [0] * (SETTLED + MINUTES)
    for at, who in simulation.starts:
        if who.slot == slot:
            per[min(int((at - began) // 60), len(per) - 1)] += 1
    late = per[SETTLED:]
    return sum(late) / len(late), max(late), max(per)


def policy(count: int, surge: int = 1) -> Policy:
    return Policy(count=count, surge=surge, limit=LIMIT, ceiling=CEILING)


def check(name: str, found: tuple[float, int, int]) -> None:
    """A row of the table."""
    rate, worst, first = found
    assert first <= FIRST, (name, found)
    if name in LEAKS:
        return
    # A start at either end of the time is one too many.
    assert rate - 1 / MINUTES < RATE, (name, found)
    assert worst <= WORST, (name, found)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_a_way_to_fail_costs_little_alone_and_harms_no_other(way: Way) -> None:
    alone = measured([way], policy(1))
    beside = measured([KIND, way], policy(2))
    rows = [rates(alone, 0), rates(beside, 1)]
    print(
        f"\nalone {way.name:54} {rows[0]} {alone.successors:3} successors; beside one that serves {rows[1]}"
    )
    for row in rows:
        check(way.name, row)
    assert rates(beside, 0) == (0.0, 0, 1), "the one that serves is let be"
    assert not beside.successors


def test_a_leak_is_recycled_as_often_as_it_comes() -> None:
    """16 s from READY to the limit, 2 of patience, half a second to start: three a minute, and none at the ceiling."""
    (leak,) = [way for way in WAYS if way.name == LEAKS[0]]
    rate, _, _ = rates(measured([leak], policy(1), interval=1.0), 0)
    assert 3.0 < rate < 60 / 17


@pytest.mark.parametrize(
    "pair",
    list(combinations_with_replacement(WAYS if ALL else SOME, 2)),
    ids=lambda pair: " + ".join(w.name for w in pair),
)
def test_two_ways_beside_each_other_cost_no_more(pair: tuple[Way, Way]) -> None:
    simulation = measured(pair, policy(2))
    for slot, way in enumerate(pair):
        check(way.name, rates(simulation, slot))


# One replacement at a time: before ours, another may take start_timeout, SIGABRT, SIGKILL and grace; and where the
# order is reversed, half a minute follows upon one that did not come up.
PATIENCE = 30.0 + 10.0 + 10.0 + 30.0
PAUSE = 30.0


@pytest.mark.parametrize(
    ("surge", "room"), [(1, ROOMY), (0, ROOMY), (1, FULL)], ids=["surge", "no-surge", "no-room"]
)
def test_a_recycle_comes_whatever_another_slot_does(surge: int, room: Headroom) -> None:
    bound = PATIENCE + (PAUSE if surge == 0 or room is FULL else 0.0)
    worst = ("", -1.0)
    for way in WAYS if ALL else SOME:
        simulation = measured([KIND, way], policy(2, surge), room, asks=True)
        worst = max(worst, (way.name, simulation.longest), key=lambda each: each[1])
        assert simulation.longest <= bound, (way.name, simulation.longest)
        assert rates(simulation, 0)[0] > 0.2, (way.name, "nobody was replaced")
    print(f"\nlongest wait of a recycle beside another slot, surge {surge}: {worst[1]:.1f} s ({worst[0]})")
