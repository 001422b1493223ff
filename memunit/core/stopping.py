"""The end of the master: a stop that was asked for, or giving up because nothing serves."""

import math
from collections.abc import Collection

from memunit.core import wording
from memunit.core.actions import NotifyExtend, NotifyReady, NotifyStopping, ReloadResult
from memunit.core.exitcodes import EX_UNAVAILABLE, OK
from memunit.core.model import Cause, Phase, State, Worker
from memunit.core.turn import ERROR, INFO, Turn

# Beyond grace: the SIGKILL, the reaping and the last entries.
STOP_MARGIN = 30.0


def holds_slot(worker: Worker) -> bool:
    """Whether its slot waits for it: a drainer in the reversed order, unless it has outlived its SIGKILL."""
    return worker.holds_slot and math.isfinite(worker.timer)


def give_up(turn: Turn) -> None:
    """Nothing has served for `start_timeout`: say so to systemd by an exit code, and let it start a successor."""
    state = turn.state
    if turn.now < give_up_at(state, turn.workers.values()):
        return
    trouble = state.trouble or "no worker was ready in time"
    waited = wording.seconds(turn.now - state.last_running)
    text = f"No worker has served for {waited}: {trouble}. Giving up with exit code {EX_UNAVAILABLE}"
    if state.policy.in_unit:
        text += "; clients wait in the socket, and systemd starts a successor"
    turn.journal("NOTHING_READY", ERROR, text, {"EXIT_STATUS": EX_UNAVAILABLE})
    hung = [w for w in turn.workers.values() if w.reason is None]
    if hung:
        turn.close_gate(hung[0])
    begin_stop(turn, EX_UNAVAILABLE, force=False)


def give_up_at(state: State, workers: Collection[Worker]) -> float:
    """When the master ends because nothing serves; infinite while something does."""
    if any(w.phase is Phase.RUNNING or holds_slot(w) for w in workers):
        return math.inf
    gate = state.gate
    # Who served and crashed is held back for longer than start_timeout in the end. The try after that is this master's:
    # a successor would know of no crash before its first, and start without a pause again.
    held = gate.retry_at if gate.served else -math.inf
    due = max(state.last_running, held) + state.policy.start_timeout
    # A worker that has asked for time to start (EXTEND_TIMEOUT_USEC) gets it, and one on probation runs already.
    given = [
        w.timer
        for w in workers
        if w.phase is Phase.STARTING and (w.on_probation or w.timer > w.born + state.policy.start_timeout)
    ]
    return max([due, *given])


def begin_stop(turn: Turn, exit_code: int, *, force: bool) -> None:
    """Ask every worker to stop, or kill them all if the person will not wait."""
    rollout = turn.state.rollout
    if rollout is not None:
        # systemd 259 and later kill a service that says STOPPING=1 in the middle of its reload.
        turn.change(rollout=None)
        if turn.state.ready_sent:
            turn.do(NotifyReady())
        turn.do(ReloadResult(rollout.tokens, False, "Reload not finished: the service is being stopped"))
    gives_up = exit_code == EX_UNAVAILABLE
    if not turn.state.stopping:
        turn.change(stopping=True, exit_code=exit_code)
        cut_short = [
            w
            for w in turn.workers.values()
            if (gives_up and w.phase is Phase.STARTING) or w.force is not None
        ]
        drain = len(turn.workers) - len(cut_short)
        grace = wording.seconds(turn.state.policy.grace)
        left = f"; {wording.workers(drain)} may finish for {grace} at most" if drain else ""
        turn.journal("MASTER_STOPPING", INFO, f"Stopping{left}")
        turn.do(NotifyStopping())
        turn.do(NotifyExtend(turn.state.policy.grace + STOP_MARGIN))
    elif exit_code == OK:
        # Asked for while it gives up: a stop that has come to its end is no failure of the unit.
        turn.change(exit_code=OK)
    for worker in list(turn.workers.values()):
        if force and worker.phase is not Phase.STOP_SIGKILL:
            turn.kill(turn.put(worker, reason=worker.reason or Cause.STOP), Cause.GRACE_EXPIRED)
        elif worker.serving:
            if gives_up and worker.phase is Phase.STARTING:
                turn.abort(worker, Cause.START_TIMEOUT)
            else:
                turn.stop(worker, Cause.STOP)
        elif worker.phase is Phase.STOP_SIGKILL and math.isinf(worker.timer):
            turn.end(worker, "stuck", 9)
