"""How many connections each worker of this master has, and how many more of those that wait are this one's share.

All workers wait at one socket, and out of idleness the first to wake would take all that come at once. So each takes
its even part and a little more, and leaves the rest to the siblings, for as long as these go on taking theirs.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

from memunit.worker.scoreboard import ACCEPTED, ACCEPTING, OPEN, USED, WORDS, Place

# An eighth over the even part is 0.56 of all with two workers. A smaller part would be more looks at the page for the
# same connections, where it is not known how many wait.
_OVER = 8
_MOST_LOOKED_AT = 16  # lines read for one answer; with more siblings each time others
_WORD = 0xFFFFFFFF

Tally = Tuple[int, int]
Marks = Dict[int, int]


class Siblings:
    """The other workers, by the lines of a page that any of them may have filled with rubbish.

    Without a page (`place` is None) there are none.
    """

    def __init__(self, place: Optional[Place]) -> None:
        self._place = place
        self._passed: Marks = {}
        self._accepted = 0
        self._used = -1
        self._lines: List[int] = []
        self._next = 0

    def publish(self, *, accepting: bool, connections: int) -> None:
        """Write what this worker does and has."""
        if self._place is not None:
            words, _, own = self._place
            words[own + OPEN] = connections
            words[own + ACCEPTING] = accepting

    def count(self, connections: int, accepted: int) -> None:
        """Write how many connections there are now, `accepted` of which are new."""
        if self._place is not None:
            words, _, own = self._place
            words[own + OPEN] = connections
            if accepted:
                self._accepted = (self._accepted + accepted) & _WORD
                words[own + ACCEPTED] = self._accepted

    def look(self) -> Tally:
        """Look which siblings accept, and how many connections each has."""
        connections = workers = 0
        if self._place is not None:
            words = self._place.words
            for line in self._choose():
                if words[line + ACCEPTING] != 1:
                    continue
                if self._passed and self._passed.get(line) == words[line + ACCEPTED]:
                    continue
                connections += words[line + OPEN]
                workers += 1
        return workers, connections

    def share(self, tally: Tally, connections: int, waiting: int) -> int:
        """How many more this worker may have than its `connections`, if `waiting` are to be accepted; or less than 0.

        `tally` is to be older than what is known to wait: what has been accepted in between is missing then, and not
        there twice.
        """
        workers, others = tally
        if not workers:
            return waiting
        if self._used > _MOST_LOOKED_AT:
            waiting = -(-waiting * _MOST_LOOKED_AT // self._used)
        even = -(-(others + connections + waiting) // (workers + 1))
        return even + max(1, even // _OVER) - connections

    def marks(self) -> Marks:
        """What each that accepts has accepted so far."""
        if self._place is None:
            return {}
        words = self._place.words
        return {line: words[line + ACCEPTED] for line in self._choose() if words[line + ACCEPTING] == 1}

    def moved(self, marks: Marks) -> bool:
        """Whether one of them has accepted anything since."""
        if self._place is None:
            return False
        words = self._place.words
        return any(words[line + ACCEPTED] != mark for line, mark in marks.items())

    def pass_over(self, marks: Marks) -> None:
        """Wait no more for those that have accepted nothing since, until they do.

        They are stopped, or blocked in the app, or have ended and the master has not come to it.
        """
        if self._place is not None:
            words = self._place.words
            self._passed = {
                line: mark for line, mark in self._passed.items() if words[line + ACCEPTED] == mark
            }
            self._passed.update(
                (line, mark) for line, mark in marks.items() if words[line + ACCEPTED] == mark
            )

    def _choose(self) -> List[int]:
        """The lines to look at now: of all siblings, or of some where there are many."""
        assert self._place is not None
        words, most, own = self._place
        used = min(words[USED], most)
        if used != self._used:
            self._used = used
            self._lines = [line for line in range(WORDS, (used + 1) * WORDS, WORDS) if line != own]
        if used <= _MOST_LOOKED_AT:
            return self._lines
        first = self._next = (self._next + _MOST_LOOKED_AT) % len(self._lines)
        return (self._lines[first:] + self._lines[:first])[:_MOST_LOOKED_AT]
