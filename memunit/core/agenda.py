"""When each worker falls due: a heap, so that neither a change nor a look costs more with more workers."""

import heapq
import math

from memunit.core.model import WorkerId


class Agenda:
    """One time a worker, in seconds of CLOCK_MONOTONIC; infinite for none."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, WorkerId]] = []
        self._due: dict[WorkerId, float] = {}
        # The earliest entry of each in the heap. A time that moves away leaves it there, to be looked at again then: a
        # worker that pings moves its own with each ping, and few of these entries ever reach the top.
        self._queued: dict[WorkerId, float] = {}

    def put(self, who: WorkerId, at: float) -> None:
        """It falls due at `at`, and no more when it did before."""
        self._due[who] = at
        if at < self._queued.get(who, math.inf):
            self._queued[who] = at
            heapq.heappush(self._heap, (at, who))

    def drop(self, who: WorkerId) -> None:
        """It is gone; a name never comes again."""
        self._due.pop(who, None)
        self._queued.pop(who, None)

    def next(self) -> float:
        """The earliest time of all."""
        while self._heap:
            at, who = self._heap[0]
            due = self._due.get(who, math.inf)
            if due == at:
                return at
            heapq.heappop(self._heap)
            if self._queued.get(who) == at:
                del self._queued[who]
                if due < math.inf:
                    self.put(who, due)
        return math.inf

    def due(self, now: float) -> list[WorkerId]:
        """Who is due by now, by name; each has to be put again."""
        found = []
        while self.next() <= now:
            _, who = heapq.heappop(self._heap)
            self.drop(who)
            found.append(who)
        # Not by time: in a state that was read back, all are due at once.
        return sorted(found)
