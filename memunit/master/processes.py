"""The processes of the workers and of their zygotes: what is asked of them, and what comes of it, as facts."""

import os
import select
import signal
from collections.abc import Callable, Collection

from memunit.core import facts as f
from memunit.core.actions import Signal, Spawn
from memunit.core.messages import Message
from memunit.core.model import Worker, WorkerId
from memunit.master import proctree
from memunit.master.belongings import Belongings
from memunit.master.child import Launch
from memunit.master.families import Families
from memunit.master.groups import Groups
from memunit.master.held import End
from memunit.master.inheritance import Inheritance, Name
from memunit.master.launching import label_of, launch_of
from memunit.master.nursery import Apart, Forked, Refused, ZygoteId
from memunit.master.programs import ProgramId, Programs
from memunit.master.registry import Registry
from memunit.master.report import Reporter
from memunit.master.setting import Configuration, Setting
from memunit.master.spawn import describe
from memunit.master.zygotes import Zygotes
from memunit.records import replace

_MOST_NAMED = 8
_SIGNALS: dict[Signal, int] = {
    Signal.TERM: signal.SIGTERM,
    Signal.ABRT: signal.SIGABRT,
    Signal.KILL: signal.SIGKILL,
    # As memunit/worker/stacks.py has it: no signal that an app would take for its own.
    Signal.STACKS: signal.SIGRTMAX - 3,
}


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
        self._registry: Registry[Name] = Registry(epoll, sole=setting.sole)
        self.programs: Programs[WorkerId] = Programs(epoll, groups, self._registry, setting.start)
        """Those that examine workers."""
        self._zygotes = Zygotes(setting, epoll, groups, self._registry, report, delay)
        self._families: Families[WorkerId] = Families(epoll)
        self.belongings = Belongings(os.path.dirname(setting.notify_path), report)
        """What each worker has beside its process."""
        self.inheritance = Inheritance(self._registry, groups, self._zygotes, self._families, self.belongings)
        """What a successor takes of all this, and was taken of a predecessor's."""

    @property
    def due(self) -> float:
        """When there is something to do of itself, in seconds of CLOCK_MONOTONIC."""
        return min(self._zygotes.due, self._families.due, self.inheritance.leftovers.due, self.programs.due)

    def spawn(
        self, action: Spawn, worker: Worker, configuration: Configuration, profile: str = ""
    ) -> list[f.Fact]:
        """Start a worker, or ask its zygote for it; one with a `profile` is a witness, and leaves it there."""
        try:
            label = label_of(action)
            group = self._groups.place(action.id, label, limit=worker.limit, ceiling=worker.ceiling)
        except OSError as error:
            return [f.SpawnFailed(action.id, describe(error))]
        launch, own = launch_of(action, worker, configuration, self._at, group, self.belongings)
        if profile:
            own["MEMUNIT_WITNESS"] = profile
        if configuration.preload:
            start_timeout = configuration.policy.start_timeout
            self._zygotes.request(
                action.revision, launch, action.id, own, start_timeout, careful=configuration.careful
            )
            return self.forks()
        own_launch = replace(launch, environment={**launch.environment, **own})
        facts = self._execute(action.id, own_launch, await_exec=configuration.policy.ready_on_exec)
        child = self._registry.child(action.id)
        if configuration.stops_all and child is not None:
            folder = os.path.dirname(group)
            self._families.add(action.id, child, folder, worker.stop_signal, worker.grace)
        return facts

    def _execute(self, who: WorkerId, launch: Launch, *, await_exec: bool = False) -> list[f.Fact]:
        try:
            child = self._at.start(launch)
        except OSError as error:
            self.belongings.let_go(who)
            self._groups.ended(who)
            return [f.SpawnFailed(who, describe(error))]
        self._registry.add(who, child, await_exec=await_exec)
        return [f.Spawned(who, child.pid)]

    def signal(self, who: WorkerId, number: Signal) -> list[f.Fact]:
        """Send a signal: to the worker's own process, to all of a command's; SIGKILL to all that the worker is."""
        if self._zygotes.signal(who, _SIGNALS[number]):
            return self.forks()
        family = self._families.get(who)
        facts: list[f.Fact] = []
        if number is Signal.TERM:
            signum = _SIGNALS[number] if family is None else family.stop_signal
            facts += [f.Deaf(who)] * (proctree.catches(self.pid(who) or 0, signum) is False)
        if number is Signal.KILL:
            self._groups.kill(who)
            self._registry.kill(who)
            if family is not None:
                family.kill()
        elif family is not None:
            signum = family.stop_signal if number is Signal.TERM else _SIGNALS[number]
            if not family.signal(signum):
                self._refused(who, signum)
        else:
            self._send(who, _SIGNALS[number])
        return facts

    def resume(self, who: WorkerId) -> None:
        """SIGCONT, for a program that has stopped the worker and ended: systemd sends it too, with its SIGTERM."""
        self._send(who, signal.SIGCONT)

    def pid(self, who: WorkerId) -> int | None:
        """The pid, while the worker is there."""
        return self._registry.pid(who)

    def may_be_awaited(self, pid: int) -> bool:
        """Whether it may be a worker that a zygote has forked, and whose pid we have not read yet."""
        return self._zygotes.may_have_forked(pid)

    def pids(self) -> set[int]:
        """The pids of all that are there."""
        return {process.child.pid for process in self._registry}

    def executed(self) -> list[f.Fact]:
        """Whose execve(2) has succeeded."""
        return [f.Executed(who) for who in self._registry.executed() if isinstance(who, WorkerId)]

    def forks(self) -> list[f.Fact]:
        """What came of the requests to zygotes, and of the zygotes themselves."""
        facts: list[f.Fact] = []
        for event in self._zygotes.outcomes():
            match event:
                case Forked(who, zygote, child, signum):
                    self._zygotes.answered(who)
                    self._groups.settle_zygote(zygote)
                    # What an app's import starts beside itself serves all of these.
                    self._registry.add(who, child, await_exec=False, parent=zygote)
                    if signum:
                        self._send(who, signum)
                    facts.append(f.Spawned(who, child.pid))
                case Refused(who, why):
                    self.belongings.let_go(who)
                    self._zygotes.answered(who)
                    self._groups.ended(who)
                    facts.append(f.SpawnFailed(who, why))
                case Apart(who, launch):
                    facts += self._execute(who, launch)
                    # It has waited for the import of a zygote, and has the whole of its own before it.
                    facts.append(f.ExtendTimeout(who, self._zygotes.answered(who)))
        return facts

    def speaker(self, pid: int, facts: list[f.Fact]) -> WorkerId | None:
        """The worker for which a process speaks; what has come about meanwhile is added to `facts`."""
        who = self._registry.speaker(pid)
        if who is None:
            # A worker speaks only after its zygote has told its pid, but that may be a moment ago.
            facts += self.forks()
            who = self._registry.speaker(pid)
        if who is None:
            who = self._families.speaker(pid)
        return who if isinstance(who, WorkerId) else None

    @property
    def lingering(self) -> bool:
        """Whether what ended workers have left is still given its time."""
        return self._families.lingering

    def overheard(self, pid: int, status: str | None) -> None:
        """Take the STATUS= of a process that is no worker: a zygote whose socket is closed says in it why it fails."""
        who = self._registry.speaker(pid)
        if isinstance(who, ZygoteId) and status:
            self._zygotes.overheard(who, status)

    def ends(
        self,
        forget: Callable[[WorkerId, int], object],
        stopping: Callable[[], bool] = lambda: False,
        departed: Callable[[int], object] = lambda pid: None,
    ) -> list[f.Fact]:
        """The workers that have ended, each with its end; `forget` is called with the worker and its pid, `departed`
        with each pid.

        `stopping` is asked if somebody has: then systemd may have told all of its processes to stop before we did.
        """
        facts: list[f.Fact] = []
        ends = self._registry.collect(lambda: facts.extend(self.forks()))
        told = bool(ends) and stopping()
        for process, end, failure in ends:
            who = process.name
            departed(end.pid)
            if isinstance(who, ProgramId):
                self.programs.ended(who, end, failure)
                continue
            if isinstance(who, ZygoteId):
                self._zygotes.ended(who, process.child, end, failure)
                facts += self.forks()
                self._zygotes.retire(who)
                continue
            forget(who, end.pid)
            self.belongings.release(who)
            if failure is None and self._families.goes_on(who, end, stopping=told):
                continue
            # Of a wrapper whose server has ended before it, the signal has cut nothing off.
            outlived = end.code != "exited" and self._families.shared(who)
            facts += self._ended(who, end, failure, outlived=outlived)
            self._zygotes.retire(process.parent)
        for who, end in self._families.gone():
            facts += self._ended(who, end, None, outlived=True)
        self._groups.sweep()
        return facts

    def _ended(
        self, who: WorkerId, end: End, failure: OSError | None, *, outlived: bool = False
    ) -> list[f.Fact]:
        """A worker is gone, or nobody has told it to: then what it leaves is told now, as systemd does it."""
        left = [] if outlived else self._families.leaves(who)
        family = self._families.get(who)
        if left and family is not None:
            self._report.warn(Message.WORKER_STOPPING, _abandoned(who, end.pid, left, family.stop_signal))
        death = self._groups.ended(who, spare=bool(left))
        self._families.part(who, abandon=bool(left))
        at_work, served = self.belongings.ended(who, began=failure is None)
        if failure is not None:
            return [f.SpawnFailed(who, describe(failure))]
        oom = [f.OomKilled(who, death.oom == "own", death.peak)] if death.oom else []
        return [*oom, *at_work, f.Exited(who, end.code, end.status, outlived, served)]

    def keep(self, revisions: Collection[int]) -> None:
        """Let go of the zygotes of all other revisions."""
        self._zygotes.keep(revisions)

    def end_pass(self, *, stopping: bool, serving: bool) -> None:
        """Tell of lost zygotes, replace those whose time has come, and kill what had time to end and has not."""
        self._families.sweep()
        self.inheritance.leftovers.sweep(serving=serving or stopping)
        self._zygotes.end_pass(stopping=stopping)

    def awaits(self, who: WorkerId) -> bool:
        """Whether a worker was asked for, and is still to come; or its first process has ended, and not the others."""
        return self._zygotes.awaits(who) or self._families.waits_for(who)

    def strangers(self) -> set[int]:
        """The pids in groups that a predecessor has made, and nobody has taken."""
        return self._groups.strangers()

    def close(self) -> None:
        """Kill what is left, but for a zygote that has something to do once its workers have gone, and does it now."""
        self._families.close()
        self.inheritance.leftovers.end()
        self._zygotes.close()
        self.programs.close()
        self._registry.close()
        self._groups.close()
        self.belongings.close()

    def _send(self, who: WorkerId, signum: int) -> None:
        try:
            self._registry.signal(who, signum)
        except PermissionError:
            self._refused(who, signum)

    def _refused(self, who: WorkerId, signum: int) -> None:
        """By a set-user-ID program, as sudo(8)."""
        worker = f"Worker {who.slot}.{who.generation} (pid {self.pid(who)})"
        text = (
            f"{worker} can't be sent {signal.Signals(signum).name}: it belongs to another user now. It is "
            "killed when its time is over, if it has a control group of its own; choose the user with User= of the unit"
        )
        self._report.warn(Message.WORKER_STOPPING, text)


def _abandoned(who: WorkerId, pid: int, left: list[int], stop_signal: int) -> str:
    some = ", ".join(map(str, left[:_MOST_NAMED])) + (" and more" if len(left) > _MOST_NAMED else "")
    return (
        f"Worker {who.slot}.{who.generation} (pid {pid}) has ended and left {len(left)} of its processes ({some}): "
        f"they are sent {signal.Signals(stop_signal).name}, and killed after stop.grace. A command has to stay in the "
        "foreground: say so to its program, or exec it in the wrapper"
    )
