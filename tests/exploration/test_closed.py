"""Every state that a small instance can be in, whatever the world does: each keeps the invariants, and can be left.

A search begins with the start of an instance, and lets everything happen that its alphabet has, in every order, until
no new state turns up. MEMUNIT_EXPLORATION=all adds the large sets. The figures stand in docs/proof.md.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from memunit.core import facts as f
from memunit.core import retirement, starts
from memunit.core.model import Headroom
from memunit.core.roster import Roster
from memunit.records import replace
from tests.exploration.kernel import initial
from tests.exploration.scaled import scaled
from tests.exploration.simulation import taken_over
from tests.exploration.world import (
    COUNTS,
    FULL,
    GIVE,
    GIVING,
    LIFE,
    LONG,
    MEASURED,
    MEMORY,
    POLICY,
    RELOAD,
    REQUEST,
    ROOM,
    ROOMY,
    SCALE,
    STALL,
    STOP,
    WATCHDOG,
    WORDS,
    Event,
    Found,
    Node,
    end,
    run,
    search,
    settle,
    start,
)


class Set(NamedTuple):
    """What is searched: an alphabet, how many slots, the surge, and whether there is room for one more."""

    kinds: frozenset[str]
    slots: int = 1
    surge: int = 1
    room: Headroom = ROOMY

    def __str__(self) -> str:
        room = "room" if self.room == ROOMY else "full"
        return f"{self.slots}-{self.surge}-{room}-{'+'.join(sorted(self.kinds))}"


def sets(*kinds: str, count: int = 1, surges: tuple[int, ...] = (1, 0), full: bool = True) -> list[Set]:
    """With each surge, and with and without room: without a surge, room makes no difference."""
    alphabet = frozenset(kinds)
    found = [Set(alphabet, count, surge) for surge in surges]
    return [*found, Set(alphabet, count, 1, FULL)] if full and ROOM not in kinds else found


SMALL = [
    *sets(LIFE, WORDS, STOP),
    *sets(LIFE, WATCHDOG, STOP),
    *sets(LIFE, STALL, STOP),
    *sets(LIFE, RELOAD, STOP),
    *sets(LIFE, count=2),
]
LARGE = [
    *sets(LIFE, MEMORY, GIVE, surges=(0,), full=False),
    *sets(LIFE, MEMORY, surges=(0,), full=False),
    *sets(LIFE, SCALE),
    *sets(LIFE, MEMORY, surges=(1,)),
    *sets(LIFE, MEMORY, ROOM, REQUEST, STOP),
    *sets(LIFE, WORDS, LONG, REQUEST, WATCHDOG, STOP, STALL),
    *sets(LIFE, RELOAD, WORDS, WATCHDOG, STOP),
    *sets(LIFE, REQUEST, count=2),
    *sets(LIFE, WATCHDOG, count=2),
    *sets(LIFE, COUNTS, surges=(0,)),
    *sets(LIFE, RELOAD, count=2),
    *sets(LIFE, SCALE, count=2),
]
ALL = os.environ.get("MEMUNIT_EXPLORATION") == "all"
# One in so many states is let be: with a kind world it has to settle, and with none it has to stop.
EACH = 5
# Seconds of the small world: a full backoff, a try, and what drains meanwhile; and at the end grace, SIGABRT, SIGKILL.
SETTLES = 14.0
ENDS = 8.0


@pytest.mark.parametrize("what", [*SMALL, *(LARGE if ALL else [])], ids=str)
def test_a_set_closes_and_keeps_what_holds(what: Set) -> None:
    found, longest = searched(what)
    print(
        f"\nclosed {what}: {found.states} states, {found.passes} passes, {found.seconds:.0f} s of CPU; "
        f"settles in {longest[0]:g} s, ends in {longest[1]:g} s"
    )
    assert not found.broken, told(found)
    assert found.closed


# Reloads to one worker and to two, in every order, each superseding the one before: the whole is a large set.
COUNTED = Set(frozenset({LIFE, COUNTS}))
FIRST = 2500


def test_a_reload_to_another_number_of_workers_leaves_no_slot_empty() -> None:
    """Of the first states of such reloads, with surge 1."""
    found, _ = searched(COUNTED, states=FIRST)
    assert not found.broken, told(found)
    assert found.states >= FIRST


def test_the_search_finds_a_slot_that_is_left_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault that was there once: filled slots that are wanted no more were counted with those that are."""

    def vacant(roster: Roster, places: int) -> list[int]:
        filled = {index for index in range(64) if any(each.serving for each in roster.in_slot(index))}
        return [] if len(filled) >= places else [index for index in range(places) if index not in filled]

    monkeypatch.setattr(Roster, "vacant", vacant)
    found, _ = searched(COUNTED, states=FIRST)
    assert found.broken.keys() == {"it-settles"}
    why, way = found.broken["it-settles"]
    assert why == "not within inf s"
    assert any(event.startswith("Reload") for event in way)


