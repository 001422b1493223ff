"""Two states that the search takes for one do the same next: else it would leave out what it has not seen."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from memunit.core.actions import Action
from memunit.records import replace
from tests.exploration.scaled import scaled
from tests.exploration.world import (
    LIFE,
    POLICY,
    RELOAD,
    REQUEST,
    ROOMY,
    STOP,
    WATCHDOG,
    WORDS,
    Event,
    Node,
    form,
    happen,
    search,
    start,
    wants,
)

MOST = 2500
SAMPLES = 100


# Not with samples: of how a worker has grown, the form has only what policy makes of it at the moment.
@pytest.mark.parametrize(
    ("count", "kinds"),
    [
        (1, (LIFE, WORDS, REQUEST, STOP)),
        (1, (LIFE, WATCHDOG, STOP)),
        (1, (LIFE, RELOAD)),
        (2, (LIFE, REQUEST)),
    ],
    ids=str,
)
def test_states_of_one_form_do_the_same(count: int, kinds: tuple[str, ...]) -> None:
    chance, alphabet = random.Random(1), frozenset(kinds)
    kept: dict[int, Node] = {}
    compared = Counter[bool]()

    def visit(key: int, node: Node, new: bool) -> Iterator[tuple[str, str]]:
        if new and chance.random() < 0.2:
            kept[key] = node
        elif not new and key in kept and compared[True] < SAMPLES and kept[key].state != node.state:
            compared[True] += 1
            yield from _differences(kept.pop(key), node, alphabet, count)

    with scaled():
        first = start(replace(POLICY, count=count), room=ROOMY)
        found = search(first, alphabet, most=count, visit=visit, states=MOST)
    assert not found.broken, found.broken
    assert compared[True] >= 30


def _differences(one: Node, other: Node, kinds: frozenset[str], most: int) -> Iterator[tuple[str, str]]:
    ours, theirs = list(happen(one, kinds, most)), list(happen(other, kinds, most))
    if list(map(_kind, ours)) != list(map(_kind, theirs)):
        yield "one-form-one-alphabet", f"{ours} and {theirs}"
        return
    for mine, its in zip(ours, theirs, strict=True):
        (after, done), (then, did) = wants(one, mine), wants(other, its)
        if Counter(map(_name, done)) != Counter(map(_name, did)) or form(after) != form(then):
            yield "one-form-one-future", f"{one}\n{other}\n{mine}\n{done}\n{did}"


def _kind(event: Event) -> tuple[type, float]:
    return type(event.fact), event.seconds


def _name(action: Action) -> str:
    return type(action).__name__
