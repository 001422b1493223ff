"""What each fact means to a worker in each phase: a total table, so that no pair is decided by accident.

A test enumerates `Phase` x `WORKER_FACTS` against `TABLE`. Facts about workers that are gone never reach it.
"""

import math
from collections.abc import Callable
from typing import cast

from memunit.core import memory, verdicts
from memunit.core.actions import Measure, NotifyExtend
from memunit.core.facts import (
    WORKER_FACTS,
    Executed,
    Exited,
    ExtendTimeout,
    OomKilled,
    Ping,
    Ready,
    RecycleRequested,
    Sampled,
    Spawned,
    SpawnFailed,
    StatusText,
    Stopping,
    WatchdogTrigger,
    WorkerFact,
)
from memunit.core.model import Cause, Phase, Worker
from memunit.core.turn import DEBUG, ERROR, EXTEND_MARGIN, Turn
from memunit.core.wording import name, worker_fields

# Seconds for which a replacement that never says READY=1 has to live to count as ready.
PROBATION = 1.0

Handler = Callable[[Turn, Worker, WorkerFact], None]


def _pass_over(turn: Turn, worker: Worker, fact: WorkerFact) -> None:
    """Decided: this fact changes nothing in this phase."""


def _spawned(turn: Turn, worker: Worker, fact: WorkerFact) -> None:
    """Also of one that was told to stop meanwhile: each entry of an end has one of a start."""
    worker = turn.put(worker, pid=cast(Spawned, fact).pid)
    turn.journal("WORKER_STARTING", DEBUG, f"{name(worker)} was started", worker_fields(worker))


def _spawn_failed(turn: Turn, worker: Worker, fact: WorkerFact) -> None:
    """No entry of an end: there was no process, or it never became the app."""
    error = cast(SpawnFailed, fact).error
    del turn.workers[worker.id]
    text = f"worker {worker.id.slot} can't be started: {error}"
    # Of one that is cut short because the master gives up, what counts is what the tries before it have said.
    told = worker.reason is not None or (turn.state.stopping and turn.state.trouble)
    priority = DEBUG if told else ERROR
    turn.journal("LAUNCH_FAILED", priority, text[0].upper() + text[1:], worker_fields(worker))
    if worker.reason is None and not turn.state.stopping:
        turn.fail(worker, text)


def _executed(turn: Turn, worker: Worker, fact: WorkerFact) -> None:
    """A program that never speaks is ready now. But one that ends at once must not have taken the place of one that
    serves, nor pass a reload: those it has to outlast for a while.
    """
    if not turn.state.policy.ready_on_exec or worker.told_stopping:
        return
    replaces = any(w.phase is Phase.RUNNING for w in turn.in_slot(worker.id.slot))
    if replaces or turn.state.rollout is not None:
        turn.put(worker, timer=turn.now + PROBATION, executed=True)
    else:
        become_ready(turn, worker)


def _ready(turn: Turn, worker: Worker, fact: WorkerFact) -> None:
    become_ready(turn, worker)


def become_ready(turn: Turn, worker: Worker) -> None:
    """It serves. Only now is the one that it replaces told to stop: no moment without either."""
    worker = turn.enter(
        worker,
        Phase.RUNNING,
        ready_at=turn.now,
        timer=math.inf,
        watchdog_at=turn.now + worker.watchdog if worker.pings else math.inf,
    )
    turn.do(Measure(worker.id))
    turn.open_gate()
    for old in turn.in_slot(worker.id.slot):
        if old.phase is Phase.RUNNING and old.id != worker.id:
            turn.stop(old, turn.why(old) or Cause.REQUESTED)


def _ping(turn: Turn, worker: Worker, fact: WorkerFact) -> None:
    """The first ping arms the watchdog: a program that never pings did not ask to be watched."""
    armed = worker.phase is not Phase.STARTING and worker.force is None
    at = turn.now + worker.watchdog if armed else math.inf
    turn.put(worker, pings=True, watchdog_at=at)


def _trigger(turn: Turn, worker: Worker, fact: WorkerFact) -> None:
    if worker.force is None:
        turn.abort(worker, Cause.WATCHDOG)


def _stopping_early(turn: Turn, worker: Worker, fact: WorkerFact) -> None:
    """It stops, as it was told, or before it was ready: it will end by itself, or at its timeout."""
    # One on probation will not pass it, and has its start timeout for that.
    timer = worker.born + turn.state.policy.start_timeout if worker.on_probation else worker.timer
    turn.put(worker, told_stopping=True, timer=max(turn.now, timer))


def _stopping_by_itself(turn: Turn, worker: Worker, fact: WorkerFact) -> None:
    """Somebody else asked it to stop, or it decided to: it drains like any other, and is replaced at once."""
    # One that does so right after READY is as good as a crash loop.
    turn.hold_back(worker)
    turn.stop(turn.put(worker, told_stopping=True), Cause.REQUESTED, signal=False)


def _status(turn: Turn, worker: Worker, fact: WorkerFact) -> None:
    turn.put(worker, status=cast(StatusText, fact).text)


