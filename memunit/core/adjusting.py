"""Settings that a person changes while an instance runs, until its next reload: which, and what comes of them."""

import math
from collections.abc import Mapping
from typing import Any

from memunit.core import failures, memory, recycle
from memunit.core.actions import Bound, Measure
from memunit.core.budget import OWN, needed
from memunit.core.messages import NOTICE, WARNING, Message
from memunit.core.model import Policy, Worker
from memunit.core.passes import Pass
from memunit.core.quantity import exact_size, format_size, format_time
from memunit.core.schema import BY_PATH, MOST_WORKERS, Kind
from memunit.core.settings_rules import check_rules
from memunit.core.settings_texts import ValueProblem, nearest
from memunit.core.settings_values import convert
from memunit.core.state import State
from memunit.records import replace

COUNT = "workers.count"
# What policy alone goes by. Of the others, a worker is told when it is started.
FIELDS = {
    "memory.limit": "limit",
    "memory.ceiling": "ceiling",
    "memory.patience": "patience",
    "workers.min_lifetime": "min_lifetime",
    "workers.max_age": "max_age",
    "workers.surge": "surge",
    "workers.start_timeout": "start_timeout",
}
_MOST = 32


class CantSet(Exception):
    """A setting that can't be changed so: which, why, and what to do."""

    def __init__(self, setting: str, why: str, remedy: str = "") -> None:
        self.setting = setting
        self.why = f"{why}; {remedy}" if remedy else why
        super().__init__(f"{setting}: {self.why}")


def adjusted(state: State, settings: Mapping[str, str]) -> tuple[Policy, dict[str, str]]:
    """The policy with these settings, and all that differ from the file. Raises CantSet."""
    if len(settings) > _MOST:
        raise CantSet("settings", f"{len(settings)} at once are too many")
    values = {path: _value(path, text) for path, text in settings.items()}
    policy = replace(state.policy, **{FIELDS[path]: value for path, value in values.items()})
    _check(policy, settings)
    if "memory.limit" in values and policy.limit is not None:
        why = no_room(state, state.count, policy.limit)
        if why:
            raise CantSet("memory.limit", why, "lower the limit, or run fewer workers")
    if "memory.ceiling" in values:
        _check_ceiling(state, policy.ceiling)
    said = {path: _text(path, values[path]) for path in settings}
    return policy, {**state.settings, **said}


def cannot_scale(state: State, count: int) -> str:
    """Why there can't be so many workers; "" if there can."""
    if count < 1:
        return "one worker is the least"
    if count > MOST_WORKERS:
        return f"{MOST_WORKERS} workers are the most"
    return no_room(state, count, state.policy.limit) if count > state.count else ""


def no_room(state: State, count: int, limit: int | None) -> str:
    """Why the memory has no room for so many workers with this limit, with the arithmetic; "" if it has."""
    headroom = state.headroom
    if limit is None or headroom is None or needed(count, limit) <= headroom.total:
        return ""
    sizes = f"{count} x {format_size(limit)} and {format_size(OWN)} for memunit"
    return f"{sizes} is more than the {format_size(headroom.total)} of {headroom.source}"


def apply(p: Pass, settings: Mapping[str, str]) -> None:
    """Use these settings from now on, also for the workers that are there."""
    state = p.state
    try:
        policy, state.settings = adjusted(state, settings)
    except CantSet as error:
        p.journal(Message.SETTINGS, f"Not set: {error}", priority=WARNING)
        return
    before, state.policy = state.policy, policy
    said = ", ".join(f"{path} = {state.settings[path]}" for path in settings)
    p.journal(Message.SETTINGS, f"Until the next reload: {said}", priority=NOTICE)
    for worker in state.workers.values():
        if worker.serving:
            _bind(p, worker, before)
    if policy.limit != before.limit:
        state.baseline_reported = False
        for slot in state.slots:
            slot.futile, slot.recycled, slot.unhelped = 0, False, False
    for worker in state.roster.running:
        recycle.judge(p, worker)
    failures.open_gate(p)


def _bind(p: Pass, worker: Worker, before: Policy) -> None:
    """What the policy `before` had given it is as the new one has it."""
    policy = p.state.policy
    if policy.limit != before.limit:
        worker.limit = memory.effective_limit(policy, p.state.seed, worker.id)
        worker.in_vain = False
        if worker.limit is None or (worker.memory is not None and worker.memory < worker.limit):
            worker.over_since = None
    if policy.ceiling != before.ceiling:
        worker.ceiling = policy.ceiling
        p.do(Bound(worker.id, policy.ceiling))
    if worker.pid and (policy.limit, policy.ceiling) != (before.limit, before.ceiling):
        # By this sample it is over its limit or not, and its trip-wire moves.
        worker.asked_at = p.now
        p.do(Measure(worker.id))
    p.touch(worker)


def _value(path: str, text: str) -> Any:
    """What a setting says, as policy has it."""
    key = BY_PATH.get(path)
    if path == COUNT:
        raise CantSet(path, "can't be set with this command", "memunit scale INSTANCE COUNT changes it")
    if key is None:
        guess = nearest(path, tuple(FIELDS)) or nearest(path, tuple(BY_PATH))
        raise CantSet(path[:60], "there is no such setting", f"did you mean {guess}?" if guess else "")
    if path not in FIELDS:
        known = ", ".join(FIELDS)
        raise CantSet(
            path, "can't be changed while the instance runs", f"change the file and reload; {known} can"
        )
    value: Any = text
    if key.kind is Kind.INTEGER and text.isascii() and text.isdigit() and len(text) < 10:
        value = int(text)
    try:
        return convert(key, value)
    except ValueProblem as problem:
        message, *remedy = problem.faults[0]
        raise CantSet(path, message, remedy[0] if remedy else "") from None


def _check(policy: Policy, settings: Mapping[str, str]) -> None:
    """The rules that hold between the keys of a file."""
    values = {path: getattr(policy, name) for path, name in FIELDS.items()}
    values = {path: value for path, value in values.items() if value is not None}
    problems, warnings = check_rules(
        values, "", label=lambda path: path, unusable=set(), complete=False, in_unit=False
    )
    # What is merely odd there leaves nobody without an answer here.
    for problem in [*problems, *warnings]:
        setting = problem.key if problem.key in settings else next(iter(settings), problem.key)
        raise CantSet(setting, f"{problem.key}: {problem.message}", problem.remedy)


def _check_ceiling(state: State, ceiling: int | None) -> None:
    """Nobody is killed for a number that a person has typed."""
    least = math.inf if ceiling is None else ceiling - ceiling // 20
    for worker in state.workers.values():
        if worker.serving and worker.memory is not None and worker.memory >= least:
            has = f"{worker.id} holds {format_size(worker.memory)} and would be killed"
            raise CantSet("memory.ceiling", has, "set memory.limit first, which recycles that worker")


def _text(path: str, value: Any) -> str:
    """A value in the notation of the file."""
    kind = BY_PATH[path].kind
    if kind is Kind.SIZE:
        return exact_size(value)
    if kind is Kind.TIME:
        return format_time(value)
    return str(value)
