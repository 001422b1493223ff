"""The stacks of all threads on stderr: at a fatal error, at SIGABRT, and when the master asks what a stop waits for.

And the stacks of threads and tasks in a memory file, for whoever asks the master for them (memunit/master/dumps.py).
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import fcntl
import os
import signal
import sys
import threading
from typing import Any, Iterator, Optional

from memunit.worker.notify import Notify

ASKED = signal.SIGRTMAX - 3
"""At this signal a worker writes its stacks and goes on. The handler is C: it runs whatever Python is at."""
WHOLE, THREADS = signal.SIGRTMAX - 4, signal.SIGRTMAX - 5
"""At the first, the main thread writes threads and tasks into the file; if it hangs, C writes threads at the second."""
_NAME = "memunit-stacks"
_MOST_TASKS, _MOST_FRAMES = 500, 40
_MOST_BYTES = 160 << 10
_file: Optional[int] = None


def arm() -> None:
    """Write to descriptor 2: an app or its import may have replaced sys.stderr by an object without a descriptor."""
    faulthandler.enable(2, all_threads=True)
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        _register(ASKED, 2)


def offer(notify: Notify) -> None:
    """From now on this worker writes its stacks into its file when it is asked. In the main thread, after a fork.

    Neither signal interrupts a system call (SA_RESTART), and neither handler waits for anything.
    """
    global _file  # noqa: PLW0603  a process has one set of signals
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        _file = os.memfd_create(_NAME, os.MFD_CLOEXEC)
        fcntl.fcntl(_file, fcntl.F_SETFL, os.O_APPEND)
        _register(THREADS, _file)
        signal.signal(WHOLE, lambda _number, _frame: _write(notify))
        signal.siginterrupt(WHOLE, False)
        atexit.register(_ignore)


def _ignore() -> None:
    """At the end, for the default would end the process.

    Of a worker whose grace is over a thread comes here (leaving.py). It can set no handler, and Python puts none back:
    the process ends without that.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(WHOLE, signal.SIG_IGN)


def _register(number: int, descriptor: int) -> None:
    """Have C write the threads there at this signal.

    When Python finishes, it puts back what was there before, and for handlers in Python the default. By the default the
    signal ends the process, and the master may have sent it a moment before: so it is ignored from then on. What is
    registered already, as by the zygote, is taken back first: a second register() only changes the descriptor.
    """
    faulthandler.unregister(number)
    signal.signal(number, signal.SIG_IGN)
    faulthandler.register(number, descriptor, all_threads=True)


def _write(notify: Notify) -> None:
    """The threads and their names, and each task of the loop that runs in this one; then the end, and a word of it."""
    if _file is None:
        return
    with contextlib.suppress(Exception):
        faulthandler.dump_traceback(_file, all_threads=True)
    with contextlib.suppress(Exception):
        left = _MOST_BYTES
        for line in _lines():
            data = line.encode("utf-8", "replace")
            left -= len(data)
            if left < 0:
                os.write(_file, b"and more\n")
                break
            os.write(_file, data)
    with contextlib.suppress(Exception):
        os.write(_file, b"\0")
        notify.send("X_MEMUNIT_STACKS=1", wait=0.0)


def _lines() -> Iterator[str]:
    yield "\n"
    for thread in threading.enumerate():
        yield f"Thread 0x{thread.ident or 0:016x} is {thread.name[:80]}\n"
    asyncio: Any = sys.modules.get("asyncio")
    loop = None if asyncio is None else asyncio._get_running_loop()
    if loop is None:
        return
    tasks = asyncio.all_tasks(loop)
    for number, task in enumerate(tasks):
        if number == _MOST_TASKS:
            yield f"\n{len(tasks) - number} more tasks\n"
            return
        name = task.get_name() if hasattr(task, "get_name") else "task"
        yield f"\nTask {str(name)[:80]} (most recent call first):\n"
        for file, line, function in reversed(list(_frames(task.get_coro()))):
            yield f'  File "{file}", line {line} in {function}\n'


def _frames(awaited: Any) -> Iterator[Any]:
    """Where a coroutine stands, and what it awaits, from the outermost on."""
    for _ in range(_MOST_FRAMES):
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        frame = frame or getattr(awaited, "ag_frame", None)
        if frame is None:
            return
        yield frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name
        following = getattr(awaited, "cr_await", None)
        awaited = following if following is not None else getattr(awaited, "gi_yieldfrom", None)
