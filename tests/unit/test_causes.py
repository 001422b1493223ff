"""What the end of a worker's first process says of the worker."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from memunit.core import wording
from memunit.core.causes import cause_of, cut_off
from memunit.core.model import Cause, Phase, Worker
from tests.support.sim import worker


def stopped(**more: object) -> Worker:
    """One that serves no more because of a reload."""
    values: dict[str, Any] = {"reason": Cause.RELOAD, "ready_at": 1.0, "deaf": True, **more}
    return worker(phase=Phase.STOP_SIGTERM, deadline=9.0, yields_at=9.0, **values)


@pytest.mark.parametrize(("signum", "code"), [(15, "killed"), (3, "killed"), (3, "dumped"), (10, "killed")])
def test_the_signal_to_stop_is_no_crash_but_may_cut_off(signum: int, code: str) -> None:
    worker = stopped(stop_signal=signum)
    assert cause_of(worker, code, signum) == (Cause.RELOAD, None)
    assert cut_off(worker, code, signum)
    assert not cut_off(stopped(stop_signal=signum, outlived=True), code, signum)
    # It had a handler, which has raised the signal again when all was done; or that is not known.
    assert not cut_off(stopped(stop_signal=signum, deaf=False), code, signum)
    # At the stop of the unit the signal comes twice; and who had not begun to serve has lost nothing.
    assert not cut_off(stopped(stop_signal=signum, reason=Cause.STOP), code, signum)
    assert not cut_off(stopped(stop_signal=signum, reason=None), code, signum)


def test_another_signal_is_a_crash() -> None:
    assert cause_of(stopped(), "dumped", 3) == (Cause.CRASH_SIGNAL, Cause.RELOAD)
    assert not cut_off(stopped(stop_signal=3), "killed", 15)


def test_a_wrapper_that_ended_well_does_not_speak_for_what_was_killed_under_it() -> None:
    killed = stopped(force=Cause.GRACE_EXPIRED)
    assert cause_of(killed, "exited", 0) == (Cause.RELOAD, None)
    assert cause_of(stopped(force=Cause.GRACE_EXPIRED, outlived=True), "exited", 0) == (
        Cause.GRACE_EXPIRED,
        Cause.RELOAD,
    )


@pytest.mark.parametrize("number", [s for s in signal.Signals if s < signal.SIGRTMIN])
def test_each_signal_has_its_name(number: signal.Signals) -> None:
    """RLIMIT_CPU ended a worker "by SIG24", a timer "by SIG14"."""
    assert wording.how("killed", number, ran=True) == f"killed by {number.name}"


def test_an_end_with_others_says_whose_it_was() -> None:
    """ "grace-expired; killed by SIGTERM" was read as a contradiction: the others were killed, three seconds later."""
    worker = stopped(force=Cause.GRACE_EXPIRED, outlived=True, stop_at=1.0)
    said = wording.ended(worker, Cause.GRACE_EXPIRED, Cause.RELOAD, "killed", 15, 4.0)
    assert "killed by SIGTERM (the status is that of its first process; it had others)" in said
