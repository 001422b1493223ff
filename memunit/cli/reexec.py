"""`memunit reexec INSTANCE`: have the master of a running instance execute itself anew, with every worker kept.

Exit codes: 0 when it has, 69 when no such instance runs, 64 when its master is of a version that can't, 71 when the
system has refused, 77 when the caller is neither root nor the service's own user.
"""

import importlib
from collections.abc import Sequence

from memunit.cli.asking import ask, named
from memunit.master.filenames import directory_of

# It is a matter of a moment; a master that hangs is its watchdog's.
_TIMEOUT = 60.0
_HELP = (
    "usage: memunit reexec INSTANCE\n\n"
    "Have the master of a running INSTANCE execute the program that is installed now; its workers go on.\n"
)


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code. Raises SystemExit as named() does."""
    instance = named(arguments, _HELP)
    # What can't even be imported is found here, and not in the master's place.
    importlib.import_module("memunit.cli.serve")
    code, _ = ask(
        directory_of(instance),
        "reexec",
        _TIMEOUT,
        failed=f"the master of {instance} can't be asked",
        remedy=f"sudo memunit reexec {instance}",
    )
    return code
