"""How long a trip-wire is not listened to."""

import pytest

from memunit.master.sensors import FIRST_REST, REST, UNHURRIED, _Wire


def test_an_event_that_is_not_of_the_wire_silences_it_for_a_moment_and_a_flood_for_a_second() -> None:
    """The kernel tells once more, 10 ms after a trip; and page cache at the ceiling has hundreds of events a second."""
    wire, now, silences = _Wire(), 1000.0, []
    for _ in range(10):
        wire.mute(now)
        silences.append(wire.muted_until - now)
        now = wire.muted_until
    assert silences[0] <= 0.02
    assert silences == sorted(silences)
    assert silences[-1] == pytest.approx(REST)
    # As soon as it was quiet for a while, the next one is a single one again.
    wire.mute(now + UNHURRIED + REST)
    assert wire.muted_until - (now + UNHURRIED + REST) == pytest.approx(FIRST_REST)
