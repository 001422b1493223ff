"""What the commands that read afterwards have in common: options, the journal, and all facts of an instance."""

import re
import time
from collections.abc import Sequence
from typing import Any

from memunit.account.entries import Entry
from memunit.account.facts import DAY, Facts
from memunit.account.lives import Life, build
from memunit.account.source import Journal, Unreadable
from memunit.account.text import clean
from memunit.account.units import Unit, answers, loaded, units
from memunit.cli.failing import Failed
from memunit.cli.files import configured, instance_path, load_file
from memunit.cli.usage import Parser, fail
from memunit.core.exitcodes import EX_UNAVAILABLE
from memunit.core.problems import Problem, SettingsError
from memunit.core.quantity import QuantityError, parse_time
from memunit.core.settings import Settings

_CLOCK = re.compile(r"(?:(\d{4})-(\d{2})-(\d{2}))?[ T]?(?:(\d{1,2}):(\d{2})(?::(\d{2}))?)?")

_TIMES = 'say "2h", "3 days", "14:30" or "2026-11-28 14:30"'


def reader(name: str, description: str, epilog: str) -> Parser:
    """A parser with --json, --journal, and INSTANCE."""
    parser = Parser(f"memunit {name}", description, epilog=epilog)
    parser.add_argument("--json", action="store_true", help="print JSON, for a program")
    parser.add_argument(
        "--journal",
        metavar="PATH",
        help="read the journal from this folder or file, and not from this machine",
    )
    parser.add_argument("instance", metavar="INSTANCE", help="the instance")
    return parser


def since(text: str | None, now: float, program: str) -> float | None:
    """A time in seconds of CLOCK_REALTIME: a span before now as in "2h" or "3 days", or a date and time of day.

    None where nothing was said. Raises SystemExit with 64.
    """
    if text is None:
        return None
    try:
        return max(0.0, now - parse_time(text.removeprefix("-").removesuffix(" ago"), endless=False))
    except QuantityError:
        pass
    if text == "today":
        text = time.strftime("%Y-%m-%d", time.localtime(now))
    found = _CLOCK.fullmatch(text.strip())
    if found is None or not (found[1] or found[4]):
        fail(f'--since: "{clean(text, 40)}" is no time; {_TIMES}', program)
    year, month, day, hour, minute, second = (int(each) if each else 0 for each in found.groups())
    if not found[1]:
        year, month, day = time.localtime(now)[:3]
    try:
        return max(0.0, time.mktime((year, month, day, hour, minute, second, 0, 0, -1)))
    except (ValueError, OverflowError):
        fail(f'--since: "{clean(text, 40)}" is no time of this calendar; {_TIMES}', program)


def begins(begin: float | None, now: float, span: float, place: str | None) -> float:
    """From when on to read: as was said, else all of a journal of elsewhere, and of ours the last `span` seconds."""
    if begin is not None:
        return begin
    return 0.0 if place else now - span


def known(instance: str, place: str | None) -> Unit:
    """The unit of an instance that there is. Raises Failed for one of which nothing is known."""
    unit = units([instance]).get(instance) or Unit(instance)
    there = unit.runs or unit.active not in ("", "inactive") or unit.listening
    if not (there or place or instance in configured()):
        text = (
            f'there is no instance "{instance}": no {instance_path(instance)}, and no unit of it runs; memunit status '
            "lists all instances"
        )
        raise Failed(text, EX_UNAVAILABLE)
    return unit


def settings_of(instance: str) -> tuple[str, Settings | None, list[Problem]]:
    """The path of an instance's file, what it says, and what is wrong with it."""
    path = instance_path(instance)
    try:
        parsed = load_file(path)
    except SettingsError as error:
        return str(path), None, list(error.problems)
    return str(path), parsed.settings, list(parsed.problems)


def facts_of(
    unit: Unit, entries: Sequence[Entry], now: float, *, begin: float | None = None, ask: bool = False
) -> Facts:
    """All that is known of one instance; with `ask` also whether its master answers."""
    file, settings, problems = settings_of(unit.instance)
    account = build(unit.instance, entries, now - DAY if begin is None else begin, now)
    silent = answers(unit.instance) if ask and unit.runs else ""
    return Facts(unit, account, now, file, settings, problems, silent)


def read(place: str | None, instance: str | None, begin: float) -> list[Entry]:
    """The entries since `begin`. Raises Failed."""
    try:
        return list(Journal(place).entries(instance, begin))
    except Unreadable as error:
        raise Failed(str(error), error.code) from None


def names() -> list[str]:
    """All instances: those with a file, and those that systemd has loaded."""
    return sorted({*configured(), *loaded()})


def of_life(life: Life) -> dict[str, Any]:
    """A worker's life for a program. Times are seconds since 1970, sizes bytes."""
    return {
        "worker": life.name,
        "pid": life.pid,
        "started": life.started,
        "ready": life.ready,
        "stopping": life.stopping,
        "ended": life.ended,
        "cause": life.cause or None,
        "stop_reason": life.stop_reason or None,
        "memory_bytes": life.memory,
        "limit_bytes": life.limit,
        "peak_bytes": life.peak,
        "drain_seconds": life.drain,
    }


def counts_in_words(counts: dict[str, int]) -> str:
    """ "12 memory-limit, 1 watchdog"."""
    return ", ".join(f"{count} {clean(cause, 30)}" for cause, count in counts.items())
