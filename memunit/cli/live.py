"""What a master tells of its workers, as rows of a table and as sentences: for `memunit status` and `memunit top`."""

from __future__ import annotations

from memunit.account.text import clean, duration, plural
from memunit.cli.tables import Cell, Column, Row, bar
from memunit.core.quantity import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from memunit.cli.terminal import Terminal

    Worker = Mapping[str, Any]

_BAR = 8
_HOUR = 3600.0
_LONGEST = 160

COLUMNS = (
    Column("WORKER"),
    Column("PID", right=True, rank=2),
    Column("PHASE", rank=1),
    Column("AGE", right=True, rank=3),
    Column("MEMORY", right=True),
    Column("OF LIMIT", rank=4),
    Column("CEILING", right=True, rank=7),
    Column("GROWTH/H", right=True, rank=6),
    Column("LIMIT IN", right=True, rank=5),
    Column("IN WORK", right=True, rank=8),
    Column("LONGEST REQUEST", rank=9),
    Column("NOTE", rank=10),
)
# By what `memunit top` can sort, by the key that does it.
ORDERS: Mapping[str, tuple[str, Callable[[Worker], Any]]] = {
    "w": ("worker", lambda each: (each["slot"], each["generation"])),
    "m": ("memory", lambda each: -(each["memory"] or 0)),
    "a": ("age", lambda each: each["startedMonotonicUSec"]),
    "l": ("the longest request", lambda each: -((each.get("requests") or {}).get("longestUSec") or 0)),
    "g": ("growth", lambda each: -(each["growth"] or 0)),
    "t": ("time to the limit", lambda each: (each["untilLimitUSec"] is None, each["untilLimitUSec"] or 0)),
}


# Most columns have nothing to tell of most workers.
_BLANK = Cell("")


def rows(told: Mapping[str, Any], at: Terminal, order: str = "w") -> tuple[Sequence[Column], list[Row]]:
    """The columns that have something to tell, and a row a worker."""
    workers = sorted(told["workers"], key=ORDERS["w"][1])
    workers.sort(key=ORDERS[order][1])
    now = told["instance"]["nowMonotonicUSec"]
    every = [_row(each, now, at) for each in workers]
    kept = [n for n, column in enumerate(COLUMNS) if column.rank < 4 or any(row[n].text for row in every)]
    return [COLUMNS[n] for n in kept], [[row[n] for n in kept] for row in every]


def _row(worker: Worker, now: int, at: Terminal) -> list[Cell]:
    limit, memory = worker["limit"], worker["memory"]
    share = memory / limit if memory is not None and limit else None
    left, note = worker["untilLimitUSec"], _note(worker)
    return [
        Cell(f"{worker['slot']}.{worker['generation']}", "bold"),
        Cell(str(worker["pid"] or "-")),
        Cell(worker["phase"], "good" if worker["phase"] == "running" else "warn"),
        Cell(duration((now - worker["startedMonotonicUSec"]) / 1e6)),
        Cell("?" if memory is None else format_size(memory)),
        _BLANK if share is None else Cell(f"{bar(share, _BAR, at)} {share:4.0%} of {format_size(limit)}"),
        Cell(format_size(worker["ceiling"])) if worker["ceiling"] else _BLANK,
        Cell(format_size(worker["growth"])) if worker["growth"] else _BLANK,
        _BLANK if left is None else Cell(duration(left / 1e6)),
        *_requests(worker.get("requests")),
        Cell(note, "warn") if note else _BLANK,
    ]


def _requests(told: Mapping[str, Any] | None) -> list[Cell]:
    if told is None:
        return [_BLANK, _BLANK]
    longest = ""
    if told["longestRoute"]:
        longest = f"{clean(told['longestRoute'], 40)} for {duration(told['longestUSec'] / 1e6)}"
    return [Cell(str(told["inWork"])), Cell(longest)]


def _note(worker: Worker) -> str:
    if worker["reason"]:
        said = f", {clean(worker['status'], 80)}" if worker["status"] else ""
        return f"stops: {worker['reason']}{said}"
    return f"to be replaced: {worker['wants']}" if worker["wants"] else ""


def headline(instance: Mapping[str, Any]) -> tuple[str, str]:
    """How it is, in a sentence, and the style of that."""
    ready, count = instance["ready"], instance["count"]
    state = "is being stopped" if instance["stopping"] else "reloads" if instance["reloading"] else ""
    since = duration((instance["nowMonotonicUSec"] - instance["startedMonotonicUSec"]) / 1e6)
    parts = [f"{ready} of {plural(count, 'worker')} serve" if count != 1 else f"{ready} of 1 worker serves"]
    parts += [f"it {state}"] if state else []
    parts.append(f"master {instance['masterPid']} for {since}")
    style = "bad" if not ready else "good" if ready >= count and not state else "warn"
    return ", ".join(parts), style


def ended(instance: Mapping[str, Any]) -> str:
    """How workers ended, in a line."""
    hour = _counts(instance["endedLastHour"])
    whole = _counts(instance["ended"])
    return f"ended in the last hour: {hour or 'none'}; since the master was started: {whole or 'none'}"


def _counts(counts: Sequence[Mapping[str, Any]]) -> str:
    ranked = sorted(counts, key=lambda each: (-each["count"], each["cause"]))
    return ", ".join(f"{each['count']} {each['cause']}" for each in ranked)


def last_ends(told: Mapping[str, Any], most: int) -> list[str]:
    """The sentences of the last ends, the newest first."""
    now = told["instance"]["nowMonotonicUSec"]
    shown = list(told["ends"])[-most:] if most else []
    return [
        f"{duration((now - end['atMonotonicUSec']) / 1e6)} ago: {clean(end['text'], _LONGEST)}"
        for end in reversed(shown)
    ]
