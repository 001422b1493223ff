"""The workers that one zygote is asked for, in order, until each has its answer."""

import json
import os
import socket
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar, cast

from memunit.master.child import Launch
from memunit.records import dataclass, replace

Name = TypeVar("Name", bound=Hashable)


@dataclass(slots=True, kw_only=True)
class Request(Generic[Name]):
    """A worker that was asked for. `number` is never used twice, and `asked_at` in seconds of CLOCK_BOOTTIME."""

    name: Name
    environment: Mapping[str, str]
    launch: Launch
    number: int
    asked_at: float = 0.0
    signum: int = 0

    def whole(self) -> Launch:
        """How it is started by exec."""
        return replace(self.launch, environment={**self.launch.environment, **self.environment})

    def send(self, control: socket.socket, death_signal: int) -> None:
        """Ask the zygote at the other end for it, as memunit/worker/zygote.py describes. Raises OSError."""
        self.asked_at = time.clock_gettime(time.CLOCK_BOOTTIME)
        message = {
            "id": self.number,
            "environment": dict(self.environment),
            "watchdog_usec": self.launch.watchdog_usec,
            "cgroup": self.launch.cgroup,
            "parent": os.getpid(),
            "parent_death_signal": int(death_signal),
        }
        page = self.launch.board
        socket.send_fds(
            control,
            [json.dumps(message).encode()],
            [page] if page >= 0 else [],
            socket.MSG_NOSIGNAL,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRequest:
    """A request, as it outlives an execve(2) of the master."""

    name: tuple[int, int]
    environment: Mapping[str, str]
    launch: Launch
    number: int
    asked_at: float
    signum: int


class Requests(Generic[Name]):
    """Those that have no answer yet. One is on its way at a time, so no send blocks."""

    def __init__(self) -> None:
        self.begun: Request[Name] | None = None
        """The one that is on its way."""
        self._waiting: list[Request[Name]] = []

    def __iter__(self) -> Iterator[Request[Name]]:
        return iter([*([] if self.begun is None else [self.begun]), *self._waiting])

    def add(self, name: Name, environment: Mapping[str, str], launch: Launch) -> None:
        """One more, the last."""
        self._waiting.append(
            Request(name=name, environment=environment, launch=launch, number=time.monotonic_ns())
        )

    def begin(self) -> Request[Name] | None:
        """The next one, which is on its way from now on; None if one is already, or none is left."""
        if self.begun is not None or not self._waiting:
            return None
        self.begun = self._waiting.pop(0)
        return self.begun

    def answered(self) -> Request[Name]:
        """Take the request that was on its way: it has its answer."""
        assert self.begun is not None
        request, self.begun = self.begun, None
        return request

    def withdraw(self, name: Name) -> bool:
        """Ask no more for this one; False if it is not among those that wait."""
        for request in self._waiting:
            if request.name == name:
                self._waiting.remove(request)
                return True
        return False

    def withdraw_all(self) -> list[Request[Name]]:
        """Ask no more for those that wait; who they are."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def kept(self) -> tuple[KeptRequest, ...]:
        """What a master in the same process has to know of them; the first is on its way if one is."""
        return tuple(
            KeptRequest(
                name=cast("tuple[int, int]", each.name),
                environment=each.environment,
                launch=each.launch,
                number=each.number,
                asked_at=each.asked_at,
                signum=each.signum,
            )
            for each in self
        )

    @classmethod
    def resumed(
        cls, kept: Iterable[KeptRequest], naming: Callable[[tuple[int, int]], Name], *, begun: bool
    ) -> "Requests[Name]":
        """Those of another master in this process; with `begun` the first of them is on its way."""
        requests = cls()
        requests._waiting = [
            Request(
                name=naming(each.name),
                environment=each.environment,
                launch=each.launch,
                number=each.number,
                asked_at=each.asked_at,
                signum=each.signum,
            )
            for each in kept
        ]
        if begun:
            requests.begin()
        return requests