def _extend(turn: Turn, worker: Worker, fact: WorkerFact) -> None:
    """EXTEND_TIMEOUT_USEC moves the start timeout and the kill timer, as systemd's own; never an abort's."""
    if worker.force is not None or worker.on_probation:
        return
    timer = max(worker.timer, turn.now + cast(ExtendTimeout, fact).seconds)
    turn.put(worker, timer=timer)
    if not turn.state.ready_sent:
        turn.do(NotifyExtend(timer - turn.now + EXTEND_MARGIN))


def _sampled(turn: Turn, worker: Worker, fact: WorkerFact) -> None:
    sample = cast(Sampled, fact)
    before = worker
    worker = turn.put(memory.observe(worker, sample.memory, sample.metric, turn.now))
    if memory.over_ceiling(worker):
        turn.kill(worker, Cause.MEMORY_CEILING)
    elif worker.limit is not None:
        verdicts.judge(turn, before, worker)


def _oom_killed(turn: Turn, worker: Worker, fact: WorkerFact) -> None:
    """Its end is another fact: this is why."""
    killed = cast(OomKilled, fact)
    turn.put(worker, oom="own" if killed.own else "outside", peak=killed.peak)


def _request(turn: Turn, worker: Worker, fact: WorkerFact) -> None:
    turn.put(worker, wants=Cause.REQUESTED)


def _exited(turn: Turn, worker: Worker, fact: WorkerFact) -> None:
    end = cast(Exited, fact)
    turn.end(worker, end.code, end.status)


TABLE: dict[tuple[Phase, type[WorkerFact]], Handler] = {
    (Phase.STARTING, Spawned): _spawned,
    (Phase.STARTING, SpawnFailed): _spawn_failed,
    (Phase.STARTING, Executed): _executed,
    (Phase.STARTING, Ready): _ready,
    (Phase.STARTING, Ping): _ping,
    (Phase.STARTING, WatchdogTrigger): _trigger,
    (Phase.STARTING, Stopping): _stopping_early,
    (Phase.STARTING, StatusText): _status,
    (Phase.STARTING, ExtendTimeout): _extend,
    (Phase.STARTING, Sampled): _sampled,
    (Phase.STARTING, OomKilled): _oom_killed,
    (Phase.STARTING, Exited): _exited,
    (Phase.STARTING, RecycleRequested): _pass_over,
    (Phase.RUNNING, Spawned): _spawned,
    (Phase.RUNNING, SpawnFailed): _spawn_failed,
    (Phase.RUNNING, Executed): _pass_over,
    (Phase.RUNNING, Ready): _pass_over,
    (Phase.RUNNING, Ping): _ping,
    (Phase.RUNNING, WatchdogTrigger): _trigger,
    (Phase.RUNNING, Stopping): _stopping_by_itself,
    (Phase.RUNNING, StatusText): _status,
    (Phase.RUNNING, ExtendTimeout): _pass_over,
    (Phase.RUNNING, Sampled): _sampled,
    (Phase.RUNNING, OomKilled): _oom_killed,
    (Phase.RUNNING, Exited): _exited,
    (Phase.RUNNING, RecycleRequested): _request,
    (Phase.STOP_SIGTERM, Spawned): _spawned,
    (Phase.STOP_SIGTERM, SpawnFailed): _spawn_failed,
    (Phase.STOP_SIGTERM, Executed): _pass_over,
    (Phase.STOP_SIGTERM, Ready): _pass_over,
    (Phase.STOP_SIGTERM, Ping): _ping,
    (Phase.STOP_SIGTERM, WatchdogTrigger): _trigger,
    (Phase.STOP_SIGTERM, Stopping): _stopping_early,
    (Phase.STOP_SIGTERM, StatusText): _status,
    (Phase.STOP_SIGTERM, ExtendTimeout): _extend,
    (Phase.STOP_SIGTERM, Sampled): _sampled,
    (Phase.STOP_SIGTERM, OomKilled): _oom_killed,
    (Phase.STOP_SIGTERM, Exited): _exited,
    (Phase.STOP_SIGTERM, RecycleRequested): _pass_over,
    (Phase.STOP_SIGKILL, Spawned): _spawned,
    (Phase.STOP_SIGKILL, SpawnFailed): _spawn_failed,
    (Phase.STOP_SIGKILL, OomKilled): _oom_killed,
    (Phase.STOP_SIGKILL, Exited): _exited,
    **{
        (Phase.STOP_SIGKILL, fact): _pass_over
        for fact in WORKER_FACTS
        if fact not in (Spawned, SpawnFailed, OomKilled, Exited)
    },
    # A dead worker is no longer in the state; the rows stand so that the table is total.
    **{(Phase.DEAD, fact): _pass_over for fact in WORKER_FACTS},
}


def apply(turn: Turn, fact: WorkerFact) -> None:
    """Let one fact take effect on the worker that it is about."""
    worker = turn.workers.get(fact.id)
    if worker is not None:
        TABLE[worker.phase, type(fact)](turn, worker, fact)
