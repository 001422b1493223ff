"""The processes of the workers and of their zygotes: what is asked of them, and what comes of it, as facts."""

import math
import os
import select
import signal
import time
from collections.abc import Callable, Collection, Container, Hashable, Iterable, Mapping
from dataclasses import replace

from memunit.core import board, scoreboard
from memunit.core import facts as f
from memunit.core.actions import Journal, Signal, Spawn
from memunit.core.board import Glance
from memunit.core.handover import Handover, LeftWorker, LeftZygote
from memunit.core.messages import Message
from memunit.core.model import Cause, Worker, WorkerId
from memunit.master import system
from memunit.master.board import Boards
from memunit.master.families import Families
from memunit.master.groups import Groups
from memunit.master.kept import KeptProcesses, KeptZygoteEnd
from memunit.master.leftovers import Leftovers
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
from memunit.master.pressure import Watches
from memunit.master.programs import ProgramId, Programs
from memunit.master.registry import Process, Registry
from memunit.master.report import Reporter
from memunit.master.scoreboard import Scoreboard
from memunit.master.setting import Configuration, Setting
from memunit.master.sockets import addresses
from memunit.master.spawn import Child, End, Launch, find
from memunit.master.zygote import PATIENCE, SHORT_PATIENCE

_REMEDY = "do it in a function that app.after_fork names, or say preload = false"
_MOST_NAMED = 8
_MOST_REQUESTS = 3
_Name = WorkerId | ZygoteId | ProgramId[WorkerId]
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
        self._registry: Registry[_Name] = Registry(epoll, sole=setting.sole)
        self.programs: Programs[WorkerId] = Programs(epoll, groups, self._registry, setting.start)
        """Those that examine workers."""
        self._nursery: Nursery[WorkerId] = Nursery(
            epoll, setting.start, delay, self._place_zygote, self._registry.knows
        )
        # How long each that a zygote was asked for may take to start.
        self._asked: dict[WorkerId, float] = {}
        self._scoreboard: Scoreboard[WorkerId] = Scoreboard(
            scoreboard.header, line_size=scoreboard.LINE_SIZE, lines=scoreboard.LINES
        )
        self._boards: Boards[WorkerId] = Boards(board.header(), board.SIZE)
        # What stood on the pages of those that have ended, until their ends are told.
        self._said: dict[WorkerId, board.Board] = {}
        self._families: Families[WorkerId] = Families(epoll)
        self._watches: Watches[WorkerId] = Watches(os.path.dirname(setting.notify_path))
        self._unwatchable = False
        self._gone: dict[ZygoteId, Child] = {}
        self._lost: list[Lost] = []
        self._leftovers = Leftovers((), 0.0, groups.clear)
        if setting.ahead:
            self._place_zygote(ZygoteId(1, 0))

    @property
    def due(self) -> float:
        """When there is something to do of itself, in seconds of CLOCK_MONOTONIC."""
        return min(self._nursery.due, self._families.due, self._leftovers.due, self.programs.due)

    def spawn(self, action: Spawn, worker: Worker, configuration: Configuration) -> list[f.Fact]:
        """Start a worker, or ask its zygote for it."""
        own = {"MEMUNIT_SLOT": str(action.id.slot), "MEMUNIT_GENERATION": str(action.id.generation)}
        try:
            label = f"{action.id.slot}.{action.id.generation}"
            group = self._groups.place(action.id, label, limit=worker.limit, ceiling=worker.ceiling)
        except OSError as error:
            return [f.SpawnFailed(action.id, _describe(error))]
        told = {"MEMUNIT_LISTEN": addresses(self._at.sockets)} if configuration.node else {}
        line = self._scoreboard.assign(action.id) if configuration.spread else None
        if line is not None:
            own["MEMUNIT_SCOREBOARD_LINE"] = str(line)
        watch = self._watch(action.id, label) if worker.gives else configuration.watch
        if watch:
            # For one that is forked from a zygote; the others have it from their launch.
            own["MEMORY_PRESSURE_WATCH"] = watch
        launch = Launch(
            argv=configuration.argv,
            environment={**configuration.environment, "MEMUNIT_INSTANCE": self._at.instance, **told},
            directory=configuration.directory,
            sockets=self._at.sockets,
            notify_path=self._at.notify_path,
            notify_descriptor=configuration.node,
            watchdog_usec=0 if math.isinf(action.watchdog) else int(action.watchdog * 1e6),
            parent_death_signal=self._at.parent_death_signal,
            stop_signal=worker.stop_signal,
            cgroup=group,
            # Also without a line: of a zygote, others may have one.
            scoreboard=self._scoreboard.fileno() if configuration.spread else -1,
            pressure_watch=watch,
            board=self._boards.make(action.id) if configuration.board else -1,
        )
        if configuration.preload:
            self._asked[action.id] = configuration.policy.start_timeout
            self._nursery.request(action.revision, launch, action.id, own, careful=configuration.careful)
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
            self._let_go(who)
            self._groups.ended(who)
            return [f.SpawnFailed(who, _describe(error))]
        self._registry.add(who, child, await_exec=await_exec)
        return [f.Spawned(who, child.pid)]

    def _watch(self, who: WorkerId, label: str) -> str:
        """The path of what it is to watch; "" where none can be made, which is told once."""
        try:
            return self._watches.make(who, label)
        except OSError as error:
            if not self._unwatchable:
                self._unwatchable = True
                text = f"Workers can't be asked to give memory back, and are recycled at once: {_describe(error)}"
                self._report.warn(Message.CONFIGURATION, text)
            return ""

    def ask_back(self, who: WorkerId) -> list[f.Fact]:
        """Ask a worker to give memory back."""
        return [] if self._watches.ask(who) else [f.Unwatched(who)]

    def signal(self, who: WorkerId, number: Signal) -> list[f.Fact]:
        """Send a signal: to the worker's own process, to all of a command's; SIGKILL to all that the worker is."""
        if self._nursery.signal(who, _SIGNALS[number]):
            return self.forks()
        family = self._families.get(who)
        facts: list[f.Fact] = []
        if number is Signal.TERM:
            signum = _SIGNALS[number] if family is None else family.stop_signal
            facts += [f.Deaf(who)] * (system.catches(self.pid(who) or 0, signum) is False)
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

    def tell(self, who: WorkerId, reason: board.Reason, seconds: float = 0.0, memory: int = 0) -> None:
        """Write on a worker's page why it is told to stop, before it is told, and what its examination may take."""
        self._boards.write(who, board.order(reason, seconds, memory), board.ORDER)

    def last_board(self, who: WorkerId) -> board.Board | None:
        """What stood on the page of a worker that has ended; once, when its end is told."""
        return self._said.pop(who, None)

    def board(self, who: WorkerId) -> board.Board | None:
        """What stands on a worker's page, until its end is told; None if there is nothing that can be used."""
        return board.parse(self._boards.read(who))

    def glance(self, who: WorkerId) -> Glance | None:
        """What a worker does now, by its page; of one that has ended, until that is told, what it did."""
        said = self._said.get(who)
        if said is not None:
            return Glance(said.served, 0, None)
        return board.glance(self._boards.read(who, board.REPORT))

    def pid(self, who: WorkerId) -> int | None:
        """The pid, while the worker is there."""
        return self._registry.pid(who)

    def pids(self) -> set[int]:
        """The pids of all that are there."""
        return {process.child.pid for process in self._registry}

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
                    self._asked.pop(who, None)
                    self._groups.settle_zygote(zygote)
                    # What an app's import starts beside itself serves all of these.
                    self._registry.add(who, child, await_exec=False, parent=zygote)
                    if signum:
                        self._send(who, signum)
                    facts.append(f.Spawned(who, child.pid))
                case Refused(who, why):
                    self._let_go(who)
                    self._asked.pop(who, None)
                    self._groups.ended(who)
                    facts.append(f.SpawnFailed(who, why))
                case Apart(who, launch):
                    facts += self._execute(who, launch)
                    # It has waited for the import of a zygote, and has the whole of its own before it.
                    facts.append(f.ExtendTimeout(who, self._asked.pop(who)))
                case Declined(hazards):
                    self._report.entry(_declined(hazards))
                case Warned(text):
                    self._report.warn(
                        Message.PRELOAD_UNSAFE, f"Preloading may not be safe: {text}; {_REMEDY}"
                    )
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
        if who is None:
            who = self._families.speaker(pid)
        return who if isinstance(who, WorkerId) else None

    @property
    def lingering(self) -> bool:
        """Whether what ended workers have left is still given its time."""
        return self._families.lingering

    def overheard(self, pid: int, status: str | None) -> None:
        """What a process has said that is no worker: a zygote says so why it fails, if it can't say it any more."""
        who = self._registry.speaker(pid)
        if isinstance(who, ZygoteId) and status:
            self._nursery.overheard(who, status)

    def ends(
        self,
        forget: Callable[[WorkerId, int], object],
        stopping: Callable[[], bool] = lambda: False,
        departed: Callable[[int], object] = lambda pid: None,
    ) -> list[f.Fact]:
        """Who has ended, and of what; `forget` is called with the worker and its pid, `departed` with each pid.

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
                starved = self._groups.starved_zygote(who)
                if self._nursery.has(who):
                    self._gone[who] = self._nursery.ended(who, end, failure, starved=starved)
                else:
                    # A predecessor's, which has closed its socket with its end.
                    self._gone[who] = process.child
                facts += self.forks()
                self._retire(who)
                continue
            forget(who, end.pid)
            self._scoreboard.release(who)
            if failure is None and self._families.goes_on(who, end, stopping=told):
                continue
            # Of a wrapper whose server has ended before it, the signal has cut nothing off.
            outlived = end.code != "exited" and self._families.shared(who)
            facts += self._ended(who, end, failure, outlived=outlived)
            self._retire(process.parent)
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
        self._watches.drop(who)
        self._families.part(who, abandon=bool(left))
        said = self.board(who)
        at_work = [] if said is None else _in_work(who, said)
        self._boards.release(who)
        if said is not None and failure is None:
            self._said[who] = said
        if failure is not None:
            return [f.SpawnFailed(who, _describe(failure))]
        oom = [f.OomKilled(who, death.oom == "own", death.peak)] if death.oom else []
        served = 0 if said is None else said.served
        return [*oom, *at_work, f.Exited(who, end.code, end.status, outlived, served)]

    def keep(self, revisions: Collection[int]) -> None:
        """Let go of the zygotes of all other revisions."""
        self._nursery.keep(revisions)

    def end_pass(self, *, stopping: bool, serving: bool) -> None:
        """Tell of lost zygotes, replace those whose time has come, and kill what had time to end and has not."""
        self._families.sweep()
        self._leftovers.sweep(serving=serving or stopping)
        # Not before: a stop of the unit reaches zygotes too, and such an end is no loss.
        for lost in () if stopping else self._lost:
            self._report.entry(_lost(lost, serving=self._serving()))
        self._lost.clear()
        self._nursery.renew()

    def left(self, workers: Iterable[Worker]) -> tuple[tuple[LeftWorker, ...], tuple[LeftZygote, ...]]:
        """What a successor has to know of each that is there."""
        known = {worker.id: worker for worker in workers}
        left, zygotes = [], []
        for process in self._registry:
            who = process.name
            if isinstance(who, ZygoteId):
                zygotes.append(
                    LeftZygote(
                        revision=who.revision, number=who.number, pid=process.child.pid, start=process.start
                    )
                )
            elif who in known:
                left.append(self._left(known[who], process))
        return tuple(left), tuple(zygotes)

    def _left(self, worker: Worker, process: Process[_Name]) -> LeftWorker:
        parent = process.parent
        return LeftWorker(
            slot=worker.id.slot,
            generation=worker.id.generation,
            pid=process.child.pid,
            start=process.start,
            revision=worker.revision,
            phase=worker.phase.value,
            born=worker.born,
            ready_at=worker.ready_at,
            deadline=worker.deadline,
            stop_at=worker.stop_at,
            reason="" if worker.reason is None else worker.reason.value,
            watchdog=worker.watchdog,
            grace=worker.grace,
            stop_signal=worker.stop_signal,
            wants=worker.wants.value if worker.wants is Cause.REQUESTED else "",
            limit=worker.limit,
            ceiling=worker.ceiling,
            gives=worker.gives,
            give_at=worker.give_at,
            gifts=worker.gifts,
            given=worker.given,
            whole=self._families.get(worker.id) is not None,
            line=self._scoreboard.line(worker.id),
            zygote=(parent.revision, parent.number) if isinstance(parent, ZygoteId) else None,
        )

    def take(
        self, left: Handover, kept: KeptProcesses | None, among: Callable[[], Container[int]]
    ) -> set[WorkerId]:
        """Go on with what a predecessor has left; which of its workers are there.

        `kept` is given if that was in this process. `among` gives the pids in our control group.
        """
        executing = {} if kept is None else kept.executing
        awaited = () if kept is None else kept.awaited
        lines = {}
        for each in left.zygotes:
            identity = ZygoteId(each.revision, each.number)
            self._groups.take_zygote(identity, _label(identity))
            child = find(each.pid, each.start, among)
            if child is not None:
                self._registry.add(identity, child, await_exec=False)
            elif kept is None:
                self._gone[identity] = Child(pid=each.pid, pidfd=-1, exec_fd=-1, ended=True)
        for worker in left.workers:
            who = WorkerId(worker.slot, worker.generation)
            child = find(worker.pid, worker.start, among)
            if child is None:
                continue
            child.exec_fd = executing.get(worker.pid, -1)
            parent = None if worker.zygote is None else ZygoteId(*worker.zygote)
            self._registry.add(who, child, await_exec=worker.pid in awaited, parent=parent)
            group = self._groups.take(
                who, f"{who.slot}.{who.generation}", limit=worker.limit, ceiling=worker.ceiling
            )
            if worker.whole:
                stopping = worker.stop_at is not None
                folder = os.path.dirname(group)
                self._families.add(who, child, folder, worker.stop_signal, worker.grace, told=stopping)
            if worker.line is not None:
                lines[who] = worker.line
            if worker.gives and kept is None:
                self._watches.find(who, f"{who.slot}.{who.generation}")
        if kept is not None:
            self._resume(kept, lines)
        for parent in [each for each in self._gone if not self._registry.forked_from(each)]:
            self._retire(parent)
        return {process.name for process in self._registry if isinstance(process.name, WorkerId)}

    def _resume(self, kept: KeptProcesses, lines: Mapping[WorkerId, int]) -> None:
        children = {process.child.pid: process.child for process in self._registry}
        self._nursery.resume(kept.nursery, children, lambda name: WorkerId(*name))
        self._families.resume(kept.families, lambda name: WorkerId(*name))
        self._asked = {WorkerId(slot, generation): seconds for slot, generation, seconds in kept.asked}
        for each in kept.gone:
            ended = Child(pid=0, pidfd=-1, exec_fd=-1, ended=True)
            ended.left = list(system.hold(each.left).values())
            self._gone[ZygoteId(each.revision, each.number)] = ended
            self._groups.take_zygote(ZygoteId(each.revision, each.number), f"{each.revision}.{each.number}")
        self._watches.resume(kept.watches, lambda label: WorkerId(*map(int, label.split("."))))
        for who in [each for each in self._watches if self.pid(each) is None and not self.awaits(each)]:
            self._watches.drop(who)
        if kept.scoreboard >= 0:
            self._scoreboard.resume(kept.scoreboard, kept.scoreboard_used, lines)
        pages = {WorkerId(slot, generation): page for slot, generation, page in kept.boards}
        there = {each for each in pages if self._registry.pid(each) is not None or self._nursery.awaits(each)}
        self._boards.resume(pages, there)

    def strangers(self) -> set[int]:
        """The pids in groups that a predecessor has made, and nobody has taken."""
        return self._groups.strangers()

    def clear(self, pids: Collection[int], grace: float, *, at_once: bool) -> int:
        """End what a predecessor has left and nobody has taken, `at_once` or when others serve; how many those are."""
        self._watches.sweep()
        self._groups.clear(gently=bool(pids))
        self._leftovers = Leftovers(pids, grace, self._groups.clear)
        if at_once:
            self._leftovers.sweep(serving=True)
        return len(self._leftovers)

    def kept(self) -> KeptProcesses:
        """What a successor in this process has to know besides."""
        # Programs have been killed by then, and their ends are told to nobody.
        lasting = [process for process in self._registry if not isinstance(process.name, ProgramId)]
        alive = [process for process in lasting if process.child.exec_fd >= 0]
        executing = {each.child.pid: each.child.exec_fd for each in alive if not each.child.executed()}
        gone = [
            KeptZygoteEnd(
                revision=who.revision, number=who.number, left=tuple(map(system.pid_of, child.left))
            )
            for who, child in self._gone.items()
        ]
        return KeptProcesses(
            nursery=self._nursery.kept(),
            executing=executing,
            awaited=tuple(each.child.pid for each in alive if each.awaited and each.child.pid in executing),
            asked=tuple((*who, seconds) for who, seconds in self._asked.items()),
            gone=tuple(gone),
            families=self._families.kept(),
            watches=self._watches.kept(),
            scoreboard=self._scoreboard.fileno(),
            scoreboard_used=self._scoreboard.used,
            boards=tuple((*who, page) for who, page in self._boards.kept().items()),
        )

    def awaits(self, who: WorkerId) -> bool:
        """Whether a worker was asked for, and is still to come; or its first process has ended, and not the others."""
        return self._nursery.awaits(who) or self._families.waits_for(who)

    def close(self) -> None:
        """Kill what is left, but for a zygote that has something to do once its workers have gone, and does it now."""
        self._families.close()
        self._leftovers.end()
        self._nursery.keep(())
        if not self._serving():
            for each in self._registry.await_ends(self._nursery.lingering, PATIENCE):
                if isinstance(each, ZygoteId):
                    self._report.warn(Message.MASTER_STOPPING, _unfinished(self._registry.pid(each)))
            self._registry.await_ends(self._nursery.aborted, SHORT_PATIENCE)
        self._nursery.close()
        self.programs.close()
        self._registry.close()
        self._groups.close()
        self._watches.close()
        self._scoreboard.close()
        self._boards.close()

    def _let_go(self, who: WorkerId) -> None:
        """It has not come to be."""
        self._scoreboard.release(who)
        self._boards.release(who)
        self._watches.drop(who)

    def _send(self, who: WorkerId, signum: int) -> None:
        try:
            self._registry.signal(who, signum)
        except PermissionError:
            self._refused(who, signum)

    def _refused(self, who: WorkerId, signum: int) -> None:
        """By a set-user-ID program, as sudo(8)."""
        worker = f"Worker {who.slot}.{who.generation} (pid {self.pid(who)})"
        text = (
            f"{worker} can't be sent {signal.Signals(signum).name}: it has become another user's. It is killed "
            "when its time is over, if it has a group of its own; let User= of the unit choose the user"
        )
        self._report.warn(Message.WORKER_STOPPING, text)

    def _place_zygote(self, identity: ZygoteId) -> str:
        return self._groups.place_zygote(identity, _label(identity))

    def _serving(self) -> bool:
        """Whether a worker that a zygote has forked is there."""
        return any(process.parent is not None for process in self._registry)

    def _retire(self, zygote: Hashable) -> None:
        if not isinstance(zygote, ZygoteId) or self._registry.forked_from(zygote):
            return
        self._nursery.bereaved(zygote)
        if zygote in self._gone:
            self._gone.pop(zygote).end_left()
            self._groups.retire_zygote(zygote)


def _label(identity: ZygoteId) -> str:
    return f"{identity.revision}.{identity.number}"


def _declined(hazards: tuple[str, ...]) -> Journal:
    text = (
        f"The app is not preloaded: {'; '.join(hazards)}. Each worker imports the app for itself, after this one "
        "import to find out. To have it preloaded, do that in a function that app.after_fork names"
    )
    return Journal(kind=Message.PRELOAD_DECLINED, message=text)


def _unfinished(pid: int | None) -> str:
    return (
        f"The zygote (pid {pid}) is killed: what the app's import wants done at its end (atexit, finalizers) has taken "
        f"{PATIENCE:.0f} s and is not done. All workers had ended; let it finish sooner"
    )


def _abandoned(who: WorkerId, pid: int, left: list[int], stop_signal: int) -> str:
    some = ", ".join(map(str, left[:_MOST_NAMED])) + (" and more" if len(left) > _MOST_NAMED else "")
    return (
        f"Worker {who.slot}.{who.generation} (pid {pid}) has ended and left {len(left)} of its processes ({some}): "
        f"they are sent {signal.Signals(stop_signal).name}, and killed after stop.grace. A command has to stay in the "
        "foreground: say so to its program, or exec it in the wrapper"
    )


def _lost(event: Lost, *, serving: bool) -> Journal:
    workers = "The workers go on serving" if serving else "There was no worker"
    text = f"{event.how[0].upper()}{event.how[1:]} (pid {event.pid}). {workers}"
    another = "another has been started" if event.retry is None else "another is started"
    after = f" in {event.retry:.1f} s" if event.retry else ""
    fields = {"MEMUNIT_ZYGOTE_PID": event.pid}
    return Journal(kind=Message.ZYGOTE_LOST, message=f"{text}; {another}{after}", fields=fields)


def _describe(error: OSError) -> str:
    text = error.strerror or str(error)
    return f"{error.filename}: {text}" if error.filename else text


def _in_work(who: WorkerId, said: board.Board) -> list[f.Fact]:
    if not (said.in_work or said.unlisted):
        return []
    now = time.monotonic()
    longest = [(each.route, max(0.0, now - each.begun)) for each in said.in_work[:_MOST_REQUESTS]]
    return [f.InWork(who, len(said.in_work) + said.unlisted, tuple(longest))]
