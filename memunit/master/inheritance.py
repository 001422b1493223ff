"""What a master leaves of its processes to a successor, and takes of a predecessor's."""

import os
from collections.abc import Callable, Collection, Container, Iterable, Mapping

from memunit.core.handover import Handover, LeftWorker, LeftZygote
from memunit.core.left import left_of
from memunit.core.model import Worker, WorkerId
from memunit.master.belongings import Belongings
from memunit.master.families import Families
from memunit.master.groups import Groups
from memunit.master.held import find
from memunit.master.kept import KeptProcesses
from memunit.master.leftovers import Leftovers
from memunit.master.nursery import ZygoteId
from memunit.master.programs import ProgramId
from memunit.master.registry import Process, Registry
from memunit.master.zygotes import Zygotes, left_zygote

Name = WorkerId | ZygoteId | ProgramId[WorkerId]


class Inheritance:
    """Of all that one master keeps of its processes."""

    def __init__(
        self,
        registry: Registry[Name],
        groups: Groups[WorkerId],
        zygotes: Zygotes,
        families: Families[WorkerId],
        belongings: Belongings,
    ) -> None:
        self._registry, self._groups, self._zygotes = registry, groups, zygotes
        self._families, self._belongings = families, belongings
        self.leftovers = Leftovers((), 0.0, groups.clear)
        """What a predecessor has left and nobody has taken."""

    def left(self, workers: Iterable[Worker]) -> tuple[tuple[LeftWorker, ...], tuple[LeftZygote, ...]]:
        """What a successor has to know of each that is there."""
        known = {worker.id: worker for worker in workers}
        left, zygotes = [], []
        for process in self._registry:
            who = process.name
            if isinstance(who, ZygoteId):
                zygotes.append(left_zygote(who, process))
            elif who in known:
                left.append(self._left(known[who], process))
        return tuple(left), tuple(zygotes)

    def _left(self, worker: Worker, process: Process[Name]) -> LeftWorker:
        parent = process.parent
        return left_of(
            worker,
            pid=process.child.pid,
            start=process.start,
            whole=self._families.get(worker.id) is not None,
            line=self._belongings.line(worker.id),
            zygote=(parent.revision, parent.number) if isinstance(parent, ZygoteId) else None,
        )

    def take(
        self,
        left: Handover,
        kept: KeptProcesses | None,
        among: Callable[[], Container[int]],
        known: Mapping[WorkerId, Worker],
    ) -> set[WorkerId]:
        """Go on with what a predecessor has left; which of its workers are there.

        `kept` is given if that was in this process. `among` gives the pids in our control group. `known` are the
        workers that policy knows.
        """
        executing = {} if kept is None else kept.executing
        to_execute = () if kept is None else kept.awaited
        lines = {}
        for each in left.zygotes:
            self._zygotes.take(each, among, kept=kept is not None)
        for worker in left.workers:
            who = WorkerId(worker.slot, worker.generation)
            child = find(worker.pid, worker.start, among)
            if child is None:
                continue
            child.exec_fd = executing.get(worker.pid, -1)
            parent = None if worker.zygote is None else ZygoteId(*worker.zygote)
            self._registry.add(who, child, await_exec=worker.pid in to_execute, parent=parent)
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
                self._belongings.find_watch(who, f"{who.slot}.{who.generation}")
        if kept is not None:
            self._zygotes.resume(kept)
            self._await_groups(kept, known)
            self._families.resume(kept.families, lambda name: WorkerId(*name))
            self._belongings.resume(kept, lines, self._there)
        self._zygotes.retire_all()
        return {process.name for process in self._registry if isinstance(process.name, WorkerId)}

    def _await_groups(self, kept: KeptProcesses, known: Mapping[WorkerId, Worker]) -> None:
        """A worker that its zygote was asked for moves into a group that is there already, or has moved by now."""
        for slot, generation, _ in kept.asked:
            worker = known.get(WorkerId(slot, generation))
            if worker is not None and self._groups.get(worker.id) is None:
                label = f"{slot}.{generation}"
                self._groups.take(worker.id, label, limit=worker.limit, ceiling=worker.ceiling)

    def clear(self, pids: Collection[int], grace: float, *, at_once: bool) -> int:
        """End what a predecessor has left and nobody has taken, `at_once` or when others serve; how many those are."""
        self._belongings.sweep()
        self._groups.clear(gently=bool(pids))
        self.leftovers = Leftovers(pids, grace, self._groups.clear)
        if at_once:
            self.leftovers.sweep(serving=True)
        return len(self.leftovers)

    def kept(self) -> KeptProcesses:
        """What a successor in this process has to know besides."""
        # Programs have been killed by then, and their ends are told to nobody.
        lasting = [process for process in self._registry if not isinstance(process.name, ProgramId)]
        alive = [process for process in lasting if process.child.exec_fd >= 0]
        executing = {each.child.pid: each.child.exec_fd for each in alive if not each.child.executed()}
        kept = KeptProcesses(
            executing=executing,
            awaited=tuple(each.child.pid for each in alive if each.awaited and each.child.pid in executing),
            families=self._families.kept(),
        )
        return self._belongings.kept(self._zygotes.kept(kept))

    def _there(self, who: WorkerId) -> bool:
        """Whether it is, or is still to come."""
        return (
            self._registry.pid(who) is not None or self._zygotes.awaits(who) or self._families.waits_for(who)
        )
