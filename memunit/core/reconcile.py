"""Desired against actual, once a pass: fire what is due, fill empty slots, replace what wants replacing.

    starting --READY=1--> running --(a replacement is READY)--> stop-sigterm --exit--> dead
        |                    |                                       |
        +--start timeout-----+--watchdog (SIGABRT)-------------------+--kill timer--> stop-sigkill --> dead

Never more than `surge` workers beyond one a slot, drainers counted: two at once would be the very peak that the
limit is there to prevent.
"""

import math
from dataclasses import replace

from memunit.core import memory, stopping, wording
from memunit.core.actions import Finish, NotifyReady, ReloadResult, UseRevision
from memunit.core.backoff import jitter
from memunit.core.budget import OWN, needed
from memunit.core.model import Cause, Phase, Slot, Worker
from memunit.core.quantity import format_size
from memunit.core.transitions import become_ready
from memunit.core.turn import ERROR, NOTICE, WARNING, Turn

# Seconds from READY without a sample until memory counts as not to be measured.
BLIND = 5.0
# max_age is spread too, so that workers started together do not grow old together.
AGE_SPREAD = 0.1


def fire_timers(turn: Turn) -> None:
    """Whatever is due by now, worker by worker."""
    for worker in list(turn.workers.values()):
        if turn.now >= worker.timer:
            _timer(turn, worker)
        elif turn.now >= worker.watchdog_at:
            turn.abort(worker, Cause.WATCHDOG)
        elif worker.phase is Phase.RUNNING and not turn.state.stopping:
            _judge(turn, worker)


def _timer(turn: Turn, worker: Worker) -> None:
    if worker.on_probation:
        become_ready(turn, worker)
    elif worker.phase is Phase.STARTING:
        turn.abort(worker, Cause.START_TIMEOUT)
    elif worker.phase is Phase.STOP_SIGTERM:
        turn.kill(worker, Cause.GRACE_EXPIRED)
    elif worker.phase is Phase.STOP_SIGKILL:
        # Still there after SIGKILL: in an uninterruptible sleep. It must not hold up the stop of the unit.
        turn.put(worker, timer=math.inf)
        if turn.state.stopping:
            turn.end(worker, "stuck", 9)


def _judge(turn: Turn, worker: Worker) -> None:
    policy = turn.state.policy
    if worker.wants is not None and worker.wants is not Cause.MEMORY_LIMIT:
        return
    due = memory.recycle_at(policy, turn.slot(worker.id.slot), worker)
    if turn.now >= due:
        if worker.wants is None:
            turn.put(worker, wants=Cause.MEMORY_LIMIT, decided_memory=worker.memory)
    elif worker.wants is not None and not _has_heir(turn, worker):
        # It fell below the limit before its turn came: a spike, not a leak.
        turn.put(worker, wants=None, decided_memory=None)
    elif worker.wants is None and turn.now >= old_at(turn, worker):
        turn.put(worker, wants=Cause.MAX_AGE)


def old_at(turn: Turn, worker: Worker) -> float:
    if worker.ready_at is None or math.isinf(turn.state.policy.max_age):
        return math.inf
    spread = AGE_SPREAD * jitter(turn.state.seed, *worker.id, 1)
    return worker.ready_at + turn.state.policy.max_age * (1 - spread)


def _has_heir(turn: Turn, worker: Worker) -> bool:
    return any(w.phase is Phase.STARTING for w in turn.in_slot(worker.id.slot))


def places(turn: Turn) -> int:
    """How many slots are to be filled. During a reload none is given up: the old app may have to go on."""
    rollout = turn.state.rollout
    return turn.state.count if rollout is None else max(turn.state.count, rollout.previous.count)


def reconcile(turn: Turn) -> None:
    """Bring the workers nearer to what is wanted."""
    if not turn.state.stopping:
        # First, or what is started in the same pass has to be stopped again.
        stopping.give_up(turn)
    if not turn.state.stopping:
        _retire_slots(turn)
        _fill_slots(turn)
        _replace(turn)
        _finish_rollout(turn)
        _report_ready(turn)
        _report_blind(turn)
    if turn.state.stopping and not turn.workers and not turn.state.finished:
        turn.change(finished=True)
        turn.do(Finish(turn.state.exit_code))


def _retire_slots(turn: Turn) -> None:
    for worker in list(turn.workers.values()):
        if worker.id.slot >= places(turn) and worker.serving:
            turn.stop(worker, Cause.SCALE_DOWN)


def _fill_slots(turn: Turn) -> None:
    """Every empty slot gets a worker, when its backoff allows; while nothing serves, the gate decides for all."""
    while len(turn.slots) < places(turn):
        turn.slots.append(Slot(index=len(turn.slots)))
    gate = turn.state.gate
    closed = gate.failures > 0 and not turn.running()
    for index in range(places(turn)):
        if not _empty(turn, index):
            continue
        if closed:
            probing = any(w.phase is Phase.STARTING for w in turn.workers.values())
            if not probing and turn.now >= max(gate.retry_at, turn.slot(index).retry_at):
                turn.spawn(index)
        elif turn.now >= turn.slot(index).retry_at:
            turn.spawn(index)


