"""One pass of policy under way: the state being changed and the actions that come of it.

Every change of a worker's phase goes through `Turn.enter`, the one door, and every end through `Turn.end`.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memunit.core import backoff, memory, wording
from memunit.core.actions import (
    Action,
    ClearGate,
    Journal,
    NotifyReady,
    ReloadResult,
    SaveGate,
    Send,
    Signal,
    Spawn,
    UseRevision,
)
from memunit.core.causes import cause_of, cut_off
from memunit.core.model import ACCIDENTS, Cause, Gate, Phase, Slot, State, Worker, WorkerId
from memunit.core.quantity import format_size

# Between SIGABRT and SIGKILL: time to write every thread's stack to the journal.
ABORT_GRACE = 10.0
# After SIGKILL a process can only be in an uninterruptible sleep; nothing waits for it longer than this.
KILL_GRACE = 10.0
# What systemd is told beyond a worker's own time: for the stop that may follow.
EXTEND_MARGIN = 60.0
# An accident after this long a life starts a new count of failures.
STABLE = 10.0
# A reload gives the new app this many tries before it is called broken: one for a passing fault.
ROLLOUT_TRIES = 2

NOTICE, WARNING, ERROR, INFO, DEBUG = 5, 4, 3, 6, 7


def needed_by(worker: Worker) -> int | None:
    """What one more like this one needs to start, in bytes, as far as is known."""
    return worker.baseline if worker.baseline is not None else worker.limit


class Turn:
    """Mutable only while `step` runs; `freeze` gives the next state."""

    def __init__(self, state: State, now: float) -> None:
        self.state = state
        self.now = now
        self.workers: dict[WorkerId, Worker] = dict(state.workers)
        self.slots: list[Slot] = list(state.slots)
        self.actions: list[Action] = []
        self._ends: list[tuple[Worker, Journal]] = []

    def change(self, **changes: Any) -> None:
        """Change the instance's own fields."""
        self.state = replace(self.state, **changes)

    def put(self, worker: Worker, **changes: Any) -> Worker:
        """Keep a changed worker; never its phase, which is `enter`'s."""
        assert "phase" not in changes
        changed = replace(worker, **changes) if changes else worker
        self.workers[worker.id] = changed
        return changed

    def do(self, action: Action) -> None:
        """Ask for an action."""
        self.actions.append(action)

    def journal(
        self, kind: str, priority: int, message: str, fields: Mapping[str, str | int] | None = None
    ) -> None:
        """Ask for a journal entry."""
        self.do(Journal(kind=kind, priority=priority, message=message, fields=fields or {}))

    def slot(self, index: int) -> Slot:
        """The slot of this index."""
        return self.slots[index]

    def in_slot(self, index: int) -> list[Worker]:
        """Every worker of the slot, oldest first."""
        return sorted((w for w in self.workers.values() if w.id.slot == index), key=lambda w: w.id)

    def enter(self, worker: Worker, phase: Phase, **changes: Any) -> Worker:
        """The one door: put the worker into a phase, and say so."""
        entered = replace(worker, phase=phase, since=self.now, **changes)
        self.workers[worker.id] = entered
        if phase is Phase.RUNNING:
            message = f"{wording.name(entered)} is ready after {self.now - entered.born:.2f} s"
            self.journal("WORKER_READY", INFO, message, wording.worker_fields(entered))
        elif phase in (Phase.STOP_SIGTERM, Phase.STOP_SIGKILL):
            message = wording.stopping(entered)
            forced = phase is Phase.STOP_SIGKILL or entered.force is not None
            self.journal(
                "WORKER_STOPPING", WARNING if forced else INFO, message, wording.worker_fields(entered)
            )
        return entered

    def spawn(self, index: int) -> None:
        """Start the slot's next generation."""
        slot, policy = self.slots[index], self.state.policy
        who = WorkerId(index, slot.next_generation)
        self.slots[index] = replace(slot, next_generation=slot.next_generation + 1)
        worker = Worker(
            id=who,
            revision=self.state.revision,
            phase=Phase.STARTING,
            born=self.now,
            since=self.now,
            timer=self.now + policy.start_timeout,
            limit=memory.effective_limit(policy, self.state.seed, who),
            ceiling=policy.ceiling,
            watchdog=policy.watchdog,
            grace=policy.grace,
        )
        self.enter(worker, Phase.STARTING)
        self.do(Spawn(who, worker.revision, policy.watchdog))

    def stop(self, worker: Worker, reason: Cause, *, signal: bool = True, holds_slot: bool = False) -> None:
        """Ask a worker to stop: SIGTERM, and the kill timer behind it."""
        self.enter(
            worker,
            Phase.STOP_SIGTERM,
            reason=worker.reason or reason,
            stop_at=self.now,
            timer=self.now + worker.grace,
            holds_slot=holds_slot,
        )
        if signal:
            self.do(Send(worker.id, Signal.TERM))

    def abort(self, worker: Worker, force: Cause) -> None:
        """End a worker that hangs: SIGABRT, so that it can dump its stacks, then SIGKILL."""
        self.enter(
            worker,
            Phase.STOP_SIGTERM,
            force=force,
            stop_at=self.now if worker.stop_at is None else worker.stop_at,
            timer=self.now + ABORT_GRACE,
            watchdog_at=math.inf,
        )
        self.do(Send(worker.id, Signal.ABRT))

    def kill(self, worker: Worker, force: Cause) -> None:
        """SIGKILL to the worker's whole tree."""
        self.enter(
            worker,
            Phase.STOP_SIGKILL,
            force=worker.force or force,
            stop_at=self.now if worker.stop_at is None else worker.stop_at,
            timer=self.now + KILL_GRACE,
            watchdog_at=math.inf,
        )
        self.do(Send(worker.id, Signal.KILL))

    def end(self, worker: Worker, code: str, status: int) -> None:
        """A worker's process is gone: find the cause, write the one entry, and hold the slot back if need be."""
        cause, reason = cause_of(worker, code, status)
        del self.workers[worker.id]
        if cause not in (Cause.STOP, Cause.SCALE_DOWN):
            ended = dict(self.state.ended)
            ended[cause] = ended.get(cause, 0) + 1
            self.change(ended=ended)
        if worker.ready_at is not None:
            recycled = cause is Cause.MEMORY_LIMIT
            self.slots[worker.id.slot] = replace(self.slots[worker.id.slot], recycled=recycled)
        # One that dies while it drains has been replaced already: that is no mark against the slot.
        if cause in ACCIDENTS and worker.reason is None and not self.state.stopping:
            self.fail(worker, wording.outcome(worker, cause, code, status))
        message = wording.ended(worker, cause, reason, code, status, self.now)
        fields = wording.end_fields(worker, cause, reason, code, status, self.now)
        if worker.ceiling is not None:
            fields["MEMUNIT_CEILING_BYTES"] = worker.ceiling
        fields["MEMUNIT_RECYCLES"] = sum(self.state.ended.values())
        lossy = cause in ACCIDENTS or cause is Cause.GRACE_EXPIRED or cut_off(worker, code, status)
        priority = WARNING if lossy else NOTICE
        kind = f"ENDED:{cause.value}"
        self._ends.append((worker, Journal(kind=kind, message=message, priority=priority, fields=fields)))

    def fail(self, worker: Worker, trouble: str) -> None:
        """Count an accident against the slot, against a reload it belongs to, and, if nothing serves, the gate."""
        stable = self.hold_back(worker)
        self.change(trouble=trouble)
        rollout = self.state.rollout
        if rollout is not None and worker.revision == self.state.revision:
            self.change(rollout=replace(rollout, failures=rollout.failures + 1))
            if rollout.failures + 1 >= ROLLOUT_TRIES or worker.force is Cause.START_TIMEOUT:
                self.reload_failed(trouble)
        if not self.running():
            self.close_gate(worker, stable=stable)

    def hold_back(self, worker: Worker) -> bool:
        """Count a failure against the worker's slot and delay its next start; whether the worker had lived long."""
        slot = self.slots[worker.id.slot]
        stable = worker.ready_at is not None and self.now - worker.ready_at >= STABLE
        failures = 1 if stable else slot.failures + 1
        wait = backoff.delay(failures, seed=self.state.seed, slot=slot.index)
        self.slots[slot.index] = replace(slot, failures=failures, retry_at=self.now + wait)
        return stable

    def running(self) -> int:
        """How many workers serve now."""
        return sum(w.phase is Phase.RUNNING for w in self.workers.values())

    def why(self, worker: Worker) -> Cause | None:
        """Why this worker is to be replaced, if it is."""
        if worker.wants is not None:
            return worker.wants
        return Cause.RELOAD if worker.revision != self.state.revision else None

    def close_gate(self, worker: Worker, *, stable: bool = False) -> None:
        """Nothing serves: hold the next start back, and leave the count to a successor."""
        gate = self.state.gate
        failures = gate.failures
        # Workers that were started together fail together: that is one failed try, not one each.
        if worker.born >= gate.failed_at or failures == 0:
            # An app that becomes ready and crashes at once opens the gate each time; its slot remembers.
            failures = 1 if stable else max(failures + 1, self.slots[worker.id.slot].failures)
        since = self.now if failures == 1 else min(gate.since, self.now)
        wait = backoff.delay(failures, seed=self.state.seed, slot=-1, lasted=self.now - since)
        gate = Gate(
            failures=failures,
            since=since,
            failed_at=self.now,
            retry_at=self.now + wait,
            served=worker.ready_at is not None,
        )
        self.change(gate=gate)
        self.do(SaveGate(failures, since, gate.retry_at))

    def open_gate(self) -> None:
        """Something serves, or a person has acted: the next start is not held back."""
        if self.state.gate.failures or math.isfinite(self.state.gate.retry_at):
            self.change(gate=Gate())
            self.do(ClearGate())

    def reload_failed(self, why: str) -> None:
        """Go back to the configuration before the reload; what serves goes on serving."""
        rollout = self.state.rollout
        assert rollout is not None
        self.change(
            policy=rollout.previous,
            count=rollout.previous.count,
            revision=rollout.previous_revision,
            rollout=None,
            reload_trouble=why,
        )
        for worker in list(self.workers.values()):
            if worker.phase is Phase.STARTING and worker.revision != rollout.previous_revision:
                self.stop(worker, Cause.RELOAD)
        text = f"Reload failed, the old configuration goes on serving: {why}"
        self.journal("RELOAD_FAILED", ERROR, text, {"MEMUNIT_RESULT": "failed"})
        self.do(UseRevision(rollout.previous_revision))
        if self.state.ready_sent:
            self.do(NotifyReady())
        self.do(ReloadResult(rollout.tokens, False, text))

    def surging(self) -> int:
        """How many workers exist beyond the one that serves in each slot: replacements under way and drainers.

        One that outlived its SIGKILL (an uninterruptible sleep) is not counted: it would stop all replacement.
        """
        extra = 0
        for worker in self.workers.values():
            if worker.phase is Phase.STARTING:
                extra += any(w.phase is Phase.RUNNING for w in self.in_slot(worker.id.slot))
            elif worker.phase is not Phase.RUNNING:
                extra += math.isfinite(worker.timer)
        return extra

    def room_for_surge(self, worker: Worker) -> bool:
        """False if the memory has no room for one more worker next to the old: then the order is reversed."""
        if self.state.policy.surge == 0:
            return False
        headroom, need = self.state.headroom, needed_by(worker)
        # What is free is not free for two: a worker that starts has not taken yet what it needs.
        starting = [w for w in self.workers.values() if w.phase is Phase.STARTING]
        claimed = sum(max(0, (need or 0) - (w.memory or 0)) for w in starting)
        room = headroom is None or need is None or headroom.available - claimed >= need
        # Without room while another starts, nothing is decided yet: this one waits for that one.
        if room or not starting:
            self.order(worker, reverse=not room)
        return room

    def order(self, worker: Worker, *, reverse: bool, moment: str = "starts") -> None:
        """Whether the old one stops first is said when it changes; `worker` is the old one."""
        headroom, need = self.state.headroom, needed_by(worker)
        if reverse is self.state.surge_reversed:
            return
        self.change(surge_reversed=reverse)
        if headroom is not None and need is not None:
            have = (
                f"{format_size(headroom.available)} free of {format_size(headroom.total)} ({headroom.source})"
            )
            late = f"The old worker stops before its replacement {moment}"
            said = late if reverse else "Replacement comes first again"
            text = f"{said}: a replacement needs about {format_size(need)}, there are {have}"
            self.journal("SURGE_REVERSED", WARNING if reverse else NOTICE, text)

    def freeze(self, wake_at: float) -> tuple[State, tuple[Action, ...]]:
        """The next state, and the actions with the end entries last: by then replacements have their pids."""
        for worker, entry in self._ends:
            heirs = [w for w in self.in_slot(worker.id.slot) if w.serving and w.id > worker.id]
            self.do(replace(entry, replacement=heirs[0].id if heirs else None))
        state = replace(
            self.state, workers=self.workers, slots=tuple(self.slots), stepped_at=self.now, wake_at=wake_at
        )
        return state, tuple(self.actions)
