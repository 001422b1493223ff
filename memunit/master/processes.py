"""The processes of the workers and of their zygotes: what is asked of them, and what comes of it, as facts."""

import math
import select
import signal
from collections.abc import Callable, Collection
from dataclasses import replace

from memunit.core import facts as f
from memunit.core.actions import Journal, Signal, Spawn
from memunit.core.model import Worker, WorkerId
from memunit.master.groups import Groups
from memunit.master.nursery import Forked, Lost, Nursery, Refused, Started, Warned, ZygoteId
from memunit.master.registry import Registry
from memunit.master.report import Reporter
from memunit.master.setting import Configuration, Setting
from memunit.master.spawn import Child, Launch

_SIGNALS = {Signal.TERM: signal.SIGTERM, Signal.ABRT: signal.SIGABRT, Signal.KILL: signal.SIGKILL}


class Processes:
    """Started by exec or forked from a zygote, each in its group where there are groups."""

    def __init__(
        self,
        setting: Setting,
        epoll: select.epoll,
        groups: Groups[WorkerId],
        report: Reporter,
        delay: Callable[[int], float],
    ) -> None:
        """`delay` gives the seconds to wait after so many losses of a zygote in a row."""
        self._at = setting
        self._groups = groups
        self._report = report
        self._registry: Registry[WorkerId | ZygoteId] = Registry(epoll, sole=setting.sole)
        self._nursery: Nursery[WorkerId] = Nursery(epoll, setting.start, delay, self._place_zygote)
        # Of whom each worker was forked: what an app's import starts beside itself serves all of these.
        self._parents: dict[WorkerId, ZygoteId] = {}
        self._gone: dict[ZygoteId, Child] = {}
        self._lost: list[Lost] = []

    @property
    def due(self) -> float:
        """When there is something to do of itself, in seconds of CLOCK_MONOTONIC."""
        return self._nursery.due

    def spawn(self, action: Spawn, worker: Worker, configuration: Configuration) -> list[f.Fact]:
        """Start a worker, or ask its zygote for it."""
        own = {"MEMUNIT_SLOT": str(action.id.slot), "MEMUNIT_GENERATION": str(action.id.generation)}
        try:
            label = f"{action.id.slot}.{action.id.generation}"
            group = self._groups.place(action.id, label, limit=worker.limit, ceiling=worker.ceiling)
        except OSError as error:
            return [f.SpawnFailed(action.id, _describe(error))]
        launch = Launch(
            argv=configuration.argv,
            environment={**configuration.environment, "MEMUNIT_INSTANCE": self._at.instance},
            directory=configuration.directory,
            sockets=self._at.sockets,
            notify_path=self._at.notify_path,
            watchdog_usec=0 if math.isinf(action.watchdog) else int(action.watchdog * 1e6),
            parent_death_signal=self._at.parent_death_signal,
            cgroup=group,
        )
        if configuration.preload:
            self._nursery.request(action.revision, launch, action.id, own)
            return self.forks()
        try:
            child = self._at.start(replace(launch, environment={**launch.environment, **own}))
        except OSError as error:
            self._groups.ended(action.id)
            return [f.SpawnFailed(action.id, _describe(error))]
        self._registry.add(action.id, child, await_exec=configuration.policy.ready_on_exec)
        return [f.Spawned(action.id, child.pid)]

    def signal(self, who: WorkerId, number: Signal) -> list[f.Fact]:
        """Send a signal; SIGKILL goes to all that the worker is."""
        if self._nursery.signal(who, _SIGNALS[number]):
            return self.forks()
        if number is Signal.KILL:
            self._groups.kill(who)
            self._registry.kill(who)
        else:
            self._send(who, _SIGNALS[number])
        return []

    def pid(self, who: WorkerId) -> int | None:
        """The pid, while the worker is there."""
        return self._registry.pid(who)

    def executed(self) -> list[f.Fact]:
        """Whose execve(2) has succeeded."""
        return [f.Executed(who) for who in self._registry.executed() if isinstance(who, WorkerId)]

    def forks(self) -> list[f.Fact]:
        """What came of the requests to zygotes, and of the zygotes themselves."""
        facts: list[f.Fact] = []
        for event in self._nursery.events():
            match event:
                case Started(identity, child):
                    self._registry.add(identity, child, await_exec=False)
                case Forked(who, zygote, child, signum):
                    self._parents[who] = zygote
                    self._groups.settle_zygote(zygote)
                    self._registry.add(who, child, await_exec=False)
                    if signum:
                        self._send(who, signum)
                    facts.append(f.Spawned(who, child.pid))
                case Refused(who, why):
                    self._groups.ended(who)
                    facts.append(f.SpawnFailed(who, why))
                case Warned(text):
                    self._report.warn("PRELOAD_UNSAFE", f"Preloading may not be safe: {text}")
                case Lost():
                    self._lost.append(event)
        return facts

    def speaker(self, pid: int, facts: list[f.Fact]) -> WorkerId | None:
        """The worker for which a process speaks; what has come about meanwhile is added to `facts`."""
        who = self._registry.speaker(pid)
        if who is None:
            # A worker speaks only after its zygote has told its pid, but that may be a moment ago.
            facts += self.forks()
            who = self._registry.speaker(pid)
        return who if isinstance(who, WorkerId) else None

    def ends(self, forget: Callable[[WorkerId, int], object]) -> list[f.Fact]:
        """Who has ended, and of what; `forget` is called with the worker and its pid."""
        facts: list[f.Fact] = []
        ends = self._registry.collect(lambda: facts.extend(self.forks()))
        for who, end, failure in ends:
            if isinstance(who, ZygoteId):
                starved = self._groups.starved_zygote(who)
                self._gone[who] = self._nursery.ended(who, end, failure, starved=starved)
                facts += self.forks()
                self._retire(who)
                continue
            forget(who, end.pid)
            death = self._groups.ended(who)
            if who in self._parents:
                self._retire(self._parents.pop(who))
            if failure is not None:
                facts.append(f.SpawnFailed(who, _describe(failure)))
                continue
            if death.oom:
                facts.append(f.OomKilled(who, death.oom == "own", death.peak))
            facts.append(f.Exited(who, end.code, end.status))
        self._groups.sweep()
        return facts

    def keep(self, revisions: Collection[int]) -> None:
        """Let go of the zygotes of all other revisions."""
        self._nursery.keep(revisions)

    def end_pass(self, *, stopping: bool) -> None:
        """Tell of lost zygotes, and replace those whose time has come."""
        # Not before: a stop of the unit reaches zygotes too, and such an end is no loss.
        for lost in () if stopping else self._lost:
            self._report.entry(_lost(lost, serving=bool(self._parents)))
        self._lost.clear()
        self._nursery.renew()

    def close(self) -> None:
        """Kill what is left."""
        self._nursery.close()
        self._registry.close()
        self._groups.close()

    def _send(self, who: WorkerId, signum: int) -> None:
        try:
            self._registry.signal(who, signum)
        except PermissionError:
            # By a set-user-ID program, as sudo(8).
            worker = f"Worker {who.slot}.{who.generation} (pid {self.pid(who)})"
            text = (
                f"{worker} can't be sent {signal.Signals(signum).name}: it has become another user's. It is killed "
                "when its time is over, if it has a group of its own; let User= of the unit choose the user"
            )
            self._report.warn("WORKER_STOPPING", text)

    def _place_zygote(self, identity: ZygoteId) -> str:
        return self._groups.place_zygote(identity, f"{identity.revision}.{identity.number}")

    def _retire(self, zygote: ZygoteId) -> None:
        if zygote in self._gone and zygote not in self._parents.values():
            self._gone.pop(zygote).end_left()
            self._groups.retire_zygote(zygote)


def _lost(event: Lost, *, serving: bool) -> Journal:
    workers = "The workers go on serving" if serving else "There was no worker"
    text = f"{event.how[0].upper()}{event.how[1:]} (pid {event.pid}). {workers}"
    another = "another has been started" if event.retry is None else "another is started"
    after = f" in {event.retry:.1f} s" if event.retry else ""
    fields = {"MEMUNIT_ZYGOTE_PID": event.pid}
    return Journal(kind="ZYGOTE_LOST", message=f"{text}; {another}{after}", priority=4, fields=fields)


def _describe(error: OSError) -> str:
    text = error.strerror or str(error)
    return f"{error.filename}: {text}" if error.filename else text
