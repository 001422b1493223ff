"""Verdicts on a worker's memory: a leak is not a spike, and a limit under the app's baseline is nobody's leak."""

import math
from dataclasses import replace

from memunit.core import forecast
from memunit.core.backoff import jitter
from memunit.core.model import Policy, Slot, Worker, WorkerId

# Workers that leak alike would all reach the limit together; the jitter takes up to 5 % off, never adds.
LIMIT_SPREAD = 0.05
# Once over the limit, a worker counts as over until it is clearly under: 1/64, so that a value that flutters
# about the limit neither escapes patience nor is cancelled by noise.
HYSTERESIS = 64
FUTILE_CAP = 3600.0
FUTILE_FIRST = 10.0


def effective_limit(policy: Policy, seed: int, worker: WorkerId) -> int | None:
    """The limit in bytes for this worker, with its jitter; None without a limit."""
    if policy.limit is None:
        return None
    return policy.limit - int(policy.limit * LIMIT_SPREAD * jitter(seed, *worker))


def observe(worker: Worker, memory: int, metric: str, now: float) -> Worker:
    """The worker with this sample: its baseline is the first one after it became ready."""
    over = worker.over_since
    if worker.limit is not None:
        if memory >= worker.limit:
            over = now if over is None else over
        elif memory < worker.limit - worker.limit // HYSTERESIS:
            over = None
    baseline = worker.baseline
    if baseline is None and worker.ready_at is not None:
        baseline = memory
    history, growth = worker.history, worker.growth
    if worker.ready_at is not None:
        history = forecast.remember(history, now, memory)
        if history is not worker.history:
            growth = forecast.growth(history)
    return replace(
        worker,
        memory=memory,
        metric=metric,
        over_since=over,
        baseline=baseline,
        history=history,
        growth=growth,
    )


def over_baseline(worker: Worker) -> bool:
    """True if the app was over its limit when it became ready: a recycle can't help."""
    return worker.limit is not None and worker.baseline is not None and worker.baseline >= worker.limit


def least_age(policy: Policy, slot: Slot) -> float:
    """Seconds that a worker of this slot must have served before its memory may recycle it.

    Doubles with each worker in a row whose baseline was over the limit, up to an hour: a wrong limit costs a
    bounded rate and not a loop (PM2 resets its crash counter and restarts for ever).
    """
    if slot.futile == 0:
        return policy.min_lifetime
    return max(policy.min_lifetime, min(FUTILE_CAP, FUTILE_FIRST * float(2 ** min(slot.futile, 16))))


def recycle_at(policy: Policy, slot: Slot, worker: Worker) -> float:
    """When this worker is to be recycled for its memory if it stays over the limit; infinite if it is under it.

    Nor is it due before its baseline is known: a sample from while it started may put it over the limit, and READY
    would recycle it in the same pass that only asks what the app needs.
    """
    if worker.over_since is None or worker.ready_at is None or worker.baseline is None:
        return math.inf
    return max(worker.over_since + policy.patience, worker.ready_at + least_age(policy, slot))


def over_ceiling(worker: Worker) -> bool:
    """True at or over the hard bound, where there is one."""
    return worker.ceiling is not None and worker.memory is not None and worker.memory >= worker.ceiling
