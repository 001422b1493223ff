"""The program that examine.command names: whether a worker can wait for it, and what came of it, in words.

Its output is data, made printable and short.
"""

from typing import Any

from memunit.core.model import Worker
from memunit.core.quantity import format_size, format_time
from memunit.core.wording import how
from memunit.records import dataclass

_KEY = "examine.command"
_LONGEST_LINE = 200
_LONGEST = 400
_MOST_LINES = 200
# SIGPIPE, where more was written than is read: head(1) ends a program so too. Of a shell's child, its exit status.
_CUT_OFF = (13, 128 + 13)
# A worker whose signal waits may grow so many times as fast as it has.
_FASTER = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a program has ended. `seconds` is how long it ran."""

    output: bytes = b""
    """The beginning of its standard output."""
    cut: bool = False
    """Whether it has written more."""
    code: str = ""
    status: int = 0
    """As of held.End; code "" if it has no end of its own."""
    seconds: float = 0.0
    failure: str = ""
    """Why it could not be started; "" if it was."""
    killed: str = ""
    """What it was killed for: "time", "memory", "room" (less memory was free), "worker" (which has ended), "stop" (the
    master stops); "" if not."""


def may_wait(worker: Worker, seconds: float) -> bool:
    """Whether the worker's signal to stop can wait so long: it would not reach its ceiling meanwhile."""
    if worker.ceiling is None or worker.memory is None:
        return True
    return worker.memory + _FASTER * max(worker.steady_pace, worker.growth) * seconds < worker.ceiling


def first_line(outcome: Outcome) -> str:
    """The first line of its output that has text, as far as a field takes it."""
    return next((line for line in _lines(outcome) if line), "")[:_LONGEST_LINE]


def clause(outcome: Outcome, *, time: float, memory: int) -> str:
    """One sentence for the entry; `time` (seconds) and `memory` (bytes) are the bounds that it had."""
    line = first_line(outcome)
    wrong = _wrong(outcome, time, memory)
    if not wrong:
        return f"{_KEY}: {line}" if line else f"{_KEY} has written nothing"
    return f"{_KEY} {wrong}: {line}" if line else f"{_KEY} {wrong}"


def details(outcome: Outcome, *, time: float, memory: int) -> dict[str, Any]:
    """What the file in the state directory has of it."""
    lines = _lines(outcome)
    return {
        "failure": _wrong(outcome, time, memory),
        "seconds": round(outcome.seconds, 3),
        "output": [line[:_LONGEST] for line in lines[:_MOST_LINES]],
        "cut": outcome.cut or len(lines) > _MOST_LINES or any(len(line) > _LONGEST for line in lines),
    }


def _wrong(outcome: Outcome, time: float, memory: int) -> str:
    if outcome.failure:
        return f"could not be started: {outcome.failure}"
    match outcome.killed:
        case "time":
            return f"was killed after {format_time(time)} (examine.time)"
        case "memory":
            return f"was killed at {format_size(memory)} (examine.memory)"
        case "room":
            return f"was killed at {format_size(memory)}, because the unit had no more memory for it"
        case "worker":
            return "was killed, because the worker ended first"
        case "stop":
            return "was killed, because memunit stops or executes itself anew"
    if (outcome.code, outcome.status) == ("exited", 0) or (outcome.cut and outcome.status in _CUT_OFF):
        return ""
    ended = how(outcome.code, outcome.status, ran=True)
    return ended if outcome.code == "exited" else f"was {ended}"


def _lines(outcome: Outcome) -> list[str]:
    text = outcome.output.decode("utf-8", "replace")
    return ["".join(c if c.isprintable() else "?" for c in line).strip() for line in text.split("\n")]
