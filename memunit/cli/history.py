"""`memunit history INSTANCE [--since TIME]`: recycles by cause, memory and drain times over time, in the terminal.

Exit codes: 0 told, also that nothing has happened; 64 wrong command line; 69 no such instance, or no journal; 77 the
journal may not be read.
"""

import time
from collections.abc import Sequence
from typing import Any

from memunit.account import series
from memunit.account.facts import DAY, in_force
from memunit.account.lives import PLANNED, Account, build, middle, quantile
from memunit.account.text import clean, duration, plural
from memunit.account.units import Unit, workers
from memunit.cli.failing import Failed, instance_named
from memunit.cli.reading import begins, known, of_life, read, reader, settings_of, since
from memunit.cli.tables import fold, sparks
from memunit.cli.terminal import Terminal, as_json, emit, terminal
from memunit.cli.usage import Parser
from memunit.core.quantity import format_size
from memunit.core.settings import Settings

_PROGRAM = "memunit history"
_DESCRIPTION = """\
Draw the past of an instance from the journal: how many workers ended by each cause, the memory of each slot, and how
long workers took to stop."""
_EPILOG = """\
TIME is a time span before now (2h, "3 days"), or a time (14:30, "2026-11-28 14:30", today). [24h]

examples:
  memunit history shop                  the last day
  memunit history shop --since 30min
  memunit history shop --json | jq '.lives[] | select(.cause == "memory-ceiling")'

exit codes: 0 answered, 64 wrong command line, 69 no such instance or no journal, 77 may not read the journal"""
_MOST_PARTS = 100
_MOST_SLOTS = 16
_NARROW = 60
_LABEL, _FIGURE = 15, 6


