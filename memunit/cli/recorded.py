"""What `memunit status` shows by systemd, the kernel and the journal, which the master is not asked for."""

import time
from collections.abc import Sequence
from typing import Any

from memunit.account.facts import DAY, HOUR, Facts, Finding
from memunit.account.findings import diagnose
from memunit.account.text import clean, duration, plural
from memunit.account.units import Unit, Worker, has_groups, units, workers
from memunit.cli.failing import Failed, say
from memunit.cli.reading import counts_in_words, facts_of, known, names, read
from memunit.cli.tables import Cell, Column, bar, fold, render
from memunit.cli.terminal import RANK_STYLES, Terminal, as_json, emit, terminal
from memunit.core.exitcodes import EX_UNAVAILABLE, OK
from memunit.core.quantity import format_size

_BAR = 8
# A start takes no longer.
_START = 600.0


def show(asked: Sequence[str], journal: str | None, *, as_data: bool) -> int:
    """Print what is known of these instances, or of all; returns the exit code. `journal` is as in reading.read()."""
    at, now, code = terminal(), time.time(), OK
    begin = now - DAY
    try:
        for instance in asked:
            unit = known(instance, journal)
            if unit.runs and not has_groups(unit):
                # Then the journal alone says which workers there are: from the start of the service on.
                begin = min(begin, unit.since - _START)
    except Failed as failed:
        return failed.tell()
    listed = asked or names()
    entries = []
    try:
        one = listed[0] if len(listed) == 1 else None
        entries = read(journal, one, begin) if listed else []
    except Failed as failed:
        code = failed.tell()
    known_units = units(listed)
    facts = [facts_of(known_units.get(name) or Unit(name), entries, now, ask=bool(asked)) for name in listed]
    blind = code != OK
    if asked:
        running = _code(facts)
        code = code or running
    if as_data:
        return emit(as_json([_json(each, blind=blind) for each in facts]), code)
    if not asked:
        return emit(_table(facts, at, blind=blind), code)
    return emit("\n".join(_one(each, at, blind=blind) for each in facts), code)


def _code(facts: Sequence[Facts]) -> int:
    """69 where an instance that was named has no master, or one that does not answer."""
    for each in facts:
        if each.silent:
            say(f"the master of {each.name} {each.silent}; memunit why {each.name} says what to do")
            return EX_UNAVAILABLE
    for each in facts:
        if not each.unit.known:
            say(
                f"systemd can't be asked about {each.name}: systemctl is missing here, or fails; run the command "
                "where systemd runs"
            )
    idle = [each.name for each in facts if each.unit.known and not each.unit.runs]
    for name in idle:
        say(f"{name} is not running; memunit why {name} says why, systemctl start memunit@{name} starts it")
    return EX_UNAVAILABLE if idle or not all(each.unit.known for each in facts) else OK


# -- all of them ---------------------------------------------------------------------------------------------------

_COLUMNS = (
    Column("INSTANCE"),
    Column("READY", right=True),
    Column("SERVING", rank=2),
    Column("MEMORY", rank=3),
    Column("RECYCLED/H", rank=1),
    Column("LAST TROUBLE"),
)


def _table(facts: Sequence[Facts], at: Terminal, *, blind: bool) -> str:
    if not facts:
        return (
            "There is no instance yet. memunit new NAME writes the file of one, and systemctl enable --now "
            "memunit@NAME.socket lets it listen.\n"
        )
    rows = []
    for each in facts:
        worst = diagnose(each)[0]
        serving, style = _serving(each)
        counted = each.unit.counted
        short = "?" if blind and worst.kind == "well" else _short(worst)
        rows.append(
            [
                Cell(each.name, "bold"),
                Cell(f"{counted[0]}/{counted[1]}{_mark(each, 'workers.count')}" if counted else "-", style),
                Cell(serving, style),
                Cell(_most(each, at)),
                Cell("?" if blind else _hour(each)),
                Cell(short, RANK_STYLES[worst.rank]),
            ]
        )
    return render(_COLUMNS, rows, at) + "".join(_by_hand(each, at) for each in facts if each.unit.changed)


def _mark(facts: Facts, setting: str) -> str:
    """Behind a value that is not the file's; _by_hand() says what it means."""
    return "*" if setting in facts.unit.changed else ""


def _by_hand(facts: Facts, at: Terminal) -> str:
    said = ", ".join(f"{path} = {value}" for path, value in facts.unit.changed.items())
    text = clean(f"* {facts.name}: set by hand until the next reload: {said}", 400)
    return fold(text, at, hang="  ", style="dim") + "\n"


def _short(finding: Finding) -> str:
    return finding.short or "-"


def _serving(facts: Facts) -> tuple[str, str]:
    """Whether it serves, in a word, and how good that is."""
    unit, counted = facts.unit, facts.unit.counted
    if not unit.known:
        return "?", "dim"
    if not unit.runs:
        word = {"failed": "failed", "activating": "restarting"}.get(unit.active, "no")
        if word == "no" and unit.listening:
            return "on demand", "dim"
        return word, "bad" if word != "no" else "dim"
    if unit.active in ("activating", "deactivating", "reloading"):
        word = {"activating": "starting", "deactivating": "stopping"}.get(unit.active, unit.active)
        return word, "warn"
    if counted is None:
        return "yes", ""
    if counted[0] == 0:
        return "no", "bad"
    return ("yes", "good") if counted[0] >= counted[1] else ("partly", "warn")


def _most(facts: Facts, at: Terminal) -> str:
    """The fullest worker against the limit: that is the next to be recycled."""
    held = [each.memory for each in workers(facts.unit, facts.account.lives) if each.memory is not None]
    if not held:
        return "-"
    limit, mark = facts.limit, _mark(facts, "memory.limit")
    if limit is None:
        return format_size(max(held)) + mark
    return f"{bar(max(held) / limit, _BAR, at)} {format_size(max(held))}/{format_size(limit)}{mark}"


