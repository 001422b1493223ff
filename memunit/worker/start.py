"""What every worker does first: arguments, crash dumps, and one clear word when it cannot serve."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import traceback
from typing import List

from memunit.worker import inherited, servers
from memunit.worker.notify import Notify
from memunit.worker.problem import Unusable, say


def main(arguments: List[str]) -> int:
    """Serve as `arguments` say; the exit status of the worker. 78 when it cannot, 70 when the app failed.

    As a zygote, it returns in the workers alone.
    """
    faulthandler.enable(2, all_threads=True)
    notify = Notify()
    try:
        named = servers.parse(arguments)
        if not named.zygote:
            entries = inherited.take()
            return servers.prepare(named).run(entries, notify)
        from memunit.worker import zygote  # noqa: PLC0415  most workers are none

        entries, prepared = zygote.run(
            lambda: servers.prepare(named), lambda problem: _report(problem, notify)
        )
        return prepared.run(entries, notify.renewed())
    except Unusable as problem:
        return _report(problem, notify)


def _report(problem: Unusable, notify: Notify) -> int:
    notify.status(str(problem))
    if problem.cause is not None:
        with contextlib.suppress(Exception):
            _print_traceback(problem.cause)
    say(f"memunit worker: {problem}")
    return problem.exit_status


def _print_traceback(error: BaseException) -> None:
    """The app's traceback, from the app's first frame on: what imported it is of no interest."""
    ours = os.path.dirname(os.path.abspath(__file__))
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if not (name.startswith((ours, "<frozen importlib")) or "/importlib/" in name):
            break
        trace = trace.tb_next
    if trace is not None or isinstance(error, SyntaxError):  # else the one line says it all
        traceback.print_exception(type(error), error, trace)
