"""What decides that a worker that serves is replaced: its memory, want of memory for all, its age.

A person's request is in transitions.py, a reload in rollout.py. When its replacement may be started is another
question, of starts.py.
"""

import math

from memunit.core import failures, giving, memory, wording
from memunit.core.actions import Measure
from memunit.core.backoff import jitter
from memunit.core.messages import Message
from memunit.core.model import FOR_MEMORY, Cause, Headroom, Phase, Worker
from memunit.core.passes import Pass
from memunit.core.state import State

# max_age is spread, so that workers started together do not grow old together.
AGE_SPREAD = 0.1
# The first look at a worker that is over its limit comes after this share of `patience`, the next ones at the double.
FIRST_LOOK = 1 / 8
# Seconds until the next one, where the last was too early to decide by; and the least between two.
UNDECIDED = 0.25
SHORTEST_LOOK = 0.05
# A worker this many times as big as the others are on the average goes early when memory is short.
FAT = 1.25
# Memory is short when less than this share of it is free. A worker that waits at its own trip-wire, for its own page
# cache, counts as pressure too, and there may be plenty.
SHORT = 1 / 8
# Seconds from READY without a sample until memory counts as not to be measured.
BLIND = 5.0


def want(p: Pass, worker: Worker, cause: Cause | None) -> None:
    """From now on it is to be replaced, for this cause; None spares it, unless its configuration is wanted no more."""
    if cause is None and worker.revision != p.state.revision:
        cause = Cause.RELOAD
    worker.wants = cause
    wanting = p.state.roster.wanting
    if cause is None:
        worker.wants_since, worker.decided_memory = math.inf, None
        wanting.pop(worker.id, None)
    else:
        worker.wants_since = min(worker.wants_since, p.now)
        worker.decided_memory = worker.memory if cause in FOR_MEMORY else None
        wanting[worker.id] = worker
    p.touch(worker)


def sampled(p: Pass, worker: Worker) -> None:
    """A worker that serves has just been measured."""
    if worker.limit is None:
        return
    if worker.over_since is None:
        failures.helps(p, worker)
    elif memory.over_baseline(worker) and not worker.in_vain and _is_early(worker):
        failures.count_in_vain(p, worker, bare=True)
    judge(p, worker)


def sampled_late(p: Pass, worker: Worker) -> None:
    """One that is told to stop has been measured: has it grown since it was decided on, as it did before?"""
    if not worker.undecided or worker.in_vain:
        return
    worker.undecided = False
    if memory.has_grown_since(worker, worker.wants_since) is False:
        failures.count_in_vain(p, worker, bare=False)


def judge(p: Pass, worker: Worker) -> None:
    """Whether this one, which serves, is to be replaced by now; one that was, and is under its limit, is spared."""
    if worker.phase is not Phase.RUNNING or p.state.stopping:
        return
    giving.judge(p, worker)
    if worker.wants is Cause.MEMORY_LIMIT:
        if worker.over_since is None and not p.state.roster.starts_in(worker.id.slot):
            # It fell below the limit before its turn came: a spike, not a leak.
            want(p, worker, None)
    elif worker.wants in (None, Cause.RELOAD):
        if worker.over_since is not None and is_fresh(p, worker) and is_leak(p, worker):
            want(p, worker, Cause.MEMORY_LIMIT)
        elif p.now >= look_at(p.state, worker):
            measure(p, worker)
        elif worker.wants is None and p.now >= old_at(p.state, worker):
            want(p, worker, Cause.MAX_AGE)
    if p.now >= giving.due(p.state, worker):
        measure(p, worker)
    _report_blind(p, worker)


def is_leak(p: Pass, worker: Worker) -> bool:
    """Whether one that is over its limit, by a sample of this very moment, is to be recycled for it now."""
    state = p.state
    decide = decide_at(state, worker)
    # A ceiling loses requests, a recycle does not: this comes before patience, and before all that puts a recycle off.
    free = None if state.headroom is None else state.headroom.available
    soon = min(decide, p.now + state.policy.patience) if worker.in_vain else decide
    if memory.runs_out(worker, max(p.now, soon), free):
        return True
    grows = memory.grows_on(worker)
    if worker.in_vain:
        return p.now >= decide or bool(grows and p.now >= _may_at(state, worker))
    if p.now < decide:
        return False
    if not _is_too_soon(state, worker):
        return True
    if grows is False:
        failures.count_in_vain(p, worker, bare=False)
        # The time that this costs its slot may be over already.
        return p.now >= decide_at(state, worker)
    if grows is None and state.slots[worker.id.slot].futile == 0:
        # A leak does not wait for a doubt: what this one does until it is told to stop tells for the next.
        worker.undecided = True
        return True
    return bool(grows)


def decide_at(state: State, worker: Worker) -> float:
    """When it is recycled for its memory if it is still over the limit; infinite if it is under it.

    Nor is it due before its baseline is known: a sample from while it started may put it over the limit, and READY
    would recycle it in the same pass that only asks what the app needs.
    """
    if worker.over_since is None or worker.ready_at is None or worker.baseline is None:
        return math.inf
    if not worker.in_vain:
        return _may_at(state, worker)
    least = failures.least_age(state.policy, state.slots[worker.id.slot])
    return max(_may_at(state, worker), worker.ready_at + least)


def _may_at(state: State, worker: Worker) -> float:
    assert worker.over_since is not None
    assert worker.ready_at is not None
    return max(worker.over_since + state.policy.patience, worker.ready_at + state.policy.min_lifetime)


