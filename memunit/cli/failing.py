"""What the commands for one instance have in common: its name, and the one line of what has failed."""

import sys

from memunit.account.text import clean
from memunit.core.names import bad_instance, instance_of, is_instance

_LONGEST = 4000


class Failed(Exception):
    """The command can't do what was asked: one line, and the exit code."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code

    def tell(self) -> int:
        """Say it; returns the exit code."""
        say(str(self))
        return self.code


def say(text: str) -> None:
    """One line on stderr."""
    sys.stderr.write(f"memunit: {clean(text, _LONGEST)}\n")
    sys.stderr.flush()


def instance_named(text: str, program: str) -> str:
    """The instance that a person means; also by the name of its unit. Raises SystemExit with 64."""
    name = instance_of(text)
    if not is_instance(name):
        from memunit.cli.usage import fail  # noqa: PLC0415  only an error needs it
        from memunit.core.problems import Problem  # noqa: PLC0415  the same

        fail(str(Problem("", "", *bad_instance(name))), program)
    return name
