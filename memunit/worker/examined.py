"""When a worker is examined, and by what: it notes what there is at the start, and looks once, at its end.

The master decides: MEMUNIT_EXAMINE in the environment says that it may want it, and the order on this worker's page
says so when it stops. Nothing of it may keep a worker from serving or from ending.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from typing import Any, Dict, Tuple

from memunit.worker import board, grace, oom, routes, signals, witness
from memunit.worker.notify import Notify
from memunit.worker.problem import say

_LEAST = 0.1  # seconds of grace that are worth beginning
_REASONS = (board.MEMORY_LIMIT, board.PRESSURE, board.EXAMINE)


class _App:
    packages: Tuple[str, ...] = ()
    wanted = False


def expect(*packages: str) -> None:
    """Before the import of an app whose top-level packages these are: find out whether the master may want it."""
    _App.packages = packages
    _App.wanted = bool(os.environ.pop("MEMUNIT_EXAMINE", ""))


def wanted() -> bool:
    """Whether the master may want it."""
    return _App.wanted


def expect_in_zygote() -> None:
    """Before the first fork."""
    if _App.wanted:
        try:
            from memunit.worker.examination import baseline  # noqa: PLC0415  where it is off, nobody needs it

            baseline.expect_in_zygote()
        except Exception as error:
            _give_up(error)


def load_in_zygote() -> None:
    """Load what note_in_zygote(), and a worker at its end, needs."""
    if _App.wanted:
        try:
            from memunit.worker.examination import look, memory  # noqa: F401, PLC0415  see above
        except Exception as error:
            _give_up(error)


def rehearse() -> None:
    """In a zygote that has loaded what is needed: do what note_memory() does."""
    if _App.wanted:
        from memunit.worker.examination import memory  # noqa: PLC0415  see above

        memory.take()


def note_in_zygote() -> None:
    """Just before a gc.freeze(), so that what is there by now is shared by the workers that come after.

    The notes are made by a child, in memory that all share. Made by the zygote, they would leave holes between its
    objects, and each worker that comes after would fill these with its own: 0.4 MiB of it.
    """
    if _App.wanted:
        try:
            from memunit.worker.examination import baseline  # noqa: PLC0415  see above

            child = os.fork()
        except Exception as error:
            _give_up(error)
            return
        if child == 0:
            try:
                gc.unfreeze()
                baseline.note_in_zygote()
            except Exception as error:
                _give_up(error)
            finally:
                os._exit(0)
        os.waitpid(child, 0)


def note_objects() -> None:
    """Just before READY=1: it may take longer than a request can wait, and until then others serve."""
    if _App.wanted:
        try:
            from memunit.worker.examination import baseline  # noqa: PLC0415  where there was no zygote

            baseline.note_objects()
        except Exception as error:
            _give_up(error)


def note_memory() -> None:
    """Just after READY=1, for a replacement is awaited until then; and before the first request."""
    if _App.wanted:
        try:
            from memunit.worker.examination import baseline  # noqa: PLC0415  see note_objects()

            baseline.note_memory()
        except Exception as error:
            _give_up(error)


def examine(notify: Notify) -> None:
    """After the last connection: look, if the master has ordered it, and leave the report on the page."""
    # What the look itself allocates is none of the app's, and a tracer would slow the look down.
    witness.end()
    page = board.own()
    if page is None or not _App.wanted:
        return
    order = page.order()
    if order.reason not in _REASONS or not order.milliseconds:
        return
    stage = board.GAVE_UP
    try:
        seconds = min(order.milliseconds / 1000, _left())
        if seconds >= _LEAST:
            # This worker serves nobody any more, and its examination takes memory. If memory runs out, the OOM killer
            # is to take this worker, and not one that serves.
            oom.score_adj(oom.FIRST)
            page.stage(board.EXAMINING)
            if page.report(_found(seconds, order.memory, notify)):
                stage = board.EXAMINED
    except Exception as error:
        _give_up(error)
    page.stage(stage)


def _found(seconds: float, memory: int, notify: Notify) -> bytes:
    """The report, as JSON; empty if there is none."""
    from memunit.worker.examination import look  # noqa: PLC0415  where there was no zygote

    found = look.examine(seconds, memory, _App.packages, beat=notify.ping)
    if found is None:
        return b""
    # An upgrade may have removed the module that this imports: the rest of the report is worth having.
    with contextlib.suppress(ImportError):
        found.report.update(_route(found.report["growth"]))
    return _text(found.report)


def _route(growth: int) -> Dict[str, Any]:
    """The route that most of the growth comes of, as far as the worker's notes tell."""
    notes = routes.own()
    blame = None if notes is None else routes.blame(notes, growth)
    if blame is None:
        return {"route": "", "route_share": 0.0, "route_confidence": 0.0}
    return {
        "route": blame.route,
        "route_share": round(blame.share, 3),
        "route_confidence": round(blame.confidence, 3),
    }


def _left() -> float:
    """Seconds that an examination may take of what is left of grace: half of it, for the app's own end comes after."""
    stopped_at = signals.stopped_at()
    if stopped_at is None:
        return float("inf")
    return (stopped_at + grace.read().give_up - time.monotonic()) / 2


def _text(report: Dict[str, Any]) -> bytes:
    """The report as JSON; without its details where it would be too long."""
    import json  # noqa: PLC0415  a worker that serves needs none

    text = json.dumps(report).encode()
    if len(text) > board.MOST_REPORT:
        text = json.dumps({**report, "types": [], "holders": report["holders"][:2]}).encode()
    return text


def _give_up(error: BaseException) -> None:
    _App.wanted = False
    say(f"memunit worker: it can't be examined for what grows: {type(error).__name__}: {error}")
