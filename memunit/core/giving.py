"""A worker gives memory back before it is replaced for it: who is asked, how often, and what counts as given.

The question is systemd's own (https://systemd.io/MEMORY_PRESSURE), so a program in any language may answer it. The
answer is a sample under the limit before `patience` ends, which no question puts off: without patience nobody is asked.
"""

import math

from memunit.core import wording
from memunit.core.actions import GiveBack
from memunit.core.messages import Message
from memunit.core.model import Phase, Worker
from memunit.core.passes import Pass
from memunit.core.quantity import format_size
from memunit.core.state import State

# Seconds between two questions to one worker. One that is at its limit again sooner has given nothing that lasts.
REST = 60.0
# A worker that gave less than this share of what it held is not asked again.
LEAST = 1 / 10
# Seconds that a worker is over its limit when it is asked, or half of `patience`: what one request needs may be free by
# then. And seconds after which one that is under its limit is taken to have given what it gives.
SOON = 1.0
# Seconds between two entries about the gifts of one worker.
SAID = 3600.0


def judge(p: Pass, worker: Worker) -> None:
    """Of one that serves: what it has given, once its time is over, and whether it is to be asked."""
    fresh = worker.sampled_at >= p.now
    if fresh and worker.give_from is not None and p.now >= _known_at(p.state, worker):
        _settle(p, worker, worker.give_from)
    if fresh and p.now >= _asks_at(p.state, worker):
        _ask(p, worker)


def ask_all(p: Pass) -> bool:
    """Memory is short: ask each that serves and may be asked; whether the answer of anybody is still to come."""
    for worker in p.state.roster.running:
        if _willing(worker) and p.state.policy.patience > 0 and p.now >= worker.give_at + REST:
            _ask(p, worker)
    return any(worker.give_from is not None for worker in p.state.roster.running)


def unheard(p: Pass, worker: Worker) -> None:
    """Nobody was there to hear the question: no answer comes, and none was too little."""
    worker.give_from = None
    p.touch(worker)


def due(state: State, worker: Worker) -> float:
    """When it has to be measured, to be asked or to know what it has given; infinite while it is being measured."""
    if worker.phase is not Phase.RUNNING or worker.asked_at > worker.sampled_at:
        return math.inf
    return _asks_at(state, worker) if worker.give_from is None else _known_at(state, worker)


def _asks_at(state: State, worker: Worker) -> float:
    """When one that is over its limit is asked; infinite if it is not, or too late for patience."""
    if (
        worker.over_since is None
        or worker.baseline is None
        or worker.wants is not None
        or not _willing(worker)
    ):
        return math.inf
    patience = state.policy.patience
    at = max(worker.over_since + min(patience / 2, SOON), worker.give_at + REST)
    return at if at < worker.over_since + patience else math.inf


def _known_at(state: State, worker: Worker) -> float:
    patience = state.policy.patience
    return worker.give_at + (
        min(patience, REST) if worker.over_since is not None else min(patience / 2, SOON)
    )


def _willing(worker: Worker) -> bool:
    return worker.gives and not worker.spent and worker.give_from is None and worker.memory is not None


def _ask(p: Pass, worker: Worker) -> None:
    worker.give_at, worker.give_from = p.now, worker.memory
    p.touch(worker)
    p.do(GiveBack(worker.id))


def _settle(p: Pass, worker: Worker, held: int) -> None:
    """Its time is over, and it has just been measured. A gift counts if it is under its limit now."""
    assert worker.memory is not None
    gift = held - worker.memory
    worker.give_from = None
    # While it has patience left, the question may have come too early, and is put again.
    if worker.over_since is None or p.now >= worker.over_since + p.state.policy.patience:
        worker.spent = gift < LEAST * held
    p.touch(worker)
    if worker.over_since is not None or gift <= 0:
        return
    worker.gifts, worker.given = worker.gifts + 1, worker.given + gift
    p.state.gifts, p.state.given = p.state.gifts + 1, p.state.given + gift
    # It grows anew from here: a slope over the fall would tell nothing.
    worker.history, worker.growth = ((p.now, worker.memory),), 0.0
    if p.now < worker.gift_said_at + SAID:
        return
    worker.gift_said_at = p.now
    text = (
        f"{wording.name(worker)} was asked to give memory back: it held {format_size(held)}, holds "
        f"{wording.usage(worker)} now, and goes on serving{wording.again(worker)}"
    )
    fields = wording.worker_fields(worker) | wording.gift_fields(worker)
    p.journal(Message.GAVE_BACK, text, fields | {"MEMUNIT_MEMORY_BYTES": worker.memory})
