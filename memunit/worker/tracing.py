"""Which line of the app has made what its import leaves behind: for `memunit check --import`, in a throwaway process.

Between any two lines of the app the tracer looks whether there is one more descriptor, thread, process or function for
the end. So it does not matter who has made it: a library in C as well, of which no audit event would tell.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import types
import weakref
from typing import Any, Callable, Collection, Dict, List, Optional, Set, Tuple

from memunit.worker import endings, hazards

Key = Tuple[str, Any]
_CHILDREN = ("os.fork", "os.forkpty", "os.posix_spawn", "subprocess.Popen")


class Tracer:
    """Traces the thread that enters it, as a context manager. Lines count that are not of an installed library."""

    def __init__(self, packages: Collection[str]) -> None:
        """`packages` are the app's own, wherever they are installed."""
        self._packages = frozenset(packages)
        self._known: Dict[str, bool] = {}
        self._made: Dict[Key, str] = {}
        self._last: Tuple[str, int] = ("", 0)
        self._forks = 0
        self._state = self._look()
        self._seen = self._all()

    def __enter__(self) -> None:
        sys.addaudithook(self._hear)
        sys.settrace(self._call)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        self._compare()

    def line(self, key: Key) -> str:
        """The file and the line that made the thing of this key, "" if that is not known."""
        return self._made.get(key, "")

    def _hear(self, event: str, _arguments: object) -> None:
        if event in _CHILDREN:
            self._forks += 1

    def _call(self, frame: types.FrameType, _event: str, _argument: Any) -> Optional[Callable[..., Any]]:
        if not self._is_apps(frame.f_code.co_filename, frame):
            return None
        return self._step

    def _step(self, frame: types.FrameType, event: str, _argument: Any) -> Callable[..., Any]:
        self._compare()
        if event == "return":
            outer = frame.f_back
            while outer is not None and not self._is_apps(outer.f_code.co_filename, outer):
                outer = outer.f_back
            if outer is not None:
                self._last = (outer.f_code.co_filename, outer.f_lineno)
        else:
            self._last = (frame.f_code.co_filename, frame.f_lineno)
        return self._step

    def _is_apps(self, file: str, frame: types.FrameType) -> bool:
        found = self._known.get(file)
        if found is None:
            package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
            strange = file.startswith(("<", *endings.NOT_THE_APPS)) or any(
                each in file for each in endings.INSTALLED
            )
            found = self._known[file] = package in self._packages or not strange
        return found

    def _compare(self) -> None:
        state = self._look()
        if state == self._state:
            return
        self._state = state
        seen = self._all()
        file, line = self._last
        for key in seen - self._seen:
            self._made[key] = f"{file} line {line}" if line else ""
        self._seen = seen

    def _look(self) -> Tuple[int, ...]:
        """Cheap, for it is done for each line: the lowest free descriptor, and some counts."""
        free = -1
        with contextlib.suppress(OSError):
            free = os.dup(0)
            os.close(free)
        threads = os.stat("/proc/self/task").st_nlink
        finalizers = len(getattr(weakref.finalize, "_registry", ()))
        return free, threads, atexit._ncallbacks(), finalizers, self._forks

    def _all(self) -> Set[Key]:
        found: Set[Key] = {("fd", int(name)) for name in os.listdir("/proc/self/fd") if _is_open(int(name))}
        found |= {("thread", int(name)) for name in os.listdir("/proc/self/task")}
        found |= {("child", pid) for pid in hazards.children()}
        texts: List[str] = [each.text for each in endings.all_of_them()]
        return found | {("ending", text) for text in texts}


def _is_open(descriptor: int) -> bool:
    """The descriptor by which the folder was listed is closed again."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
