"""An argument parser whose errors are one line, with exit code 64 (EX_USAGE) and not argparse's 2.

2 is what a shell, or a program that failed, ends with; 64 says that the command line of memunit is at fault.
"""

import argparse
import sys
from typing import NoReturn

from memunit.core.exitcodes import EX_USAGE


class Parser(argparse.ArgumentParser):
    """Options in full only: an abbreviation would change its meaning with the next option that is added."""

    def __init__(
        self, prog: str, description: str, usage: str | None = None, epilog: str | None = None
    ) -> None:
        super().__init__(
            prog=prog,
            usage=usage,
            description=description,
            epilog=f"{epilog}\n\n{manual(prog)}" if epilog else manual(prog),
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and where the help is; exit with 64."""
        fail(message, self.prog)


def manual(program: str) -> str:
    """The last line of the help: where "memunit status" is described in full."""
    return f"manual: {program.replace(' ', '-')}(1)"


def fail(message: str, program: str = "memunit") -> NoReturn:
    """End with one line about the command line, and exit code 64."""
    sys.stderr.write(f"{program}: {message}; see {program} --help\n")
    raise SystemExit(EX_USAGE)
