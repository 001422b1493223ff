"""What decides that a worker is stopped because there are to be fewer: a scale-down, a reload, an adoption.

Slots are given up by number. So the slot that stays may be the one that crashes again and again, and the one that is
given up may have the only worker that serves: that was once stopped, and nothing served. It serves on until another
does. As many serve on as are wanted, and no more: their memory may be what the new one does not find.
"""

import math

from memunit.core import phases
from memunit.core.model import Cause, Phase, Worker
from memunit.core.passes import Pass
from memunit.core.state import State


def retire(p: Pass) -> None:
    """Stop who is in a slot that is wanted no more: who starts at once, who serves when one that stays serves."""
    state = p.state
    surplus = state.roster.beyond(state.places)
    if not surplus:
        return
    for worker in surplus:
        if worker.phase is Phase.STARTING:
            phases.stop(p, worker, Cause.SCALE_DOWN)
    serving = [worker for worker in surplus if worker.phase is Phase.RUNNING]
    if not serving:
        return
    at = relied_on_at(state)
    if p.now < at:
        p.again(at)
        serving = serving[state.places :]
    for worker in serving:
        phases.stop(p, worker, Cause.SCALE_DOWN)


def relied_on_at(state: State) -> float:
    """From when on one serves that stays and can be relied on; infinite if none serves.

    In a slot whose last ones have failed, READY=1 is not enough: the worker has to live on for a while.
    """
    stays = [worker for worker in state.roster.running if worker.id.slot < state.places]
    return min((_relied_on_at(state, worker) for worker in stays), default=math.inf)


def _relied_on_at(state: State, worker: Worker) -> float:
    assert worker.ready_at is not None
    proven = worker.probation or not state.slots[worker.id.slot].failures
    return -math.inf if proven else worker.ready_at + phases.PROBATION


def kept(state: State, now: float) -> str:
    """Who serves on for now though its slot is wanted no more, as a clause; "" if nobody does."""
    given_up = state.roster.beyond(state.places)
    serving = [worker for worker in given_up if worker.phase is Phase.RUNNING][: state.places]
    if not serving or now >= relied_on_at(state):
        return ""
    names = " and ".join(f"worker {worker.id.slot}.{worker.id.generation}" for worker in serving)
    return (
        f"{names} {'serves' if len(serving) == 1 else 'serve'} on until a worker of a remaining slot serves"
    )
