"""What every worker does first: arguments, crash dumps, and one clear word when it cannot serve."""

from __future__ import annotations

import faulthandler
import os
import sys
import traceback
from typing import List

from memunit.worker import inherited
from memunit.worker.notify import Notify
from memunit.worker.problem import EX_CONFIG, Unusable

_USAGE = "usage: worker --server asgi|wsgi|callable MODULE:ATTRIBUTE"


def main(arguments: List[str]) -> int:
    """Serve as `arguments` say; the exit status of the worker. 78 when it cannot, 70 when the app failed."""
    faulthandler.enable(all_threads=True)
    notify = Notify()
    try:
        if len(arguments) != 3 or arguments[0] != "--server":
            raise Unusable(_USAGE)
        return _serve(arguments[1], arguments[2], notify)
    except Unusable as problem:
        notify.status(str(problem))
        if problem.cause is not None:
            _print_traceback(problem.cause)
        print(f"memunit worker: {problem}", file=sys.stderr, flush=True)
        return problem.exit_status


def _serve(server: str, target: str, notify: Notify) -> int:
    if server == "asgi":
        from memunit.worker import asgi  # noqa: PLC0415  one server a worker; the others cost nothing

        return asgi.prepare(target)(inherited.take(), notify)
    if server == "wsgi":
        from memunit.worker import wsgi  # noqa: PLC0415

        return wsgi.prepare(target)(inherited.take(), notify)
    if server == "callable":
        from memunit.worker import callable as plain  # noqa: PLC0415

        return plain.serve_target(target)
    raise Unusable(f"no server called {server!r}: asgi, wsgi or callable", exit_status=EX_CONFIG)


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
