"""The bounds of an examination, in time and in memory, which all of its steps look at."""

from __future__ import annotations

import mmap
import resource
import time
from typing import Callable, Optional


class Budget:
    """`seconds` of time and `size` bytes of memory, from now on.

    Memory is counted in page faults (getrusage(2)): a page that a look has made private, since it counts a reference
    there, costs as much as one that was allocated. `beat()` is called along the way, each quarter of a second at most.
    """

    def __init__(self, seconds: float, size: int, beat: Optional[Callable[[], object]] = None) -> None:
        self.begun = time.monotonic()
        self.seconds = seconds
        self.size = size
        self.why = ""
        """What was used up, as soon as a step had to end for it: "time" or "memory"."""
        self._faults = _faults()
        self._beat = beat
        self._beaten = self.begun

    def over(self, share: float = 1.0) -> bool:
        """Whether this share of it is used up."""
        now = time.monotonic()
        if self._beat is not None and now - self._beaten > 0.25:
            self._beaten = now
            self._beat()
        if now - self.begun > self.seconds * share:
            self.why = "time"
        elif self.used() > self.size * share:
            self.why = "memory"
        else:
            return False
        return True

    def used(self) -> int:
        """Bytes of memory, at most: other threads' count too."""
        return (_faults() - self._faults) * mmap.PAGESIZE

    def left(self) -> int:
        """Bytes of memory that may still be used."""
        return max(0, self.size - self.used())

    def usec(self) -> int:
        """Microseconds used so far."""
        return int((time.monotonic() - self.begun) * 1e6)


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
