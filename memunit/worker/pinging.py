"""WATCHDOG=1 from the loop: a worker that says so gets on (sd_watchdog_enabled(3))."""

from __future__ import annotations

import asyncio
import math
import time
from functools import partial
from typing import Callable, Optional

from memunit.worker.notify import Notify
from memunit.worker.serving import Threaded

# Seconds between two pings, from which on each falls on a whole second.
_ALIGNED = 2.0
_AGAIN = 0.02  # seconds until a ping for which there was no room in the master's queue is tried anew


def begin(notify: Notify, threaded: Optional[Threaded], look: Callable[[], None]) -> None:
    """Ping twice in the time that the master gives, if it gives one, for as long as the loop runs.

    `look()` is called before each ping. Where there are threads, they have to get on too.
    """
    notify.keep()
    if notify.watchdog is not None:
        if threaded is not None:
            # The first one arms the master's watchdog. The threads would send it a moment later, and a request that
            # takes the GIL for ever within that moment would never be found.
            notify.ping()
        _Pings(notify, threaded, look, notify.watchdog / 2).next()


def pause(interval: float, now: float) -> float:
    """Seconds from `now` (CLOCK_MONOTONIC) to the next ping, at most `interval`.

    On a whole second, by the clock that all workers share: the pings of many wake the master once, and not once each.
    """
    return interval if interval < _ALIGNED else math.floor(now + interval) - now


class _Pings:
    def __init__(
        self, notify: Notify, threaded: Optional[Threaded], look: Callable[[], None], interval: float
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._notify = notify
        self._threaded = threaded
        self._look = look
        self._interval = interval

    def next(self) -> None:
        """Ping, now and from now on."""
        self._look()
        say = partial(self._say, int(self._interval / _AGAIN))
        if self._threaded is None:
            say()
        else:
            self._threaded.ping(say)
        self._loop.call_later(pause(self._interval, time.monotonic()), self.next)

    def _say(self, tries: int) -> None:
        """Without waiting in the loop: in a queue that somebody floods there is room for moments only."""
        if not self._notify.ping() and tries > 1:
            self._loop.call_later(_AGAIN, self._say, tries - 1)
