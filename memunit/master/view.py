"""What the interface shows of the instance and its workers: the state of policy, what pages say, and the last ends."""

import os
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from memunit import __version__
from memunit.core import shown
from memunit.core.actions import Journal
from memunit.core.board import Glance
from memunit.core.model import UNCOUNTED, WorkerId
from memunit.core.state import State

_MOST_ENDS = 16
_MOST_COUNTED = 4096
_HOUR = 3600.0


class View:
    """Of one instance; it remembers the last ends, and counts those of the last hour."""

    def __init__(self, instance: str, look: Callable[[WorkerId], Glance | None]) -> None:
        """`look` gives what a worker has in work."""
        self._instance, self._look = instance, look
        self._ends: deque[tuple[int, dict[str, Any]]] = deque(maxlen=_MOST_ENDS)
        self.ended = 0
        """How many have ended, and so the number of the last end."""
        self._hour: deque[tuple[float, str]] = deque(maxlen=_MOST_COUNTED)

    def add_end(self, entry: Journal, now: float) -> None:
        """A worker has ended: this is the entry."""
        self.ended += 1
        end = {
            "slot": entry.fields.get("MEMUNIT_SLOT", 0),
            "generation": entry.fields.get("MEMUNIT_GENERATION", 0),
            "cause": entry.fields.get("MEMUNIT_CAUSE", ""),
            "text": entry.message[:400],
            "atMonotonicUSec": shown.usec(now),
        }
        self._ends.append((self.ended, end))
        if end["cause"] not in UNCOUNTED:
            self._hour.append((now, str(end["cause"])))

    def ends(self, after: int = 0) -> list[dict[str, Any]]:
        """The last ends, those only that came after the one of this number."""
        return [end for number, end in self._ends if number > after]

    def same(self, state: State) -> dict[str, Any]:
        """The instance without the time: two of these are the same if nothing has changed."""
        now = time.monotonic()
        while self._hour and self._hour[0][0] < now - _HOUR:
            self._hour.popleft()
        told = shown.instance(state, now, name=self._instance, version=__version__, pid=os.getpid())
        return {**told, "endedLastHour": shown.counts(Counter(cause for _, cause in self._hour))}

    def instance(self, state: State) -> dict[str, Any]:
        """The instance now."""
        return timed(self.same(state), time.monotonic())

    def at_work(self, told: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """These workers, each with its requests in work now."""
        return shown.with_requests(told, self._look, time.monotonic())


def timed(told: dict[str, Any], now: float) -> dict[str, Any]:
    """An instance with the time at which it was so."""
    return {**told, "nowMonotonicUSec": shown.usec(now)}
