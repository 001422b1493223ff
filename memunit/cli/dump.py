"""`memunit stacks INSTANCE [SLOT|PID]`: where each thread and each asyncio task of Python workers is.

Exit codes: 0 done, 64 wrong command line, no such worker or none of Python, 69 not running, or a master that does not
answer, 77 neither root nor the service's own user.
"""

from collections.abc import Sequence

from memunit.account.text import lines
from memunit.cli import linked
from memunit.cli.failing import instance_named
from memunit.cli.link import Link
from memunit.cli.recycle import meant
from memunit.cli.terminal import as_json, emit, terminal
from memunit.cli.usage import Parser

_PROGRAM = "memunit stacks"
_DESCRIPTION = """\
Print the stack of each thread and asyncio task of Python workers (asgi, wsgi, callable). The workers go on with their
work. If the main thread of a worker hangs, its threads follow after five seconds."""
_EPILOG = """\
examples:
  memunit stacks shop        all workers that serve
  memunit stacks shop 0      the worker of slot 0
  memunit stacks shop 4711   the worker with this pid"""
# Longer than a master waits for its workers (master/dumps.py).
_PATIENCE = 15.0


def parser() -> Parser:
    """What may be typed after its name."""
    made = linked.asker("stacks", _DESCRIPTION, _EPILOG)
    made.add_argument("worker", metavar="SLOT|PID", nargs="?", help="a worker: its slot, or its pid")
    return made


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code. Raises SystemExit for wrong arguments and for --help."""
    chosen = parser().parse_args(arguments)
    instance = instance_named(chosen.instance, _PROGRAM)
    wanted = meant(chosen.worker, _PROGRAM)
    at = terminal()

    def work(link: Link) -> int:
        found = link.call("Stacks", wanted, timeout=_PATIENCE)["stacks"]
        if chosen.json:
            return emit(as_json(found))
        text = ""
        for each in found:
            text += at.paint(f"worker {linked.name_of(each)} (pid {each['pid']})", "bold") + "\n"
            if not each["complete"]:
                text += at.paint("  its main thread did not answer; the other threads:", "warn") + "\n"
            text += "".join(f"  {line}\n" if line else "\n" for line in lines(each["text"].strip("\n")))
            text += "\n"
        return emit(text)

    return linked.run(instance, work)