SCALED = Set(frozenset({LIFE, SCALE}))


def test_a_scale_down_leaves_one_that_serves() -> None:
    """Of the first states of scaling between one worker and two: the whole is a large set."""
    found, _ = searched(SCALED, states=FIRST)
    assert not found.broken, told(found)
    assert found.states >= FIRST


def test_the_search_finds_the_last_that_serves_told_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault that was there once: slots were given up by number, whoever served in the others."""
    monkeypatch.setattr(retirement, "relied_on_at", lambda state: -math.inf)
    found, _ = searched(SCALED, states=FIRST // 10)
    assert found.broken.keys() == {"the-last-that-serves-stays"}


# Recycles of two workers in reversed order, while either starts, crashes or ends: of each the first states.
REVERSED = [
    Set(frozenset({LIFE, REQUEST}), 2, 0),
    Set(frozenset({LIFE, REQUEST}), 2, 1, FULL),
    Set(frozenset({LIFE, MEMORY}), 2, 0),
]


@pytest.mark.parametrize("what", REVERSED, ids=str)
def test_the_only_one_that_serves_waits_for_another_that_starts(what: Set) -> None:
    """The first two are large sets as a whole."""
    found, _ = searched(what, states=FIRST)
    assert not found.broken, told(found)
    assert found.states >= FIRST


@pytest.mark.parametrize("what", REVERSED, ids=str)
def test_the_search_finds_the_only_one_that_serves_stopped_first(
    what: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault that was there once: a crash beside a recycle, and nobody served until the app had started again."""
    monkeypatch.setattr(starts, "_is_urgent", lambda *_: True)
    found, _ = searched(what, states=FIRST // 10)
    assert found.broken.keys() == {"the-last-that-serves-stays"}


@pytest.mark.parametrize("surge", [1, 0])
def test_a_successor_with_fewer_slots_keeps_what_holds(surge: int) -> None:
    """The file says one worker by now. Of two slots, each worker was in any phase when the master was killed."""
    total = 0
    with scaled():
        policy = replace(POLICY, surge=surge)
        before = start(replace(policy, count=2))
        for states in itertools.product(("starting", "running", "stopping"), repeat=2):
            left = before
            for who, state in zip(sorted(before.state.workers), states, strict=True):
                if state != "starting":
                    left, _ = run(left, Event(f.Ready(who)))
                if state == "stopping":
                    left, _ = run(left, Event(f.Stopping(who)))
            first = taken_over(left.state, initial(replace(policy, count=1), now=left.now), left.now)
            node, wrong = run(Node(first, left.now, left.now), Event())
            assert not wrong, (states, wrong)
            found = search(node, frozenset({LIFE}))
            assert not found.broken, (states, told(found))
            assert found.closed
            total += found.states
    print(f"\nsuccessors with one slot, surge {surge}: {total} states")


def searched(what: Set, *, states: int = 10**9) -> tuple[Found, list[float]]:
    """What the search finds, and how long at most a state takes to settle and to end."""
    longest, seen = [0.0, 0.0], itertools.count()

    def visit(_: int, node: Node, new: bool) -> Iterator[tuple[str, str]]:
        if not new or next(seen) % EACH:
            return
        for index, (name, lasted) in enumerate(
            (("it-settles", settle(node, 60.0)), ("it-ends", end(node, 60.0)))
        ):
            longest[index] = max(longest[index], lasted)
            if lasted > (SETTLES, ENDS)[index]:
                yield name, f"not within {lasted:g} s"

    most = what.slots + 1 if what.kinds & {SCALE, COUNTS} else what.slots
    with scaled():
        policy = GIVING if GIVE in what.kinds else MEASURED if MEMORY in what.kinds else POLICY
        first = start(replace(policy, count=what.slots, surge=what.surge), room=what.room)
        return search(first, what.kinds, most=most, visit=visit, states=states), longest


def told(found: Found) -> str:
    """Each invariant that is broken, and the shortest way there."""
    return "\n".join(f"{name}: {why}\n    {' -> '.join(way)}" for name, (why, way) in found.broken.items())
