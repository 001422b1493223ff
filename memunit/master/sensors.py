"""Who holds how much memory, and when that is looked at: the kernel's trip-wire, or a look at every interval.

Both give the same samples. Where there is a group, the kernel says that a worker has come to its limit, and it is
measured then and while it is over. Otherwise it is measured only now and then, to find what raises no event: a leak
that is swapped out.
"""

import math
import time
from collections.abc import Collection, Hashable, Iterable
from typing import Generic, TypeVar

from memunit.master.group import Group
from memunit.master.groups import Groups
from memunit.master.sampling import Sample, Sampler
from memunit.records import dataclass

Name = TypeVar("Name", bound=Hashable)

CGROUP = "cgroup"
# Seconds between two looks at a worker whose trip-wire is armed, at most, and a second less at least.
UNHURRIED = 10.0
# An app that trips the wire by page cache again and again costs us one look in this many seconds. One whose page cache
# is at the ceiling as well: memory.events tells of each reclaim there (`max`), hundreds in a second.
REST = 1.0
# But the first trips in a row cost it less: the wire is armed where the limit will be passed, and kernel memory in
# between makes that a guess. Seconds, doubled each time, until the wire was quiet for as long as UNHURRIED.
FIRST_REST = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched(Generic[Name]):
    """A worker as policy knows it. Bytes and seconds; `over` says that it counts as over its limit."""

    name: Name
    pid: int
    limit: int | None
    ceiling: int | None
    metric: str
    interval: float
    over: bool
    draining: bool


@dataclass(slots=True)
class _Wire:
    look_at: float = -math.inf
    rest_until: float = -math.inf
    rest: float = FIRST_REST
    muted_until: float = math.inf
    muted_at: float = -math.inf
    silence: float = FIRST_REST

    def mute(self, now: float) -> None:
        """Hear nothing of the group for a while: what it told was not of the wire.

        The kernel tells of one file at most each 10 ms, and of what came in between at the end of these
        (CGROUP_FILE_NOTIFY_MIN_INTV in kernel/cgroup/cgroup.c). So an event that follows a trip is the rule, and the
        wire may be armed again by then: a crossing would be known up to a whole second of silence later.
        """
        self.silence = _longer(self.silence, now - self.muted_at)
        self.muted_at, self.muted_until = now, now + self.silence


