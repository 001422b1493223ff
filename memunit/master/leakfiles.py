"""The reports of examinations as files: the newest few of an instance, each whole or not there at all."""

import contextlib
import json
import os
from collections.abc import Mapping
from typing import Any

FOLDER = "leaks"
MOST = 64
"""Files that are kept."""


def save(directory: str, name: str, report: Mapping[str, Any]) -> str:
    """Write `report` as <directory>/leaks/<name>.json, and remove the oldest beyond MOST; its path.

    Names sort by their time. Raises OSError.
    """
    folder = os.path.join(directory, FOLDER)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    path = os.path.join(folder, f"{name}.json")
    # Of its own name: what lives there may be the app's, which has the same user and may write here too.
    unfinished = os.path.join(folder, f".{name}.{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(FileNotFoundError):
        os.unlink(unfinished)
    descriptor = os.open(unfinished, flags, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)
            file.write("\n")
        os.rename(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise
    for each in sorted(_of(folder))[:-MOST]:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(folder, each))
    return path


def _of(folder: str) -> list[str]:
    return [each for each in os.listdir(folder) if each.endswith(".json") and not each.startswith(".")]
