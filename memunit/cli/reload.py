"""`memunit reload INSTANCE`: ask a running instance to read its file again, and wait until that is done.

Started by systemd, it brings the variables of the environment files along, which systemd has read for it.

Exit codes: 0 when every worker is a new one, 78 when the old configuration goes on serving, 69 when no such
instance runs, 77 when the caller is neither root nor the service's own user. `systemctl reload` starts this, and so has
the same result.
"""

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from memunit.cli.asking import ask, named
from memunit.cli.environ import leave
from memunit.cli.variables import not_read
from memunit.master.filenames import directory_of, given_directory

# systemd bounds a reload itself; this only keeps a forgotten terminal from waiting for ever.
_TIMEOUT = 24 * 3600.0
HELP = """\
usage: memunit reload INSTANCE

Make a running INSTANCE read its file again and replace its workers one by one, and wait for the result.

examples:
  memunit reload shop               the file
  systemctl reload memunit@shop     the file and the environment files, which only systemd may read

exit codes: 0 done, 64 wrong command line, 69 not running or the master does not answer,
77 only root and the user of the service may call, 78 the old configuration goes on serving

manual: memunit-reload(1)
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code. Raises SystemExit as named() does."""
    instance = named(arguments, HELP)
    signal.signal(signal.SIGTERM, _stopped)
    directory = directory_of(instance)
    # Only systemd's ExecReload= has the variable, and there it is this instance's.
    by_systemd = given_directory() and "INVOCATION_ID" in os.environ and "MAINPID" in os.environ
    unread = _leave_environment(directory) if by_systemd else not_read(instance, directory)
    code, answered = ask(
        directory,
        "reload",
        _TIMEOUT,
        failed=f"{instance} can't be reloaded",
        remedy=f"sudo systemctl reload memunit@{instance}",
    )
    if by_systemd and not answered:
        _end_reloading()
    if answered and unread:
        sys.stderr.write(f"memunit: {instance}: {unread}\n")
    return code


def _leave_environment(directory: str) -> str:
    """systemd has just read the environment files for us; returns why they are not in effect, if they are not."""
    try:
        leave(directory)
    except OSError as error:
        # A failed write(2) has no file name.
        return f"the environment files are not read again: {error.filename or directory}: {error.strerror}"
    return ""


def _end_reloading() -> None:
    """Tell systemd that nobody reloads, where the master has ended in the midst of it.

    systemd 257 was seen to wait for the READY=1 of the dead master before it started a successor: as long as the reload
    might have taken, which is minutes.
    """
    from memunit.master.notify import Systemd  # noqa: PLC0415  no other reload needs it

    Systemd().send("READY=1")


def _stopped(_number: int, _frame: object) -> NoReturn:
    """systemd stops the unit, and with it a reload under way: any other end would make that stop a failure."""
    sys.stderr.write("The service is being stopped, and memunit does not wait for the reload\n")
    sys.stderr.flush()
    os._exit(0)
