"""The harness as master of a zygote: a real nursery on a real epoll, and the workers that it hands out."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from memunit.master import system
from memunit.master.child import Launch
from memunit.master.held import Child, End
from memunit.master.nursery import (
    Apart,
    Declined,
    Forked,
    Lost,
    Nursery,
    Refused,
    Started,
    Warned,
    ZygoteId,
)
from memunit.master.registry import Registry
from memunit.master.spawn import launch
from tests.support.interpreters import DEBIAN
from tests.support.wait import DEADLINE
from tests.support.workers import APPS, WORKER, Stage

Found = TypeVar("Found")
_PR_SET_CHILD_SUBREAPER = 36


class Nest:
    """A nursery, and all that came of it. Workers are called by text."""

    def __init__(self, stage: Stage, directory: Path) -> None:
        self.stage = stage
        self.forked: dict[str, Forked[str]] = {}
        self.refused: dict[str, str] = {}
        self.zygotes: list[Started] = []
        self.warned: list[str] = []
        self.declined: list[str] = []
        self.apart: dict[str, Launch] = {}
        self.lost: list[Lost] = []
        self.gone: dict[ZygoteId, Child] = {}
        self.ends: dict[str | ZygoteId, End] = {}
        self.output = directory / "zygote-output"
        self._epoll = select.epoll()
        self.registry: Registry[str | ZygoteId] = Registry(self._epoll)
        self._epoll.register(stage.notify.fileno(), select.EPOLLIN)
        self.nursery: Nursery[str] = Nursery(
            self._epoll, self._start, lambda failures: 0.05 * (failures - 1), known=self.registry.knows
        )

    def ask(
        self,
        name: str,
        target: str = "preloaded:serve",
        *options: str,
        server: str = "callable",
        python: str | Path = DEBIAN,
        revision: int = 1,
        watchdog_usec: int = 0,
        directory: Path = APPS,
        environment: Mapping[str, str] | None = None,
        careful: bool = False,
    ) -> None:
        """Request a worker; the first request of a revision decides what its zygote is."""
        made = Launch(
            argv=(str(python), str(WORKER), "--server", server, *options, target),
            environment={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})},
            directory=str(directory),
            sockets=tuple(
                (f"s{place}.socket", each.fileno()) for place, each in enumerate(self.stage.sockets)
            ),
            notify_path=self.stage.notify.path,
            watchdog_usec=watchdog_usec,
        )
        self.nursery.request(revision, made, name, {"MEMUNIT_SLOT": name}, careful=careful)

    def settle(self, condition: Callable[[], Found | None], what: str, timeout: float = DEADLINE) -> Found:
        """Go round the loop until `condition` finds something."""
        until = time.monotonic() + timeout
        while True:
            self._round()
            found = condition()
            if found:
                return found
            now = time.monotonic()
            if now > until:
                raise TimeoutError(f"{what}: not within {timeout} s; {self}")
            self._epoll.poll(max(0.0, min(self.nursery.due, until) - now))
            self.nursery.renew()

    def child(self, name: str) -> Forked[str]:
        """Wait until the worker is our child."""
        return self.settle(lambda: self.forked.get(name), f"worker {name}")

    def refusal(self, name: str) -> str:
        """Wait until it is known that the worker will not come: why."""
        return self.settle(lambda: self.refused.get(name), f"refusal of {name}")

    def end(self, name: str | ZygoteId) -> End:
        """Wait until it was reaped."""
        return self.settle(lambda: self.ends.get(name), f"end of {name}")

    @property
    def said(self) -> str:
        """What zygotes and workers have written."""
        return self.output.read_text() if self.output.exists() else ""

    def __str__(self) -> str:
        return f"forked {list(self.forked)}, refused {self.refused}, ended {self.ends}; output:\n{self.said}"

    def _start(self, what: Launch) -> Child:
        saved = [os.dup(1), os.dup(2)]
        output = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            for place in (1, 2):
                os.dup2(output, place)
            return launch(what)
        finally:
            for place, source in zip((1, 2), saved, strict=True):
                os.dup2(source, place)
                os.close(source)
            os.close(output)

    def _round(self) -> None:
        self._events()
        self.stage.said(0)  # so that nobody waits for room in the queue
        for process, end, failure in self.registry.collect(self._events):
            name = process.name
            self.ends[name] = end
            if isinstance(name, ZygoteId):
                self.gone[name] = self.nursery.ended(name, end, failure)
        self._events()

    def _events(self) -> None:
        for event in self.nursery.events():
            match event:
                case Started(identity, child):
                    self.registry.add(identity, child, await_exec=False)
                    self.zygotes.append(event)
                case Forked(name, _, child, signum):
                    self.registry.add(name, child, await_exec=False)
                    self.forked[name] = event
                    if signum:
                        self.registry.signal(name, signum)
                case Refused(name, why):
                    self.refused[name] = why
                case Apart(name, launch):
                    self.apart[name] = launch
                case Declined(hazards):
                    self.declined += hazards
                case Warned(text):
                    self.warned.append(text)
                case Lost():
                    self.lost.append(event)

    def close(self) -> None:
        """End everything."""
        for name in self.forked:
            self.registry.kill(name)
        # Else each of them is a loss, and is replaced.
        self.nursery.keep(())
        for started in self.zygotes:
            self.registry.kill(started.identity)
        wanted = {*self.forked, *(started.identity for started in self.zygotes)}
        self.settle(lambda: wanted <= set(self.ends) or None, "the end of all")
        for child in self.gone.values():
            child.end_left()
        self.nursery.close()
        self._epoll.close()


@contextmanager
def nest(directory: Path) -> Iterator[Nest]:
    """A Nest in this process, which is the subreaper meanwhile."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    stage = Stage(directory, sockets=(listener,))
    system.set_child_subreaper()
    made = Nest(stage, directory)
    try:
        yield made
    finally:
        made.close()
        system._prctl(_PR_SET_CHILD_SUBREAPER, 0)
        stage.close()
        listener.close()
