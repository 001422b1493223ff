"""The zygotes among the processes of the master: what each is asked for and has answered, its end, and its loss."""

import select
from collections.abc import Callable, Collection, Container, Hashable, Iterator, Mapping
from functools import partial
from typing import Any

from memunit.core.actions import Journal
from memunit.core.handover import LeftZygote
from memunit.core.messages import Message
from memunit.core.model import WorkerId
from memunit.master import oom, proctree
from memunit.master.child import Launch
from memunit.master.groups import Groups
from memunit.master.held import Child, End, find
from memunit.master.kept import KeptProcesses, KeptZygoteEnd
from memunit.master.nursery import (
    Apart,
    Declined,
    Forked,
    Imported,
    Lost,
    Nursery,
    Refused,
    Started,
    Warned,
    ZygoteId,
)
from memunit.master.registry import Process, Registry
from memunit.master.report import Reporter
from memunit.master.setting import Setting
from memunit.master.zygote import PATIENCE, SHORT_PATIENCE
from memunit.records import replace

_REMEDY = "do it in a function that app.after_fork names, or say preload = false"

Outcome = Forked[WorkerId] | Refused[WorkerId] | Apart[WorkerId]


class Zygotes:
    """Each is in `registry` while it is there, and stays known here until its last worker has ended."""

    def __init__(
        self,
        setting: Setting,
        epoll: select.epoll,
        groups: Groups[WorkerId],
        registry: Registry[Any],
        report: Reporter,
        delay: Callable[[int], float],
    ) -> None:
        """`delay` gives the seconds to wait after so many losses of a zygote in a row."""
        self._groups, self._registry, self._report = groups, registry, report
        self._nursery: Nursery[WorkerId] = Nursery(epoll, setting.start, delay, self._place, registry.knows)
        # How long each that a zygote was asked for may take to start.
        self._asked: dict[WorkerId, float] = {}
        self._gone: dict[ZygoteId, Child] = {}
        self._lost: list[Lost] = []
        if setting.ahead:
            self._place(ZygoteId(1, 0))

    @property
    def due(self) -> float:
        """When there is something to do of itself, in seconds of CLOCK_MONOTONIC."""
        return self._nursery.due

    def may_have_forked(self, pid: int) -> bool:
        """See Zygote."""
        return self._nursery.may_have_forked(pid)

    def request(
        self,
        revision: int,
        launch: Launch,
        who: WorkerId,
        own: Mapping[str, str],
        start_timeout: float,
        *,
        careful: bool,
    ) -> None:
        """Ask for a worker, which may take `start_timeout` seconds; an outcome follows. See Nursery."""
        self._asked[who] = start_timeout
        self._nursery.request(revision, launch, who, own, careful=careful)

    def signal(self, who: WorkerId, signum: int) -> bool:
        """A signal for a worker that is still awaited; False if it is not."""
        return self._nursery.signal(who, signum)

    def outcomes(self) -> Iterator[Outcome]:
        """What came of the requests since the last call; `answered` is to be called for each.

        What there is to do or to tell of the zygotes themselves is done meanwhile.
        """
        for event in self._nursery.events():
            match event:
                case Started(identity, child):
                    self._registry.add(identity, child, await_exec=False)
                case Imported(identity):
                    self._groups.settle_zygote(identity)
                    oom.as_the_master(partial(self._started_by, identity))
                case Declined(hazards):
                    self._report.entry(_declined(hazards))
                case Warned(text):
                    self._report.warn(
                        Message.PRELOAD_UNSAFE, f"Preloading may not be safe: {text}; {_REMEDY}"
                    )
                case Lost():
                    self._lost.append(event)
                case Forked() | Refused() | Apart():
                    yield event

    def answered(self, who: WorkerId) -> float:
        """It was asked for, and is awaited no more; the seconds that it may take to start."""
        return self._asked.pop(who, 0.0)

    def awaits(self, who: WorkerId) -> bool:
        """Whether a worker was asked for, and is still to come."""
        return self._nursery.awaits(who)

    def overheard(self, who: ZygoteId, status: str) -> None:
        """Take the STATUS= of a zygote: why it fails, if its socket is closed."""
        self._nursery.overheard(who, status)

    def ended(self, who: ZygoteId, child: Child, end: End, failure: OSError | None) -> None:
        """A zygote was reaped. Outcomes may follow; after them, `retire` is to be called."""
        starved = self._groups.starved_zygote(who)
        if self._nursery.has(who):
            self._gone[who] = self._nursery.ended(who, end, failure, starved=starved)
        else:
            # A predecessor's, which has closed its socket with its end.
            self._gone[who] = child

    def retire(self, zygote: Hashable) -> None:
        """The last worker of this zygote may have ended, or it itself: then nobody needs what it has left."""
        if not isinstance(zygote, ZygoteId) or self._registry.forked_from(zygote):
            return
        self._nursery.bereaved(zygote)
        if zygote in self._gone:
            self._gone.pop(zygote).end_left()
            self._groups.retire_zygote(zygote)

    def retire_all(self) -> None:
        """Likewise for each that has ended."""
        for zygote in list(self._gone):
            self.retire(zygote)

    def keep(self, revisions: Collection[int]) -> None:
        """Let go of the zygotes of all other revisions."""
        self._nursery.keep(revisions)

    def end_pass(self, *, stopping: bool) -> None:
        """Tell of those that were lost, and replace those whose time has come."""
        # Not before: a stop of the unit reaches zygotes too, and such an end is no loss.
        for lost in () if stopping else self._lost:
            self._report.entry(_lost(lost, serving=self._serving()))
        self._lost.clear()
        self._nursery.renew()

    def take(self, left: LeftZygote, among: Callable[[], Container[int]], *, kept: bool) -> None:
        """Go on with one of a predecessor's; `kept` if that was in this process, and `resume` follows."""
        identity = ZygoteId(left.revision, left.number)
        self._groups.take_zygote(identity, label(identity))
        child = find(left.pid, left.start, among)
        if child is not None:
            self._registry.add(identity, child, await_exec=False)
        elif not kept:
            self._gone[identity] = Child(pid=left.pid, pidfd=-1, exec_fd=-1, ended=True)

    def resume(self, kept: KeptProcesses) -> None:
        """Go on with what a predecessor in this process has kept of them, once all of its processes are taken."""
        children = {process.child.pid: process.child for process in self._registry}
        self._nursery.resume(kept.nursery, children, lambda name: WorkerId(*name))
        self._asked = {WorkerId(slot, generation): seconds for slot, generation, seconds in kept.asked}
        for each in kept.gone:
            ended = Child(pid=0, pidfd=-1, exec_fd=-1, ended=True)
            ended.left = list(proctree.hold(each.left).values())
            identity = ZygoteId(each.revision, each.number)
            self._gone[identity] = ended
            self._groups.take_zygote(identity, label(identity))

    def kept(self, others: KeptProcesses) -> KeptProcesses:
        """What a successor in this process has to know, with that of `others`."""
        gone = [
            KeptZygoteEnd(
                revision=who.revision, number=who.number, left=tuple(map(proctree.pid_of, child.left))
            )
            for who, child in self._gone.items()
        ]
        asked = tuple((*who, seconds) for who, seconds in self._asked.items())
        return replace(others, nursery=self._nursery.kept(), asked=asked, gone=tuple(gone))

    def close(self) -> None:
        """Let go of all zygotes. One whose workers have gone may first run its finalizers, for PATIENCE seconds."""
        self._nursery.keep(())
        if not self._serving():
            for each in self._registry.await_ends(self._nursery.lingering, PATIENCE):
                self._report.warn(Message.MASTER_STOPPING, _unfinished(self._registry.pid(each)))
            self._registry.await_ends(self._nursery.aborted, SHORT_PATIENCE)
        self._nursery.close()

    def _place(self, identity: ZygoteId) -> str:
        return self._groups.place_zygote(identity, label(identity))

    def _started_by(self, identity: ZygoteId) -> Collection[int]:
        """The pids of what the import of a zygote has started; without groups, no daemon is among them."""
        pid = self._registry.pid(identity)
        descendants = [] if pid is None else proctree.descendants(pid)
        return {*descendants, *self._groups.members_of_zygote(identity)}

    def _serving(self) -> bool:
        """Whether a worker that a zygote has forked is there."""
        return any(process.parent is not None for process in self._registry)


