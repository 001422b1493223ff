"""`step`: the whole of policy, one function from state, facts and time to state, actions and deadline."""

from collections.abc import Iterable

from memunit.core import (
    adjusting,
    failures,
    kills,
    phases,
    recycle,
    retirement,
    rollout,
    starts,
    status,
    stopping,
    transitions,
)
from memunit.core.actions import Action, NotifyReady
from memunit.core.exitcodes import OK
from memunit.core.facts import (
    Adjust,
    DumpState,
    Fact,
    MemoryAvailable,
    MemoryPressure,
    Reload,
    ReloadRefused,
    Scale,
    ScaleTo,
    StopRequested,
    Unheard,
    WorkerFact,
)
from memunit.core.messages import Message
from memunit.core.passes import Pass
from memunit.core.state import State


def step(state: State, facts: Iterable[Fact], now: float) -> tuple[State, tuple[Action, ...], float]:
    """Decide. `now` in seconds of CLOCK_MONOTONIC; returns when to come again at the latest (may be infinite).

    The state is changed in place and returned. What a pass costs depends on what has happened and on what waits to be
    done, and not on how many workers there are.
    """
    p = Pass(state, now)
    kills.forgive_stall(p)
    facts = tuple(facts)
    # A stop first: with KillMode=control-group workers get SIGTERM together with the master, and an exit that comes
    # of it is part of the stop and not a loss to be replaced.
    for fact in facts:
        if isinstance(fact, StopRequested):
            stopping.begin_stop(p, OK, force=fact.force)
            failures.open_gate(p)
    for fact in facts:
        if isinstance(fact, WorkerFact):
            transitions.apply(p, fact)
        elif not isinstance(fact, StopRequested):
            _instance(p, fact)
    phases.relieve(p)
    rollout.give_back(p)
    stopping.give_up(p)
    _schedule(p)
    _fire(p)
    _reconcile(p)
    _schedule(p)
    state.stepped_at = now
    state.wake_at = max(now, min(p.again_at, state.agenda.next()))
    return state, p.finish(), state.wake_at


def _instance(p: Pass, fact: Fact) -> None:
    match fact:
        case Reload():
            rollout.begin(p, fact)
        case ReloadRefused(tokens, text):
            rollout.refuse(p, tokens, text)
        case Scale(delta):
            if not p.state.stopping:
                rollout.scale(p, p.state.count + delta)
        case ScaleTo(count):
            if not p.state.stopping:
                rollout.scale(p, count)
        case Adjust(settings):
            if not p.state.stopping:
                adjusting.apply(p, settings)
        case MemoryAvailable(headroom):
            recycle.note_room(p, headroom)
        case MemoryPressure():
            starts.give_way(p)
            recycle.relieve(p)
        case Unheard():
            kills.excuse_silence(p)
        case DumpState():
            p.journal(Message.STATE_DUMP, status.dump(p.state, p.now))
        case _:
            raise AssertionError(f"undecided fact {fact!r}")


def _fire(p: Pass) -> None:
    """Whatever is due by now, worker by worker."""
    for who in p.state.agenda.due(p.now):
        worker = p.state.workers[who]
        p.touch(worker)
        kills.fire(p, worker)
        if who in p.state.workers:
            recycle.judge(p, worker)
    phases.relieve(p)


def _reconcile(p: Pass) -> None:
    """Bring the workers nearer to what is wanted."""
    rollout.give_back(p)
    stopping.note_service(p)
    if not p.state.stopping:
        # Before anybody is started: who is stopped takes no place; and after, for a reload that is done gives up slots.
        retirement.retire(p)
        starts.fill(p)
        starts.replace(p)
        rollout.finish(p)
        retirement.retire(p)
        _report_ready(p)
        p.again(stopping.give_up_at(p.state))
    stopping.finish(p)


def _report_ready(p: Pass) -> None:
    state = p.state
    running = state.running()
    mended = running >= state.count and state.rollout is None and state.trouble and not state.blind_reported
    # One that serves in a slot which is given up stands in for one that does not.
    if mended and not state.roster.beyond(state.count):
        state.trouble = ""
    if state.ready_sent:
        return
    # With some ready, the start is over in time.
    late_at = state.started_at + state.policy.start_timeout
    if running >= state.count or (running and p.now >= late_at):
        state.ready_sent = True
        p.do(NotifyReady())
    elif running:
        p.again(late_at)


def _schedule(p: Pass) -> None:
    """Find out anew when those are due whose times may have changed."""
    for worker in p.touched.values():
        p.state.agenda.put(worker.id, min(kills.due(worker, p.now), recycle.due(p.state, worker)))
    p.touched.clear()


def healthy(state: State, now: float) -> bool:
    """True if a watchdog ping to systemd would be honest: something serves, or is waited for and not given up yet."""
    return now < stopping.give_up_at(state)
