"""What decides that a worker is killed: its deadline, its watchdog; and what may move either.

Deadlines are absolute. They were once moved whenever a pass came late: a starved master, late again and again, had a
worker with a grace of four seconds live for a minute.
"""

import math

from memunit.core import phases, wording
from memunit.core.actions import NotifyExtend, Send, Signal
from memunit.core.messages import WARNING, Message
from memunit.core.model import Cause, Phase, Worker
from memunit.core.passes import Pass

# A pass that comes this much later than asked for, in seconds: the master itself did not run (it was stopped, or
# the machine was). Nobody is at fault for what they did not do meanwhile.
LAG = 1.0
# How long before the end of its grace a worker is asked for its stacks, in seconds; a quarter of a short one. A Python
# worker ends in an orderly way what does not end by itself, in the last fifth of it (worker/grace.py): this is before.
STACKS_BEFORE = 6.0
# To how long after it began to start or to stop a worker can put off its deadline (EXTEND_TIMEOUT_USEC=), in seconds.
EXTEND_MOST = 3600.0
# What systemd is told beyond a worker's own time: for the stop that may follow.
EXTEND_MARGIN = 60.0


def fire(p: Pass, worker: Worker) -> None:
    """End a worker by force if it is time, or ask it why it does not end."""
    if p.now >= worker.deadline:
        _expire(p, worker)
    elif p.now >= worker.watchdog_at:
        phases.abort(p, worker, Cause.WATCHDOG)
    elif p.now >= stacks_at(worker):
        _ask_for_stacks(p, worker)


def due(worker: Worker, now: float) -> float:
    """When `fire` has something to do, or the worker takes no place from others any more."""
    at = min(worker.deadline, worker.watchdog_at, stacks_at(worker))
    return min(at, worker.yields_at) if worker.yields_at > now else at


def _expire(p: Pass, worker: Worker) -> None:
    if worker.on_probation:
        phases.run(p, worker)
    elif worker.phase is Phase.STARTING:
        phases.abort(p, worker, Cause.START_TIMEOUT)
    elif worker.phase is Phase.STOP_SIGTERM:
        phases.kill(p, worker, Cause.GRACE_EXPIRED)
    else:
        # Still there after SIGKILL: in an uninterruptible sleep. It must not hold up the stop of the unit.
        worker.deadline = math.inf
        if p.state.stopping:
            phases.end(p, worker, "stuck", 9)


def forgive_stall(p: Pass) -> None:
    """This pass is late: start timeouts and watchdogs move by the time that the master may not have run, each once."""
    state = p.state
    if p.now - state.wake_at <= LAG:
        return
    lag = p.now - state.stepped_at
    for worker in state.workers.values():
        if not worker.forgiven:
            _forgive(p, worker, lag)
    if state.idle_since < p.now and not state.idle_forgiven:
        state.idle_since, state.idle_forgiven = min(p.now, state.idle_since + lag), True


def _forgive(p: Pass, worker: Worker, lag: float) -> None:
    if worker.phase is Phase.STARTING and not worker.on_probation:
        worker.deadline, worker.yields_at = worker.deadline + lag, worker.yields_at + lag
    elif worker.watchdog_at < math.inf:
        worker.watchdog_at += lag
    else:
        return
    worker.forgiven = True
    p.touch(worker)


def excuse_silence(p: Pass) -> None:
    """Nobody is ended for what was not heard: the next ping arms a watchdog, and who starts gets its time anew."""
    for worker in [w for w in p.state.workers.values() if w.force is None]:
        worker.watchdog_at = math.inf
        if worker.phase is Phase.STARTING and not worker.on_probation and not worker.forgiven:
            worker.deadline = max(worker.deadline, p.now + p.state.policy.start_timeout)
            worker.yields_at = max(worker.yields_at, p.now + p.state.policy.start_timeout)
            worker.forgiven = True
        p.touch(worker)


def ping(p: Pass, worker: Worker) -> None:
    """The first ping arms the watchdog: a program that never pings did not ask to be watched."""
    worker.pings = True
    if worker.phase is Phase.STARTING or worker.force is not None:
        return
    worker.watchdog_at = p.now + worker.watchdog
    worker.forgiven = False
    p.touch(worker)


def extend(p: Pass, worker: Worker, seconds: float) -> None:
    """EXTEND_TIMEOUT_USEC puts off a start timeout or the end of grace, as systemd's own; never an abort's.

    Others do not wait for it: they have its place when its own time is over.
    """
    if worker.force is not None or worker.on_probation:
        return
    latest = worker.since + max(EXTEND_MOST, worker.yields_at - worker.since)
    worker.deadline = max(worker.deadline, min(p.now + seconds, latest))
    p.touch(worker)
    if not p.state.ready_sent:
        p.do(NotifyExtend(worker.deadline - p.now + EXTEND_MARGIN))


def stacks_at(worker: Worker) -> float:
    """When a worker that does not come to its end is asked what it waits for; infinite for one that is not."""
    stops = worker.phase is Phase.STOP_SIGTERM and worker.force is None and worker.ready_at is not None
    if not (stops and worker.tells_stacks):
        return math.inf
    return worker.deadline - min(STACKS_BEFORE, worker.grace / 4)


def _ask_for_stacks(p: Pass, worker: Worker) -> None:
    """Have it write the stack of each thread to the journal, by a signal that ends nobody: it may still make it."""
    worker.tells_stacks = False
    left = wording.seconds(worker.deadline - p.now)
    text = (
        f"{wording.name(worker)} has {left} of its grace left{wording.last_words(worker)}; its stacks follow"
    )
    p.journal(Message.WORKER_STOPPING, text, wording.worker_fields(worker), priority=WARNING)
    p.do(Send(worker.id, Signal.STACKS))
