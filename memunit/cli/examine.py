"""`memunit examine INSTANCE SLOT`: replace one worker, and have it say what has grown in it.

Exit codes: 0 when it has said it, 64 when no worker serves there or none can be examined, 69 when no such instance
runs or the worker has said nothing, 77 when the caller is neither root nor the service's own user.
"""

from collections.abc import Sequence

from memunit.cli.asking import ask
from memunit.cli.failing import instance_named
from memunit.cli.usage import Parser, fail
from memunit.core.schema import MOST_WORKERS
from memunit.master.filenames import directory_of

_PROGRAM = "memunit examine"
_DESCRIPTION = """\
Replace the worker in a slot, and print what has grown in it since its start: the object that holds the memory, the
module of the object, and whether it is a leak. No request is lost."""
_EPILOG = """\
examples:
  memunit examine shop 0    replace the worker of slot 0, and print what grew in it

exit codes: 0 printed what grew, 64 wrong command line, or no worker serves there or can be examined,
69 not running, or the worker has reported nothing, 77 only root and the user of the service may call"""
# A replacement has to come up, and the requests of the worker have to end.
_TIMEOUT = 900.0


def parser() -> Parser:
    """What may be typed after its name."""
    made = Parser(_PROGRAM, _DESCRIPTION, epilog=_EPILOG)
    made.add_argument("instance", metavar="INSTANCE", help="a running instance")
    made.add_argument("slot", metavar="SLOT", help="the slot of the worker, as memunit status shows it")
    return made


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code. Raises SystemExit for wrong arguments and for --help."""
    words = parser().parse_args(arguments)
    instance = instance_named(words.instance, _PROGRAM)
    slot = words.slot
    if not (slot.isascii() and slot.isdigit() and len(slot) < 10 and int(slot) < MOST_WORKERS):
        fail(f'"{slot[:40]}" is no slot; say 0', _PROGRAM)
    code, _ = ask(
        directory_of(instance),
        f"examine {int(slot)}",
        _TIMEOUT,
        failed=f"the master of {instance} can't be asked",
        remedy=f"sudo memunit examine {instance} {slot}",
    )
    return code
