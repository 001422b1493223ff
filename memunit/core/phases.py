"""How a worker gets into each phase, and out of the last: the only module that changes one.

The diagram is in docs/architecture.md. Every change of phase writes its journal entry, and every end the one with its
cause.
"""

import math

from memunit.core import failures, memory, recycle, wording
from memunit.core.actions import Journal, Measure, Send, Signal, Spawn
from memunit.core.causes import cause_of, cut_off
from memunit.core.messages import DEBUG, END_BY_CAUSE, ERROR, INFO, NOTICE, WARNING, Message
from memunit.core.model import ACCIDENTS, UNCOUNTED, Cause, Phase, Worker, WorkerId
from memunit.core.passes import Pass

# Between SIGABRT and SIGKILL: time to write every thread's stack to the journal.
ABORT_GRACE = 10.0
# After SIGKILL a process can only be in an uninterruptible sleep; nothing waits for it longer than this.
KILL_GRACE = 10.0
# Seconds that a worker has to live on to count as ready, where another's place or a reload hangs on it.
PROBATION = 1.0


def spawn(p: Pass, index: int) -> None:
    """Start the slot's next generation."""
    state, slot = p.state, p.state.slots[index]
    policy = state.policy
    who = WorkerId(index, slot.next_generation)
    slot.next_generation += 1
    worker = Worker(
        id=who,
        revision=state.revision,
        phase=Phase.STARTING,
        born=p.now,
        since=p.now,
        deadline=p.now + policy.start_timeout,
        yields_at=p.now + policy.start_timeout,
        limit=memory.effective_limit(policy, state.seed, who),
        ceiling=policy.ceiling,
        watchdog=policy.watchdog,
        grace=policy.grace,
        stop_signal=policy.stop_signal,
        tells_stacks=policy.tells_stacks,
        gives=policy.give_back and policy.patience > 0,
    )
    state.workers[who] = worker
    state.roster.add(worker)
    p.touch(worker)
    p.do(Spawn(who, worker.revision, policy.watchdog))


def prove(p: Pass, worker: Worker) -> None:
    """It is ready, as far as it says; it has to live on for a while before anybody relies on it."""
    worker.probation = True
    worker.deadline = worker.yields_at = p.now + PROBATION
    p.touch(worker)


def run(p: Pass, worker: Worker) -> None:
    """It serves. Only then is the one that it replaces told to stop (`relieve`): no moment without either."""
    state = p.state
    said = worker.deadline - PROBATION if worker.probation else p.now
    worker.ready_at = p.now
    worker.forgiven = False
    worker.watchdog_at = p.now + worker.watchdog if worker.pings else math.inf
    old = state.roster.running_in(worker.id.slot)
    _enter(p, worker, Phase.RUNNING, math.inf)
    text = f"{wording.name(worker)} is ready after {said - worker.born:.2f} s"
    p.journal(Message.WORKER_READY, text, wording.worker_fields(worker))
    p.do(Measure(worker.id))
    worker.asked_at = p.now
    state.slots[worker.id.slot].replacing = False
    if state.rollout is not None and worker.revision == state.revision:
        state.rollout.proven = True
    failures.open_gate(p)
    if old is not None:
        p.heirs.append((old, worker))


def relieve(p: Pass) -> None:
    """Tell those to stop in whose place others serve now: who has become ready and ended in one pass takes nobody's."""
    for old, heir in p.heirs:
        there = p.state.workers.get(heir.id) is heir and p.state.workers.get(old.id) is old
        if there and old.phase is heir.phase is Phase.RUNNING:
            stop(p, old, old.wants or Cause.REQUESTED)
    p.heirs.clear()


def stop(
    p: Pass, worker: Worker, reason: Cause, *, holds_slot: bool = False, within: float = math.inf
) -> None:
    """Ask a worker to stop: SIGTERM, and the kill deadline behind it, its grace or `within` seconds if that is less."""
    failures.settle(p, worker, reason)
    worker.holds_slot = holds_slot
    if worker.undecided:
        p.do(Measure(worker.id))
    _drain(p, worker, reason, within)
    p.do(Send(worker.id, Signal.TERM))


def leave(p: Pass, worker: Worker) -> None:
    """It stops without having been asked to: it drains like one that was, but that is a failure."""
    worker.told_stopping = worker.unasked = True
    _drain(p, worker, Cause.REQUESTED)
    failures.count(p, worker, f"worker {worker.id.slot} stopped by itself{wording.last_words(worker)}")


