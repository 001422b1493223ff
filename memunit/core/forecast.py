"""How fast a worker grows, and so when it will be at its limit: a slope that single spikes do not bend."""

import math
from collections import Counter
from itertools import combinations

from memunit.core.model import Worker

# Points that are kept for the fit: as many as say something, and few enough to compare each with each.
POINTS = 24
# A slope over less is a guess; a limit that is further away than this is nobody's worry. Seconds.
LEAST_SPAN = 30.0
HORIZON = 7 * 86400.0

History = tuple[tuple[float, int], ...]


def remember(history: History, now: float, memory: int) -> History:
    """The history with this sample, if it is time for one: the points stay evenly spread over the worker's life."""
    if history:
        spacing = (history[-1][0] - history[0][0]) / POINTS
        if now - history[-1][0] < max(1.0, spacing):
            return history
    longer = (*history, (now, memory))
    return longer[::2] if len(longer) > 2 * POINTS else longer


def growth(history: History) -> float:
    """Bytes a second: the median of the slopes between all pairs (Theil and Sen), 0 if it does not clearly grow."""
    if len(history) < 8 or history[-1][0] - history[0][0] < LEAST_SPAN:
        return 0.0
    # Of one that does nothing, as most do most of the time, more than a quarter of the slopes are level.
    counts = Counter(memory for _, memory in history).values()
    pairs = len(history) * (len(history) - 1) // 2
    if sum(count * (count - 1) // 2 for count in counts) > pairs // 4:
        return 0.0
    slopes = sorted(
        (after - before) / (late - early) for (early, before), (late, after) in combinations(history, 2)
    )
    # By hand: the module statistics would cost the master half a mebibyte, for as long as it lives.
    return slopes[len(slopes) // 2] if slopes[len(slopes) // 4] > 0 else 0.0


def time_to_limit(worker: Worker) -> float:
    """Seconds until it is at its limit if it goes on like this; infinite if it does not get there in a week."""
    if worker.limit is None or worker.memory is None or worker.growth <= 0:
        return math.inf
    seconds = max(0.0, (worker.limit - worker.memory) / worker.growth)
    return seconds if seconds <= HORIZON else math.inf