def _is_too_soon(state: State, worker: Worker) -> bool:
    """Whether it has come to its limit early, after one that was recycled: perhaps recycles do not help."""
    return state.slots[worker.id.slot].recycled and _is_early(worker)


def _is_early(worker: Worker) -> bool:
    """Whether it was at its limit within half a minute of READY; what was adopted may have been there for long."""
    if worker.over_since is None or worker.ready_at is None:
        return False
    return worker.over_since < worker.ready_at + failures.STABLE


def look_at(state: State, worker: Worker) -> float:
    """When one that is over its limit has to be measured; infinite while the answer to the last question is due."""
    decide = decide_at(state, worker)
    if math.isinf(decide) or worker.asked_at > worker.sampled_at:
        return math.inf
    if worker.sampled_at >= decide:
        return worker.sampled_at + UNDECIDED
    assert worker.over_since is not None
    patience_ends = worker.over_since + state.policy.patience
    step = max(FIRST_LOOK * state.policy.patience, 2 * (worker.sampled_at - worker.over_since))
    look = min(decide, worker.over_since + step if worker.over_since + step < patience_ends else decide)
    free = None if state.headroom is None else state.headroom.available
    half, held = memory.half_way(worker, free), worker.memory or 0
    if worker.steady_pace > 0 and held < half < math.inf:
        look = min(look, worker.sampled_at + max(SHORTEST_LOOK, (half - held) / worker.steady_pace))
    return look


def note_room(p: Pass, room: Headroom) -> None:
    """So much memory is free now: one that grows over its limit is decided on by that, or looked at sooner or later."""
    p.state.headroom = room
    for worker in p.state.roster.running:
        if worker.over_since is not None:
            p.touch(worker)
            if is_fresh(p, worker):
                judge(p, worker)


def is_fresh(p: Pass, worker: Worker) -> bool:
    """Whether its memory is known as of now: by an older sample, who had given it back was recycled."""
    return worker.sampled_at >= p.now


def measure(p: Pass, worker: Worker) -> bool:
    """Have it measured now; False if it was and the answer is still due, as of one that can't be measured."""
    if worker.asked_at > worker.sampled_at:
        return False
    worker.asked_at = p.now
    p.touch(worker)
    p.do(Measure(worker.id))
    return True


def old_at(state: State, worker: Worker) -> float:
    """When it is recycled for its age."""
    if worker.ready_at is None or math.isinf(state.policy.max_age):
        return math.inf
    spread = AGE_SPREAD * jitter(state.seed, *worker.id, 1)
    return worker.ready_at + state.policy.max_age * (1 - spread)


def due(state: State, worker: Worker) -> float:
    """When `judge` has something to find out of itself."""
    at = math.inf
    if worker.phase is not Phase.RUNNING or state.stopping:
        return at
    if worker.wants in (None, Cause.RELOAD):
        at = look_at(state, worker)
        if worker.wants is None:
            at = min(at, old_at(state, worker))
    at = min(at, giving.due(state, worker))
    if (
        worker.memory is None
        and worker.ready_at is not None
        and not state.blind_reported
        and _bounded(worker)
    ):
        at = min(at, worker.ready_at + BLIND)
    return at


def relieve(p: Pass) -> None:
    """Memory is short: all are asked to give back. Then the biggest goes early, if it is much bigger than the others
    are, and one at a time.

    Workers that are all alike are as big as the app needs them: to replace them would cost memory and give none.
    """
    state = p.state
    if state.stopping or state.rollout is not None or state.running() < state.count:
        return
    # One in a slot that is given up serves until another does, and nobody replaces it.
    stays = [w for w in state.roster.running if w.id.slot < state.places]
    known = [(w.memory, w) for w in stays if w.memory is not None]
    if not known:
        return
    size, biggest = max(known, key=lambda each: (each[0], each[1].id))
    room = state.headroom
    if room is not None and room.available >= max(SHORT * room.total, size):
        return
    replacing = any(p.now < w.yields_at for w in (*state.roster.starting, *state.roster.draining))
    if giving.ask_all(p) or len(known) < 2 or any(w.wants for w in stays) or replacing:
        return
    others = [other for other, worker in known if worker is not biggest]
    slot = state.slots[biggest.id.slot]
    rest = failures.STABLE if slot.recycled and not memory.grows_on(biggest) else 0.0
    young = _age(p, biggest) < max(failures.least_age(state.policy, slot), rest)
    if not young and size > FAT * sum(others) / len(others):
        want(p, biggest, Cause.PRESSURE)


def _age(p: Pass, worker: Worker) -> float:
    return -math.inf if worker.ready_at is None else p.now - worker.ready_at


def _bounded(worker: Worker) -> bool:
    """Whether it is to be measured; one that another process has started may be hidden from this one."""
    bounded = worker.limit is not None or worker.ceiling is not None
    return bounded and worker.wants is not Cause.ADOPTED


def _report_blind(p: Pass, worker: Worker) -> None:
    """Once: READY brings a sample at once, so one that has none a while later can't be measured at all."""
    state = p.state
    if worker.memory is not None or state.blind_reported or not _bounded(worker) or _age(p, worker) < BLIND:
        return
    text = (
        f"The memory of {wording.name(worker)} can't be measured, so neither memory.limit nor memory.ceiling "
        "is in effect; ProcSubset=pid in the unit hides the files in /proc that memunit needs, and so does a "
        "/proc without the processes of other users"
    )
    state.blind_reported, state.trouble = True, "memory can't be measured: no limit is in effect"
    p.journal(Message.UNMEASURED, text, wording.worker_fields(worker))
