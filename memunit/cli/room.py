"""How many workers there are to be, and whether they fit in memory."""

import math
from collections.abc import Set

from memunit.core.budget import Budget, check_budget
from memunit.core.problems import Problem
from memunit.core.settings import Settings, label
from memunit.master.processors import processors
from memunit.master.sampling import Bound


def worker_count(settings: Settings) -> int:
    """How many workers `count` means here: "auto" is the processors that this process may use."""
    return settings.workers.count or processors()


def budget_of(settings: Settings, total: int, source: str, doubtful: Set[str] = frozenset()) -> Budget:
    """The budget of these settings in `total` bytes, the bound of `source` (see check_budget).

    Where what is added up is `doubtful` (see Parsed), it is as if the total were not known.
    """
    if doubtful & {"memory.limit", "workers.count", "workers.surge"}:
        total = 0
    return check_budget(
        count=worker_count(settings),
        limit=settings.memory.limit,
        surge=settings.workers.surge,
        total=total,
        source=source,
    )


def budget_problem(budget: Budget, source: str) -> Problem | None:
    """The problem of a budget that is too small; None if the workers fit."""
    if budget.kind != "too-small":
        return None
    return Problem(source, label(source, "memory.limit"), budget.text, budget.remedy)


def within_total(room: Bound, settings: Settings, source: str) -> Bound:
    """The room that there is, or the tighter one that the settings leave."""
    total = settings.memory.total
    if total is None or math.isinf(total) or 0 < room.total < total:
        return room
    return Bound(int(total), min(room.available, int(total)), label(source, "memory.total"))
