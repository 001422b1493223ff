"""`memunit COMMAND ...`: find the command and hand over. Imports nothing before it knows which one.

Each command is a module with main(arguments) -> exit code. `memunit reload` runs at every `systemctl reload`,
and must not pay for what only a master needs.
"""

import importlib
import os
import sys
from collections.abc import Sequence

from memunit import __version__
from memunit.core.exitcodes import EX_SOFTWARE, EX_USAGE, OK

_COMMANDS = {
    "run": ("memunit.cli.run", "serve in the foreground: --app MODULE:ATTR, or -- COMMAND"),
    "serve": ("memunit.cli.serve", "serve INSTANCE from /etc/memunit/INSTANCE.toml, as its unit does"),
    "reload": ("memunit.cli.reload", "let a running INSTANCE read its file again, and wait for the result"),
    "check": ("memunit.cli.check", "check the settings of INSTANCE, or of a FILE"),
}
_HELP = "\n".join(
    [
        "usage: memunit COMMAND [ARGUMENT]...",
        "",
        "Memory-bounded workers for a socket-activated service, replaced without losing a request.",
        "",
        "commands:",
        *(f"  {name:9}{text}" for name, (_, text) in _COMMANDS.items()),
        "",
        "  memunit COMMAND --help says more; memunit --version prints the version.",
        "",
        "exit codes: 64 wrong command line, 69 nothing became ready, 70 memunit is at fault,",
        "71 a port in use and the like, 77 may not bind, 78 wrong configuration.",
        "",
    ]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; `arguments` are those of this process unless given. Returns the exit code.

    Without a command, or with an unknown one, that is 64 (EX_USAGE). May raise SystemExit with such a code.
    """
    _standard_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words:
        sys.stderr.write(_HELP)
        return EX_USAGE
    name, *rest = words
    if name in ("-h", "--help", "help"):
        sys.stdout.write(_HELP)
        return OK
    if name in ("-V", "--version"):
        sys.stdout.write(f"memunit {__version__}\n")
        return OK
    if name not in _COMMANDS:
        sys.stderr.write(f"memunit: {_unknown(name)}; see memunit --help\n")
        return EX_USAGE
    try:
        code: int = importlib.import_module(_COMMANDS[name][0]).main(rest)
    except Exception as error:
        return _at_fault(name, rest, error)
    return code


def _at_fault(name: str, arguments: Sequence[str], error: Exception) -> int:
    """Tell of a defect of memunit itself: the traceback on stderr, and one entry."""
    import traceback  # noqa: PLC0415  only an error needs it

    from memunit.master.journal import Log  # noqa: PLC0415  the same

    traceback.print_exception(error)
    instance = arguments[-1] if name == "serve" and arguments else name
    consequence = "; its workers were killed, clients wait in the socket" if name in ("serve", "run") else ""
    text = f"memunit itself is at fault: {type(error).__name__}: {error}{consequence}"
    Log(instance).send(f"{text}. The traceback stands above", None, 3)
    return EX_SOFTWARE


def _standard_streams() -> None:
    """Have something in the place of a standard stream that is closed (2>&-), before a socket of ours gets its number.

    What is written to stderr would else go to whoever connects.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if number and getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115  for as long as we live


def _unknown(name: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  only an error needs it

    what = "option" if name.startswith("-") else "command"
    guess = get_close_matches(name, _COMMANDS, n=1)
    return f"unknown {what} {name!r}" + (f", did you mean {guess[0]!r}?" if guess else "")


if __name__ == "__main__":
    sys.exit(main())
