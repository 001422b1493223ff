"""What decides that a worker is started: one rule for a slot that is empty, for a try while nothing serves, and for a
replacement; and what is done where a replacement may not be started beside the old one.
"""

import math

from memunit.core import memory, phases, recycle
from memunit.core.messages import NOTICE, Message
from memunit.core.model import FOR_MEMORY, Slot, Worker, WorkerId
from memunit.core.passes import Pass
from memunit.core.quantity import format_size

# Seconds for which no further worker is stopped before its replacement is started, after one did not come up: what
# serves is not given away, one slot after the other, to an app that does not start.
REVERSAL_PAUSE = 30.0
# Who has waited for its replacement for so many seconds comes before those that are more urgent.
LONG_WAIT = 60.0


def fill(p: Pass) -> None:
    """Start a worker in each empty slot in which one may be started."""
    state = p.state
    while len(state.slots) < state.places:
        state.slots.append(Slot(index=len(state.slots)))
    for index in state.roster.vacant(state.places):
        if may_start(p, index):
            phases.spawn(p, index)


def replace(p: Pass) -> None:
    """Start the replacements of those that are to be replaced, or stop the old ones first; the most urgent first."""
    if not p.state.roster.wanting or _extra(p) >= max(p.state.policy.surge, 1):
        return
    for worker in sorted(p.state.roster.wanting.values(), key=lambda w: _urgency(p, w)):
        index = worker.id.slot
        if index >= p.state.count or p.state.roster.starts_in(index):
            continue
        starts = may_start(p, index)
        if not (starts or _may_reverse(p, worker)):
            continue
        if worker.wants in FOR_MEMORY and not recycle.is_fresh(p, worker):
            if recycle.measure(p, worker):
                # Its turn it is, if it is still what it was when it was decided on.
                return
        elif starts:
            _say_order(p, worker, reverse=False)
            phases.spawn(p, index)
        else:
            _say_order(p, worker, reverse=True)
            p.state.slots[index].replacing = True
            assert worker.wants is not None
            phases.stop(p, worker, worker.wants, holds_slot=True)


def may_start(p: Pass, index: int) -> bool:
    """Whether a worker may be started in this slot now. docs/architecture.md has the rule in three sentences."""
    state = p.state
    slot, here = state.slots[index], state.roster.in_slot(index)
    if p.now < slot.retry_at:
        p.again(slot.retry_at)
        return False
    if p.state.roster.starts_in(index):
        return False
    # Of one that was stopped for its replacement nothing has failed: the crash loop of another slot opens no gap here.
    if state.gate.failures and not state.running() and not slot.replacing:
        if p.now < state.gate.retry_at:
            p.again(state.gate.retry_at)
            return False
        if any(p.now < w.yields_at for w in state.roster.starting):
            return False
    if any((w.holds_slot or state.policy.surge == 0) and not w.stuck for w in here):
        return False
    beside = [w for w in here if p.now < w.yields_at]
    if not beside:
        return True
    old = state.roster.running_in(index)
    if old is not None and _extra(p) >= state.policy.surge:
        return False
    return len(beside) <= state.policy.surge and _has_room(p, old or beside[0])


def give_way(p: Pass) -> None:
    """Memory is short: who is replaced for its memory, and has taken what its replacement needs to start, stops now.

    One that leaks on would have it wait in vain for all of start_timeout.
    """
    room = p.state.headroom
    if p.state.stopping or room is None:
        return
    for heir in list(p.state.roster.starting):
        old = p.state.roster.running_in(heir.id.slot)
        if old is None or old.wants is None or old.wants not in FOR_MEMORY:
            continue
        if room.available < (memory.needed_by(old) or 0) - (heir.memory or 0):
            _say_order(p, old, reverse=True, moment="is ready")
            phases.stop(p, old, old.wants)


def _urgency(p: Pass, worker: Worker) -> tuple[float, int, int, float, WorkerId]:
    """Never the same for two: which one comes first may not depend on how an index was made."""
    waits = worker.wants_since if p.now - worker.wants_since >= LONG_WAIT else math.inf
    for_memory = worker.wants in FOR_MEMORY
    return waits, 0 if for_memory else 1, -(worker.memory or 0), worker.wants_since, worker.id


def _extra(p: Pass) -> int:
    """How many replacements are under way: workers that start beside an old one, and old ones that were told to stop.

    Each counts for its own time alone, and one that ends unasked does not count: a slot that crashes, hangs or stops by
    itself would else keep all others from being replaced.
    """
    roster = p.state.roster
    beside = sum(p.now < w.yields_at and roster.running_in(w.id.slot) is not None for w in roster.starting)
    told = sum(p.now < w.yields_at and w.reason is not None and not w.unasked for w in roster.draining)
    return beside + told


def _may_reverse(p: Pass, worker: Worker) -> bool:
    """Whether the old one may be stopped before its replacement is started: one slot at a time.

    Only where that is what keeps the replacement from being started: its backoff, or a place that another replacement
    has, is waited for.
    """
    state = p.state
    if p.now < state.slots[worker.id.slot].retry_at or _extra(p):
        return False
    begin = [w for w in state.roster.starting if p.now < w.yields_at]
    if any(state.slots[w.id.slot].replacing for w in begin):
        return False
    if begin and state.running() == 1 and not _is_urgent(p, worker, max(w.yields_at for w in begin)):
        # Nobody would serve until that one does.
        return False
    pause_ends = state.reversal_failed_at + REVERSAL_PAUSE
    if p.now < pause_ends:
        p.again(pause_ends)
        return False
    return state.policy.surge == 0 or not _has_room(p, worker)


def _is_urgent(p: Pass, worker: Worker, until: float) -> bool:
    """Whether it would be at its ceiling by then, or have taken what is free: whatever it is to be replaced for."""
    return memory.runs_out(worker, until, None if p.state.headroom is None else p.state.headroom.available)


def _has_room(p: Pass, like: Worker) -> bool:
    """Whether memory has room for one more that is like this one, as far as is known."""
    headroom, need = p.state.headroom, memory.needed_by(like)
    if headroom is None or need is None:
        return True
    # What is free is not free for two: a worker that starts has not taken yet what it needs.
    claimed = sum(max(0, need - (w.memory or 0)) for w in p.state.roster.starting)
    return headroom.available - claimed >= need


def _say_order(p: Pass, worker: Worker, *, reverse: bool, moment: str = "starts") -> None:
    """Whether the old one stops first is said when it changes."""
    state, need = p.state, memory.needed_by(worker)
    if reverse is state.surge_reversed or state.policy.surge == 0 or state.headroom is None or need is None:
        return
    state.surge_reversed = reverse
    room = state.headroom
    late = f"The old worker stops before its replacement {moment}"
    said = late if reverse else "Replacement comes first again"
    have = f"{format_size(room.available)} free of {format_size(room.total)} ({room.source})"
    text = f"{said}: a replacement needs about {format_size(need)}, there are {have}"
    p.journal(Message.SURGE_REVERSED, text, priority=None if reverse else NOTICE)
