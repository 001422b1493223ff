"""The account of failures: what counts as one, and what it costs the slot, the whole instance, and a reload.

A failure is an end that nobody asked for. It is counted once, at the moment it is known: an abort and STOPPING=1 count
when they come, and not when the process has gone. Whether a start has to wait is asked in starts.py.
"""

import math

from memunit.core import backoff, wording
from memunit.core.actions import ClearGate, SaveGate
from memunit.core.messages import Message
from memunit.core.model import FOR_MEMORY, Cause, Gate, Policy, Slot, Worker
from memunit.core.passes import Pass
from memunit.core.quantity import format_size

# Each so many seconds of serving take one failure from the slot's account. As long as the longest backoff: so each
# start is paid for by so much service or so much waiting, and no way to fail makes two starts a minute for long. The
# account was once cleared after ten seconds of serving: a worker that crashed after eleven was started five times a
# minute.
STABLE = 30.0
# More failures make the backoff no longer.
MOST = 12
# A reload gives the new app this many tries before it is called broken: one for a passing fault.
ROLLOUT_TRIES = 2
# How old a worker has to be for its memory to recycle it, after one recycle that did not help, in seconds; doubled with
# each further one, to an hour. Who is over its limit from the first moment begins with the fifth.
FUTILE_FIRST, FUTILE_BARE, FUTILE_CAP = 2.0, 5, 3600.0


def count(p: Pass, worker: Worker, trouble: str) -> None:
    """A worker has failed, if nobody had asked it to stop; `trouble` is a clause for the status line."""
    state = p.state
    asked = worker.reason is not None and not worker.unasked
    if worker.counted or asked or state.stopping:
        return
    worker.counted = True
    slot = state.slots[worker.id.slot]
    served = _served(p, worker)
    _pay(slot, worker, served)
    slot.failures = min(MOST, slot.failures + 1)
    slot.retry_at = p.now + backoff.delay(slot.failures, seed=state.seed, slot=slot.index)
    if slot.replacing:
        slot.replacing = False
        state.reversal_failed_at = p.now
    if served < STABLE or not worker.unasked:
        # Else it is a matter of course, as by a limit on its requests.
        state.trouble = trouble
    rollout = state.rollout
    if rollout is not None and worker.revision == state.revision and served < STABLE:
        rollout.failures += 1
        rollout.why = trouble
        rollout.broken = rollout.failures >= ROLLOUT_TRIES or worker.force is Cause.START_TIMEOUT
    if not state.running():
        count_for_all(p, worker)


def settle(p: Pass, worker: Worker, reason: Cause) -> None:
    """A worker is asked to stop: its service is set against its slot's failures.

    One that is recycled for its memory pays for its own replacement first.
    """
    slot, served = p.state.slots[worker.id.slot], _served(p, worker)
    _pay(slot, worker, served - STABLE if reason in FOR_MEMORY else served)
    slot.recycled = slot.recycled or reason in FOR_MEMORY


def count_for_all(p: Pass, worker: Worker) -> None:
    """Nothing serves: hold the next start of all back, and leave the count to a successor."""
    gate, slot = p.state.gate, p.state.slots[worker.id.slot]
    failures = gate.failures
    # Workers that were started together fail together: that is one failed try, not one each.
    if worker.born >= gate.failed_at:
        # An app that becomes ready and crashes at once opens the gate each time; its slot remembers.
        failures = max(failures + 1, slot.failures)
    since = p.now if failures == 1 else min(gate.since, p.now)
    wait = backoff.delay(failures, seed=p.state.seed, slot=-1, lasted=p.now - since)
    served = worker.ready_at is not None
    p.state.gate = Gate(failures=failures, since=since, failed_at=p.now, retry_at=p.now + wait, served=served)
    p.do(SaveGate(failures, since, p.state.gate.retry_at))