def parser() -> Parser:
    """What may be typed after its name."""
    made = reader("history", _DESCRIPTION, _EPILOG)
    made.add_argument("--since", metavar="TIME", help="the start of the time span [24h]")
    return made


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code. Raises SystemExit for wrong arguments and for --help."""
    chosen = parser().parse_args(arguments)
    instance = instance_named(chosen.instance, _PROGRAM)
    now = time.time()
    begin = since(chosen.since, now, _PROGRAM)
    try:
        account, settings, unit = gathered(instance, chosen.journal, begin, now)
    except Failed as failed:
        return failed.tell()
    if chosen.json:
        return emit(as_json(as_values(account, *bounds(account, settings, unit))))
    return emit(_drawn(account, *bounds(account, settings, unit), terminal()))


def gathered(
    instance: str, place: str | None, begin: float | None, now: float
) -> tuple[Account, Settings | None, Unit]:
    """The account of an instance from `begin` on, its settings and its unit. Raises Failed.

    If `begin` is None: from the first entry on, or the last day. Of a service of five minutes, a day is a blank.

    In a journal of elsewhere, time ends with its last entry; what runs now adds what it holds now.
    """
    unit = known(instance, place)
    wanted = begins(begin, now, DAY, place)
    # A worker that ends in this time began before: its start is wanted too.
    entries = read(place, instance, max(0.0, wanted - DAY))
    until = entries[-1].at if place and entries else now
    if begin is None:
        wanted = max(entries[0].at, until - DAY) if entries else until - DAY
    account = build(instance, entries, min(wanted, until - 1), until)
    account.lives = [life for life in account.lives if life.ended is None or life.ended >= account.since]
    if place is None:
        _add_what_runs(account, unit, now)
    return account, settings_of(instance)[1], Unit(instance) if place else unit


def bounds(account: Account, settings: Settings | None, unit: Unit) -> tuple[int | None, int | None]:
    """(limit, ceiling) in bytes: those in force, or those of the newest entries that say them."""
    told, now = series.bounds(account.lives), in_force(unit, settings)
    return now[0] or told[0], now[1] or told[1]


def _add_what_runs(account: Account, unit: Unit, now: float) -> None:
    for worker in workers(unit, account.lives):
        if worker.life is not None and worker.memory is not None:
            worker.life.samples.append((now, worker.memory))


def as_values(account: Account, limit: int | None, ceiling: int | None) -> dict[str, Any]:
    """All of it for a program. Times are seconds since 1970, sizes bytes."""
    return {
        "instance": account.instance,
        "since": account.since,
        "until": account.until,
        "memory_limit_bytes": limit,
        "memory_ceiling_bytes": ceiling,
        "ended": account.counts(account.since),
        "drain_seconds": _drains(account),
        "lives": [
            {
                **of_life(life),
                "growth_bytes_per_hour": life.growth,
                "samples": [[at, size] for at, size in life.samples],
            }
            for life in account.lives
        ],
    }


def _drains(account: Account) -> dict[str, float | int] | None:
    drains = account.drains(account.since)
    if not drains:
        return None
    return {
        "count": len(drains),
        "median": middle(drains),
        "p90": quantile(drains, 0.9),
        "most": max(drains),
    }


def _drawn(account: Account, limit: int | None, ceiling: int | None, at: Terminal) -> str:
    span = account.until - account.since
    times = [time.strftime("%Y-%m-%d %H:%M", time.localtime(each)) for each in (account.since, account.until)]
    if times[0][:10] == times[1][:10]:
        times[1] = times[1][11:]
    lines = [fold(f"{account.instance}: {times[0]} to {times[1]} ({duration(span)})", at, style="bold"), ""]
    ended = account.ended(since=account.since)
    if not ended and not any(life.samples for life in account.lives):
        lines.append(fold(f"No worker of {account.instance} has ended in this time.", at))
        return "\n".join(lines) + "\n"
    chart = _Chart(at)
    lines += _causes(account, chart)
    lines += _axis(account, chart)
    lines += _memory(account, limit, ceiling, chart)
    lines += _stops(account, chart)
    return "\n".join(lines) + "\n"


class _Chart:
    """Rows of a name, a character for each part of the time, and a figure; where it is narrow, in two lines."""

    def __init__(self, at: Terminal) -> None:
        self.at = at
        self.narrow = at.columns < _NARROW
        self.count = max(
            4, min(_MOST_PARTS, at.columns if self.narrow else at.columns - _LABEL - _FIGURE - 2)
        )

    @property
    def indent(self) -> str:
        """What stands before the parts."""
        return "" if self.narrow else " " * (_LABEL + 1)

    def row(self, name: str, drawn: str, figure: str, style: str = "") -> list[str]:
        """One row."""
        painted = self.at.paint(drawn.ljust(self.count), style)
        if self.narrow:
            return [fold(f"{clean(name, _LABEL)} {figure}", self.at), painted]
        return [f"{clean(name, _LABEL).ljust(_LABEL)} {painted} {figure.rjust(_FIGURE)}"]


def _causes(account: Account, chart: _Chart) -> list[str]:
    lines = [fold("Workers that ended, by cause", chart.at, style="bold")]
    found = series.by_cause(account, chart.count)
    if not found:
        return [*lines, "  none"]
    for cause, row in found.items():
        style = "" if cause in PLANNED else "warn" if cause in ("memory-limit", "pressure") else "bad"
        lines += chart.row(cause, sparks(row, chart.at), str(sum(row)), style)
    return lines


def _axis(account: Account, chart: _Chart) -> list[str]:
    """A line of times below."""
    span = account.until - account.since
    row = [" "] * chart.count
    for tick in series.ticks(account.since, account.until, max(1, chart.count // 12)):
        place = series.part(account, tick, chart.count)
        text = series.clock(tick, span)
        end = place + len(text)
        if end <= chart.count and all(each == " " for each in row[max(0, place - 1) : end + 1]):
            row[place:end] = text
    return [chart.at.paint(f"{chart.indent}{''.join(row)}".rstrip(), "dim"), ""]


def _memory(account: Account, limit: int | None, ceiling: int | None, chart: _Chart) -> list[str]:
    rows = series.by_slot(account, chart.count)
    if not rows:
        return []
    at = chart.at
    most = max([limit or 0, *(max(row) for row in rows.values())])
    named = [
        f"{name} {format_size(value)}" for name, value in (("limit", limit), ("ceiling", ceiling)) if value
    ]
    told = f" ({', '.join(named)})" if named else ""
    lines = [fold(f"Memory of each slot, up to {format_size(int(most))}{told}", at, style="bold")]
    for slot, row in list(rows.items())[:_MOST_SLOTS]:
        # All on one scale: the last character stands for what is said in the title.
        lines += chart.row(f"slot {slot}", sparks([*row, most], at)[:-1], format_size(int(max(row))))
    if len(rows) > _MOST_SLOTS:
        more = plural(len(rows) - _MOST_SLOTS, "slot")
        lines.append(fold(f"and {more} more; memunit report {account.instance} draws all", at, style="dim"))
    return [*lines, ""]


def _stops(account: Account, chart: _Chart) -> list[str]:
    drains = account.drains(account.since)
    if not drains:
        return []
    told = (
        f"median {duration(middle(drains))}, 9 of 10 within {duration(quantile(drains, 0.9))}, "
        f"longest {duration(max(drains))}"
    )
    drawn = sparks(series.slowest(account, chart.count), chart.at)
    lines = [
        fold("Time to stop, the longest", chart.at, style="bold"),
        *chart.row("seconds", drawn, f"{max(drains):.1f}"),
        fold(told, chart.at),
    ]
    killed = len(account.ended("grace-expired", since=account.since))
    if killed:
        text = f"{killed} grace-expired: memunit why {account.instance} says what to do"
        lines.append(fold(text, chart.at, style="bad"))
    return lines
