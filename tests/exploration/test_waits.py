"""Whatever one slot does, what another wants comes: a replacement is begun within a bounded time.

In slot 0 the workers are kind, and at any time somebody wants one replaced. In slot 1 everything happens that the
alphabet has, in every order. For each state the search knows for how long slot 0 has been waiting.
"""

from __future__ import annotations

import os

import pytest

from memunit.core.model import Headroom
from memunit.records import replace
from tests.exploration.scaled import scaled
from tests.exploration.world import (
    FULL,
    LIFE,
    LONG,
    POLICY,
    REQUEST,
    ROOMY,
    WATCHDOG,
    WORDS,
    search,
    start,
    up,
)

# A replacement in the other slot takes start_timeout, SIGABRT and SIGKILL, each in its time, and the one it replaces
# its grace; where the order is reversed and it did not come up, nothing is given away for a while after that.
PATIENCE = 2.0 + 1.0 + 1.0 + 2.0 + 1.0
AFTER_REVERSAL = 4.0
ALL = os.environ.get("MEMUNIT_EXPLORATION") == "all"


@pytest.mark.parametrize(
    ("surge", "room"), [(1, ROOMY), (0, ROOMY), (1, FULL)], ids=["1-room", "0", "1-full"]
)
@pytest.mark.parametrize("more", [(), (WATCHDOG,), (WORDS, LONG)] if ALL else [()], ids="+".join)
def test_a_wanted_recycle_comes(surge: int, room: Headroom, more: tuple[str, ...]) -> None:
    patience = PATIENCE + (0.0 if surge and room is ROOMY else AFTER_REVERSAL)
    with scaled():
        first = up(start(replace(POLICY, count=2, surge=surge), room=room))
        found = search(first, frozenset({LIFE, REQUEST, *more}), kind=0, patience=patience)
    name = f"{surge}-{'full' if room is FULL else 'room'}-{'+'.join(more)}"
    print(f"\nwaits {name}: {found.states} states, longest {found.longest:g} s")
    assert not found.broken, "\n".join(
        f"{name}: {why}\n  {' -> '.join(way)}" for name, (why, way) in found.broken.items()
    )
    assert found.closed
    assert found.longest > 0
