"""What every worker does first: arguments, crash dumps, and one clear word when it cannot serve."""

from __future__ import annotations

import contextlib
import os
import traceback
from typing import List

from memunit.worker import (
    allocators,
    board,
    examined,
    giving,
    inherited,
    leaving,
    printing,
    scoreboard,
    servers,
    serving,
    stacks,
    title,
    witness,
)
from memunit.worker.notify import Notify
from memunit.worker.problem import EX_SOFTWARE, FORKED, Unusable, say


def main(arguments: List[str]) -> int:
    """Serve as `arguments` say; the exit status of the worker. 78 when it cannot, 70 when the app failed.

    As a zygote, it returns in the workers alone.
    """
    stacks.arm()
    printing.by_line()
    notify = Notify()
    try:
        named = servers.parse(arguments)
        scoreboard.take()
        giving.take()
        allocators.leave_out()
        board.take()
        if named.examine is not None:
            from memunit.worker import examining  # noqa: PLC0415  no worker does

            return examining.run(named, named.examine)
        examined.expect(*named.packages)
        shown = f"{named.server} {named.target}"
        if not named.zygote:
            title.of_worker(shown)
            entries, own = inherited.take(), os.getpid()
            prepared = servers.prepare(named)
            if os.getpid() != own:
                say("memunit worker: " + FORKED.format(own, os.getpid()))
                os._exit(EX_SOFTWARE)
            inherited.check(entries)
            stacks.offer(notify)
            return _serve(prepared, entries, notify)
        title.of_zygote(shown)
        from memunit.worker import zygote  # noqa: PLC0415  most workers are none

        entries, prepared = zygote.run(
            lambda: servers.prepare(named), lambda problem: _report(problem, notify), named.packages
        )
        notify = notify.renewed()
        stacks.offer(notify)
        return _serve(prepared, entries, notify)
    except Unusable as problem:
        return _ended(_report(problem, notify), notify)


def _serve(prepared: serving.Prepared, entries: List[inherited.Inherited], notify: Notify) -> int:
    witness.begin()
    try:
        return _ended(prepared.run(entries, notify), notify)
    finally:
        witness.end()


def _ended(status: int, notify: Notify) -> int:
    leaving.bound(status, notify)
    return status


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
