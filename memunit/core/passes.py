"""One pass of policy under way: the state that it changes, and the actions that come of it."""

import math
from collections.abc import Mapping

from memunit.core.actions import Action, Journal
from memunit.core.messages import Message
from memunit.core.model import Worker, WorkerId
from memunit.core.state import State
from memunit.records import replace


class Pass:
    """What all of policy is handed; it decides on nothing."""

    def __init__(self, state: State, now: float) -> None:
        self.state = state
        self.now = now
        self.actions: list[Action] = []
        self.again_at = math.inf
        """When something that waits for time alone has to be looked at again, in seconds of CLOCK_MONOTONIC."""
        self.touched: dict[WorkerId, Worker] = {}
        """Whose times may have changed."""
        self.heirs: list[tuple[Worker, Worker]] = []
        """Who served, and who has become ready in its place in this pass."""
        self._ends: list[tuple[Worker, Journal]] = []

    def touch(self, worker: Worker) -> None:
        """When this one falls due has to be found out anew."""
        self.touched[worker.id] = worker

    def again(self, at: float) -> None:
        """Look again at this time; one that has come already was looked at."""
        if self.now < at < self.again_at:
            self.again_at = at

    def do(self, action: Action) -> None:
        """Ask for an action."""
        self.actions.append(action)

    def journal(
        self,
        kind: Message,
        message: str,
        fields: Mapping[str, str | int] | None = None,
        *,
        priority: int | None = None,
    ) -> None:
        """Ask for a journal entry, with the priority of its kind if no other is given."""
        level = kind.priority if priority is None else priority
        self.do(Journal(kind=kind, message=message, priority=level, fields=fields or {}))

    def journal_end(self, worker: Worker, entry: Journal) -> None:
        """Ask for the entry of an end: after all that this pass does, for then its replacement has a pid."""
        self._ends.append((worker, entry))

    def finish(self) -> tuple[Action, ...]:
        """All that was asked for."""
        for worker, entry in self._ends:
            later = [w for w in self.state.roster.in_slot(worker.id.slot) if w.serving and w.id > worker.id]
            heir, pid = worker.heir or ((later[0].id, 0) if later else (None, 0))
            self.do(replace(entry, replacement=heir, replacement_pid=pid))
        return tuple(self.actions)
