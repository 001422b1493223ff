"""The state of a master that takes over workers which it has not started."""

import contextlib
import math
from collections.abc import Mapping

from memunit.core.adjusting import COUNT, CantSet, cannot_scale
from memunit.core.adjusting import adjusted as with_settings
from memunit.core.handover import MOST_TAKEOVERS, Handover, LeftWorker
from memunit.core.model import Cause, Phase, Slot, Worker, WorkerId
from memunit.core.state import State
from memunit.records import replace

# That of a configuration which is not there any more.
FORMER = 0


def adopted(state: State, handover: Handover, *, now: float, afresh: bool) -> State:
    """`state`, which has no workers, with those that are left.

    With `afresh`, another process has started them: systemd has taken their /tmp and the like (docs/master-gone.md),
    so each is replaced in its turn, with a cause of its own; and one that was starting is told to stop: whether it is
    ready, it may have said while nobody listened. Without, they are what they were.
    """
    state = _adjusted(state, handover.settings)
    workers = {each.id: each for each in (_worker(left, now, afresh) for left in handover.workers)}
    most = max([len(state.slots), len(handover.generations), *(who.slot + 1 for who in workers)])
    slots = [*state.slots, *(Slot(index=index) for index in range(len(state.slots), most))]
    following = dict(enumerate(handover.generations))
    for who in workers:
        following[who.slot] = max(following.get(who.slot, 1), who.generation + 1)
    slots = [replace(slot, next_generation=max(following.get(slot.index, 1), 1)) for slot in slots]
    return replace(
        state,
        workers=workers,
        slots=slots,
        revision=state.revision if afresh else handover.revision,
        tally=replace(state.tally, takeovers=min(handover.takeovers + afresh, MOST_TAKEOVERS)),
        idle_since=math.inf
        if any(each.phase is Phase.RUNNING for each in workers.values())
        else state.idle_since,
    )


def _adjusted(state: State, settings: Mapping[str, str]) -> State:
    """`state` with what a person had changed, one by one: the file may say by now what does not go with one of them."""
    for path, text in settings.items():
        if path == COUNT:
            count = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
            if not cannot_scale(state, count):
                state = replace(state, count=count, settings={**state.settings, path: text})
            continue
        with contextlib.suppress(CantSet):
            policy, kept = with_settings(state, {path: text})
            state = replace(state, policy=policy, settings=kept)
    return state


def _worker(left: LeftWorker, now: float, afresh: bool) -> Worker:
    phase = Phase(left.phase)
    reason = Cause(left.reason) if left.reason else None
    deadline, stop_at = left.deadline, left.stop_at
    if phase is Phase.STARTING and afresh:
        phase, reason, deadline, stop_at = Phase.STOP_SIGTERM, Cause.ADOPTED, now + left.grace, now
    serves = phase is Phase.RUNNING
    replaced = serves and afresh
    wants = Cause.ADOPTED if replaced else Cause(left.wants) if serves and left.wants else None
    return Worker(
        id=WorkerId(left.slot, left.generation),
        revision=FORMER if afresh else left.revision,
        phase=phase,
        born=left.born,
        since=now,
        deadline=math.inf if serves else deadline,
        yields_at=math.inf if serves else deadline,
        limit=left.limit,
        ceiling=left.ceiling,
        watchdog=left.watchdog,
        grace=left.grace,
        stop_signal=left.stop_signal,
        pid=left.pid,
        ready_at=None if left.ready_at is None else min(left.ready_at, now),
        gives=left.gives,
        give_at=left.give_at,
        gifts=left.gifts,
        given=left.given,
        stop_at=stop_at,
        reason=reason,
        wants=wants,
        wants_since=math.inf if wants is None else now,
    )


def texts_are_known(handover: Handover) -> bool:
    """Whether each phase and cause in it is one that this version has."""
    phases, causes = {each.value for each in Phase}, {each.value for each in Cause}
    return all(
        each.phase in phases and all(not word or word in causes for word in (each.reason, each.wants))
        for each in handover.workers
    )
