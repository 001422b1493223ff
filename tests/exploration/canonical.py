"""The form in which two states are one: times relative to now, generations by age, without what only sentences need.

A field that is not named here is kept as it is: a new one makes more states, and never hides any.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Hashable
from operator import attrgetter
from typing import Any

from memunit import records
from memunit.core import memory
from memunit.core.model import Phase, Policy, Slot, Worker
from memunit.core.state import State
from tests.exploration.scaled import FAILURES, FUTURE, PAST

# Floats that are seconds and no time of the clock.
_SPANS = {"grace", "watchdog"}
# What is told, and decides nothing; what each pass sets anew; names, which are given by age.
_TOLD = {
    "pid", "status", "metric", "history", "growth", "decided_memory", "peak", "outlived", "deaf", "heir",
    "tells_stacks", "ended", "trouble", "reload_trouble", "why", "baseline_reported", "blind_reported", "unhelped",
    "stop_at", "started_at", "stepped_at", "wake_at", "next_generation", "seed", "headroom", "exit_code", "tokens",
    "gifts", "given", "gift_said_at", "tally",
    "index", "id", "workers", "previous_revision", "began", "asked_at", "sampled_at", "pace", "steady_pace",
    "settings", "previous_settings", "previous_count",
}  # fmt: skip
# What is not looked at again once a worker serves, and once it stops.
_STARTING = {"born", "since", "yields_at", "told_stopping"}
_SERVING = {
    "ready_at", "memory", "baseline", "over_since", "wants", "wants_since", "pings", "probation", "born", "revision",
    "limit", "ceiling", "in_vain", "told_stopping", "gives", "give_at", "give_from", "spent",
}  # fmt: skip
_DROPPED = {
    Phase.STARTING: _TOLD,
    Phase.RUNNING: _TOLD | _STARTING,
    Phase.STOP_SIGTERM: _TOLD | _SERVING,
    Phase.STOP_SIGKILL: _TOLD | _SERVING | {"since", "force"},
}
# From these times on something may be done: how long they have been over is all the same.
_DUE = {(Slot, "retry_at"), (Worker, "yields_at")}
_COUNTS = {"failures", "futile"}

Write = Callable[[Any, float, State], Hashable]


def _time(value: float | None, now: float, _: State) -> float | None:
    if value is None or math.isinf(value):
        return value
    # Above zero: in CPython, -1 and -2 have one hash, and by that state was once taken for state.
    return PAST + max(-PAST, min(value - now, FUTURE))


def _due(value: float, now: float, _: State) -> float:
    """A time from which on something may be done: how long it has been over is all the same."""
    return max(0.0, min(value - now, FUTURE))


def _count(value: int, _: float, __: State) -> int:
    return min(value, FAILURES)


def _revision(value: int, _: float, state: State) -> str:
    if value == state.revision:
        return "new"
    return "previous" if state.rollout and value == state.rollout.previous_revision else "old"


def _same(value: Any, _: float, __: State) -> Any:
    return value


Field = tuple[Callable[[Any], Any], Write]


def _fields(kind: type, dropped: set[str]) -> list[Field]:
    hints = typing.get_type_hints(kind)
    found: list[Field] = []
    for each in records.fields(kind):
        name, hint = each.name, hints[each.name]
        inner = (hint, *typing.get_args(hint))
        if not each.init or name in dropped or (kind is State and name == "revision"):
            continue
        if name in _COUNTS:
            write: Write = _count
        elif (kind, name) in _DUE:
            write = _due
        elif name == "revision" and kind is Worker:
            write = _revision
        elif float in inner and name not in _SPANS:
            write = _time
        elif any(map(records.is_dataclass, inner)) and Policy not in inner:
            write = _whole
        else:
            write = _same
        found.append((attrgetter(name), write))
    return found


_KNOWN: dict[Any, list[Field]] = {}


def _whole(value: Any, now: float, state: State, phase: Phase | None = None) -> Hashable:
    if value is None:
        return None
    if isinstance(value, list):
        return tuple([_whole(each, now, state) for each in value])
    key = type(value), phase
    fields = _KNOWN.get(key)
    if fields is None:
        dropped = _TOLD if phase is None else _DROPPED[phase]
        fields = _KNOWN[key] = _fields(type(value), dropped)
    return tuple([write(get(value), now, state) for get, write in fields])


def _worker(worker: Worker, now: float, state: State) -> Hashable:
    whole = _whole(worker, now, state, worker.phase)
    if worker.phase is Phase.RUNNING and worker.limit is not None:
        # Of what it has grown by, what policy makes of it.
        asked = worker.asked_at > worker.sampled_at
        paces = worker.pace > 0, worker.steady_pace > 0, memory.grows_on(worker)
        sampled = (
            worker.sampled_at >= now if worker.over_since is None else _time(worker.sampled_at, now, state)
        )
        return whole, _time(worker.born, now, state), asked, sampled, paces
    if worker.phase is Phase.STARTING:
        return whole
    if worker.phase is Phase.RUNNING:
        return whole, _time(worker.born, now, state)
    # One that is stopped for a reason is no failure, however young it is.
    served = None if worker.reason is not None and worker.ready_at is not None else worker.ready_at
    first = _time(worker.born, now, state) if worker.reason is None else None
    return whole, _time(served, now, state), worker.ready_at is None, first


def canonical(state: State, now: float) -> Hashable:
    """The form of a state at this time, in seconds."""
    slots: dict[int, list[Hashable]] = {}
    for who in sorted(state.workers):
        slots.setdefault(who.slot, []).append(_worker(state.workers[who], now, state))
    room = state.headroom.available if state.headroom else None
    start = None if state.ready_sent else _time(state.started_at, now, state)
    here = [(slot, tuple(workers)) for slot, workers in sorted(slots.items())]
    return _whole(state, now, state), tuple(here), room, start