def _drain(p: Pass, worker: Worker, reason: Cause, within: float = math.inf) -> None:
    worker.reason = worker.reason or reason
    worker.stop_at = p.now
    later = [
        w for w in p.state.roster.in_slot(worker.id.slot) if w.phase is Phase.RUNNING and w.id > worker.id
    ]
    if later:
        worker.heir = (later[0].id, later[0].pid)
    _enter(p, worker, Phase.STOP_SIGTERM, p.now + min(worker.grace, within))
    _say_stopping(p, worker, INFO)


def abort(p: Pass, worker: Worker, force: Cause) -> None:
    """End a worker that hangs: SIGABRT, so that it can dump its stacks, then SIGKILL."""
    worker.force = force
    # No more time for one that stops already.
    kill_at = min(worker.deadline, p.now + ABORT_GRACE) if worker.stop_at is not None else p.now + ABORT_GRACE
    _force(p, worker, Phase.STOP_SIGTERM, kill_at)
    p.do(Send(worker.id, Signal.ABRT))
    failures.count(p, worker, wording.trouble(worker, force))


def kill(p: Pass, worker: Worker, force: Cause) -> None:
    """SIGKILL to the worker's whole tree."""
    worker.force = worker.force or force
    _force(p, worker, Phase.STOP_SIGKILL, p.now + KILL_GRACE)
    p.do(Send(worker.id, Signal.KILL))
    failures.count(p, worker, wording.trouble(worker, worker.force))


def end(p: Pass, worker: Worker, code: str, status: int) -> None:
    """A worker's process is gone: find the cause, count it if it is a failure, and write the one entry."""
    state = p.state
    cause, reason = cause_of(worker, code, status)
    drop(p, worker)
    if cause not in UNCOUNTED:
        state.ended[cause] = state.ended.get(cause, 0) + 1
    if worker.reason is not None and worker.stop_at is not None and not worker.unasked:
        state.tally.drained(p.now - worker.stop_at)
    if cause in ACCIDENTS:
        failures.count(p, worker, wording.trouble(worker, cause, wording.how(code, status, ran=worker.ran)))
    message = wording.ended(worker, cause, reason, code, status, p.now)
    fields = wording.end_fields(worker, cause, reason, code, status, p.now)
    fields["MEMUNIT_RECYCLES"] = sum(state.ended.values())
    lossy = cause in ACCIDENTS or cause is Cause.GRACE_EXPIRED or cut_off(worker, code, status)
    priority = WARNING if lossy else NOTICE
    entry = Journal(kind=END_BY_CAUSE[cause], message=message, priority=priority, fields=fields)
    p.journal_end(worker, entry)


def never_was(p: Pass, worker: Worker, error: str) -> None:
    """No entry of an end: there was no process, or it never became the app."""
    drop(p, worker)
    text = f"worker {worker.id.slot} can't be started: {error}"
    # Of one that is cut short because the master gives up, what counts is what the tries before it have said.
    told = worker.reason is not None or (p.state.stopping and p.state.trouble)
    priority = DEBUG if told else ERROR
    p.journal(
        Message.LAUNCH_FAILED, text[0].upper() + text[1:], wording.worker_fields(worker), priority=priority
    )
    failures.count(p, worker, text)


def drop(p: Pass, worker: Worker) -> None:
    """Forget a worker that is gone."""
    del p.state.workers[worker.id]
    p.state.roster.drop(worker)
    p.state.agenda.drop(worker.id)
    p.touched.pop(worker.id, None)
    if worker.phase is Phase.STARTING:
        _reconsider(p, worker)


def _enter(p: Pass, worker: Worker, phase: Phase, deadline: float) -> None:
    gave_up = worker.phase is Phase.STARTING and phase is not Phase.RUNNING
    worker.since = p.now
    worker.deadline = worker.yields_at = deadline
    p.state.roster.move(worker, phase)
    p.touch(worker)
    if gave_up:
        _reconsider(p, worker)


def _reconsider(p: Pass, worker: Worker) -> None:
    """It starts no more: whom it was to replace may be under its limit by now, and is spared then."""
    old = p.state.roster.running_in(worker.id.slot)
    if old is not None:
        recycle.judge(p, old)


def _force(p: Pass, worker: Worker, phase: Phase, deadline: float) -> None:
    worker.watchdog_at = math.inf
    if worker.stop_at is None:
        worker.stop_at = p.now
    yields_at = worker.yields_at
    _enter(p, worker, phase, deadline)
    # Who has given up its place does not take it again.
    worker.yields_at = yields_at if yields_at < p.now else deadline
    _say_stopping(p, worker, WARNING)


def _say_stopping(p: Pass, worker: Worker, priority: int) -> None:
    fields = wording.worker_fields(worker)
    p.journal(Message.WORKER_STOPPING, wording.stopping(worker), fields, priority=priority)
