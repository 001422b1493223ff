"""`step`: the whole of policy, one pure function from state, facts and time to state, actions and deadline."""

import math
from collections.abc import Iterable
from dataclasses import replace

from memunit.core import memory, reconcile, status, stopping, transitions, verdicts
from memunit.core.actions import Action, NotifyExtend, NotifyReady, NotifyReloading, ReloadResult
from memunit.core.exitcodes import OK
from memunit.core.facts import (
    DumpState,
    Fact,
    MemoryAvailable,
    MemoryPressure,
    Reload,
    ReloadRefused,
    Scale,
    StopRequested,
    WorkerFact,
)
from memunit.core.model import Cause, Phase, Rollout, State
from memunit.core.turn import ERROR, NOTICE, Turn

# A pass that comes this much later than asked for, in seconds: the master itself did not run (it was stopped, or
# the machine was). Nobody is at fault for what they did not do meanwhile.
LAG = 1.0


def step(state: State, facts: Iterable[Fact], now: float) -> tuple[State, tuple[Action, ...], float]:
    """Decide. `now` in seconds of CLOCK_MONOTONIC; returns when to come again at the latest (may be infinite)."""
    turn = Turn(state, now)
    _forgive_lag(turn)
    facts = list(facts)
    # A stop first: with KillMode=control-group workers get SIGTERM together with the master, and an exit that comes
    # of it is part of the stop and not a loss to be replaced.
    for fact in facts:
        if isinstance(fact, StopRequested):
            stopping.begin_stop(turn, OK, force=fact.force)
            turn.open_gate()
    for fact in facts:
        if isinstance(fact, WorkerFact):
            transitions.apply(turn, fact)
        elif not isinstance(fact, StopRequested):
            _instance(turn, fact)
    reconcile.fire_timers(turn)
    reconcile.reconcile(turn)
    wake_at = _deadline(turn)
    next_state, actions = turn.freeze(wake_at)
    return next_state, actions, wake_at


def _forgive_lag(turn: Turn) -> None:
    if turn.running() or any(stopping.holds_slot(w) for w in turn.workers.values()):
        turn.change(last_running=turn.now)
    if turn.now - turn.state.wake_at <= LAG:
        return
    lag = turn.now - turn.state.stepped_at
    for worker in list(turn.workers.values()):
        turn.put(worker, timer=worker.timer + lag, watchdog_at=worker.watchdog_at + lag)
    if turn.state.last_running < turn.now:
        turn.change(last_running=min(turn.now, turn.state.last_running + lag))


def _instance(turn: Turn, fact: Fact) -> None:
    match fact:
        case Reload():
            _reload(turn, fact)
        case ReloadRefused(tokens, text):
            alone = turn.state.rollout is None
            kept = "the old configuration goes on serving" if alone else "the one under way goes on"
            said = f"Reload refused, {kept}: {text}"
            turn.journal("RELOAD_FAILED", ERROR, said, {"MEMUNIT_RESULT": "refused"})
            turn.change(reload_trouble=text.splitlines()[0] if text else "invalid configuration")
            if turn.state.ready_sent and not turn.state.stopping and turn.state.rollout is None:
                turn.do(NotifyReloading())
                turn.do(NotifyReady())
            turn.do(ReloadResult(tokens, False, said))
        case Scale(delta):
            if not turn.state.stopping:
                reconcile.scale(turn, delta)
        case MemoryAvailable(headroom):
            turn.change(headroom=headroom)
        case MemoryPressure():
            verdicts.relieve(turn)
        case DumpState():
            turn.journal(
                "STATE_DUMP", NOTICE, status.dump(turn.state, turn.workers.values(), turn.slots, turn.now)
            )
        case _:
            raise AssertionError(f"undecided fact {fact!r}")


def _reload(turn: Turn, fact: Reload) -> None:
    state = turn.state
    if state.stopping:
        turn.do(ReloadResult(fact.tokens, False, "Reload not begun: the service is being stopped"))
        return
    if state.rollout is None and state.ready_sent:
        turn.do(NotifyReloading())
    revision = state.last_revision + 1
    before = state.rollout
    turn.change(
        rollout=Rollout(
            # Whoever waits for one that this supersedes wants what is in the file to be served: so it will be, or not.
            tokens=fact.tokens if before is None else (*before.tokens, *fact.tokens),
            previous=replace(state.policy, count=state.count) if before is None else before.previous,
            previous_revision=state.revision if before is None else before.previous_revision,
            began=turn.now,
        ),
        policy=fact.policy,
        count=fact.policy.count,
        revision=revision,
        last_revision=revision,
        baseline_reported=False,
        reload_trouble="",
    )
    start = max(fact.policy.start_timeout, transitions.PROBATION)
    # Those that are replaced drain by the grace that they were started with, and each replacement waits for that.
    grace = max([fact.policy.grace, *(worker.grace for worker in turn.workers.values())])
    turn.do(NotifyExtend(fact.policy.count * (start + grace) + 60))
    # A person has acted: whatever waits is tried at once.
    turn.slots[:] = [replace(slot, failures=0, retry_at=-math.inf, futile=0) for slot in turn.slots]
    turn.open_gate()
    for worker in list(turn.workers.values()):
        # A replacement of the old configuration that is not ready yet has nothing to give any more.
        if worker.phase is Phase.STARTING:
            turn.stop(worker, Cause.RELOAD)


def _deadline(turn: Turn) -> float:
    """When something falls due of itself."""
    state = turn.state
    times = [math.inf]
    for worker in turn.workers.values():
        times += [worker.timer, worker.watchdog_at]
        if worker.phase is Phase.RUNNING and worker.wants is None and not state.stopping:
            times.append(memory.recycle_at(state.policy, turn.slot(worker.id.slot), worker))
            times.append(reconcile.old_at(turn, worker))
    if not state.stopping:
        times.append(stopping.give_up_at(state, turn.workers.values()))
        times += reconcile.retry_times(turn)
        if not state.ready_sent and any(w.phase is Phase.RUNNING for w in turn.workers.values()):
            times.append(state.started_at + state.policy.start_timeout)
    return max(turn.now, min(times))


def healthy(state: State, now: float) -> bool:
    """True if a watchdog ping to systemd would be honest: something serves, or is waited for and not given up yet."""
    return now < stopping.give_up_at(state, state.workers.values())
