"""The zygotes of a master: one for each revision of the configuration that is in use, replaced when it is lost."""

import math
import select
import time
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from memunit.master.spawn import Child, End, Launch
from memunit.master.zygote import Event, Forked, Refused, Warned, Zygote, ZygoteId

__all__ = ["Forked", "Lost", "Nursery", "Refused", "Started", "Warned", "ZygoteId"]

Name = TypeVar("Name", bound=Hashable)
# A zygote that has lived this long was no part of a row of failures, in seconds.
STABLE = 10.0


@dataclass(frozen=True, slots=True)
class Started:
    """A zygote was started; whoever reaps children has to know it by this name."""

    identity: ZygoteId
    child: Child


@dataclass(frozen=True, slots=True)
class Lost:
    """A zygote has ended without being told to, and no Refused says so.

    `retry` is in how many seconds it is replaced, None if it has been already.
    """

    pid: int
    how: str
    retry: float | None


@dataclass(slots=True)
class _Cradle(Generic[Name]):
    """The place of one revision's zygote."""

    launch: Launch
    zygote: Zygote[Name] | None = None
    number: int = 0
    born: float = -math.inf
    failures: int = 0
    retry_at: float = math.inf


class Nursery(Generic[Name]):
    """Hands requests for workers to the zygote of their revision, and starts it when there is none.

    What comes of it are the events: call `events` after each wait on the epoll, `ended` for each zygote that was
    reaped, and `renew` at the end of each pass.
    """

    def __init__(
        self,
        epoll: select.epoll,
        start: Callable[[Launch], Child],
        delay: Callable[[int], float],
        group: Callable[[ZygoteId], str] = lambda _: "",
    ) -> None:
        """`start` starts a process, `delay` gives the seconds to wait after so many losses in a row.

        `group` makes the group where a zygote belongs, for Launch.cgroup; it may raise OSError.
        """
        self._epoll = epoll
        self._group = group
        self._start = start
        self._delay = delay
        self._cradles: dict[int, _Cradle[Name]] = {}
        self._zygotes: dict[ZygoteId, Zygote[Name]] = {}
        self._pending: list[Event | Started | Lost] = []

    @property
    def due(self) -> float:
        """When `events` or `renew` has something to do of itself, in seconds of CLOCK_MONOTONIC."""
        if self._pending:
            return -math.inf
        times = [cradle.retry_at for cradle in self._cradles.values()]
        times += [zygote.kill_at for zygote in self._zygotes.values()]
        return min(times, default=math.inf)

    def request(self, revision: int, launch: Launch, name: Name, environment: Mapping[str, str]) -> None:
        """Ask for a worker; its Forked or Refused follows. `launch` would start one by exec."""
        cradle = self._cradles.setdefault(revision, _Cradle(launch))
        zygote = cradle.zygote
        if zygote is None or zygote.spent:
            try:
                zygote = self._begin(revision, cradle)
            except OSError as error:
                self._pending.append(Refused(name, f"fork: {error.strerror or error}"))
                return
        zygote.request(name, environment, launch.watchdog_usec, launch.cgroup)

    def signal(self, name: Name, signum: int) -> bool:
        """A signal for a worker that is still awaited; False if none of this name is."""
        for zygote in self._zygotes.values():
            refused = zygote.signal(name, signum)
            if refused is not None:
                self._pending += refused
                return True
        return False

    def events(self) -> list[Event | Started | Lost]:
        """What has come about since the last call."""
        for zygote in list(self._zygotes.values()):
            self._receive(zygote)
        events, self._pending = self._pending, []
        return events

    def renew(self) -> None:
        """Start each zygote whose predecessor was lost, and kill each that hangs, once its time has come."""
        now = time.monotonic()
        for zygote in self._zygotes.values():
            if now >= zygote.kill_at:
                zygote.overdue()
        for revision, cradle in self._cradles.items():
            if now >= cradle.retry_at:
                self._replace(revision, cradle, now)

    def ended(self, identity: ZygoteId, end: End, failure: OSError | None, *, starved: bool = False) -> Child:
        """This zygote has ended and was reaped; its `left` is to be ended with the last worker of its.

        `starved` if the OOM killer has come to it.
        """
        zygote = self._zygotes[identity]
        self._receive(zygote)
        zygote.starved = starved
        self._pending += zygote.ended(end, failure)
        self._forget(zygote)
        cradle = self._cradles.get(identity.revision)
        if cradle is not None:
            if cradle.zygote is zygote:
                cradle.zygote = None
            if zygote.ready or not zygote.asked:
                self._lost(cradle, zygote, end.pid, zygote.fate(end, failure))
        return zygote.child

    def keep(self, revisions: Collection[int]) -> None:
        """Drop the zygotes of every other revision. What they have forked already still comes."""
        for revision in [each for each in self._cradles if each not in revisions]:
            zygote = self._cradles.pop(revision).zygote
            if zygote is not None:
                zygote.drop()

    def close(self) -> None:
        """Let go of all zygotes; they end by that."""
        for zygote in list(self._zygotes.values()):
            self._forget(zygote)
        self._cradles.clear()

    def _begin(self, revision: int, cradle: _Cradle[Name]) -> Zygote[Name]:
        identity = ZygoteId(revision, cradle.number)
        own = replace(cradle.launch, cgroup=self._group(identity))
        zygote: Zygote[Name] = Zygote(identity, own, self._start)
        cradle.zygote, cradle.number = zygote, cradle.number + 1
        cradle.born, cradle.retry_at = time.monotonic(), math.inf
        self._zygotes[identity] = zygote
        self._epoll.register(zygote.fileno(), select.EPOLLIN)
        self._pending.append(Started(identity, zygote.child))
        return zygote

    def _replace(self, revision: int, cradle: _Cradle[Name], now: float) -> None:
        try:
            self._begin(revision, cradle)
        except OSError:
            cradle.failures += 1
            cradle.retry_at = now + max(self._delay(cradle.failures), 1.0)

    def _lost(self, cradle: _Cradle[Name], zygote: Zygote[Name], pid: int, how: str) -> None:
        now = time.monotonic()
        # An import that fails may take as long as it likes.
        stable = zygote.ready and now - cradle.born >= STABLE
        cradle.failures = 1 if stable else cradle.failures + 1
        wait = None
        if cradle.zygote is None:
            wait = self._delay(cradle.failures)
            cradle.retry_at = now + wait
        self._pending.append(Lost(pid, how, wait))

    def _receive(self, zygote: Zygote[Name]) -> None:
        was_over = zygote.over
        self._pending += zygote.receive()
        if zygote.over and not was_over:
            self._epoll.unregister(zygote.fileno())

    def _forget(self, zygote: Zygote[Name]) -> None:
        if not zygote.over:
            self._epoll.unregister(zygote.fileno())
        zygote.close()
        del self._zygotes[zygote.identity]
