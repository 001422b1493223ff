"""What a sample says of a worker: over its limit or not, since when, and how fast it grows."""

import math

from memunit.core import forecast
from memunit.core.backoff import jitter
from memunit.core.model import Policy, Worker, WorkerId

# Workers that leak alike would all reach the limit together; the jitter takes up to 5 % off, never adds.
LIMIT_SPREAD = 0.05
# Once over the limit, a worker counts as over until it is clearly under: 1/64, so that a value that flutters
# about the limit neither escapes patience nor is cancelled by noise.
HYSTERESIS = 64
# Over a shorter time, in seconds, a page more or less would be a pace.
SHORTEST_SPAN = 0.02
# The share of its pace up to its limit at which a worker that waits for its replacement still counts as growing. On one
# processor it serves less while the replacement starts: a leak fell to 37 % of its pace, was taken for a step, and each
# leak after it was decided on a quarter of a second late, or more. After a step nothing grows at all.
STILL = 1 / 8
# The share of its limit under which a worker begins clearly under it.
CLEARLY = 7 / 8


def effective_limit(policy: Policy, seed: int, worker: WorkerId) -> int | None:
    """The limit in bytes for this worker, with its jitter; None without a limit."""
    if policy.limit is None:
        return None
    return policy.limit - int(policy.limit * LIMIT_SPREAD * jitter(seed, *worker))


def observe(worker: Worker, memory: int, metric: str, now: float) -> None:
    """Note a sample, in bytes; a worker's baseline is the first one after it became ready."""
    if worker.limit is not None:
        if memory >= worker.limit:
            worker.over_since = now if worker.over_since is None else worker.over_since
        elif memory < worker.limit - worker.limit // HYSTERESIS:
            worker.over_since = None
    begins = worker.ready_at is not None and worker.baseline is None
    if worker.ready_at is not None:
        if begins:
            worker.baseline = memory
        history = forecast.remember(worker.history, now, memory)
        if history is not worker.history:
            worker.history, worker.growth = history, forecast.growth(history)
    if worker.memory is not None and now - worker.sampled_at >= SHORTEST_SPAN:
        pace = (memory - worker.memory) / (now - worker.sampled_at)
        # What it has done while it started tells nothing.
        worker.steady_pace, worker.pace = (0.0, 0.0) if begins else (min(pace, worker.pace), pace)
    worker.memory, worker.metric, worker.sampled_at = memory, metric, now


def over_baseline(worker: Worker) -> bool:
    """True if the app was over its limit when it became ready: a recycle can't help."""
    return worker.limit is not None and worker.baseline is not None and worker.baseline >= worker.limit


def over_ceiling(worker: Worker) -> bool:
    """True at or over the hard bound, where there is one."""
    return worker.ceiling is not None and worker.memory is not None and worker.memory >= worker.ceiling


def half_way(worker: Worker, free: int | None) -> float:
    """The bytes half-way between its limit and its end (`_end`); infinite without either."""
    return math.inf if worker.limit is None else (worker.limit + _end(worker, free)) / 2


def _end(worker: Worker, free: int | None) -> float:
    """The bytes at which it meets its ceiling, or has taken what is `free` of all; infinite where nothing is known."""
    ceiling = math.inf if worker.ceiling is None else worker.ceiling
    return ceiling if free is None or worker.memory is None else min(ceiling, worker.memory + free)


def runs_out(worker: Worker, at: float, free: int | None) -> bool:
    """Whether it would be at its ceiling by then, or have taken what is `free`, if it went on to grow as it did.

    It has grown between its last three samples, for two of them tell a leak from no spike; and past half the way, for
    what comes over the limit by a little will often stay there. One that fills 60M within three samples would have been
    out of any machine's memory in ten seconds: half the way holds for what is free as for the ceiling.
    """
    if worker.memory is None or worker.steady_pace <= 0 or worker.memory < half_way(worker, free):
        return False
    return worker.memory + worker.steady_pace * (at - worker.sampled_at) >= _end(worker, free)


def grows_on(worker: Worker) -> bool | None:
    """Whether it is a leak: it began clearly under its limit, and still grows as it did since then, or half as fast.

    Else what it holds has come by a step, as a model that is loaded for the first request, and stands still. None as
    long as there is no sample to tell by: from READY=1 on, and a while before the last one.
    """
    if worker.limit is None or worker.memory is None or worker.baseline is None or worker.ready_at is None:
        return None
    if worker.baseline >= CLEARLY * worker.limit:
        return False
    age = worker.sampled_at - worker.ready_at
    least = (worker.memory - worker.baseline) / age / 2 if age > 0 else math.inf
    if 0 < least <= worker.steady_pace:
        return True
    window = max(1.0, age / 4)
    before = [point for point in worker.history[1:] if point[0] <= worker.sampled_at - window]
    if not before:
        return None
    since, held = before[-1]
    return 0 < least <= (worker.memory - held) / (worker.sampled_at - since)


def has_grown_since(worker: Worker, at: float) -> bool | None:
    """Whether it has gone on to grow since it was decided on; None if that can't be told."""
    held, begun, ready_at = worker.decided_memory, worker.baseline, worker.ready_at
    if worker.memory is None or held is None or begun is None or ready_at is None or at <= ready_at:
        return None
    return worker.memory - held >= STILL * (held - begun) / (at - ready_at) * (worker.sampled_at - at)


def needed_by(worker: Worker) -> int | None:
    """What one more like this one needs to start, in bytes, as far as is known."""
    return worker.baseline if worker.baseline is not None else worker.limit
