"""What a master that fails to start leaves for its successor: the backoff outlives it in the runtime
directory.
"""

import contextlib
import json
import math
import os
from dataclasses import asdict, dataclass

_NAME = "starts.json"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


@dataclass(frozen=True, slots=True)
class Record:
    """How many starts in a row have failed, when to try again, when the last master ended (CLOCK_MONOTONIC,
    s).
    """

    failures: int
    retry_at: float
    exited_at: float


class StartLog:
    """The record in `directory`; without one nothing is kept. No method raises OSError: the log is a help, no
    need.
    """

    def __init__(self, directory: str | None) -> None:
        """`directory` is $RUNTIME_DIRECTORY, which RuntimeDirectoryPreserve= keeps over a restart."""
        self._path = os.path.join(directory, _NAME) if directory else None

    def load(self) -> Record | None:
        """The record, or None: there is none, it can't be read or understood, or it is from another boot."""
        if self._path is None:
            return None
        try:
            with open(self._path, encoding="utf-8") as file:
                found = json.loads(file.read(4096))
            if found.pop("boot_id") != _boot_id():
                return None
            record = Record(int(found["failures"]), float(found["retry_at"]), float(found["exited_at"]))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return None
        sound = record.failures >= 0 and math.isfinite(record.retry_at) and math.isfinite(record.exited_at)
        return record if sound else None

    def save(self, record: Record) -> bool:
        """Replace the record in one step; False when it could not be written."""
        if self._path is None:
            return False
        new = f"{self._path}.{os.getpid()}"
        try:
            with open(new, "w", encoding="utf-8") as file:
                json.dump({**asdict(record), "boot_id": _boot_id()}, file)
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


def _boot_id() -> str:
    """A monotonic clock means nothing after a reboot, and not every runtime directory is a tmpfs."""
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