def _hour(facts: Facts) -> str:
    counts = facts.account.counts(facts.now - HOUR)
    return counts_in_words(dict(list(counts.items())[:2])) + (" .." if len(counts) > 2 else "") or "0"


# -- one of them ---------------------------------------------------------------------------------------------------

_WORKERS = (
    Column("WORKER"),
    Column("PID", right=True),
    Column("PHASE", rank=2),
    Column("AGE", right=True, rank=1),
    Column("MEMORY", right=True),
    Column("OF LIMIT", rank=3),
    Column("CEILING", right=True, rank=4),
)


def _one(facts: Facts, at: Terminal, *, blind: bool) -> str:
    unit, serving = facts.unit, _serving(facts)
    text = (
        fold(f"{facts.name}: {_headline(facts, serving[0])}", at, hang="  ", style=serving[1] or "bold")
        + "\n"
    )
    if unit.status:
        text += fold(f"  {clean(unit.status, 400)}", at) + "\n"
    there = workers(unit, facts.account.lives)
    if there:
        rows = [_worker(each, facts, at) for each in there]
        columns = [
            column
            for column in _WORKERS
            if facts.settings is None or column.title != "OF LIMIT" or facts.limit is not None
            if facts.settings is None or column.title != "CEILING" or facts.ceiling is not None
        ]
        kept = [_WORKERS.index(column) for column in columns]
        text += "\n" + render(columns, [[row[n] for n in kept] for row in rows], at)
    more = []
    if not blind:
        hour, day = facts.account.counts(facts.now - HOUR), facts.account.counts(facts.now - DAY)
        told = [counts_in_words(counts) or "none" for counts in (hour, day)]
        more.append(fold(f"ended in the last hour: {told[0]}; in a day: {told[1]}", at, hang="  "))
        more += [fold(f"  {each}", at, hang="  ") for each in _last_ends(facts)]
    found = [each for each in diagnose(facts) if each.rank < 4]
    more += [fold(each.short, at, hang="  ", style=RANK_STYLES[each.rank]) for each in found[:4]]
    if found:
        more.append(fold(f"memunit why {facts.name} says what to do", at))
    return text + "".join(f"{line}\n" for line in (["", *more] if more else []))


def _headline(facts: Facts, serving: str) -> str:
    unit = facts.unit
    counted = (
        f"{unit.counted[0]} of {unit.counted[1]} workers serve" if unit.counted else f"serving: {serving}"
    )
    if not unit.known:
        return "systemd can't be asked about it"
    state = f"{unit.active} ({unit.sub})"
    since = f", {state} for {duration(facts.now - unit.since)}" if unit.since else f", {state}"
    again = f", {plural(unit.restarts, 'restart')} of the master" if unit.restarts else ""
    master = f", master {unit.pid}" if unit.runs else ""
    return f"{counted}{since}{master}{again}"


def _worker(worker: Worker, facts: Facts, at: Terminal) -> list[Cell]:
    life = worker.life
    limit = facts.limit
    if life and life.limit and not _mark(facts, "memory.limit"):
        # Its own, which is a little less.
        limit = life.limit
    phase = worker.phase
    age = duration(facts.now - worker.since) if worker.since is not None else "?"
    share = worker.memory / limit if worker.memory is not None and limit else None
    return [
        Cell(f"{worker.slot}.{worker.generation}", "bold"),
        Cell(str(worker.pid)),
        Cell(phase, "good" if phase == "running" else "warn"),
        Cell(age),
        Cell("?" if worker.memory is None else format_size(worker.memory)),
        Cell("" if share is None else f"{bar(share, _BAR, at)} {share:.0%} of {format_size(limit)}"),
        Cell(format_size(facts.ceiling) if facts.ceiling else ""),
    ]


def _last_ends(facts: Facts) -> list[str]:
    told = []
    for life in reversed(facts.account.ended()[-5:]):
        text = clean(life.message, 160) or f"worker {life.name} ended: {clean(life.cause, 30)}"
        told.append(f"{facts.ago(life.ended or 0)}: {text}")
    return told


# -- for a program -------------------------------------------------------------------------------------------------


def _json(facts: Facts, *, blind: bool) -> dict[str, Any]:
    unit, counted = facts.unit, facts.unit.counted
    found = diagnose(facts)
    return {
        "instance": facts.name,
        "file": facts.file,
        "active": unit.active,
        "sub": unit.sub,
        "serving": _serving(facts)[0],
        "ready": counted[0] if counted else None,
        "count": counted[1] if counted else None,
        "status": unit.status,
        "master_pid": unit.pid or None,
        "master_restarts": unit.restarts,
        "master_answers": not facts.silent,
        "listening": unit.listening,
        "since": unit.since or None,
        "memory_limit_bytes": facts.limit,
        "memory_ceiling_bytes": facts.ceiling,
        "changed": unit.changed,
        "workers": [
            {
                "slot": each.slot,
                "generation": each.generation,
                "pid": each.pid,
                "phase": each.phase,
                "since": each.since,
                "memory_bytes": each.memory,
            }
            for each in workers(unit, facts.account.lives)
        ],
        "ended_last_hour": None if blind else facts.account.counts(facts.now - HOUR),
        "ended_last_day": None if blind else facts.account.counts(facts.now - DAY),
        "problems": [str(each) for each in facts.problems],
        "findings": [
            {"kind": each.kind, "rank": each.rank, "at": each.at, "text": each.short}
            for each in found
            if each.rank < 4
        ],
    }
