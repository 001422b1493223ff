"""What each fact means to a worker in each phase: a total table, so that no pair is decided by accident.

A test enumerates `Phase` x `WORKER_FACTS` against `TABLE`. Facts about workers that are gone never reach it.
"""

from collections.abc import Callable
from typing import cast

from memunit.core import giving, kills, memory, phases, recycle, wording
from memunit.core.facts import (
    WORKER_FACTS,
    Deaf,
    Executed,
    Exited,
    ExtendTimeout,
    InWork,
    OomKilled,
    Ping,
    Ready,
    RecycleRequested,
    Sampled,
    Spawned,
    SpawnFailed,
    StatusText,
    Stopping,
    Unwatched,
    WatchdogTrigger,
    WorkerFact,
)
from memunit.core.messages import Message
from memunit.core.model import Cause, Phase, Worker
from memunit.core.passes import Pass

Handler = Callable[[Pass, Worker, WorkerFact], None]


def _pass_over(p: Pass, worker: Worker, fact: WorkerFact) -> None:
    """Decided: this fact changes nothing in this phase."""


def _spawned(p: Pass, worker: Worker, fact: WorkerFact) -> None:
    """Also of one that was told to stop meanwhile: each entry of an end has one of a start."""
    worker.pid = cast(Spawned, fact).pid
    text = f"{wording.name(worker)} was started"
    p.journal(Message.WORKER_STARTING, text, wording.worker_fields(worker))


def _spawn_failed(p: Pass, worker: Worker, fact: WorkerFact) -> None:
    phases.never_was(p, worker, cast(SpawnFailed, fact).error)


def _executed(p: Pass, worker: Worker, fact: WorkerFact) -> None:
    """A program that never speaks is ready now. But one that ends at once must not have taken the place of one that
    serves, nor pass a reload: those it has to outlast for a while.
    """
    if not p.state.policy.ready_on_exec or worker.told_stopping:
        return
    if p.state.roster.running_in(worker.id.slot) is not None or p.state.rollout is not None:
        phases.prove(p, worker)
    else:
        phases.run(p, worker)


def _ready(p: Pass, worker: Worker, fact: WorkerFact) -> None:
    """The first of a new configuration has to live on, or an app that ends right after READY=1 would be served by none:
    with one worker, the reload was done when it said so.
    """
    rollout = p.state.rollout
    if worker.probation:
        return
    if rollout is not None and not rollout.proven:
        phases.prove(p, worker)
    else:
        phases.run(p, worker)


def _ping(p: Pass, worker: Worker, fact: WorkerFact) -> None:
    kills.ping(p, worker)


def _trigger(p: Pass, worker: Worker, fact: WorkerFact) -> None:
    if worker.force is None:
        phases.abort(p, worker, Cause.WATCHDOG)


def _stopping_early(p: Pass, worker: Worker, fact: WorkerFact) -> None:
    """It stops, as it was told, or before it was ready: it will end by itself, or at its timeout."""
    if worker.on_probation:
        # It will not pass, and has its start timeout to end.
        worker.deadline = worker.yields_at = max(p.now, worker.born + p.state.policy.start_timeout)
        p.touch(worker)
    worker.told_stopping = True


def _stopping_by_itself(p: Pass, worker: Worker, fact: WorkerFact) -> None:
    """Somebody else asked it to stop, or it decided to: it drains like any other, and is replaced."""
    phases.leave(p, worker)


def _deaf(p: Pass, worker: Worker, fact: WorkerFact) -> None:
    worker.deaf = True


def _status(p: Pass, worker: Worker, fact: WorkerFact) -> None:
    worker.status = cast(StatusText, fact).text


def _extend(p: Pass, worker: Worker, fact: WorkerFact) -> None:
    kills.extend(p, worker, cast(ExtendTimeout, fact).seconds)


def _sampled(p: Pass, worker: Worker, fact: WorkerFact) -> None:
    sample = cast(Sampled, fact)
    memory.observe(worker, sample.memory, sample.metric, p.now)
    p.touch(worker)
    if memory.over_ceiling(worker):
        phases.kill(p, worker, Cause.MEMORY_CEILING)
    elif worker.phase is Phase.RUNNING:
        recycle.sampled(p, worker)
    elif worker.phase is Phase.STOP_SIGTERM:
        recycle.sampled_late(p, worker)


def _unwatched(p: Pass, worker: Worker, fact: WorkerFact) -> None:
    giving.unheard(p, worker)


def _oom_killed(p: Pass, worker: Worker, fact: WorkerFact) -> None:
    """Its end is another fact: this is why."""
    killed = cast(OomKilled, fact)
    worker.oom, worker.peak = "own" if killed.own else "outside", killed.peak


