"""What a master that fails to start leaves for its successor: the backoff outlives it in the runtime
directory.
"""

import contextlib
import json
import math
import os

from memunit.master import proctree, system
from memunit.master.filenames import STARTS, opened
from memunit.records import asdict, dataclass, replace

RESTART_SEC = 1.0  # RestartSec= of the unit
LONGEST_HOLD = 60.0

# The kernel tells a process's start in hundredths of a second, rounded down: a start may seem to come before the end
# that it followed, and systemd's own may seem to come before RestartSec= is over. Five of them are margin enough.
_GRAIN = 0.05


@dataclass(frozen=True, slots=True)
class Record:
    """How many starts in a row have failed, when to try again, when the last master ended, when the first failed.

    Seconds of CLOCK_MONOTONIC.
    """

    failures: int
    retry_at: float
    exited_at: float
    since: float = math.inf


class StartLog:
    """The record in `directory`; without one nothing is kept. No method raises OSError: the log is a help, no
    need.
    """

    def __init__(self, directory: str | None) -> None:
        """`directory` is $RUNTIME_DIRECTORY, which RuntimeDirectoryPreserve= keeps over a restart."""
        self._path = os.path.join(directory, STARTS) if directory else None

    def load(self) -> Record | None:
        """The record, or None: there is none, it can't be read or understood, or it is from another boot."""
        if self._path is None:
            return None
        boot_id = system.boot_id()
        try:
            with open(self._path, encoding="utf-8", opener=opened) as file:
                found = json.loads(file.read(4096))
            if found.pop("boot_id") != boot_id:
                return None
            times = [float(found[name]) for name in ("retry_at", "exited_at", "since")]
            record = Record(int(found["failures"]), *times)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return None
        sound = record.failures >= 0 and math.isfinite(record.retry_at) and math.isfinite(record.exited_at)
        return record if sound else None

    def save(self, record: Record) -> bool:
        """Replace the record in one step; False when it could not be written."""
        if self._path is None:
            return False
        new = f"{self._path}.{os.getpid()}"
        # Before the file is open: what failed for want of descriptors may have left one.
        boot_id = system.boot_id()
        try:
            with open(new, "w", encoding="utf-8") as file:
                json.dump({**asdict(record), "boot_id": boot_id}, file)
            os.replace(new, self._path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(new)
            return False
        return True

    def clear(self) -> None:
        """Forget: the start has succeeded."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._path)


def inherited_record(start_log: StartLog, now: float) -> Record | None:
    """What a failed predecessor left behind, so that its successor does not start from zero; None if that is over."""
    record = start_log.load()
    if record is None:
        return None
    # Our process's start and not now: where Python takes a second to start, now comes after RestartSec= in any case.
    if asked_for(record, began=now - proctree.process_age()):
        start_log.clear()
        return None
    return replace(record, retry_at=min(record.retry_at, now + LONGEST_HOLD))


def asked_for(record: Record, *, began: float) -> bool:
    """Whether a process that began then (CLOCK_MONOTONIC, s) is a person's doing: systemd's own start after a
    failure comes RestartSec= after the end, so one that came sooner was typed, and gets a try at once.

    One that comes later tells nothing: an emulated machine was seen to take over ten seconds for systemd's own, and its
    loop had no pauses while that counted as a person's. What is held back is told instead.
    """
    if record.exited_at <= 0:
        return False
    return record.exited_at - _GRAIN <= began < record.exited_at + RESTART_SEC - _GRAIN
