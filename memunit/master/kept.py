"""What outlives an execve(2) of the master besides its workers: descriptors, and how far each thing has come."""

from collections.abc import Iterator, Mapping
from functools import cache

from memunit.core.actions import Action
from memunit.core.codec import Codec
from memunit.core.facts import Fact
from memunit.core.state import State
from memunit.master.doors import KeptDoors
from memunit.master.families import KeptFamily
from memunit.master.nursery import KeptNursery
from memunit.master.setting import Configuration
from memunit.records import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptZygoteEnd:
    """A zygote that has ended while workers of its serve, and who is left of its process group."""

    revision: int
    number: int
    left: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptProcesses:
    """All about processes that the Handover does not tell."""

    nursery: KeptNursery = field(default_factory=KeptNursery)
    # {pid: descriptor} of those whose execve(2) was not heard of yet, and of them those that wait for it.
    executing: Mapping[int, int] = field(default_factory=dict)
    awaited: tuple[int, ...] = ()
    # Slot, generation, and how long each that a zygote was asked for may take.
    asked: tuple[tuple[int, int, float], ...] = ()
    gone: tuple[KeptZygoteEnd, ...] = ()
    families: tuple[KeptFamily, ...] = ()
    scoreboard: int = -1
    scoreboard_used: int = 0
    # The ends of what workers watch, by label.
    watches: Mapping[str, int] = field(default_factory=dict)
    # Slot, generation and descriptor of each worker's page.
    boards: tuple[tuple[int, int, int], ...] = ()

    def descriptors(self) -> Iterator[int]:
        """Those that have to stay open."""
        yield from self.executing.values()
        yield from self.watches.values()
        if self.scoreboard >= 0:
            yield self.scoreboard
        for _, _, board in self.boards:
            yield board
        for zygote in self.nursery.zygotes:
            if not zygote.course.over:
                yield zygote.control


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """What a master passes on to itself. Seconds of CLOCK_MONOTONIC."""

    configurations: Mapping[int, Configuration]
    doors: KeptDoors
    processes: KeptProcesses
    # When it has failed in the last minute.
    failures: tuple[float, ...] = ()
    unsent: tuple[str, ...] = ()
    signals: tuple[int, ...] = ()
    # The level of io.systemd.service.SetLogLevel.
    level: int = 7
    # The clients of the control socket that have asked the master to execute itself anew.
    askers: tuple[int, ...] = ()
    # Setting.place of the one before.
    place: Mapping[str, str] = field(default_factory=dict)
    # Slot and generation of each worker whose examination a client of the control socket waits for, and that client.
    examined_for: tuple[tuple[int, int, int], ...] = ()
    # The slots whose next worker is to be a witness.
    witnesses: tuple[int, ...] = ()

    def asking(self) -> list[int]:
        """The connections of the askers."""
        clients = () if self.doors.control is None else self.doors.control.clients
        return [client.descriptor for client in clients if client.token in self.askers]

    @property
    def newest(self) -> Configuration:
        """The configuration of the newest revision."""
        return self.configurations[max(self.configurations)]

    def descriptors(self) -> Iterator[int]:
        """Those that have to stay open."""
        yield from self.processes.descriptors()
        yield from self.doors.notify
        if self.doors.control is not None:
            yield self.doors.control.listener
            yield from (client.descriptor for client in self.doors.control.clients)
        if self.doors.interface is not None:
            yield self.doors.interface


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Where policy was: its state, the facts that it has not heard, and the actions that are not done."""

    state: State
    facts: tuple[Fact, ...] = ()
    actions: tuple[Action, ...] = ()


@cache
def passed_codec() -> Codec[Passed]:
    """That of what is passed on. To make it takes milliseconds that a start does not have."""
    return Codec(Passed)


@cache
def course_codec() -> Codec[Course]:
    """That of policy's own."""
    return Codec(Course)
