"""What a sample says of the limit itself: that it is too low for the app, or that a recycle did not help."""

from dataclasses import replace

from memunit.core import memory, wording
from memunit.core.model import Cause, Phase, Worker
from memunit.core.quantity import format_size
from memunit.core.turn import ERROR, WARNING, Turn, needed_by

# A worker this many times as big as the others are on the average goes early when memory is short.
FAT = 1.25
# Memory is short when less than this share of it is free. A worker that waits at its own trip-wire, for its own page
# cache, counts as pressure too, and there may be plenty.
SHORT = 1 / 8


def judge(turn: Turn, before: Worker, worker: Worker) -> None:
    """A sample has made `worker` of `before`."""
    if before.baseline is None and worker.baseline is not None:
        _baseline(turn, worker)
    if before.over_since is None and worker.over_since is not None:
        _unhelped(turn, worker)
    elif worker.ready_at is not None and turn.now - worker.ready_at >= turn.state.policy.min_lifetime:
        slot = turn.slot(worker.id.slot)
        if slot.unhelped and worker.over_since is None:
            turn.slots[slot.index] = replace(slot, unhelped=False)


def relieve(turn: Turn) -> None:
    """Memory is short: the biggest goes early, if it is much bigger than the others are, and one at a time.

    Workers that are all alike are as big as the app needs them: to replace them would cost memory and give none.
    """
    state = turn.state
    if state.stopping:
        return
    for worker in _starving(turn):
        turn.order(worker, reverse=True, moment="is ready")
        turn.stop(worker, turn.why(worker) or Cause.PRESSURE)
    if state.rollout is not None or turn.surging() or turn.running() < state.count:
        return
    running = {
        w: w.memory for w in turn.workers.values() if w.phase is Phase.RUNNING and w.memory is not None
    }
    if len(running) < 2 or any(w.wants is not None for w in running):
        return
    biggest = max(running, key=lambda w: running[w])
    room = state.headroom
    if room is not None and room.available >= max(SHORT * room.total, running[biggest]):
        return
    others = [size for w, size in running.items() if w is not biggest]
    assert biggest.ready_at is not None
    young = turn.now - biggest.ready_at < memory.least_age(state.policy, turn.slot(biggest.id.slot))
    if not young and running[biggest] > FAT * sum(others) / len(others):
        turn.put(biggest, wants=Cause.PRESSURE, decided_memory=biggest.memory)


def _starving(turn: Turn) -> list[Worker]:
    """Who is replaced for its memory, and has taken what its replacement needs to start.

    One that leaks on would have it wait in vain for all of start_timeout.
    """
    room, found = turn.state.headroom, []
    for heir in turn.workers.values():
        for old in turn.in_slot(heir.id.slot) if heir.phase is Phase.STARTING else ():
            need = (needed_by(old) or 0) - (heir.memory or 0)
            hungry = old.phase is Phase.RUNNING and turn.why(old) in (Cause.MEMORY_LIMIT, Cause.PRESSURE)
            if hungry and room is not None and room.available < need:
                found.append(old)
    return found


def _baseline(turn: Turn, worker: Worker) -> None:
    """Over the limit already when it became ready: no recycle can help."""
    slot = turn.slot(worker.id.slot)
    if not memory.over_baseline(worker):
        if slot.futile:
            turn.slots[slot.index] = replace(slot, futile=0)
        return
    slot = replace(slot, futile=slot.futile + 1)
    turn.slots[slot.index] = slot
    if turn.state.baseline_reported:
        return
    turn.change(baseline_reported=True)
    age = memory.least_age(turn.state.policy, slot)
    text = (
        f"memory.limit is below what the app needs to start: {wording.name(worker)} had "
        f"{wording.usage(worker)} when it became ready. "
        f"A recycle can't help, so there is none before {age:.0f} s, and fewer each time; raise memory.limit"
    )
    turn.journal("BASELINE_OVER_LIMIT", ERROR, text, _fields(worker))


def _unhelped(turn: Turn, worker: Worker) -> None:
    """At the limit again within the minimum lifetime: said once, until one of the slot has lived longer."""
    slot, policy = turn.slot(worker.id.slot), turn.state.policy
    if worker.ready_at is None or not slot.recycled or slot.unhelped or memory.over_baseline(worker):
        return
    age = turn.now - worker.ready_at
    if age >= policy.min_lifetime:
        return
    turn.slots[slot.index] = replace(slot, unhelped=True)
    began = "" if worker.baseline is None else f", from {format_size(worker.baseline)} at its start"
    text = (
        f"The recycle did not help: {wording.name(worker)} is at {wording.usage(worker)} again "
        f"{wording.seconds(age)} after it became ready{began}. It is no leak if one request needs that much: "
        "raise memory.limit, or find that request"
    )
    turn.journal("RECYCLE_DID_NOT_HELP", WARNING, text, _fields(worker))


def _fields(worker: Worker) -> dict[str, str | int]:
    assert worker.memory is not None
    assert worker.limit is not None
    return wording.worker_fields(worker) | {
        "MEMUNIT_MEMORY_BYTES": worker.memory,
        "MEMUNIT_LIMIT_BYTES": worker.limit,
    }
