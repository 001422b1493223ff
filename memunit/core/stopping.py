"""The end of the master: a stop that was asked for, or giving up because nothing serves."""

import math

from memunit.core import failures, phases, wording
from memunit.core.actions import Finish, NotifyExtend, NotifyReady, NotifyStopping, ReloadResult
from memunit.core.exitcodes import EX_UNAVAILABLE
from memunit.core.messages import WARNING, Message
from memunit.core.model import Cause, Phase, Worker
from memunit.core.passes import Pass
from memunit.core.state import State

# Beyond grace: the SIGKILL, the reaping and the last entries.
STOP_MARGIN = 30.0


def note_service(p: Pass) -> None:
    """Since when nothing serves. Who drains while its slot waits for it counts as serving."""
    state = p.state
    if state.running() or any(w.holds_slot and not w.stuck for w in state.roster.draining):
        state.idle_since, state.idle_forgiven = math.inf, False
    elif math.isinf(state.idle_since):
        state.idle_since = p.now


def give_up_at(state: State) -> float:
    """When the master ends because nothing serves; infinite while something does."""
    if math.isinf(state.idle_since):
        return math.inf
    gate = state.gate
    # Who served and crashed is held back for longer than start_timeout in the end. The try after that is this master's:
    # a successor would know of no crash before its first, and start without a pause again.
    held = gate.retry_at if gate.served else -math.inf
    due = max(state.idle_since, held) + state.policy.start_timeout
    # A worker that has asked for time to start (EXTEND_TIMEOUT_USEC) gets it, and one on probation runs already.
    given = [
        math.inf if w.on_probation else w.deadline
        for w in state.roster.starting
        if w.on_probation or w.deadline > w.yields_at
    ]
    return max([due, *given])


def give_up(p: Pass) -> None:
    """Nothing has served for `start_timeout`: say so to systemd by an exit code, and let it start a successor."""
    state = p.state
    note_service(p)
    if state.stopping or p.now < give_up_at(state):
        return
    # Not without a word of a worker's: why one could not be started may be the next fact, and is more to the point.
    state.trouble = state.trouble or _slow(p)
    trouble = state.trouble or "no worker was ready in time"
    waited = wording.seconds(p.now - state.idle_since)
    text = f"No worker has served for {waited}: {trouble}. Giving up with exit code {EX_UNAVAILABLE}"
    if state.policy.in_unit:
        text += "; clients wait in the socket, and systemd starts a successor"
    p.journal(Message.NOTHING_READY, text, {"EXIT_STATUS": EX_UNAVAILABLE})
    hung = [w for w in state.workers.values() if w.reason is None]
    if hung:
        failures.count_for_all(p, hung[0])
    begin_stop(p, EX_UNAVAILABLE, force=False)


def _slow(p: Pass) -> str:
    """Nobody has failed yet: what the one that has tried for the longest time says it waits for, if it does."""
    starting = [w for w in p.state.workers.values() if w.ready_at is None and w.status]
    return wording.late(min(starting, key=lambda w: w.born)) if starting else ""


def begin_stop(p: Pass, exit_code: int, *, force: bool) -> None:
    """Ask every worker to stop, or kill them all if the person will not wait."""
    state, rollout = p.state, p.state.rollout
    if rollout is not None:
        # systemd 259 and later kill a service that says STOPPING=1 in the middle of its reload.
        state.rollout = None
        if state.ready_sent:
            p.do(NotifyReady())
        p.do(ReloadResult(rollout.tokens, False, "Reload not finished: the service is being stopped"))
    gives_up = exit_code == EX_UNAVAILABLE
    workers = list(state.workers.values())
    if not state.stopping:
        state.stopping, state.exit_code = True, exit_code
        cut_short = [w for w in workers if (gives_up and w.phase is Phase.STARTING) or w.force is not None]
        drain = len(workers) - len(cut_short)
        grace = wording.seconds(state.policy.grace)
        left = f"; {wording.workers(drain)} may finish for {grace} at most" if drain else ""
        p.journal(Message.MASTER_STOPPING, f"Stopping{left}")
        p.do(NotifyStopping())
        p.do(NotifyExtend(state.policy.grace + STOP_MARGIN))
    else:
        # Asked for while it gives up: a stop that has come to its end is no failure of the unit.
        state.exit_code = exit_code
    hurried = [w for w in workers if force and w.phase is not Phase.STOP_SIGKILL]
    if hurried:
        # Their own entries name the grace, which was not over.
        text = f"Told to stop at once, by a second signal: {wording.workers(len(hurried))} will not have the rest of"
        text += " stop.grace, and their unfinished requests are lost"
        p.journal(Message.MASTER_STOPPING, text, priority=WARNING)
    for worker in workers:
        _stop_one(p, worker, gives_up=gives_up, force=force)


def _stop_one(p: Pass, worker: Worker, *, gives_up: bool, force: bool) -> None:
    if force and worker.phase is not Phase.STOP_SIGKILL:
        worker.reason = worker.reason or Cause.STOP
        phases.kill(p, worker, Cause.GRACE_EXPIRED)
    elif gives_up and worker.phase is Phase.STARTING:
        # The last of many tries is cut short by the end of the master, and not because it took too long.
        if worker.deadline - p.now > p.state.policy.start_timeout / 2:
            phases.stop(p, worker, Cause.STOP, within=phases.ABORT_GRACE)
        else:
            phases.abort(p, worker, Cause.START_TIMEOUT)
    elif worker.serving:
        phases.stop(p, worker, Cause.STOP)
    elif worker.stuck:
        phases.end(p, worker, "stuck", 9)


def finish(p: Pass) -> None:
    """The last worker has gone."""
    if p.state.stopping and not p.state.workers and not p.state.finished:
        p.state.finished = True
        p.do(Finish(p.state.exit_code))
