"""What a zygote may say, decoded: the app runs in there, so a packet can hold anything.

memunit/worker/zygote.py describes the messages, and writes them.
"""

import json
from collections.abc import Mapping
from typing import Any

from memunit.records import dataclass

# PID_MAX_LIMIT of Linux on 64 bits (proc_sys_kernel(5)), and the largest number of errno(3).
_MOST_PID = 1 << 22
_MOST_ERRNO = 4095
_LONGEST = 2000
_MOST_TEXTS = 64


@dataclass(frozen=True, slots=True)
class Ready:
    """The app is imported. `hazards` are what a fork breaks, `notes` what it may; `lingers` if it has to outlive its
    workers, for what is done once when all of them have gone.
    """

    hazards: tuple[str, ...]
    notes: tuple[str, ...]
    lingers: bool


@dataclass(frozen=True, slots=True)
class Unusable:
    """There is nothing to fork, and why."""

    text: str


@dataclass(frozen=True, slots=True)
class Made:
    """The worker that request `number` has asked for."""

    number: int
    pid: int


@dataclass(frozen=True, slots=True)
class Failed:
    """There is no worker for request `number`; `errno` is 0 where no system call has failed."""

    number: int
    text: str
    errno: int


Message = Ready | Unusable | Made | Failed


def decode(packet: bytes) -> Message | None:
    """The message in a packet, or None for one that is none. Never raises."""
    try:
        found = json.loads(packet)
    except (ValueError, RecursionError):
        # Not UTF-8, no JSON, a number of more digits than int() takes; or "[" sixty thousand times.
        return None
    if not isinstance(found, dict):
        return None
    keys = found.keys()
    if keys == {"ready", "hazards", "notes", "lingers"}:
        hazards, notes = _texts(found["hazards"]), _texts(found["notes"])
        flags = found["ready"] is True and isinstance(found["lingers"], bool)
        return Ready(hazards, notes, found["lingers"]) if flags and None not in (hazards, notes) else None
    if keys == {"unusable"}:
        text = _text(found["unusable"])
        return None if text is None else Unusable(text)
    number = _number(found, "id", 1, 1 << 63)
    if keys == {"id", "pid"}:
        pid = _number(found, "pid", 1, _MOST_PID)
        return None if number is None or pid is None else Made(number, pid)
    if keys == {"id", "error", "errno"}:
        text, errno = _text(found["error"]), _number(found, "errno", 0, _MOST_ERRNO)
        return None if number is None or text is None or errno is None else Failed(number, text, errno)
    return None


def _number(message: Mapping[str, Any], key: str, least: int, most: int) -> int | None:
    found = message.get(key)
    # true is an int to Python.
    return found if type(found) is int and least <= found <= most else None


def _text(found: Any) -> str | None:
    if not isinstance(found, str):
        return None
    return "".join(c if c.isprintable() else " " for c in found[:_LONGEST])


def _texts(found: Any) -> Any:
    if not isinstance(found, list) or len(found) > _MOST_TEXTS:
        return None
    texts = tuple(map(_text, found))
    return None if None in texts else texts
