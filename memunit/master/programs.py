"""Programs that examine a worker: started beside it, with bounds, and what they write is read.

Each is in a process group of its own, and where there are control groups in one of those, so nothing of it is charged
to the worker. It ends with the master: the kernel kills it (PR_SET_PDEATHSIG), and a successor what it has started.
"""

import contextlib
import math
import os
import select
import signal
import time
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from memunit.master.child import Launch
from memunit.master.groups import Groups
from memunit.master.held import Child, End
from memunit.master.registry import Registry
from memunit.master.spawn import describe
from memunit.records import dataclass, replace

Name = TypeVar("Name", bound=Hashable)

MOST_OUTPUT = 64 << 10
"""Bytes that are read of what one writes. After that its standard output is closed, as head(1) does it."""


@dataclass(frozen=True, slots=True)
class ProgramId(Generic[Name]):
    """The program that examines this worker."""

    worker: Name


@dataclass(slots=True, kw_only=True)
class Run:
    """One program: what it has written, and how it has ended, in the words of core's Outcome."""

    reader: int
    began: float
    until: float
    memory: int
    """Bytes past which it is killed."""
    short: bool
    """Whether it was to have more, and no more was free."""
    output: bytes = b""
    cut: bool = False
    code: str = ""
    status: int = 0
    seconds: float = 0.0
    failure: str = ""
    killed: str = ""
    over: bool = False


class Programs(Generic[Name]):
    """Those that run, and those whose end nobody has asked for yet, by the workers that they examine."""

    def __init__(
        self,
        epoll: select.epoll,
        groups: Groups[Any],
        registry: Registry[Any],
        start: Callable[[Launch], Child],
    ) -> None:
        """`epoll` is told of what they write, `registry` of their ends: whoever waits calls `read` and `ended`."""
        self._epoll = epoll
        self._groups = groups
        self._registry = registry
        self._start = start
        self._runs: dict[Name, Run] = {}

    @property
    def due(self) -> float:
        """When the time of one is over, in seconds of CLOCK_MONOTONIC."""
        return min((run.until for run in self._runs.values() if not run.over), default=math.inf)

    def begin(self, worker: Name, label: str, launch: Launch, *, seconds: float, memory: int) -> None:
        """Start what `launch` says, and kill it after so many `seconds` or past so many bytes of `memory`.

        It gets no more memory than is free: when none is left, the OOM killer takes the largest process, a worker.
        A program that can't be started is over at once.
        """
        now = time.monotonic()
        granted = self._groups.free_for(memory)
        run = self._runs[worker] = Run(
            reader=-1, began=now, until=now + seconds, memory=granted, short=granted < memory
        )
        identity = ProgramId(worker)
        try:
            run.reader, writer = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(run.reader, False)
            try:
                group = self._groups.place_program(identity, label, granted)
                child = self._start(
                    replace(launch, output=writer, cgroup=group, parent_death_signal=signal.SIGKILL)
                )
            finally:
                os.close(writer)
        except OSError as error:
            self._groups.retire_program(identity)
            run.failure = describe(error)
            self._finish(run)
            return
        self._registry.add(identity, child, await_exec=False)
        self._epoll.register(run.reader, select.EPOLLIN)

    def read(self) -> None:
        """Take what they have written, and kill those whose time is over."""
        now = time.monotonic()
        for worker, run in self._runs.items():
            if run.over:
                continue
            self._take(run)
            if now >= run.until:
                self._kill(worker, run, "time")

    def runs(self, worker: Name) -> bool:
        """Whether one examines this worker now."""
        return worker in self._runs and not self._runs[worker].over

    def stop(self, worker: Name, why: str) -> None:
        """Kill the one that examines this worker, if it runs; `why` as in Run.killed."""
        if self.runs(worker):
            self._kill(worker, self._runs[worker], why)

    def finished(self, worker: Name) -> Run | None:
        """What came of the one that was to examine this worker, once; None if there was none, or it still runs."""
        return None if self.runs(worker) else self._runs.pop(worker, None)

    def ended(self, identity: "ProgramId[Name]", end: End, failure: OSError | None) -> None:
        """The registry has collected its end."""
        starved = self._groups.retire_program(identity)
        run = self._runs.get(identity.worker)
        if run is None or run.over:
            return
        self._take(run)
        run.code, run.status = end.code, end.status
        if failure is not None:
            run.failure = describe(failure)
        elif starved:
            run.killed = "room" if run.short else "memory"
        self._finish(run)

    def close(self) -> None:
        """Close what is read. The registry ends the processes."""
        for run in self._runs.values():
            self._close(run)
        self._runs.clear()

    def _kill(self, worker: Name, run: Run, why: str) -> None:
        """What it has written until now counts. Its end may never come, in an uninterruptible sleep."""
        self._take(run)
        run.killed = why
        self._groups.kill_program(ProgramId(worker))
        self._registry.kill(ProgramId(worker))
        self._finish(run)

    def _finish(self, run: Run) -> None:
        run.seconds = time.monotonic() - run.began
        run.over = True
        self._close(run)

    def _take(self, run: Run) -> None:
        while run.reader >= 0:
            block = b""
            try:
                block = os.read(run.reader, MOST_OUTPUT + 1 - len(run.output))
            except BlockingIOError:
                return
            except OSError:
                pass
            run.output += block
            if len(run.output) > MOST_OUTPUT:
                run.output, run.cut = run.output[:MOST_OUTPUT], True
            if not block or run.cut:
                self._close(run)

    def _close(self, run: Run) -> None:
        if run.reader >= 0:
            with contextlib.suppress(OSError):
                self._epoll.unregister(run.reader)
            os.close(run.reader)
            run.reader = -1
