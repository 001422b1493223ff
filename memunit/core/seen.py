"""One pass of policy as the invariants see it: what was before, what it was told, and what came of it."""

import math
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from memunit.core import facts as f
from memunit.core.actions import Action, Spawn
from memunit.core.model import Cause, Phase, WorkerId
from memunit.core.state import State

T = TypeVar("T")
STOPS = (Phase.STOP_SIGTERM, Phase.STOP_SIGKILL)


class Look(NamedTuple):
    """What the invariants want to know of one worker."""

    phase: Phase
    deadline: float
    yields_at: float
    force: Cause | None
    reason: Cause | None
    wants: Cause | None
    holds_slot: bool
    sampled_at: float
    give_at: float
    memory: int | None
    steady_pace: float
    ceiling: int | None


class Snapshot(NamedTuple):
    """What they want to know of a state: `step` may take the state itself to pieces."""

    workers: Mapping[WorkerId, Sequence[Any]]
    """What a Look is made of."""
    places: int
    surge: int
    reversed: bool
    retry_at: Sequence[float]
    replacing: Sequence[bool]
    gate_failures: int
    gate_retry_at: float
    tokens: tuple[int, ...]
    stopping: bool
    finished: bool
    free: float
    """Bytes that are free in memory; infinite where that is not known."""


_looked = attrgetter(*Look._fields)
_retry_at = attrgetter("retry_at")
_replacing = attrgetter("replacing")


def snapshot(state: State) -> Snapshot:
    """What is to be known of the state before the next pass, and after the last one."""
    return Snapshot(
        workers={who: _looked(worker) for who, worker in state.workers.items()},
        places=state.places,
        surge=state.policy.surge,
        reversed=state.surge_reversed,
        retry_at=list(map(_retry_at, state.slots)),
        replacing=list(map(_replacing, state.slots)),
        gate_failures=state.gate.failures,
        gate_retry_at=state.gate.retry_at,
        tokens=state.rollout.tokens if state.rollout else (),
        stopping=state.stopping,
        finished=state.finished,
        free=math.inf if state.headroom is None else state.headroom.available,
    )


class Pass:
    """One pass: what was before, what it was told, when, what it wanted, and what came of it."""

    def __init__(
        self,
        before: Snapshot,
        facts: Sequence[f.Fact],
        now: float,
        after: Snapshot,
        actions: Sequence[Action],
        deadline: float,
    ) -> None:
        self.before, self.facts, self.now = before, facts, now
        self.after, self.actions, self.deadline = after, actions, deadline
        then, there = before.workers, after.workers
        self.changed = [
            (who, Look._make(looked), Look._make(there[who]))
            for who, looked in then.items()
            if who in there and looked != there[who]
        ]
        """Who was there before and is there still, and is not as it was."""
        self.gone = then.keys() - there.keys()
        self.new = there.keys() - then.keys()
        self.started = [action.id for action in actions if isinstance(action, Spawn)]

    def of(self, kind: type[T]) -> list[T]:
        """The actions of a kind."""
        return [action for action in self.actions if isinstance(action, kind)]

    def slots(self, *phases: Phase) -> list[int]:
        """The slot of each worker that is in one of these phases afterwards."""
        return [who.slot for who, looked in self.after.workers.items() if looked[0] in phases]

    def starting(self) -> list[float]:
        """Until when others wait for each worker that starts afterwards, and is not late."""
        due = [looked[2] for looked in self.after.workers.values() if looked[0] is Phase.STARTING]
        return [until for until in due if self.now < until]

    def stopping(self) -> list[tuple[WorkerId, float]]:
        """Who is to end, and when it is to be killed."""
        return [(who, looked[1]) for who, looked in self.after.workers.items() if looked[0] in STOPS]
