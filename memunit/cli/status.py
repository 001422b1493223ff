"""`memunit status [INSTANCE...]`: how all instances are, or these: by the master, or by systemd, kernel and journal.

Exit codes: 0 what was asked for is shown; 64 wrong command line; 69 no such instance, none of the ones named runs, or a
master that does not answer; 77 the journal may not be read (what else is known is shown).
"""

from __future__ import annotations

from memunit.account.text import clean
from memunit.cli import linked, live
from memunit.cli.failing import Failed, instance_named
from memunit.cli.tables import fold, render
from memunit.cli.terminal import emit, terminal
from memunit.core.varlink import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from memunit.cli.terminal import Terminal
    from memunit.cli.usage import Parser

_PROGRAM = "memunit status"
_DESCRIPTION = """\
Show all instances in a table, or the workers of the named instances. The command asks the master of a named instance.
If the master does not answer, and for the table, it reads systemd, the kernel and the journal."""
_EPILOG = """\
examples:
  memunit status              all instances, and the trouble of each in words
  memunit status shop         the workers of one instance, with memory against the limit
  memunit status --json       the same for a program

exit codes: 0 answered, 64 wrong command line, 69 not running, no such instance or no journal,
77 may not read the journal (the rest is shown)"""
_ENDS = 5


def parser() -> Parser:
    """What may be typed after its name."""
    from memunit.cli.usage import Parser  # noqa: PLC0415  names of instances need none

    made = Parser(_PROGRAM, _DESCRIPTION, epilog=_EPILOG)
    made.add_argument("--json", action="store_true", help="print JSON, for a program")
    made.add_argument(
        "--journal",
        metavar="PATH",
        help="read the journal from this folder or file, and not from this machine",
    )
    made.add_argument("instances", metavar="INSTANCE", nargs="*", help="the instance; by default all")
    return made


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code. Raises SystemExit for wrong arguments and for --help."""
    if any(each.startswith("-") for each in arguments):
        chosen = parser().parse_args(arguments)
        names, as_data, journal = chosen.instances, chosen.json, chosen.journal
    else:
        # To load argparse takes longer than all of the rest.
        names, as_data, journal = arguments, False, None
    asked = [instance_named(each, _PROGRAM) for each in names]
    if asked and not (as_data or journal):
        told = _asked_all(asked)
        if told is not None:
            # All that is shown is known without the journal, whose reading takes its time.
            at = terminal()
            return emit("\n".join(_live(each, at) for each in told))
    from memunit.cli.recorded import show  # noqa: PLC0415  takes longer to load than all of the above to run

    return show(asked, journal, as_data=as_data)


def _asked_all(instances: Sequence[str]) -> list[dict[str, Any]] | None:
    """What their masters tell; None as soon as one does not: then all are shown as they are recorded."""
    told = []
    for each in instances:
        one = _asked(each)
        if one is None:
            return None
        told.append(one)
    return told


def _asked(instance: str) -> dict[str, Any] | None:
    """What the master of this instance tells; None where nobody answers, or it is not ours to ask."""
    try:
        with linked.connected(instance) as link:
            return link.call("Follow")
    except (OSError, Failed, Refused):
        return None


def _live(told: dict[str, Any], at: Terminal) -> str:
    instance = told["instance"]
    said, style = live.headline(instance)
    text = fold(f"{instance['name']}: {said}", at, hang="  ", style=style) + "\n"
    text += fold(f"  {clean(instance['status'], 400)}", at) + "\n"
    columns, rows = live.rows(told, at)
    if rows:
        text += "\n" + render(columns, rows, at, plain=True)
    more = [fold(live.ended(instance), at, hang="  ")]
    more += [fold(f"  {each}", at, hang="  ") for each in live.last_ends(told, _ENDS)]
    if instance["trouble"]:
        more.append(fold(f"memunit why {instance['name']} says what to do", at))
    return text + "\n" + "".join(f"{line}\n" for line in more)
