"""An orderly end for what does not end by itself: streams without an end, long polls, idle connections kept for long.

Shortly before the master ends the worker by SIGKILL, which runs no `finally`, what still runs is told in three steps
(grace.py says when). First the app hears http.disconnect and send() raises an OSError, as if its client had gone; it
may still complete its answer. Then its tasks are cancelled, and idle connections closed. Then nothing is waited for
any more, so that lifespan.shutdown has its turn.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Iterable, List, Optional

from memunit.worker.grace import Grace
from memunit.worker.problem import say

_MOST = 5


class Orderly:
    """Made at SIGTERM, inside the loop; `stopped_at` (time.monotonic()) is when it came.

    `server` is the HttpServer, `websockets()` the tasks of WebSockets. `last_call()` is called before the first step,
    in case that the worker still accepts; `changed()` when `over` has become true.
    """

    def __init__(
        self,
        loop: Any,
        server: Any,
        grace: Grace,
        stopped_at: Optional[float],
        *,
        websockets: Callable[[], Iterable[Any]],
        last_call: Callable[[], None],
        changed: Callable[[], None],
        status: Callable[[str], Any],
    ) -> None:
        self.over = False
        """Whether to wait for nothing any more."""
        self._loop = loop
        self._server = server
        self._grace = grace
        self._begun = time.monotonic() if stopped_at is None else stopped_at
        self._websockets = websockets
        self._last_call = last_call
        self._changed = changed
        self._status = status
        for moment, step in (
            (grace.disconnect, self._disconnect),
            (grace.cancel, self._cancel),
            (grace.give_up, self._give_up),
        ):
            left = self.left(moment)
            if left is not None:
                loop.call_later(left, step)

    def left(self, moment: float) -> Optional[float]:
        """Seconds until `moment` of the grace; None for ever."""
        if moment == float("inf"):
            return None
        return max(0.0, self._begun + moment - time.monotonic())

    def _disconnect(self) -> None:
        self._last_call()
        cycles = [cycle for cycle in self._server.cycles if not cycle.complete and not cycle.gone]
        if not cycles:
            return
        told = [_named(cycle, self._loop.time()) for cycle in cycles]
        what = f"ending what does not end by itself: {_listed(told)}"
        self._status(what)
        say(f"memunit worker: grace is nearly over: {what}")
        for cycle in cycles:
            cycle.leave_off()

    def _cancel(self) -> None:
        for cycle in list(self._server.cycles):
            cycle.cancel()
        for task in set(self._websockets()):
            task.cancel()
        for connection in list(self._server.connections):
            end = getattr(connection, "close_unless_at_work", None)  # a WebSocket's has none
            if end is None:
                connection.transport.close()
            else:
                end()

    def _give_up(self) -> None:
        self.over = True
        self._changed()


def _named(cycle: Any, now: float) -> str:
    return f"{cycle.scope['method']} {cycle.scope['path']} (for {max(0.0, now - cycle.started):.0f} s)"


def _listed(told: List[str]) -> str:
    more = f" and {len(told) - _MOST} more" if len(told) > _MOST else ""
    return ", ".join(told[:_MOST]) + more
