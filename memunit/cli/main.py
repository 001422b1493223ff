"""`memunit COMMAND ...`: find the command and hand over. Imports nothing before it knows which one.

Each command is a module with main(arguments) -> exit code. `memunit reload` runs at every `systemctl reload`,
and must not pay for what only a master needs.
"""

import errno
import gc
import importlib
import os
import sys
from collections.abc import Sequence

from memunit import __version__
from memunit.core.exitcodes import EX_OSERR, EX_SOFTWARE, EX_USAGE, INTERRUPTED, OK

_COMMANDS = {
    "run": ("memunit.cli.run", "serve in the foreground: --app MODULE:ATTR, or -- COMMAND"),
    "serve": ("memunit.cli.serve", "serve INSTANCE from /etc/memunit/INSTANCE.toml; its unit starts this"),
    "reload": ("memunit.cli.reload", "make a running INSTANCE read its file again, and wait for the result"),
    "reexec": ("memunit.cli.reexec", "make the master of a running INSTANCE execute the installed program"),
    "recycle": (
        "memunit.cli.recycle",
        "replace the workers of INSTANCE, one after the other, or only one",
    ),
    "scale": ("memunit.cli.scale", "change the number of workers of INSTANCE, until the next reload"),
    "set": ("memunit.cli.setting", "change settings of a running INSTANCE, until the next reload"),
    "stacks": ("memunit.cli.dump", "print the stack of each thread and task of the workers of INSTANCE"),
    "check": ("memunit.cli.check", "check the settings of INSTANCE, of a FILE, or of --all"),
    "examine": (
        "memunit.cli.examine",
        "replace the worker in SLOT of INSTANCE, and print what grew in it",
    ),
    "witness": (
        "memunit.cli.witness",
        "replace a worker of INSTANCE by one that records what it allocates",
    ),
    "status": ("memunit.cli.status", "show all instances, or the workers of INSTANCE"),
    "top": ("memunit.cli.top", "show the workers of INSTANCE live, with keys to sort, recycle and scale"),
    "why": ("memunit.cli.why", "say what is wrong with INSTANCE or one of its workers, and what to do"),
    "history": ("memunit.cli.history", "show recycles, memory and drain times of INSTANCE over time"),
    "leaks": ("memunit.cli.leaks", "name what grows in every worker of INSTANCE"),
    "metrics": ("memunit.cli.metrics", "print what INSTANCE does, as metrics of Prometheus"),
    "report": ("memunit.cli.webpage", "write the history of INSTANCE as one page for a browser"),
    "new": ("memunit.cli.new", "look at a folder, and write the file of a new INSTANCE"),
    "replay": (
        "memunit.cli.replay",
        "run policy again on the recorded facts of a master, from a flight FILE",
    ),
}
# What only units start.
_UNLISTED = {"sweep": "memunit.cli.sweep"}
_PACKAGES = {"psutil": "psutil", "sdnotify": "sdnotify"}
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
        "exit codes: 64 wrong command line, 65 not a flight file, 66 unreadable file, 69 no worker became ready,",
        "70 memunit has failed, 71 a port in use and the like, 77 may not bind, 78 wrong configuration.",
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
    module = _UNLISTED.get(name) or _COMMANDS.get(name, ("",))[0]
    if not module:
        sys.stderr.write(f"memunit: {_unknown(name)}; see memunit --help\n")
        return EX_USAGE
    try:
        code: int = _start(name, module, rest)
    except ModuleNotFoundError as error:
        if error.name not in _PACKAGES:
            return _at_fault(name, rest, error)
        package = _PACKAGES[error.name]
        sys.stderr.write(
            f"memunit: {sys.executable} does not have {error.name}, which memunit needs; "
            f"{sys.executable} -m pip install {package}, or apt install python3-{package}\n"
        )
        return EX_SOFTWARE
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            return _at_fault(name, rest, error)
        place = f"{error.filename}: " if error.filename else ""
        text = f"memunit: {place}{error.strerror}; raise LimitNOFILE= of the unit, or ulimit -n\n"
        sys.stderr.write(text)
        return EX_OSERR
    except KeyboardInterrupt:
        # Ctrl-C, before a command has its own way to end: where it was then is of no interest.
        return INTERRUPTED
    except Exception as error:
        # Until Python 3.12, what a signal's handler raises while a class is made comes as the cause of a RuntimeError.
        if isinstance(error.__cause__, KeyboardInterrupt):
            return INTERRUPTED
        if isinstance(error.__cause__, SystemExit):
            raise error.__cause__ from None
        return _at_fault(name, rest, error)
    return code


def _start(name: str, module: str, arguments: Sequence[str]) -> int:
    if name not in ("run", "serve"):
        return _briefly(module, arguments)
    from memunit.cli.early import Early  # noqa: PLC0415  only a master needs it

    early = Early(name, arguments)
    try:
        # To look through what is imported again and again for garbage is a tenth of the time.
        gc.disable()
        command = importlib.import_module(module)
        gc.freeze()
        gc.enable()
        return command.main(arguments, early)  # type: ignore[no-any-return]
    finally:
        early.drop()


def _briefly(module: str, arguments: Sequence[str]) -> int:
    """Run a command that lives for a moment: garbage is not looked for among the modules, nor once more at its end."""
    gc.disable()
    try:
        command = importlib.import_module(module)
        gc.freeze()
        gc.enable()
        return command.main(arguments)  # type: ignore[no-any-return]
    finally:
        gc.enable()
        gc.freeze()


def _at_fault(name: str, arguments: Sequence[str], error: Exception) -> int:
    """Tell of a defect of memunit itself: the traceback on stderr, and one entry."""
    import traceback  # noqa: PLC0415  only an error needs it

    from memunit.master.journal import Log  # noqa: PLC0415  the same

    traceback.print_exception(error)
    instance = arguments[-1] if name == "serve" and arguments else name
    text = f"memunit itself is at fault: {type(error).__name__}: {error}"
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
