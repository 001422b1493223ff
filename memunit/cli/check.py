"""`memunit check [--import] INSTANCE|FILE|--all`: read the file, look at what it names, and do the sum of the memory.

Exit code 0 if it can be used, perhaps with warnings, 78 (EX_CONFIG) if not, 64 if the command line is wrong.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

from memunit.account.text import plural
from memunit.cli.checking import Result, looked_at
from memunit.cli.files import configured, instance_path
from memunit.cli.report import print_problems, print_warnings
from memunit.cli.terminal import as_json
from memunit.cli.usage import Parser, fail
from memunit.core.exitcodes import EX_CONFIG, EX_IOERR, OK
from memunit.core.problems import Problem

_PROGRAM = "memunit check"
_DESCRIPTION = """\
Check the settings of an instance, /etc/memunit/INSTANCE.toml, or of a FILE (a name with a slash or ending in
.toml): the keys, the paths that they name, and whether the workers fit into memory. If root runs the command, it checks
the paths as the user of the unit. The app's interpreter finds and parses the modules. Without --import the command
executes no code of the app."""
_EPILOG = """\
examples:
  memunit check shop          the file of one instance, and its unit
  memunit check ./shop.toml   a file that is not in its place yet
  memunit check --all         every instance: its problems, and one line

exit codes: 0 good, perhaps with warnings, 64 wrong command line, 74 can't print, 78 the file has an error"""


def parser() -> Parser:
    """What may be typed after its name."""
    made = Parser(_PROGRAM, _DESCRIPTION, epilog=_EPILOG)
    made.add_argument("what", metavar="INSTANCE|FILE", nargs="?", help="which settings to check")
    made.add_argument(
        "--all",
        action="store_true",
        dest="every",
        help="check every instance that has a file in /etc/memunit",
    )
    made.add_argument(
        "--import",
        dest="imports",
        action="store_true",
        help="also import the app, in a process of its own, and show what prevents preload",
    )
    made.add_argument("--json", action="store_true", help="print JSON, for a program")
    return made


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code. Raises SystemExit for wrong arguments and for --help."""
    chosen = parser().parse_args(arguments)
    if chosen.every == (chosen.what is not None):
        fail("name an instance or a file, or say --all" if not chosen.every else "--all names all", _PROGRAM)
    if chosen.every:
        return _check_all(chosen.imports, chosen.json)
    result = looked_at(chosen.what, imports=chosen.imports)
    code = EX_CONFIG if result.problems else OK
    if chosen.json:
        return _print(as_json(_values(result)), code)
    print_problems(result.problems)
    print_warnings(result.warnings)
    if result.problems:
        return code
    return _print("".join(f"{line}\n" for line in result.summary))


def _check_all(imports: bool, as_values: bool) -> int:
    """Each in turn: a broken file keeps no other from being looked at."""
    results = [looked_at(name, imports=imports) for name in configured()]
    code = EX_CONFIG if any(result.problems for result in results) else OK
    if as_values:
        return _print(as_json([_values(result) for result in results]), code)
    if not results:
        return _print(f"There is no file of an instance in {instance_path('x').parent}.\n")
    for result in results:
        print_problems(result.problems)
        print_warnings(result.warnings)
    lines = []
    for result in results:
        some = [(len(result.problems), "problem"), (len(result.warnings), "warning")]
        told = ", ".join(plural(count, noun) for count, noun in some if count)
        lines.append(f"{result.file}: {told or 'good'}\n")
    return _print("".join(lines), code)


def _values(result: Result) -> dict[str, Any]:
    return {
        "instance": result.instance,
        "file": result.file,
        "good": not result.problems,
        "problems": [_problem(each) for each in result.problems],
        "warnings": [_problem(each) for each in result.warnings],
        "in_effect": list(result.summary),
    }


def _problem(problem: Problem) -> dict[str, str]:
    return {
        "source": problem.source,
        "key": problem.key,
        "message": problem.message,
        "remedy": problem.remedy,
    }


def _print(text: str, code: int = OK) -> int:
    what = "the settings are good, but" if code == OK else "what is wrong"
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # Or the interpreter tries again at its end, and complains at length.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.stderr.write(f"memunit: {what} can't be printed: {error.strerror}\n")
        return EX_IOERR
    return code
