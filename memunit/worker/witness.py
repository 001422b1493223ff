"""A witness: memray traces what this worker allocates while it serves, and who does (docs/leaks.md).

memray belongs to the app's environment. It writes at the end, one record for each place that has allocated, so the file
is small however long the worker lives. The file has names of functions, paths and sizes, and no value of the app.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Optional

from memunit.worker.problem import say

_MOST = 16 << 20  # bytes of the file
_UNFINISHED = ".new"


class _Own:
    tracker: Optional[Any] = None
    path = ""
    pid = 0


def begin() -> None:
    """Before the app serves, in the process that will: after the import, for what that allocates is no leak."""
    begun = os.environ.pop("MEMUNIT_WITNESS", "")
    if not begun:
        return
    path = f"{begun}{os.getpid()}.memray"
    loaded = "memray" in sys.modules
    try:
        import memray  # noqa: PLC0415  the app's, and for witnesses alone

        tracker = memray.Tracker(
            destination=memray.FileDestination(path + _UNFINISHED, overwrite=True),
            file_format=memray.FileFormat.AGGREGATED_ALLOCATIONS,
            # Without it, an arena of 1 MiB is told of whoever was the first to use it.
            trace_python_allocators=True,
            memory_interval_ms=1000,
        )
        tracker.__enter__()
    except ImportError as error:
        say(
            f"memunit worker: it can't be a witness: {error}; install memray beside the app (pip install memray)"
        )
    except Exception as error:
        # memray's own words are for who has called it: an AssertionError of a fork has none.
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        if loaded:
            reason += "; the app has loaded memray itself, and a process can have only one tracker"
        say(f"memunit worker: it can't be a witness: {reason}")
    else:
        _Own.tracker, _Own.path, _Own.pid = tracker, path, os.getpid()


def end() -> None:
    """Leave the profile, whole or not at all, once; in the thread that has begun."""
    tracker, _Own.tracker = _Own.tracker, None
    if tracker is None or os.getpid() != _Own.pid:
        return
    unfinished = _Own.path + _UNFINISHED
    try:
        tracker.__exit__(None, None, None)
        os.chmod(unfinished, 0o600)
        size = os.stat(unfinished).st_size
        if size > _MOST:
            os.unlink(unfinished)
            say(f"memunit worker: its profile has {size} bytes, and is not kept: {_MOST} is the most")
        else:
            os.rename(unfinished, _Own.path)
    except Exception as error:
        say(f"memunit worker: its profile can't be written: {type(error).__name__}: {error}")
