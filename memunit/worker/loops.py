"""The event loop of a worker: which one, and its life from the first task to the end of the process."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from typing import Callable, Coroutine, Optional, Protocol

from memunit.worker import leaving, pages, signals, target
from memunit.worker.problem import Unusable
from memunit.worker.signals import Claim

NONE_NEEDED = sys.version_info >= (3, 10)
"""Whether asyncio's events and queues can be made before there is a loop."""


class Main(Protocol):
    """What serves in a loop."""

    claim: Claim

    def stop(self) -> None:
        """Begin the drain, if it has not begun."""

    def main(self) -> Coroutine[None, None, int]:
        """Serve to the end; the exit status. Makes `claim` in its first step."""


def run(worker: Main, loop: asyncio.AbstractEventLoop) -> int:
    """asyncio.run() on this loop, on every Python from 3.9 to the newest; the exit status.

    A SystemExit of the app that reaches the loop (of its own handler of SIGTERM, say) ends the worker after the drain,
    with that status, and so does a loop.stop() once the drain has begun.
    """
    ended: Optional[int] = None
    pages.give_back(loop)
    asyncio.set_event_loop(loop)
    try:
        task = loop.create_task(worker.main())
        while True:
            try:
                status = loop.run_until_complete(task)
                break
            except (SystemExit, KeyboardInterrupt) as end:
                if signals.forked or task.done() or _claim(worker) is None:
                    raise
                ended = signals.status_of(end) if isinstance(end, SystemExit) else 130
                worker.stop()
            except RuntimeError:
                if signals.forked:
                    signals.leave(None)
                claim = _claim(worker)
                if task.done() or claim is None or not claim.should_exit:
                    raise
        return status or ended or 0
    except BaseException as error:
        if signals.forked:
            signals.leave(error)
        raise
    finally:
        claim = _claim(worker)
        if claim is not None:
            claim.release()
        leaving.bound()
        try:
            rest = asyncio.all_tasks(loop)
            for task in rest:
                task.cancel()
            if rest:
                leaving.wait_for(lambda: leaving.name_tasks(rest))
                loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def _claim(worker: Main) -> Optional[Claim]:
    """None of one that the app's own handler of a signal has ended before its first step."""
    return getattr(worker, "claim", None)


def rehearse(main: Coroutine[None, None, None], loop: asyncio.AbstractEventLoop) -> None:
    """Run it in this loop, and close that: nothing of it is left for a fork. Raises what it raises."""
    if sys.version_info < (3, 14):
        asyncio.get_event_loop_policy()  # set_event_loop() makes it
    pages.prepare(loop)
    pages.give_back(loop)
    try:
        loop.run_until_complete(main)
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def maker() -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the worker's loop: uvloop where the app's environment has it. Imports, and makes none yet."""
    wanted = os.environ.get("UVICORN_LOOP", "auto")
    if wanted not in ("auto", "asyncio", "uvloop"):
        raise Unusable(f"UVICORN_LOOP={wanted}: auto, asyncio or uvloop is needed")
    if wanted != "asyncio":
        try:
            return importlib.import_module("uvloop").new_event_loop  # type: ignore[no-any-return]
        except ImportError as error:
            if wanted == "uvloop":
                raise Unusable(f"cannot import uvloop: {target.describe(error)}", cause=error) from None
    return asyncio.new_event_loop
