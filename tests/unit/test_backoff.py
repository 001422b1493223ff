"""The pauses between tries, and the jitter that spreads them."""

from itertools import pairwise

import pytest

from memunit.core.backoff import CAP, SHORT, SPREAD, delay, jitter


def test_it_doubles_up_to_its_cap() -> None:
    waits = [delay(failures, seed=1, slot=0) for failures in range(1, 40)]
    assert waits[0] == 0.0
    assert 0.1 <= waits[1] <= 0.1 * (1 + SPREAD)
    assert all(after > before for before, after in pairwise(waits[:10]))
    assert all(CAP <= wait <= CAP * (1 + SPREAD) for wait in waits[10:])


def test_a_row_that_lasts_is_at_the_cap_however_few_they_were() -> None:
    """Where a try takes ten seconds, doubling would go on for minutes."""
    assert delay(3, seed=1, slot=0, lasted=SHORT) >= CAP
    assert delay(3, seed=1, slot=0, lasted=SHORT - 1) < 1
    assert delay(1, seed=1, slot=0, lasted=SHORT) == 0.0


@pytest.mark.parametrize("vary", ["seed", "slot", "failures"])
def test_jitter_is_spread_evenly_whatever_differs(vary: str) -> None:
    """Instances, slots and tries are told apart by small numbers: a bad mixture would keep them together."""
    found = []
    for number in range(4096):
        numbers = {"seed": 7, "slot": 0, "failures": 5} | {vary: number}
        found.append(jitter(*numbers.values()))
    assert all(0 <= value < 1 for value in found)
    tenths = [sum(tenth <= 10 * value < tenth + 1 for value in found) for tenth in range(10)]
    assert all(340 < count < 480 for count in tenths), tenths
    apart = [abs(one - other) for one, other in pairwise(found)]
    assert 0.3 < sum(apart) / len(apart) < 0.37


def test_negative_numbers_and_huge_ones_have_their_jitter_too() -> None:
    assert len({jitter(2**63, -1), jitter(2**63, -2), jitter(2**70, -1), jitter(-5)}) == 4
