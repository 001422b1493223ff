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
HELP = """\
usage: memunit reexec INSTANCE

Make the master of a running INSTANCE execute the installed program in its own process. All workers go on.

examples:
  memunit reexec shop    after an upgrade by hand; an upgrade of the package runs this command

exit codes: 0 done, 64 wrong command line or a master of a version that can't, 69 not running,
71 a system call failed, 77 only root and the user of the service may call

manual: memunit-reexec(1)
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code. Raises SystemExit as named() does."""
    instance = named(arguments, HELP)
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
