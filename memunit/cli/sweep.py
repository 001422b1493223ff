"""`memunit sweep INSTANCE`: end what a dead master has left, when its service is being stopped. For its units, as root.

Exit codes: 0, also if there was nothing to do; 69 if something is there that could not be ended.
"""

import sys
from collections.abc import Sequence

from memunit.core.exitcodes import EX_UNAVAILABLE, EX_USAGE, OK
from memunit.core.names import bad_instance, instance_of, is_instance
from memunit.master.sweeping import after_master, before_stop

_HELP = "usage: memunit sweep [--stopped] INSTANCE\n\nEnd what a dead master has left. For the units of INSTANCE.\n"


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    words = list(arguments)
    if words[:1] in (["-h"], ["--help"]):
        sys.stdout.write(_HELP)
        return OK
    stopped = words[:1] == ["--stopped"]
    words = words[1:] if stopped else words
    words = words[1:] if words[:1] == ["--"] else words
    if len(words) != 1:
        sys.stderr.write(_HELP)
        return EX_USAGE
    instance = instance_of(words[0])
    if not is_instance(instance):
        from memunit.core.problems import Problem  # noqa: PLC0415  a successor waits for the end of this command

        sys.stderr.write(f"memunit: {Problem('', '', *bad_instance(instance))}\n")
        return EX_USAGE
    left = before_stop(instance) if stopped else after_master(instance)
    return EX_UNAVAILABLE if left else OK
