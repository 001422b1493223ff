"""The profiles that witnesses leave: one worker of a slot, whose allocations are sampled or traced for one life.

Which file is whose follows from the worker's name and pid, so a master that has taken a worker over finds it too.
"""

import contextlib
import os
import stat
from collections.abc import Iterable

FOLDER = "witness"
MOST = 8
"""Profiles that are kept."""
_MEMRAY = ".memray"
_SUFFIXES = (".heapprofile", _MEMRAY)
_UNFINISHED = ".new"


def how_to_read(profile: str) -> str:
    """The command that shows a profile, as a clause in parentheses; "" where there is none."""
    return f" (python -m memray flamegraph --leaks {profile})" if profile.endswith(_MEMRAY) else ""


def no_witness(profiler: str) -> str:
    """Why no worker of a configuration with this profiler can be a witness; "" if one can."""
    if profiler:
        return ""
    return (
        "a command can't be a witness, because memunit has no profiler for it: use a profiler of its language. A "
        'worker of app.run can be one: V8 samples a worker with server = "node", and memray traces a Python worker'
    )


def witness_told(slot: int, profiler: str) -> str:
    """What the person is told who has asked for one."""
    deed = {
        "V8": "V8 samples its allocations",
        "memray": "memray traces its allocations, if the app's environment has memray; that costs CPU and memory",
    }[profiler]
    return (
        f"A witness replaces the worker of slot {slot}: {deed}. When the witness ends, an entry names its "
        "profile; memunit examine ends it at once"
    )


class Witnesses:
    """Those of one instance: the slots whose next worker is to be one, and the files of those that were."""

    def __init__(self, directory: str | None, wanted: Iterable[int] = ()) -> None:
        """Profiles are kept in `directory`/witness. `wanted` are the slots that a predecessor has left."""
        self._folder = None if directory is None else os.path.join(directory, FOLDER)
        self._wanted = set(wanted)

    @property
    def wanted(self) -> tuple[int, ...]:
        """The slots whose next worker is to be one."""
        return tuple(sorted(self._wanted))

    def want(self, slot: int) -> str:
        """The next worker of this slot is to be a witness; why that can't be, or ""."""
        if self._folder is None:
            return "there is no state directory for the profile"
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
        except OSError as error:
            return f"{self._folder} can't be made: {error.strerror}"
        self._wanted.add(slot)
        return ""

    def path(self, slot: int, generation: int) -> str:
        """Where this worker, which is started now, has to leave its profile: its pid and a suffix follow. "" for one
        that is no witness.
        """
        if slot not in self._wanted or self._folder is None:
            return ""
        self._wanted.discard(slot)
        return os.path.join(self._folder, f"{slot}.{generation}-")

    def found(self, slot: int, generation: int, pid: str) -> str:
        """The profile of a worker that has ended, "" if there is none. The oldest beyond MOST are removed."""
        if self._folder is None:
            return ""
        for suffix in _SUFFIXES:
            path = os.path.join(self._folder, f"{slot}.{generation}-{pid}{suffix}")
            with contextlib.suppress(OSError):
                # Of a worker that was killed.
                os.unlink(path + _UNFINISHED)
            with contextlib.suppress(OSError):
                # The app has the same user and may have put anything there.
                if stat.S_ISREG(os.lstat(path).st_mode):
                    self._rotate()
                    return path
        return ""

    def _rotate(self) -> None:
        assert self._folder is not None
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            files = [each for each in entries if each.name.endswith(_SUFFIXES)]
            for each in sorted(files, key=lambda file: file.stat(follow_symlinks=False).st_mtime_ns)[:-MOST]:
                os.unlink(each.path)