def open_gate(p: Pass) -> None:
    """Something serves, or a person has acted: the next start is not held back."""
    if p.state.gate.failures or math.isfinite(p.state.gate.retry_at):
        p.state.gate = Gate()
        p.do(ClearGate())


def forgive_all(p: Pass) -> None:
    """A person has acted: whatever waits is tried at once."""
    for slot in p.state.slots:
        slot.failures, slot.retry_at = 0, -math.inf
        slot.futile, slot.recycled, slot.unhelped = 0, False, False
    p.state.reversal_failed_at = -math.inf
    open_gate(p)


def least_age(policy: Policy, slot: Slot) -> float:
    """Seconds that a worker of this slot must have served before its memory may recycle it, if a recycle is no help.

    Doubles with each in a row that was none, up to an hour: a wrong limit costs a bounded rate and not a loop (PM2
    resets its crash counter and restarts for ever).
    """
    if slot.futile == 0:
        return policy.min_lifetime
    return max(policy.min_lifetime, min(FUTILE_CAP, FUTILE_FIRST * float(2 ** min(slot.futile - 1, 16))))


def count_in_vain(p: Pass, worker: Worker, *, bare: bool) -> None:
    """A recycle would be no help to its slot: it stands over its limit where it has come to by a step.

    `bare`: it did so from the first moment.
    """
    slot = p.state.slots[worker.id.slot]
    worker.in_vain = True
    p.state.tally.in_vain += 1
    slot.futile = max(slot.futile + 1, FUTILE_BARE if bare else 0)
    _say_in_vain(p, slot, worker, bare=bare)


def helps(p: Pass, worker: Worker) -> None:
    """It serves under its limit: after a while, the next to come to it soon is no longer compared with those before."""
    if _served(p, worker) >= STABLE and not worker.in_vain:
        slot = p.state.slots[worker.id.slot]
        slot.recycled = slot.unhelped = False


def _pay(slot: Slot, worker: Worker, served: float) -> None:
    """A worker's service, in seconds, is set against the failures of its slot, and against recycles of no help."""
    paid = max(0, int(served // STABLE))
    slot.failures = max(0, slot.failures - paid)
    if paid and not worker.in_vain:
        slot.futile = max(0, slot.futile - paid)
        slot.recycled = slot.unhelped = False


def _say_in_vain(p: Pass, slot: Slot, worker: Worker, *, bare: bool) -> None:
    """Once an instance for a limit that is below what the app needs, else once a slot until it is well again."""
    age = least_age(p.state.policy, slot)
    rarer = f"the next recycle waits until its worker has served {wording.seconds(age)}, and each further one longer"
    assert worker.memory is not None
    assert worker.limit is not None
    fields = wording.worker_fields(worker) | {
        "MEMUNIT_MEMORY_BYTES": worker.memory,
        "MEMUNIT_LIMIT_BYTES": worker.limit,
    }
    if bare:
        if p.state.baseline_reported:
            return
        p.state.baseline_reported = True
        text = (
            f"memory.limit is below what the app needs to start: {wording.name(worker)} had {wording.usage(worker)} "
            f"when it became ready. A recycle can't help, so {rarer}; raise memory.limit"
        )
        p.journal(Message.BASELINE_OVER_LIMIT, text, fields)
        return
    if slot.unhelped:
        return
    slot.unhelped = True
    after = (worker.over_since or p.now) - (worker.ready_at or p.now)
    began = "" if worker.baseline is None else f", from {format_size(worker.baseline)} at its start"
    text = (
        f"The recycle did not help: {wording.name(worker)} is at {wording.usage(worker)} again "
        f"{wording.seconds(after)} after it became ready{began}, and grows no further. So {rarer}. If one request "
        "needs that much, it is not a leak: raise memory.limit, or find that request"
    )
    p.journal(Message.RECYCLE_DID_NOT_HELP, text, fields)


def _served(p: Pass, worker: Worker) -> float:
    return 0.0 if worker.ready_at is None else p.now - worker.ready_at