def _empty(turn: Turn, index: int) -> bool:
    here = turn.in_slot(index)
    drainers = sum(not w.serving and math.isfinite(w.timer) for w in here)
    # Workers that stop by themselves and do not go must not pile up for all of grace.
    return drainers <= max(turn.state.policy.surge, 1) and not any(
        w.serving or stopping.holds_slot(w) for w in here
    )


def _replace(turn: Turn) -> None:
    """Start replacements, the most urgent first, as many as the surge has room for."""
    state = turn.state
    wanting = [
        w
        for w in turn.workers.values()
        if w.phase is Phase.RUNNING and w.id.slot < state.count and turn.why(w) is not None
    ]
    wanting.sort(key=lambda w: _urgency(turn, w))
    for worker in wanting:
        reason = turn.why(worker)
        assert reason is not None
        if _has_heir(turn, worker) or turn.now < turn.slot(worker.id.slot).retry_at:
            continue
        if turn.surging() >= max(state.policy.surge, 1):
            return
        if turn.room_for_surge(worker):
            turn.spawn(worker.id.slot)
        elif turn.surging() == 0 and turn.running() >= places(turn):
            # The order is reversed: the old one makes room first, one slot at a time.
            turn.stop(worker, reason, holds_slot=True)


def _urgency(turn: Turn, worker: Worker) -> tuple[int, int]:
    rank = 0 if turn.why(worker) in (Cause.MEMORY_LIMIT, Cause.PRESSURE) else 1
    return rank, -(worker.memory or 0)


def _finish_rollout(turn: Turn) -> None:
    rollout = turn.state.rollout
    if rollout is None:
        return
    fresh = {
        w.id.slot
        for w in turn.workers.values()
        if w.phase is Phase.RUNNING and w.revision == turn.state.revision and w.id.slot < turn.state.count
    }
    if len(fresh) < turn.state.count:
        return
    turn.change(rollout=None, trouble="", reload_trouble="")
    took = turn.now - rollout.began
    verb = "is" if turn.state.count == 1 else "are"
    text = f"Reloaded: {wording.workers(turn.state.count)} of the new configuration {verb} ready after {took:.1f} s"
    turn.journal("RELOAD_DONE", NOTICE, text, {"MEMUNIT_RESULT": "done"})
    turn.do(UseRevision(turn.state.revision))
    if turn.state.ready_sent:
        turn.do(NotifyReady())
    turn.do(ReloadResult(rollout.tokens, True, text))
    _retire_slots(turn)


def _report_ready(turn: Turn) -> None:
    running, state = turn.running(), turn.state
    if running >= state.count and state.rollout is None and state.trouble and not state.blind_reported:
        turn.change(trouble="")
    late = running and turn.now >= state.started_at + state.policy.start_timeout
    if not state.ready_sent and (running >= state.count or late):
        turn.change(ready_sent=True)
        turn.do(NotifyReady())


def _report_blind(turn: Turn) -> None:
    """Once: READY brings a sample at once, so one that has none a while later can't be measured at all."""
    if turn.state.blind_reported:
        return
    for worker in turn.workers.values():
        bound = worker.limit if worker.limit is not None else worker.ceiling
        if bound is None or worker.memory is not None or worker.phase is not Phase.RUNNING:
            continue
        assert worker.ready_at is not None
        if turn.now - worker.ready_at >= BLIND:
            text = (
                f"The memory of {wording.name(worker)} can't be measured, so neither memory.limit nor memory.ceiling "
                "is in effect; ProcSubset=pid in the unit hides what it takes, and so does a /proc of other users"
            )
            turn.change(blind_reported=True, trouble="memory can't be measured: no limit is in effect")
            turn.journal("UNMEASURED", ERROR, text, wording.worker_fields(worker))
            return


def retry_times(turn: Turn) -> list[float]:
    """When backoffs end that hold something back now. What is due already waits for an event, not for time."""
    times = [turn.state.gate.retry_at]
    times += [slot.retry_at for slot in turn.slots]
    return [at for at in times if at > turn.now]


def scale(turn: Turn, delta: int) -> None:
    """One worker more or fewer, within one worker and the memory there is."""
    state = turn.state
    count = state.count + delta
    limit, headroom = state.policy.limit, state.headroom
    if count < 1:
        turn.journal("SCALE", WARNING, "Not scaled down: one worker is the least")
    elif delta > 0 and limit is not None and headroom is not None and needed(count, limit) > headroom.total:
        sizes = f"{count} x {format_size(limit)} and {format_size(OWN)} for memunit"
        bound = f"the {format_size(headroom.total)} of {headroom.source}"
        turn.journal("SCALE", WARNING, f"Not scaled up: {sizes} is more than {bound}")
    else:
        turn.change(count=count)
        if state.rollout is not None:
            # Asked of the instance, not of the configuration on trial: a reload that fails takes nothing of it back.
            previous = replace(state.rollout.previous, count=max(1, state.rollout.previous.count + delta))
            turn.change(rollout=replace(state.rollout, previous=previous))
        turn.journal("SCALE", NOTICE, f"Scaled to {wording.workers(count)}", {"MEMUNIT_COUNT": count})
