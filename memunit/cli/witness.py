"""`memunit witness INSTANCE [SLOT]`: have the next worker of one slot record its own allocations, for one life.

Exit codes: 0 when that worker is started, 64 when no worker serves there or none can be a witness, 69 when no such
instance runs, 77 when the caller is neither root nor the service's own user.
"""

from collections.abc import Sequence

from memunit.cli.asking import ask
from memunit.cli.failing import instance_named
from memunit.cli.usage import Parser, fail
from memunit.core.schema import MOST_WORKERS
from memunit.master.filenames import directory_of

_PROGRAM = "memunit witness"
_DESCRIPTION = """\
Replace the worker in a slot by a witness, whose allocations are recorded until it ends: V8 samples those of a Node
program; memray traces those of a Python app, if the app's environment has memray. Then a profile of the memory that is
still in use is written. A journal entry names the file. No other worker is a witness."""
_EPILOG = """\
examples:
  memunit witness shop      a witness in the lowest slot
  memunit witness shop 2    a witness in slot 2
  memunit examine shop 2    end its life, and print what grew in it, and where the profile is

exit codes: 0 the witness is started, 64 wrong command line, or no worker serves there or can be a witness,
69 not running, 77 only root and the user of the service may call"""
_TIMEOUT = 60.0


def parser() -> Parser:
    """What may be typed after its name."""
    made = Parser(_PROGRAM, _DESCRIPTION, epilog=_EPILOG)
    made.add_argument("instance", metavar="INSTANCE", help="a running instance")
    made.add_argument("slot", metavar="SLOT", nargs="?", help="the slot; by default the lowest that serves")
    return made


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code. Raises SystemExit for wrong arguments and for --help."""
    words = parser().parse_args(arguments)
    instance = instance_named(words.instance, _PROGRAM)
    slot = words.slot or ""
    if slot and not (slot.isascii() and slot.isdigit() and len(slot) < 10 and int(slot) < MOST_WORKERS):
        fail(f'"{slot[:40]}" is no slot; say 0', _PROGRAM)
    code, _ = ask(
        directory_of(instance),
        f"witness {int(slot)}" if slot else "witness",
        _TIMEOUT,
        failed=f"the master of {instance} can't be asked",
        remedy=f"sudo memunit witness {instance} {slot}".rstrip(),
    )
    return code
