"""The last bound of a worker's end: Python itself waits without a bound for threads that are not daemons.

After the drain nothing is left to wait for but them, lifespan.shutdown, tasks that are cancelled and go on, atexit
functions and processes of multiprocessing. They have until shortly before grace ends: they may be at work that
matters. Then the worker says whom it waited for, and ends with its own exit status. Otherwise the master would send
SIGKILL, and report that as the cause of the end.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Iterable, List, Optional, Tuple

from memunit.worker import grace, signals
from memunit.worker.notify import Notify
from memunit.worker.problem import say

if TYPE_CHECKING:
    import asyncio

_SOON = 1.0  # seconds until the status says whom the worker waits for
_UNASKED = 5.0  # seconds that an end has which nobody has asked for
_MOST = 8
_REMEDY = ": end such a thread in the app's shutdown, or make it a daemon thread"

_watch: Optional["_Watch"] = None
_named: Callable[[], str] = str


def bound(status: Optional[int] = None, notify: Optional[Notify] = None) -> None:
    """From now on the end of this process is bounded; `status` is its exit status, as soon as it is known."""
    global _watch  # noqa: PLW0603  a process ends once
    if _watch is None:
        _watch = _Watch()
        _watch.start()
    _watch.be_first()
    if status is not None:
        _watch.status = status
    if notify is not None:
        _watch.notify = notify


def wait_for(named: Callable[[], str]) -> None:
    """`named()` says what this process waits for from now on; "" where that is nothing but what is found here."""
    global _named  # noqa: PLW0603  a process ends once
    _named = named


def name_tasks(tasks: "Iterable[asyncio.Task[Any]]") -> str:
    """Those that have not ended, with the place in the app where each of them is."""
    return _listed([f"task {task.get_name()}{_place(task)}" for task in tasks if not task.done()])


class _Watch(threading.Thread):
    def __init__(self) -> None:
        super().__init__(name="memunit-end", daemon=True)
        self.status = 0
        self.notify: Optional[Notify] = None
        self._exiting = False

    def be_first(self) -> None:
        """Hear of it when atexit functions are called: the last one registered is the first of them."""
        atexit.unregister(self._exits)
        atexit.register(self._exits)

    def run(self) -> None:
        begun, stopped_at = time.monotonic(), signals.stopped_at()
        until = begun + _UNASKED if stopped_at is None else stopped_at + grace.read().leave
        self._tell_until(until)
        what, remedy = waited_for()
        if what:
            say(f"memunit worker: its requests are finished, and it ends without {what}{remedy}")
        else:
            say(
                "memunit worker: its requests are finished, and it ends before the interpreter has finished its own end"
            )
        if not self._exiting:
            with contextlib.suppress(BaseException):
                atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(self.status)

    def _tell_until(self, until: float) -> None:
        never, told = threading.Event(), ""
        while True:
            left = max(0.0, until - time.monotonic())
            never.wait(min(_SOON, left))
            if left <= _SOON:
                return
            what = waited_for()[0] or "the end of the interpreter"
            if self.notify is not None and what != told:
                self.notify.status(f"waiting for {what}")
                told = what

    def _exits(self) -> None:
        self._exiting = True


def waited_for() -> Tuple[str, str]:
    """What keeps this process from ending, "" for nothing that is known, and the remedy."""
    what = _named()
    return (what, "") if what else (_threads(), _REMEDY)


def _threads() -> str:
    """Threads, and the processes of multiprocessing."""
    main, found = threading.main_thread(), []
    for thread in threading.enumerate():
        if thread is not main and not thread.daemon:
            found.append(f"thread {thread.name}{_where(thread.ident)}")
    multiprocessing = sys.modules.get("multiprocessing.process")
    for child in list(getattr(multiprocessing, "_children", ())):
        found.append(f"process {child.name} (pid {child.pid})")
    return _listed(found)


def _where(ident: Optional[int]) -> str:
    frame: Any = sys._current_frames().get(ident or 0)
    if frame is None:
        return ""
    ours = os.path.dirname(threading.__file__)
    inner = frame
    while frame is not None and frame.f_code.co_filename.startswith(ours):
        frame = frame.f_back  # of the standard library: what of the app's has called it tells more
    frame = frame or inner
    code = frame.f_code
    return f" (in {code.co_name}, {code.co_filename}:{frame.f_lineno})"


def _place(task: "asyncio.Task[Any]") -> str:
    stack = task.get_stack()
    return (
        f" (in {stack[-1].f_code.co_name}, {stack[-1].f_code.co_filename}:{stack[-1].f_lineno})"
        if stack
        else ""
    )


def _listed(found: List[str]) -> str:
    more = f" and {len(found) - _MOST} more" if len(found) > _MOST else ""
    return ", ".join(found[:_MOST]) + more