def left_zygote(who: ZygoteId, process: Process[Any]) -> LeftZygote:
    """What a successor has to know of it."""
    return LeftZygote(revision=who.revision, number=who.number, pid=process.child.pid, start=process.start)


def label(identity: ZygoteId) -> str:
    """What its group is called by."""
    return f"{identity.revision}.{identity.number}"


def _declined(hazards: tuple[str, ...]) -> Journal:
    text = (
        f"The app is not preloaded: {'; '.join(hazards)}. Each worker imports the app itself, after this "
        "first import, which was the check. To preload the app, do these things in a function that app.after_fork names"
    )
    return Journal(kind=Message.PRELOAD_DECLINED, message=text)


def _unfinished(pid: int | None) -> str:
    return (
        f"The zygote (pid {pid}) is killed: the clean-up of the app's import (atexit, finalizers) has not finished in "
        f"{PATIENCE:.0f} s after the end of the last worker. Make the clean-up shorter"
    )


def _lost(event: Lost, *, serving: bool) -> Journal:
    workers = "The workers go on serving" if serving else "There was no worker"
    text = f"{event.how[0].upper()}{event.how[1:]} (pid {event.pid}). {workers}"
    another = "another has been started" if event.retry is None else "another is started"
    after = f" in {event.retry:.1f} s" if event.retry else ""
    fields = {"MEMUNIT_ZYGOTE_PID": event.pid}
    return Journal(kind=Message.ZYGOTE_LOST, message=f"{text}; {another}{after}", fields=fields)