class Sensors(Generic[Name]):
    """Samples of all workers, each by the metric that its configuration asks for."""

    def __init__(self, groups: Groups[Name]) -> None:
        self._groups = groups
        self._samplers: dict[str, Sampler] = {}
        self._wires: dict[Name, _Wire] = {}
        self._next_round = -math.inf
        self._bound_at = -math.inf
        self._due = -math.inf
        self.changed = True
        """Whether there may be others to look at than at the last look, or a limit that has moved."""
        self.pressed = False
        """Whether workers have had to wait for memory, by the last look."""
        self.bound: int | None = None
        """Bytes that the unit leaves to all workers, if that has become less than they hold, by the last look."""

    @property
    def due(self) -> float:
        """When the next look is due of itself, in seconds of CLOCK_MONOTONIC."""
        return min(self._due, self._groups.imports_at)

    def wanted(self, ready: Collection[int]) -> bool:
        """Whether `look` has anything to do: most passes are for a ping, and those are not to cost a look at all."""
        return self.changed or time.monotonic() >= self.due or not self._groups.told.isdisjoint(ready)

    def look(
        self, watched: Iterable[Watched[Name]], ready: Collection[int], interval: float
    ) -> list[tuple[Name, Sample]]:
        """The samples that are due now; `ready` are the descriptors of which epoll has told.

        `interval` seconds after this round comes the next, of those without a trip-wire.
        """
        now = time.monotonic()
        self.changed = False
        self._groups.follow_imports()
        self.pressed = self._groups.pressed(ready, now)
        self.bound = None
        if now >= self._bound_at or self.pressed:
            self._bound_at = now + UNHURRIED
            self.bound = self._groups.bound()
        tripped = self._tripped(ready, now)
        if now >= self._next_round:
            self._next_round, due = now + interval, True
        else:
            # Who is the biggest is to be known as it is now: the last look was up to UNHURRIED ago.
            due = self.pressed
        self._due = self._groups.listen_at
        found = []
        for each in watched:
            group = self._groups.get(each.name)
            if each.metric != CGROUP or group is None:
                found += self._sample(each) if due else []
                self._due = min(self._due, self._next_round)
                continue
            if each.name in tripped or self.pressed or now >= self._wire(each.name).look_at:
                found += self._look(each, group, now)
            wire = self._wire(each.name)
            self._due = min(self._due, wire.look_at, wire.muted_until)
        return found

    def measure(self, each: Watched[Name]) -> list[tuple[Name, Sample]]:
        """A sample of this one, now."""
        group = self._groups.get(each.name)
        if each.metric == CGROUP and group is not None:
            return self._look(each, group, time.monotonic())
        return self._sample(each)

    def draining(self, name: Name) -> None:
        """It was told to stop: nothing may slow it down now."""
        group = self._groups.get(name)
        if group is not None:
            group.disarm()

    def forget(self, name: Name, pid: int) -> None:
        """It has ended."""
        self._wires.pop(name, None)
        for sampler in self._samplers.values():
            sampler.forget(pid)

    def _tripped(self, ready: Collection[int], now: float) -> set[Name]:
        """The workers whose trip-wire it was. All groups are read: an unread descriptor would keep the loop awake."""
        tripped = set()
        for name, group in self._groups.items():
            if group.events in ready:
                if _has_tripped(group):
                    tripped.add(name)
                else:
                    self._wire(name).mute(now)
                    self._groups.mute(name)
            elif name in self._wires and now >= self._wires[name].muted_until:
                self._wires[name].muted_until = math.inf
                self._groups.listen(name)
        return tripped

    def _wire(self, name: Name) -> _Wire:
        return self._wires.setdefault(name, _Wire())

    def _look(self, each: Watched[Name], group: Group, now: float) -> list[tuple[Name, Sample]]:
        wire = self._wire(each.name)
        # Before the look: one that fails, for want of descriptors as a rule, has a next time as well.
        wire.look_at = now + min(max(each.interval, REST), UNHURRIED)
        own = group.own()
        if own is None:
            return []
        # On the whole second: many workers are one pass of the loop, and not one each.
        wire.look_at = math.floor(now + UNHURRIED)
        if each.limit is None:
            group.disarm()
        if each.limit is not None and not each.draining:
            if own >= each.limit or each.over:
                group.disarm()
                wire.look_at = now + min(each.interval, UNHURRIED)
            elif group.armed_at is None and now < wire.rest_until:
                wire.look_at = wire.rest_until
            elif group.armed_at != each.limit:
                if group.armed_at is None:
                    wire.rest = _longer(wire.rest, now - wire.rest_until)
                    wire.rest_until = now + wire.rest
                group.arm(each.limit, own)
                # Above the limit, for page cache: that may go again, and a leak take its place.
                if group.armed_at != each.limit:
                    wire.look_at = now + min(max(each.interval, REST), UNHURRIED)
        return [(each.name, Sample(own, CGROUP, True))]

    def _sample(self, each: Watched[Name]) -> list[tuple[Name, Sample]]:
        metric = "uss" if each.metric == CGROUP else each.metric
        if metric not in self._samplers:
            self._samplers[metric] = Sampler(metric)
        bounds = [bound for bound in (each.limit, each.ceiling) if bound is not None]
        sample = self._samplers[metric].sample(each.pid, min(bounds, default=None))
        return [] if sample is None else [(each.name, sample)]


def _longer(rest: float, quiet: float) -> float:
    """The rest after one of `rest` seconds, when nothing was to be borne for `quiet` seconds."""
    return FIRST_REST if quiet > UNHURRIED else min(REST, 2 * rest)


def _has_tripped(group: Group) -> bool:
    counts = group.count()
    tripped = group.armed_at is not None and counts.high > group.counts.high
    group.counts = counts
    if tripped:
        # At once: the kernel throttles what goes past it.
        group.disarm()
    return tripped
