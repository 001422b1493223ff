"""The index of the workers: what is asked of it in each pass is right without a walk through all of them."""

import pytest

from memunit.core.model import Phase
from memunit.core.roster import Roster
from tests.support.sim import worker


def test_a_filled_slot_that_is_wanted_no_more_hides_no_empty_one() -> None:
    """As in a reload to fewer workers that another one supersedes: the first slot stayed empty for ever."""
    roster = Roster([worker(1), worker(2)])
    assert roster.vacant(1) == [0]
    assert roster.vacant(3) == [0]


@pytest.mark.parametrize("places", [1, 2, 3])
def test_slots_are_vacant_as_their_workers_come_and_go(places: int) -> None:
    roster, workers = Roster([]), [worker(slot) for slot in range(4)]
    assert roster.vacant(places) == list(range(places))
    for each in workers:
        roster.add(each)
        assert roster.vacant(places) == list(range(each.id.slot + 1, places))
    heir = worker(0, 2, Phase.STARTING)
    roster.add(heir)
    roster.move(workers[0], Phase.STOP_SIGTERM)
    assert roster.vacant(places) == []
    roster.drop(heir)
    assert roster.vacant(places) == [0]
    roster.drop(workers[3])
    assert roster.vacant(places) == [0]
    assert roster.vacant(4) == [0, 3]
