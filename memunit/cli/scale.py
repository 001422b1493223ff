"""`memunit scale INSTANCE COUNT`: another number of workers, until the next reload.

Exit codes: 0 done, 64 wrong command line or a number that can't be had, 69 not running, or a master that does not
answer, 77 neither root nor the service's own user.
"""

from collections.abc import Sequence

from memunit.account.text import plural
from memunit.cli import linked
from memunit.cli.failing import instance_named
from memunit.cli.link import Link
from memunit.cli.terminal import as_json, emit
from memunit.cli.usage import Parser, fail

_PROGRAM = "memunit scale"
_DESCRIPTION = """\
Change the number of workers, until the next reload or restart: then it is workers.count of the file again. Workers that
are too many finish their requests. memunit refuses more workers than fit into memory at their limit."""
_EPILOG = """\
examples:
  memunit scale shop 8     eight workers
  memunit scale shop +2    two more than now
  memunit scale shop -1    one fewer"""


def parser() -> Parser:
    """What may be typed after its name."""
    # "-1" is a number here, and no option: argparse takes it so as long as no option looks like one.
    made = linked.asker("scale", _DESCRIPTION, _EPILOG)
    made.add_argument(
        "count", metavar="COUNT", help="the number of workers; +2 or -1: more or fewer than now"
    )
    return made


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code. Raises SystemExit for wrong arguments and for --help."""
    chosen = parser().parse_args(arguments)
    instance = instance_named(chosen.instance, _PROGRAM)
    text: str = chosen.count
    digits = text.removeprefix("+").removeprefix("-") if text[:1] in "+-" else text
    if not (digits.isascii() and digits.isdigit() and len(digits) < 6):
        fail(f'"{text[:40]}" is no number of workers; say 8, +2 or -1', _PROGRAM)

    def work(link: Link) -> int:
        before = link.call("Describe")["instance"]
        count = int(text) + (before["count"] if text[0] in "+-" else 0)
        after = link.call("Scale", {"count": max(0, count)})["count"]
        if chosen.json:
            return emit(
                as_json({"before": before["count"], "count": after, "file_count": before["fileCount"]})
            )
        until = "as the file says" if after == before["fileCount"] else "until the next reload"
        return emit(f"{instance}: {plural(after, 'worker')}, {before['count']} before; {until}\n")

    return linked.run(instance, work)
