"""What workers hold and what is free, as facts: the sensors look, and policy's state says at whom and how."""

from collections.abc import Collection

from memunit.core import facts as f
from memunit.core.messages import Message
from memunit.core.model import Headroom, Phase, Worker, WorkerId
from memunit.core.state import State
from memunit.core.wording import squeezed
from memunit.master.groups import Groups
from memunit.master.report import Reporter
from memunit.master.revisions import Revisions
from memunit.master.sampling import Sample, memory_available
from memunit.master.sensors import Sensors, Watched


class Measuring:
    """Of all workers of one master."""

    def __init__(self, groups: Groups[WorkerId], revisions: Revisions, report: Reporter) -> None:
        self.sensors: Sensors[WorkerId] = Sensors(groups)
        self._revisions, self._report = revisions, report

    def facts(self, ready: Collection[int], state: State) -> list[f.Fact]:
        """What is to be looked at now; `ready` are the descriptors of which epoll has told."""
        if not self.sensors.wanted(ready):
            return []
        workers = state.workers.values()
        watched = [
            self._watched(each, state)
            for each in workers
            if each.pid and each.phase is not Phase.STOP_SIGKILL
        ]
        interval = self._revisions[state.revision].interval
        facts = _sampled(self.sensors.look(watched, ready, interval))
        if self.sensors.bound is not None:
            self._report.warn(Message.CONFIGURATION, squeezed(self.sensors.bound))
        return [*facts, f.MemoryPressure()] if self.sensors.pressed else facts

    def measure(self, who: WorkerId, state: State) -> list[f.Fact]:
        """What this one holds now, if it is there."""
        if who not in state.workers:
            return []
        return _sampled(self.sensors.measure(self._watched(state.workers[who], state)))

    def _watched(self, worker: Worker, state: State) -> Watched[WorkerId]:
        # Judged by the numbers of its own configuration, so measured by its metric too.
        configuration = self._revisions.of(worker, state.revision)
        return Watched(
            name=worker.id,
            pid=worker.pid,
            limit=worker.limit,
            ceiling=worker.ceiling,
            metric=configuration.metric,
            interval=configuration.interval,
            over=worker.over_since is not None,
            draining=worker.phase is Phase.STOP_SIGTERM,
        )


def available() -> list[f.Fact]:
    """How much memory is free now."""
    room = memory_available()
    # Nothing could be read, as with ProcSubset=pid: then nothing is known, and that is not "none is free".
    return [f.MemoryAvailable(Headroom(*room))] if room.total else []


def _sampled(samples: list[tuple[WorkerId, Sample]]) -> list[f.Fact]:
    return [f.Sampled(who, sample.bytes, sample.metric) for who, sample in samples]
