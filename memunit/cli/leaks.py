"""`memunit leaks INSTANCE [--since TIME]`: what grows in every life of an instance's workers.

Exit codes: 0 told, also that nothing grows; 64 wrong command line; 69 no such instance, or no journal; 77 the journal
may not be read.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from memunit.account.facts import WEEK
from memunit.account.leaks import Examined, Leak, examined, merged, of_file, together, workers
from memunit.account.lives import build
from memunit.account.text import plural
from memunit.cli.failing import Failed, instance_named
from memunit.cli.files import instance_path
from memunit.cli.places import Place, contents, place_of
from memunit.cli.reading import begins, known, read, reader, settings_of, since
from memunit.cli.tables import fold
from memunit.cli.terminal import Terminal, as_json, emit, terminal
from memunit.cli.usage import Parser
from memunit.core.quantity import format_size

_PROGRAM = "memunit leaks"
_DESCRIPTION = """\
Merge the results of the workers that were examined at their end. An object that grows in every worker is a leak. The
leak with the most bytes an hour comes first. If a module below app.directory holds the object, the command names the
line that defines it, and the first lines of that file that add to it."""
_EPILOG = """\
TIME is a time span before now (2h, "3 days"), or a time (14:30, "2026-11-28 14:30", today). [7 days]

examples:
  memunit leaks shop                  the last week
  memunit leaks shop --since 2h       only the leaks since a change
  memunit leaks shop --json | jq '.leaks[] | select(.kind == "leak") | .holder'

exit codes: 0 answered, 64 wrong command line, 69 no such instance or no journal, 77 may not read the journal"""
_MOST_FILES = 1000
# So many workers were examined since, and it was in none of them: worth a word.
_GONE = 3
# Of each instance, with what the unit calls StateDirectory=.
_STATE = Path("/var/lib/memunit")


def parser() -> Parser:
    """What may be typed after its name."""
    made = reader("leaks", _DESCRIPTION, _EPILOG)
    made.add_argument("--since", metavar="TIME", help="the start of the time span [7 days]")
    return made


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code. Raises SystemExit for wrong arguments and for --help."""
    chosen = parser().parse_args(arguments)
    instance = instance_named(chosen.instance, _PROGRAM)
    now = time.time()
    begin = since(chosen.since, now, _PROGRAM)
    try:
        known(instance, chosen.journal)
        wanted = begins(begin, now, WEEK, chosen.journal)
        # How long a worker has lived, its end tells.
        entries = read(chosen.journal, instance, wanted)
    except Failed as failed:
        return failed.tell()
    files = () if chosen.journal else kept(_STATE / instance / "leaks", wanted)
    found = together(examined(build(instance, entries, wanted, now)), files)
    leaks = merged(found)
    # A journal of elsewhere is of another machine's code.
    folders = () if chosen.journal else _folders(instance)
    places = {leak.holder: place for leak in leaks if (place := place_of(leak.holder, folders)) is not None}
    if chosen.json:
        return emit(as_json(_as_values(instance, wanted, found, leaks, places)))
    return emit(_told(instance, found, leaks, places, terminal()))


def _folders(instance: str) -> Sequence[str]:
    """Where the app's own modules are, as far as its file says it."""
    _, settings, _ = settings_of(instance)
    if settings is None or settings.app.directory is None:
        return ()
    more = settings.app.environment.get("PYTHONPATH", "").split(":")
    return [settings.app.directory, *(each for each in more if each.startswith("/"))]


def kept(folder: Path, begin: float) -> Iterator[list[Examined]]:
    """What the files of an instance's state directory have since `begin`; nothing of those that can't be read.

    The app may write there: no link is followed, nothing but a file is read, and no more than a report has.
    """
    try:
        files = sorted(each for each in folder.iterdir() if each.suffix == ".json")[-_MOST_FILES:]
    except OSError:
        return
    for each in files:
        try:
            found = of_file(json.loads(contents(each)))
        except (OSError, ValueError, RecursionError):
            continue
        if found and found[0].at >= begin:
            yield found


def _told(
    instance: str,
    found: Sequence[Examined],
    leaks: Sequence[Leak],
    places: Mapping[str, Place],
    at: Terminal,
) -> str:
    if not found:
        text = (
            f"{instance}: no worker was examined in this time. Workers are examined when they are replaced for their "
            f"memory, unless examine.time is 0 in {instance_path(instance)}; memunit examine {instance} 0 examines one"
        )
        return fold(text, at) + "\n"
    sure = sum(leak.kind == "leak" for leak in leaks)
    what = plural(sure, "leak") if sure else "no leak that is sure"
    head = f"{instance}: {what} in {plural(workers(found), 'examined worker')}"
    lines = [fold(head, at, style="bold")]
    for place, leak in enumerate(leaks, 1):
        lines += ["", fold(f"{place}. {in_words(leak)}", at, hang="   ")]
        if leak.holder in places:
            lines.append(fold(f"   {places[leak.holder]}", at, hang="   "))
        if leak.example.message:
            lines.append(fold(f"   {leak.example.message}", at, hang="   ", style="dim"))
    return "\n".join(lines) + "\n"


def in_words(leak: Leak) -> str:
    """What holds how much, in how many workers, and by which route."""
    name = leak.holder or {"native": "memory that Python does not manage"}.get(
        leak.verdict, "no single place"
    )
    kind = f" ({leak.type})" if leak.type else ""
    hour = f", {format_size(leak.per_hour)} an hour" if leak.per_hour is not None else ""
    route = f"; most by {leak.by}" if leak.by else ""
    verdict = {
        "leak": f"leak ({leak.verdict})",
        "maybe": f"maybe a leak ({leak.verdict})",
        "no leak": f"no leak ({leak.verdict})",
    }.get(leak.kind, "not known")
    if leak.kind == "unknown":
        return f"{verdict}: {name}; in {len(leak.found)} of {plural(leak.workers, 'worker')}{route}"
    many = f"in {len(leak.found)} of {plural(leak.workers, 'worker')}"
    if leak.since >= _GONE:
        many += f", in none of the last {leak.since}"
    return f"{verdict}: {name}{kind}, {format_size(leak.size)} a worker{hour}; {many}{route}"


def _as_values(
    instance: str,
    begin: float,
    found: Sequence[Examined],
    leaks: Sequence[Leak],
    places: Mapping[str, Place],
) -> dict[str, Any]:
    """All of it for a program. Times are seconds since 1970, sizes bytes."""
    return {
        "instance": instance,
        "since": begin,
        "examined": workers(found),
        "leaks": [
            {
                "kind": leak.kind,
                "verdict": leak.verdict,
                "holder": leak.holder or None,
                "type": leak.type or None,
                "place": _of_place(places.get(leak.holder)),
                "bytes": leak.size,
                "bytes_per_hour": leak.per_hour,
                "workers": len(leak.found),
                "of_workers": leak.workers,
                "route": leak.route[0] if leak.route else None,
                "route_share": leak.route[1] if leak.route else None,
                "first": leak.found[0].at,
                "last": leak.example.at,
                "example": {
                    "worker": leak.example.worker,
                    "pid": leak.example.pid,
                    "message": leak.example.message or None,
                },
            }
            for leak in leaks
        ],
    }


def _of_place(place: Place | None) -> dict[str, Any] | None:
    return None if place is None else {"file": place.path, "line": place.line, "adds": list(place.adds)}
