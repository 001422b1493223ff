"""How problems and warnings are printed: one line each, on stderr, the same for every command."""

import sys
from collections.abc import Iterable

from memunit.core.problems import Problem


def print_problems(problems: Iterable[Problem]) -> None:
    """Print what keeps a command from going on."""
    _print("memunit: ", problems)


def print_warnings(warnings: Iterable[Problem]) -> None:
    """Print what a person should know, although it goes on."""
    _print("memunit: warning: ", warnings)


def _print(prefix: str, lines: Iterable[Problem]) -> None:
    for line in lines:
        sys.stderr.write(f"{prefix}{line}\n")
    sys.stderr.flush()
