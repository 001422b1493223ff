"""Why a worker ended, from how its process ended and what was being done to it."""

from memunit.core.model import Cause, Phase, Worker

# What systemd calls clean (systemd.service(5), SuccessExitStatus=), and 128 + SIGTERM, by which shells and Java say it.
_CLEAN_STATUS = {"exited": (0, 143), "killed": (1, 2, 13, 15), "dumped": (), "unknown": (0,)}


def cut_off(worker: Worker, code: str, status: int) -> bool:
    """Whether the signal to stop has itself ended it, for want of a handler, with whatever it was doing.

    A handler that has done its work may raise the signal again (uvicorn from 0.29 on, and traps of shells): so the end
    alone tells nothing. Not at the stop of the unit: there SIGTERM comes twice, from systemd and from the master, and
    the second one may meet a program that has done all that it had to and has its default handlers back, as Python at
    its very end.
    """
    ran = worker.ran and worker.reason not in (None, Cause.STOP)
    by_it = worker.deaf and _by_signal(code) and status == worker.stop_signal
    return ran and by_it and worker.force is None and not (worker.told_stopping or worker.outlived)


def cause_of(worker: Worker, code: str, status: int) -> tuple[Cause, Cause | None]:
    """What ended it, and why it was being stopped if that is something else."""
    reason = worker.reason
    if worker.oom == "own" and (code, status) == ("killed", 9):
        # The kernel was faster, whoever else was about to kill it.
        return Cause.MEMORY_CEILING, reason
    if worker.force is not None:
        # An exit with status 0 means that it made it, a moment before the SIGKILL.
        all_of_it = (code, status) == ("exited", 0) and not worker.outlived
        made_it = worker.force is Cause.GRACE_EXPIRED and all_of_it
        if not made_it:
            return worker.force, reason if reason is not worker.force else None
    if reason is not None:
        if status in _CLEAN_STATUS[code] or (_by_signal(code) and status == worker.stop_signal):
            return reason, None
        return _crash(code), reason
    if worker.phase is Phase.STARTING:
        return Cause.START_FAILED, None
    return _crash(code), None


def _crash(code: str) -> Cause:
    return Cause.CRASH_SIGNAL if _by_signal(code) else Cause.CRASH_EXIT


def _by_signal(code: str) -> bool:
    return code in ("killed", "dumped")
