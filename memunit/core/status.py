"""The sentence of `systemctl status`, and the longer account that SIGUSR1 asks for. ASCII alone: see protocol."""

import math

from memunit.core import forecast
from memunit.core.model import Phase
from memunit.core.quantity import format_size
from memunit.core.state import State
from memunit.core.wording import coarse, gave, grows, seconds, workers


def sentence(state: State, now: float) -> str:
    """What a person wants to read first: how many serve, how near the limit, what was recycled, what is wrong."""
    parts = [_headline(state)]
    memory = _memory(state)
    if memory:
        parts.append(memory)
    total = sum(state.ended.values())
    if total:
        causes = sorted(state.ended.items(), key=lambda item: (-item[1], item[0]))
        parts.append(f"{total} recycled ({', '.join(f'{n} {cause}' for cause, n in causes)})")
    if state.gifts:
        parts.append(gave(state.gifts, state.given))
    if state.settings:
        said = ", ".join(f"{path} = {text}" for path, text in state.settings.items())
        parts.append(f"until the next reload {said}")
    text = ", ".join(parts)
    if state.trouble and state.exit_code:
        text += f"; {state.trouble}"
    elif state.trouble and not state.stopping:
        text += f"; {state.trouble}{_next_try(state, now)}"
    if state.reload_trouble:
        text += f"; the last reload failed: {state.reload_trouble}"
    return text.encode("ascii", "replace").decode("ascii")


def _headline(state: State) -> str:
    running = state.running()
    if state.stopping and state.exit_code:
        return "giving up, no worker became ready"
    if state.stopping:
        return f"stopping, {workers(len(state.workers))} left" if state.workers else "stopping"
    if state.rollout is not None:
        new = sum(w.phase is Phase.RUNNING and w.revision == state.revision for w in state.workers.values())
        return f"reloading, {new}/{state.count} workers of the new configuration, {running} serve"
    return f"{running}/{state.count} workers"


def _memory(state: State) -> str:
    measured = [(w.memory, w.limit) for w in state.workers.values() if w.memory is not None]
    if not measured:
        return ""
    most = max(memory for memory, _ in measured)
    limit = state.policy.limit
    if limit is None:
        return f"{format_size(most)} at most"
    return f"{format_size(most)} of {format_size(limit)} at most{_forecast(state)}"


def _forecast(state: State) -> str:
    """Of the one that will be recycled first; coarse, for a line that changes with every digit is sent each time."""
    soonest = min(state.workers.values(), key=forecast.time_to_limit)
    left = forecast.time_to_limit(soonest)
    if math.isinf(left) or soonest.phase is not Phase.RUNNING or soonest.over_since is not None:
        return ""
    return f", worker {soonest.id.slot} there in {coarse(left)}{grows(soonest)}"


def _next_try(state: State, now: float) -> str:
    if state.running() == 0:
        at = state.gate.retry_at
    else:
        at = max((slot.retry_at for slot in state.slots[: state.count]), default=now)
    return f", next try in {at - now:.0f} s" if at - now >= 1 else ""


def dump(state: State, now: float) -> str:
    """Every worker and slot in a line each."""
    lines = [sentence(state, now)]
    for worker in sorted(state.workers.values(), key=lambda w: w.id):
        memory = format_size(worker.memory) if worker.memory is not None else "not measured"
        limit = format_size(worker.limit) if worker.limit is not None else "no limit"
        lines.append(
            f"worker {worker.id.slot}.{worker.id.generation} pid {worker.pid} {worker.phase.value} for "
            f"{seconds(now - worker.since)}, memory {memory} of {limit}, configuration {worker.revision}"
            + (f", to be replaced: {worker.wants}" if worker.wants else "")
            + (f", {gave(worker.gifts, worker.given)}" if worker.gifts else "")
            + (f", status: {worker.status}" if worker.status else "")
        )
    for slot in state.slots:
        if slot.failures or slot.futile:
            wait = f", next try in {seconds(slot.retry_at - now)}" if slot.retry_at > now else ""
            lines.append(f"slot {slot.index}: {slot.failures} failures in a row{wait}")
    if state.headroom is not None:
        room = state.headroom
        lines.append(
            f"memory: {format_size(room.available)} free of {format_size(room.total)} ({room.source})"
        )
    return "\n".join(lines)
