"""The zygotes of a master: one for each revision of the configuration that is in use, replaced when it is lost."""

import math
import select
import time
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from typing import Generic, TypeVar

from memunit.master.child import Launch
from memunit.master.cradle import Cradle, KeptCradle
from memunit.master.held import Child, End
from memunit.master.spawn import fork_failure
from memunit.master.zygote import KeptZygote, Zygote
from memunit.master.zygote_events import Apart, Declined, Event, Forked, Imported, Refused, Warned, ZygoteId
from memunit.records import dataclass, replace

__all__ = [
    "Apart",
    "Declined",
    "Forked",
    "Imported",
    "Lost",
    "Nursery",
    "Refused",
    "Started",
    "Warned",
    "ZygoteId",
]

Name = TypeVar("Name", bound=Hashable)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptNursery:
    """All zygotes and their places likewise."""

    zygotes: tuple[KeptZygote, ...] = ()
    cradles: tuple[KeptCradle, ...] = ()


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
        known: Callable[[int], bool] = lambda _: False,
    ) -> None:
        """`start` starts a process, `delay` gives the seconds to wait after so many losses in a row.

        `known` tells whether a pid is that of a child which somebody reaps already. `group` makes the group where a
        zygote belongs, for Launch.cgroup; it may raise OSError.
        """
        self._epoll = epoll
        self._group = group
        self._start = start
        self._known = known
        self._delay = delay
        self._cradles: dict[int, Cradle[Name]] = {}
        self._zygotes: dict[ZygoteId, Zygote[Name]] = {}
        self._pending: list[Event | Started | Lost] = []

    def kept(self) -> KeptNursery:
        """What a master in the same process has to know."""
        cradles = [cradle.kept(revision) for revision, cradle in self._cradles.items()]
        zygotes = tuple(zygote.kept() for zygote in self._zygotes.values())
        return KeptNursery(zygotes=zygotes, cradles=tuple(cradles))

    def resume(
        self,
        kept: KeptNursery,
        children: Mapping[int, Child],
        naming: Callable[[tuple[int, int]], Name],
    ) -> None:
        """Go on with what another master in this process has begun; one whose pid is not in `children` has ended."""
        for each in kept.zygotes:
            if each.pid in children:
                went_on = Zygote.resumed(each, children[each.pid], naming, self._known)
                self._zygotes[went_on.identity] = went_on
                if not went_on.course.over:
                    self._epoll.register(went_on.fileno(), select.EPOLLIN)
        for place in kept.cradles:
            here = None if place.zygote is None else ZygoteId(place.revision, place.zygote)
            zygote = None if here is None else self._zygotes.get(here)
            self._cradles[place.revision] = Cradle.resumed(place, zygote)

    def has(self, identity: ZygoteId) -> bool:
        """Whether this is a zygote that was started here, and whose end was not told."""
        return identity in self._zygotes

    def awaits(self, name: Name) -> bool:
        """Whether a worker of this name was asked for, and is still to come."""
        return any(zygote.awaits(name) for zygote in self._zygotes.values()) or any(
            isinstance(event, Forked | Refused | Apart) and event.name == name for event in self._pending
        )

    def may_have_forked(self, pid: int) -> bool:
        """Whether one of the zygotes may have forked it: see Zygote."""
        return any(zygote.may_have_forked(pid) for zygote in self._zygotes.values())

    @property
    def due(self) -> float:
        """When `events` or `renew` has something to do of itself, in seconds of CLOCK_MONOTONIC."""
        if self._pending:
            return -math.inf
        times = [cradle.retry_at for cradle in self._cradles.values()]
        times += [zygote.course.kill_at for zygote in self._zygotes.values()]
        return min(times, default=math.inf)

    def request(
        self,
        revision: int,
        launch: Launch,
        name: Name,
        environment: Mapping[str, str],
        *,
        careful: bool = False,
    ) -> None:
        """Ask for a worker; its Forked or Refused follows. `launch` would start one by exec.

        If it is `careful`, an import that a fork would break is not forked: then Apart follows, of the first worker
        once the zygote has ended, and of each later one of the revision at once.
        """
        cradle = self._cradles.setdefault(revision, Cradle(launch, careful))
        zygote = cradle.zygote
        if cradle.declined and zygote is None:
            self._pending.append(
                Apart(name, replace(launch, environment={**launch.environment, **environment}))
            )
            return
        if zygote is not None and zygote.course.declined:
            zygote.request(name, environment, launch)
            return
        if zygote is None or zygote.course.spent:
            try:
                zygote = self._begin(revision, cradle)
            except OSError as error:
                self._pending.append(Refused(name, fork_failure(error.errno or 0)))
                return
        zygote.request(name, environment, launch)

    def signal(self, name: Name, signum: int) -> bool:
        """A signal for a worker that is still awaited; False if none of this name is."""
        for zygote in self._zygotes.values():
            refused = zygote.signal(name, signum)
            if refused is not None:
                self._pending += refused
                return True
        return False

    def events(self) -> Iterator[Event | Started | Lost]:
        """What has come about since the last call. What is not asked for any more stays for the next call."""
        for zygote in list(self._zygotes.values()):
            self._receive(zygote)
        while self._pending:
            yield self._pending.pop(0)

    def renew(self) -> None:
        """Start each zygote whose predecessor was lost, and kill each that hangs, once its time has come."""
        now = time.monotonic()
        for zygote in self._zygotes.values():
            if now >= zygote.course.kill_at:
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
            if zygote.course.declined:
                cradle.declined = True
            elif zygote.course.ready or not zygote.course.asked:
                self._lost(cradle, zygote, end.pid, zygote.fate(end, failure))
        return zygote.child

    def keep(self, revisions: Collection[int]) -> None:
        """Drop the zygotes of every other revision. What they have forked already still comes."""
        for revision in [each for each in self._cradles if each not in revisions]:
            zygote = self._cradles.pop(revision).zygote
            if zygote is not None:
                zygote.drop()

    def overheard(self, identity: ZygoteId, status: str) -> None:
        """What this zygote has given as its status, as workers do."""
        if identity in self._zygotes:
            self._zygotes[identity].course.status = status

    def bereaved(self, identity: ZygoteId) -> None:
        """The last worker of this zygote has ended."""
        if identity in self._zygotes:
            self._zygotes[identity].bereaved()

    @property
    def aborted(self) -> list[ZygoteId]:
        """Those that write their stacks, and end."""
        return [identity for identity, zygote in self._zygotes.items() if zygote.course.aborted]

    @property
    def lingering(self) -> list[ZygoteId]:
        """Those that end by themselves, with what is to be done once all of their workers have gone."""
        return [
            identity
            for identity, zygote in self._zygotes.items()
            if zygote.course.lingers and not zygote.course.over
        ]

    def close(self) -> None:
        """Let go of all zygotes; they end by that."""
        for zygote in list(self._zygotes.values()):
            self._forget(zygote)
        self._cradles.clear()

    def _begin(self, revision: int, cradle: Cradle[Name]) -> Zygote[Name]:
        identity = ZygoteId(revision, cradle.number)
        own = replace(cradle.launch, cgroup=self._group(identity))
        zygote: Zygote[Name] = Zygote.begin(
            identity, own, self._start, careful=cradle.careful, known=self._known
        )
        cradle.begun(zygote, time.monotonic())
        self._zygotes[identity] = zygote
        self._epoll.register(zygote.fileno(), select.EPOLLIN)
        self._pending.append(Started(identity, zygote.child))
        return zygote

    def _replace(self, revision: int, cradle: Cradle[Name], now: float) -> None:
        try:
            self._begin(revision, cradle)
        except OSError:
            cradle.not_begun(now, self._delay)

    def _lost(self, cradle: Cradle[Name], zygote: Zygote[Name], pid: int, how: str) -> None:
        wait = cradle.lost(time.monotonic(), self._delay, ready=zygote.course.ready)
        self._pending.append(Lost(pid, how, wait))

    def _receive(self, zygote: Zygote[Name]) -> None:
        was_over = zygote.course.over
        self._pending += zygote.receive()
        if zygote.course.over and not was_over:
            self._epoll.unregister(zygote.fileno())

    def _forget(self, zygote: Zygote[Name]) -> None:
        if not zygote.course.over:
            self._epoll.unregister(zygote.fileno())
        zygote.close()
        del self._zygotes[zygote.identity]
