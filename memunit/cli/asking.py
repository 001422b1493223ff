"""What `memunit reload` and `memunit reexec` do alike: one instance by name, whose master is asked for something."""

import sys
from collections.abc import Sequence

from memunit.core.exitcodes import EX_NOPERM, EX_UNAVAILABLE, EX_USAGE, OK
from memunit.core.names import bad_instance, instance_of, is_instance
from memunit.core.problems import Problem
from memunit.master.control import request


def named(arguments: Sequence[str], usage: str) -> str:
    """The instance. Raises SystemExit: 0 when help was asked for, 64 when the command line is wrong."""
    asked = list(arguments[:1]) in (["-h"], ["--help"])
    if arguments[:1] == ["--"]:
        arguments = arguments[1:]
    elif asked or (arguments[:1] and arguments[0].startswith("-")):
        arguments = ()
    if len(arguments) != 1:
        (sys.stdout if asked else sys.stderr).write(usage)
        raise SystemExit(OK if asked else EX_USAGE)
    instance = instance_of(arguments[0])
    if not is_instance(instance):
        sys.stderr.write(f"memunit: {Problem('', '', *bad_instance(instance))}\n")
        raise SystemExit(EX_USAGE)
    return instance


def ask(directory: str, word: str, seconds: float, *, failed: str, remedy: str) -> tuple[int, bool]:
    """Print the master's answer; returns the exit code, and whether there was an answer.

    Without one, the line begins with `failed`. The code is then 77, with the `remedy`, for someone who may not ask, or
    69 when no such instance runs.
    """
    try:
        code, text = request(f"{directory}/control", word, seconds)
    except PermissionError as error:
        who = f"{error.filename} is for root and the service's own user"
        sys.stderr.write(f"memunit: {failed}: {who}: {remedy}\n")
        return EX_NOPERM, False
    except OSError as error:
        sys.stderr.write(f"memunit: {failed}: {error.filename}: {error.strerror}\n")
        return EX_UNAVAILABLE, False
    (sys.stderr if code else sys.stdout).write(f"{text}\n")
    return code, True
