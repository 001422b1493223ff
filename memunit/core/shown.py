"""An instance and its workers as the interface shows them: io.memunit.Instance, interfaces.py."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from memunit.core import forecast, status
from memunit.core.board import Glance
from memunit.core.model import Worker, WorkerId
from memunit.core.state import State
from memunit.core.tally import DRAIN_BOUNDS, Tally
from memunit.core.varlink import Refused, invalid

# Texts that come from a worker, in characters.
_LONGEST = 200
# A count that a worker has scribbled over is no longer than varlink's numbers.
_MOST = (1 << 63) - 1


def usec(seconds: float) -> int:
    """Microseconds, as systemd has its times."""
    return int(seconds * 1_000_000)


def instance(state: State, now: float, *, name: str, version: str, pid: int) -> dict[str, Any]:
    """The type Instance. Without `nowMonotonicUSec`, by which two that are the same would differ."""
    room = state.headroom
    return {
        "name": name,
        "version": version,
        "masterPid": pid,
        "count": state.count,
        "fileCount": state.policy.count,
        "ready": state.running(),
        "revision": state.revision,
        "reloading": state.rollout is not None,
        "stopping": state.stopping,
        "startedMonotonicUSec": usec(state.started_at),
        "limit": state.policy.limit,
        "ceiling": state.policy.ceiling,
        "status": status.sentence(state, now),
        "trouble": state.trouble or state.reload_trouble or None,
        "settings": dict(state.settings),
        "ended": counts(state.ended),
        "tally": tally(state.tally),
        "memory": None
        if room is None
        else {"total": room.total, "available": room.available, "source": room.source},
    }


def counts(ends: Mapping[Any, int]) -> list[dict[str, Any]]:
    """The type Ended, a cause each."""
    return [{"cause": str(cause), "count": count} for cause, count in sorted(ends.items())]


def tally(found: Tally) -> dict[str, Any]:
    """The type Tally."""
    return {
        "served": min(found.served, _MOST),
        "reloads": found.reloads,
        "reloadsFailed": found.reloads_failed,
        "recyclesInVain": found.in_vain,
        "takeovers": found.takeovers,
        "drains": {
            "boundsUSec": [usec(bound) for bound in DRAIN_BOUNDS],
            "counts": list(found.drains),
            "sumUSec": usec(found.drain_seconds),
        },
    }


def worker(one: Worker) -> dict[str, Any]:
    """The type Worker."""
    left = forecast.time_to_limit(one)
    return {
        "slot": one.id.slot,
        "generation": one.id.generation,
        "pid": one.pid,
        "phase": one.phase.value,
        "revision": one.revision,
        "startedMonotonicUSec": usec(one.born),
        "phaseMonotonicUSec": usec(one.since),
        "readyMonotonicUSec": None if one.ready_at is None else usec(one.ready_at),
        "stopMonotonicUSec": None if one.stop_at is None else usec(one.stop_at),
        "memory": one.memory,
        "metric": one.metric or None,
        "sampledMonotonicUSec": None if math.isinf(one.sampled_at) else usec(one.sampled_at),
        "limit": one.limit,
        "ceiling": one.ceiling,
        "growth": int(one.growth * 3600) if one.growth > 0 else None,
        "untilLimitUSec": None if math.isinf(left) else usec(left),
        "wants": None if one.wants is None else str(one.wants),
        "reason": None if one.reason is None and one.force is None else str(one.force or one.reason),
        "status": one.status[:_LONGEST] or None,
        "requests": None,
    }


def workers(state: State) -> list[dict[str, Any]]:
    """All of them, by slot and generation."""
    return [worker(state.workers[who]) for who in sorted(state.workers)]


def with_requests(
    told: Sequence[Mapping[str, Any]], look: Callable[[WorkerId], Glance | None], now: float
) -> list[dict[str, Any]]:
    """The same with what each has in work at this moment; nothing of one that `look` knows nothing of."""
    found = []
    for each in told:
        glance = look(WorkerId(each["slot"], each["generation"]))
        found.append({**each, "requests": None if glance is None else _requests(glance, now)})
    return found


def _requests(glance: Glance, now: float) -> dict[str, Any]:
    """The type Requests."""
    longest = glance.longest
    return {
        "served": min(glance.served, _MOST),
        "inWork": glance.in_work,
        "longestRoute": None if longest is None else longest.route,
        "longestUSec": None if longest is None else usec(max(0.0, now - longest.begun)),
    }


def chosen(state: State, parameters: dict[str, Any]) -> list[Worker]:
    """Who serves and is meant by `slot` or `pid`, or all. Raises Refused."""
    slot, pid = whole(parameters, "slot"), whole(parameters, "pid")
    if slot is not None and pid is not None:
        raise invalid("pid")
    serving = sorted(state.roster.running, key=lambda one: one.id)
    if slot is None and pid is None:
        if not serving:
            raise _nobody("no worker serves now")
        return serving
    found = [one for one in serving if slot in (None, one.id.slot) and pid in (None, one.pid)]
    if not found:
        who = f"of slot {slot}" if pid is None else f"with pid {pid}"
        there = ", ".join(f"{one.id.slot} (pid {one.pid})" for one in serving[:16])
        raise _nobody(f"no worker {who} serves now; those of these slots do: {there or 'none'}")
    return found


def replaceable(state: State, found: list[Worker]) -> list[Worker]:
    """Those of `found` that can be replaced: nobody replaces one whose slot is given up. Raises Refused if none can."""
    stays = [one for one in found if one.id.slot < state.places]
    if not stays:
        raise _nobody(given_up(found[0].id.slot))
    return stays


def given_up(slot: int) -> str:
    """Why the worker that serves in this slot is not replaced."""
    return f"slot {slot} is wanted no more: its worker is stopped as soon as another can be relied on"


def _nobody(reason: str) -> Refused:
    return Refused("io.memunit.Instance.NoSuchWorker", {"reason": reason})


def whole(parameters: dict[str, Any], name: str) -> int | None:
    """A parameter that is a whole number from 0 on, taken from `parameters`; None if it is not given.

    Raises Refused.
    """
    value = parameters.pop(name, None)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise invalid(name)
    return value
