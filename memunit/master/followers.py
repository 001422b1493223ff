"""The clients that follow the instance: each is told when something has changed, as fast as it reads and no faster."""

import math
import time
from typing import Any

from memunit.core import shown, varlink
from memunit.core.state import State
from memunit.master.clients import Clients
from memunit.master.view import View, timed
from memunit.records import dataclass

# Seconds from one reply to who follows to the next.
REST = 1.0


@dataclass(slots=True)
class _Follower:
    """Which ends it was told of, by number, and how many replies it has not read in time."""

    ends: int
    missed: int = 0


class Followers:
    """By the tokens of their connections."""

    def __init__(self, clients: Clients, view: View) -> None:
        self._clients, self._view = clients, view
        self._followers: dict[int, _Follower] = {}
        self._told: tuple[Any, Any, int] | None = None
        self._told_at = -math.inf
        self._news = False

    @property
    def due(self) -> float:
        """When there is something to tell, in seconds of CLOCK_MONOTONIC."""
        return self._told_at + REST if self._news and self._followers else math.inf

    def add(self, token: int) -> None:
        """One that is told all that there is now, and follows from here."""
        self._followers[token] = _Follower(self._view.ended)

    def finished_pass(self, state: State, *, news: bool) -> None:
        """At the end of a pass, with `news` in it or not."""
        if not self._followers:
            return
        self._news = self._news or news
        now = time.monotonic()
        if self._news and now >= self._told_at + REST:
            self._news = False
            self._tell(state, now)

    def _tell(self, state: State, now: float) -> None:
        clients, view = self._clients, self._view
        for token in [each for each in self._followers if clients.peer(each) is None]:
            del self._followers[token]
        known = (view.same(state), shown.workers(state), view.ended)
        self._told_at = now
        if not self._followers or known == self._told:
            return
        self._told = known
        at_work = view.at_work(known[1])
        same: dict[tuple[int, int], bytes] = {}
        for token, follower in self._followers.items():
            if clients.backlog(token):
                # It has not read the one before yet.
                follower.missed += 1
                continue
            key = (follower.ends, follower.missed)
            if key not in same:
                told = {
                    "instance": timed(known[0], now),
                    "workers": at_work,
                    "ends": view.ends(follower.ends),
                    "missed": follower.missed,
                }
                same[key] = varlink.reply(told, continues=True)
            clients.send(token, same[key])
            follower.ends, follower.missed = view.ended, 0
