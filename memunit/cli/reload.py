"""`memunit reload INSTANCE`: ask a running instance to read its file again, and wait until that is done.

Exit codes: 0 when every worker is a new one, 78 when the old configuration goes on serving, 69 when no such
instance runs, 77 when the caller is neither root nor the service's own user. `systemctl reload` starts this, and so has
the same result.
"""

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from memunit.core.exitcodes import EX_NOPERM, EX_UNAVAILABLE
from memunit.core.names import is_instance
from memunit.master.control import request

# systemd bounds a reload itself; this only keeps a forgotten terminal from waiting for ever.
_TIMEOUT = 24 * 3600.0
_HELP = (
    "usage: memunit reload INSTANCE\n\nLet a running INSTANCE read its file again, and wait for the result.\n"
)


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    asked = list(arguments[:1]) in (["-h"], ["--help"])
    if arguments[:1] == ["--"]:
        arguments = arguments[1:]
    elif asked or (arguments[:1] and arguments[0].startswith("-")):
        arguments = ()
    if len(arguments) != 1:
        (sys.stdout if asked else sys.stderr).write(_HELP)
        return 0 if asked else 64
    instance = arguments[0]
    if not is_instance(instance):
        sys.stderr.write(f"memunit: {instance!r} can't be the name of an instance\n")
        return 64
    signal.signal(signal.SIGTERM, _stopped)
    # Only systemd's ExecReload= has the variable, and there it is this instance's.
    directory = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0] or f"/run/memunit/{instance}"
    try:
        code, text = request(f"{directory}/control", "reload", _TIMEOUT)
    except PermissionError as error:
        text = f"{error.filename} is for root and the service's own user: sudo systemctl reload memunit@{instance}"
        sys.stderr.write(f"memunit: {instance} can't be reloaded: {text}\n")
        return EX_NOPERM
    except OSError as error:
        sys.stderr.write(f"memunit: {instance} can't be reloaded: {error.filename}: {error.strerror}\n")
        return EX_UNAVAILABLE
    (sys.stderr if code else sys.stdout).write(f"{text}\n")
    return code


def _stopped(_number: int, _frame: object) -> NoReturn:
    """systemd stops the unit, and with it a reload under way: any other end would make that stop a failure."""
    sys.stderr.write("The service is being stopped, and its reload is not waited for\n")
    sys.stderr.flush()
    os._exit(0)