def _in_work(p: Pass, worker: Worker, fact: WorkerFact) -> None:
    """What its end has cut off, if it was an accident."""
    found = cast(InWork, fact)
    worker.requests, worker.longest = found.count, found.longest


def _request(p: Pass, worker: Worker, fact: WorkerFact) -> None:
    recycle.want(p, worker, Cause.REQUESTED)


def _exited(p: Pass, worker: Worker, fact: WorkerFact) -> None:
    end = cast(Exited, fact)
    worker.outlived = end.outlived
    p.state.tally.has_served(end.served)
    phases.end(p, worker, end.code, end.status)


TABLE: dict[tuple[Phase, type[WorkerFact]], Handler] = {
    (Phase.STARTING, Spawned): _spawned,
    (Phase.STARTING, SpawnFailed): _spawn_failed,
    (Phase.STARTING, Executed): _executed,
    (Phase.STARTING, Ready): _ready,
    (Phase.STARTING, Ping): _ping,
    (Phase.STARTING, WatchdogTrigger): _trigger,
    (Phase.STARTING, Stopping): _stopping_early,
    (Phase.STARTING, Deaf): _deaf,
    (Phase.STARTING, StatusText): _status,
    (Phase.STARTING, ExtendTimeout): _extend,
    (Phase.STARTING, Sampled): _sampled,
    (Phase.STARTING, Unwatched): _pass_over,
    (Phase.STARTING, OomKilled): _oom_killed,
    (Phase.STARTING, InWork): _in_work,
    (Phase.STARTING, Exited): _exited,
    (Phase.STARTING, RecycleRequested): _pass_over,
    (Phase.RUNNING, Spawned): _spawned,
    (Phase.RUNNING, SpawnFailed): _spawn_failed,
    (Phase.RUNNING, Executed): _pass_over,
    (Phase.RUNNING, Ready): _pass_over,
    (Phase.RUNNING, Ping): _ping,
    (Phase.RUNNING, WatchdogTrigger): _trigger,
    (Phase.RUNNING, Stopping): _stopping_by_itself,
    (Phase.RUNNING, Deaf): _deaf,
    (Phase.RUNNING, StatusText): _status,
    (Phase.RUNNING, ExtendTimeout): _pass_over,
    (Phase.RUNNING, Sampled): _sampled,
    (Phase.RUNNING, Unwatched): _unwatched,
    (Phase.RUNNING, OomKilled): _oom_killed,
    (Phase.RUNNING, InWork): _in_work,
    (Phase.RUNNING, Exited): _exited,
    (Phase.RUNNING, RecycleRequested): _request,
    (Phase.STOP_SIGTERM, Spawned): _spawned,
    (Phase.STOP_SIGTERM, SpawnFailed): _spawn_failed,
    (Phase.STOP_SIGTERM, Executed): _pass_over,
    (Phase.STOP_SIGTERM, Ready): _pass_over,
    (Phase.STOP_SIGTERM, Ping): _ping,
    (Phase.STOP_SIGTERM, WatchdogTrigger): _trigger,
    (Phase.STOP_SIGTERM, Stopping): _stopping_early,
    (Phase.STOP_SIGTERM, Deaf): _deaf,
    (Phase.STOP_SIGTERM, StatusText): _status,
    (Phase.STOP_SIGTERM, ExtendTimeout): _extend,
    (Phase.STOP_SIGTERM, Sampled): _sampled,
    (Phase.STOP_SIGTERM, Unwatched): _pass_over,
    (Phase.STOP_SIGTERM, OomKilled): _oom_killed,
    (Phase.STOP_SIGTERM, InWork): _in_work,
    (Phase.STOP_SIGTERM, Exited): _exited,
    (Phase.STOP_SIGTERM, RecycleRequested): _pass_over,
    (Phase.STOP_SIGKILL, Spawned): _spawned,
    (Phase.STOP_SIGKILL, SpawnFailed): _spawn_failed,
    (Phase.STOP_SIGKILL, Deaf): _deaf,
    (Phase.STOP_SIGKILL, OomKilled): _oom_killed,
    (Phase.STOP_SIGKILL, InWork): _in_work,
    (Phase.STOP_SIGKILL, Exited): _exited,
    **{
        (Phase.STOP_SIGKILL, fact): _pass_over
        for fact in WORKER_FACTS
        if fact not in (Spawned, SpawnFailed, Deaf, OomKilled, InWork, Exited)
    },
    # A dead worker is no longer in the state; the rows stand so that the table is total.
    **{(Phase.DEAD, fact): _pass_over for fact in WORKER_FACTS},
}


def apply(p: Pass, fact: WorkerFact) -> None:
    """Let one fact take effect on the worker that it is about."""
    worker = p.state.workers.get(fact.id)
    if worker is not None:
        TABLE[worker.phase, type(fact)](p, worker, fact)
