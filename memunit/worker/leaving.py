"""The last bound of a worker's end: Python waits for threads of the app that are no daemons, without any.

After the drain nothing is left to wait for but them (and atexit functions, and processes of multiprocessing). They
have until shortly before grace ends: they may be at work that matters. Then the worker says whom it waited for, and
ends, with its own exit status; the master would end it by SIGKILL and report an end that was none of the app's.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import sys
import threading
import time
from typing import Any, List, Optional

from memunit.worker import grace, signals
from memunit.worker.notify import Notify
from memunit.worker.problem import say

_SOON = 1.0  # seconds until the status says whom the worker waits for
_UNASKED = 5.0  # seconds that an end has which nobody has asked for
_MOST = 8

_watch: Optional["_Watch"] = None


def bound(status: Optional[int] = None, notify: Optional[Notify] = None) -> None:
    """From now on the end of this process is bounded; `status` is its exit status, as soon as it is known."""
    global _watch  # noqa: PLW0603  a process ends once
    if _watch is None:
        _watch = _Watch()
        _watch.start()
    if status is not None:
        _watch.status = status
    if notify is not None:
        _watch.notify = notify


class _Watch(threading.Thread):
    def __init__(self) -> None:
        super().__init__(name="memunit-end", daemon=True)
        self.status = 0
        self.notify: Optional[Notify] = None
        self._exiting = False
        atexit.register(self._exits)  # the last one registered is the first to be called

    def run(self) -> None:
        begun, stopped_at = time.monotonic(), signals.stopped_at()
        until = begun + _UNASKED if stopped_at is None else stopped_at + grace.read().leave
        never = threading.Event()
        never.wait(min(_SOON, max(0.0, until - begun)))
        if self.notify is not None:
            self.notify.status(f"waiting for {waited_for() or 'the end of the interpreter'}")
        if until == math.inf:
            return
        never.wait(max(0.0, until - time.monotonic()))
        what = waited_for()
        if what:
            say(
                f"memunit worker: its requests are finished, and it ends without {what}: "
                "end such a thread in the app's shutdown, or make it a daemon thread"
            )
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

    def _exits(self) -> None:
        self._exiting = True


def waited_for() -> str:
    """The threads, and the processes of multiprocessing, that keep this process from ending; "" for none."""
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


def _listed(found: List[str]) -> str:
    more = f" and {len(found) - _MOST} more" if len(found) > _MOST else ""
    return ", ".join(found[:_MOST]) + more
