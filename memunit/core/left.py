"""A worker as its master leaves it to the one after it; adoption.py makes a worker of that again."""

from memunit.core.handover import LeftWorker
from memunit.core.model import Cause, Worker


def left_of(
    worker: Worker, *, pid: int, start: int, whole: bool, line: int | None, zygote: tuple[int, int] | None
) -> LeftWorker:
    """What a successor has to know of it: policy's own, and what its process is; see LeftWorker."""
    return LeftWorker(
        slot=worker.id.slot,
        generation=worker.id.generation,
        pid=pid,
        start=start,
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
        whole=whole,
        line=line,
        zygote=zygote,
    )
