"""The families of all commands' workers by name, from their start until nobody of them is left."""

import math
import select
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar, cast

from memunit.master.family import Family
from memunit.master.held import Child, End
from memunit.records import dataclass

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFamily:
    """A family whose first process has ended, as it outlives an execve(2) of the master.

    `name` is of a worker that has not ended; one that has, and left others, has None and the time when they are killed.
    """

    name: tuple[int, int] | None
    pid: int
    code: str
    status: int
    group: str
    stop_signal: int
    grace: float
    kill_at: float


class Families(Generic[Name]):
    """Workers that are told to stop in all of their processes, and those of them whose first process has ended."""

    def __init__(self, epoll: select.epoll) -> None:
        """`epoll` is told of the ends of those that have outlived a first process."""
        self._epoll = epoll
        self._families: dict[Name, Family] = {}
        self._orphaned: dict[Name, End] = {}
        self._abandoned: list[Family] = []

    @property
    def due(self) -> float:
        """When `sweep` has something to do of itself, in seconds of CLOCK_MONOTONIC."""
        return min((family.kill_at for family in self._abandoned), default=math.inf)

    @property
    def lingering(self) -> bool:
        """Whether what ended workers have left is still given its time."""
        return bool(self._abandoned)

    def add(
        self, name: Name, child: Child, group: str, stop_signal: int, grace: float, *, told: bool = False
    ) -> None:
        """A worker was started; see Family. `told` says that it was told to stop, by a predecessor."""
        family = self._families[name] = Family(child, group, stop_signal, grace)
        family.told = told

    def kept(self) -> tuple[KeptFamily, ...]:
        """Those whose first process has ended."""
        waiting = [
            _kept(self._families[name], cast("tuple[int, int]", name), end)
            for name, end in self._orphaned.items()
        ]
        return (*waiting, *(_kept(family, None, End(0, "unknown", 0)) for family in self._abandoned))

    def resume(self, kept: Iterable[KeptFamily], naming: Callable[[tuple[int, int]], Name]) -> None:
        """Go on with those of a predecessor in this process."""
        for each in kept:
            ended = Child(pid=each.pid, pidfd=-1, exec_fd=-1, ended=True)
            family = Family(ended, each.group, each.stop_signal, each.grace)
            family.told = family.shared = True
            family.kill_at = each.kill_at
            family.left(self._epoll)
            if each.name is None:
                self._abandoned.append(family)
            else:
                name = naming(each.name)
                self._families[name] = family
                self._orphaned[name] = End(each.pid, each.code, each.status)

    def get(self, name: Name) -> Family | None:
        """The family of a worker that is not gone, if it has one."""
        return self._families.get(name)

    def speaker(self, pid: int) -> Name | None:
        """The worker that a process speaks for, among those whose first process has ended."""
        return next((name for name in self._orphaned if self._families[name].has(pid)), None)

    def waits_for(self, name: Name) -> bool:
        """Whether the first process of this worker has ended, and others of it have not."""
        return name in self._orphaned

    def goes_on(self, name: Name, end: End, *, stopping: bool) -> bool:
        """Whether a worker goes on after the end of its first process, because others were told to stop with that.

        With `stopping`, systemd may have told them. Their end is heard from `gone`.
        """
        family = self._families.get(name)
        if family is None or not (family.told or stopping) or not family.left(self._epoll):
            return False
        self._orphaned[name] = end
        return True

    def shared(self, name: Name) -> bool:
        """Whether its first process was not the only one that was told to stop."""
        family = self._families.get(name)
        return family is not None and family.shared

    def gone(self) -> list[tuple[Name, End]]:
        """Those of which nobody is left any more, with the end of the first process."""
        names = [name for name in self._orphaned if not self._families[name].left(self._epoll)]
        return [(name, self._orphaned.pop(name)) for name in names]

    def leaves(self, name: Name) -> list[int]:
        """The pids of the others that a worker which was not told to stop has left when its first process ended."""
        family = self._families.get(name)
        return family.pids if family is not None and family.left(self._epoll) else []

    def part(self, name: Name, *, abandon: bool) -> None:
        """The worker is gone. With `abandon`, what it has left is told to stop now, and has its grace for it."""
        family = self._families.pop(name, None)
        if family is not None and abandon:
            family.abandon()
            self._abandoned.append(family)
        elif family is not None:
            family.close()

    def sweep(self) -> None:
        """Kill what had time to end and has not, and forget what has ended."""
        for family in self._abandoned:
            family.expire()
        self._abandoned = [family for family in self._abandoned if family.left(self._epoll)]

    def close(self) -> None:
        """Kill what is left."""
        for family in (*self._families.values(), *self._abandoned):
            family.kill()
            family.close()


def _kept(family: Family, name: tuple[int, int] | None, end: End) -> KeptFamily:
    return KeptFamily(
        name=name,
        pid=family.leader,
        code=end.code,
        status=end.status,
        group=family.group,
        stop_signal=family.stop_signal,
        grace=family.grace,
        kill_at=family.kill_at,
    )
