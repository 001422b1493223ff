"""The flags of `memunit run`, made from the table of keys, and read by the same parser as the file."""

import argparse
import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from memunit.cli.usage import Parser, fail
from memunit.core.problems import Problem
from memunit.core.schema import KEYS, Key, Kind
from memunit.core.settings import COMMAND_LINE, Parsed, examine, label
from memunit.records import dataclass, replace

_PROGRAM = "memunit run"
_USAGE = (
    "memunit run [--listen ADDR]... [--workers N] [--limit SIZE] [OPTION]... "
    "(--app MODULE:ATTR | --config FILE | -- COMMAND)"
)
_DESCRIPTION = """\
Serve in the foreground with workers that are replaced at their memory limit. The command uses inherited sockets
(LISTEN_FDS); without them it listens on each ADDR."""
_EPILOG = """\
A SIZE is for example 400M or 1.5G, a TIME 30s or "1min 30s"; both may be infinity. Each option is a key of the same
name in /etc/memunit/INSTANCE.toml, see memunit.toml(5). The keys of [service] are for systemd, and are not options.

examples:
  memunit run --limit 400M --app shop.web:app                  a worker for each CPU, on inherited sockets
  memunit run --listen 127.0.0.1:8000 --limit 400M -- ./node server.js
  memunit run --config ./shop.toml --workers 2                 a file, with one key changed

exit codes: 0 stopped as requested, 64 wrong command line, 69 no worker became ready, 70 memunit has failed,
71 a port in use and the like, 77 may not listen on an address, 78 the configuration can't be used"""
# Those whose option is given more than once.
_REPEATED = (Kind.ADDRESSES, Kind.MAPPING, Kind.WORDS)
# Names that somebody may expect, beside the one that is in the help.
_ALIASES = {"workers.count": ("--count",), "app.run": ("--run",)}


@dataclass(frozen=True, slots=True)
class Flags:
    """What was typed: a document in the shape of an instance's file, what is wrong with it, and --config."""

    document: dict[str, dict[str, Any]]
    problems: tuple[Problem, ...]
    config: str | None


def parser() -> Parser:
    """What may be typed after `memunit run`."""
    return _parser()


def parse_flags(arguments: Sequence[str]) -> Parsed:
    """Settings from the words after `memunit run`, if no file is named there.

    Each of `problems` names its flag. Raises SystemExit with 64 for options that do not exist, and with 0 after
    --help.
    """
    return examine_flags(read_flags(arguments))


def read_flags(arguments: Sequence[str]) -> Flags:
    """The words after `memunit run`. Raises SystemExit as parse_flags() does."""
    options, command = _split(arguments)
    chosen, rest = _parser().parse_known_args(options)
    if rest:
        _refuse(rest)
    problems: list[Problem] = []
    document: dict[str, dict[str, Any]] = {}
    for key in KEYS:
        if key.of_unit:
            continue
        value = command if key.option == "--" else getattr(chosen, key.path)
        if value is None:
            continue
        if key.kind is Kind.MAPPING:
            value = _variables(key, value, problems)
        document.setdefault(key.table, {})[key.name] = _typed(key, value)
    return Flags(document, tuple(problems), chosen.config)


def examine_flags(flags: Flags) -> Parsed:
    """Settings from flags alone."""
    return _joined(examine(flags.document, COMMAND_LINE), flags)


def examine_both(flags: Flags, file: Mapping[str, Any], source: str) -> Parsed:
    """Settings from a file's tables, in which each key that was typed has the typed value."""
    both: dict[str, Any] = dict(file)
    for table, keys in flags.document.items():
        below = both.get(table, {})
        both[table] = {**below, **keys} if isinstance(below, Mapping) else below
    typed, app = flags.document.get("app", {}), both.get("app")
    if isinstance(app, dict):
        # One worker is asked for on the command line, in the place of the file's.
        for name, other in (("run", "command"), ("command", "run")):
            if name in typed and other not in typed:
                app.pop(other, None)
    return _joined(examine(both, source, in_unit=False), flags)


def typed_label(flags: Flags, path: str) -> str | None:
    """The option, if it is by this that the key was said: an error then names it, and not the file."""
    table, _, name = path.partition(".")
    return label(COMMAND_LINE, path) if name in flags.document.get(table, {}) else None


def _joined(parsed: Parsed, flags: Flags) -> Parsed:
    if not flags.problems:
        return parsed
    doubtful = parsed.doubtful | {"app.environment"}
    return replace(parsed, problems=(*flags.problems, *parsed.problems), doubtful=doubtful)


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """What stands before the first bare "--", and the command after it."""
    words = list(arguments)
    if "--" not in words:
        return words, None
    at = words.index("--")
    return words[:at], words[at + 1 :]


def _parser() -> Parser:
    parser = Parser(_PROGRAM, _DESCRIPTION, _USAGE, _EPILOG)
    parser.add_argument(
        "--config", metavar="FILE", help="read FILE, or the file of an instance; options override it"
    )
    groups: dict[str, argparse._ArgumentGroup] = {}
    for key in KEYS:
        if key.of_unit or key.option == "--":
            continue
        if key.table not in groups:
            groups[key.table] = parser.add_argument_group(key.table)
        names = (key.option, *_ALIASES.get(key.path, ()))
        text = (key.help + _default(key)).replace("%", "%%")
        if key.kind in (Kind.SWITCH, Kind.BOOLEAN):
            how: dict[str, Any] = (
                {"nargs": "?", "const": "true", "metavar": key.metavar}
                if key.kind is Kind.SWITCH
                else {"action": "store_const", "const": "true"}
            )
            groups[key.table].add_argument(*names, dest=key.path, default=None, help=text, **how)
            no = f"--no-{key.name.replace('_', '-')}"
            groups[key.table].add_argument(
                no, dest=key.path, action="store_const", const="false", help=f"{key.option} false"
            )
        else:
            groups[key.table].add_argument(
                *names,
                dest=key.path,
                default=None,
                metavar=key.metavar,
                action="append" if key.kind in _REPEATED else "store",
                help=text,
            )
    return parser


def _default(key: Key) -> str:
    if key.kind is Kind.WORDS:
        return "; a word each time"
    if key.kind in _REPEATED:
        return "; may be repeated"
    return f" [{key.default}]" if isinstance(key.default, str | int) and key.default is not False else ""


def _refuse(rest: Sequence[str]) -> None:
    import difflib  # noqa: PLC0415  only an error needs it

    first = rest[0]
    if first.endswith(".toml"):
        fail(f"a file of settings comes after --config, as in --config {shlex.quote(first)}", _PROGRAM)
    if not first.startswith("-"):
        fail(f"a command comes after --, as in -- {shlex.join(rest)}", _PROGRAM)
    name = first.partition("=")[0]
    known = ["--config", *(key.option for key in KEYS if key.option.startswith("--") and key.option != "--")]
    guess = difflib.get_close_matches(name, known, n=1)
    fail(f"unknown option {name}" + (f", did you mean {guess[0]}?" if guess else ""), _PROGRAM)


def _typed(key: Key, value: Any) -> Any:
    """A flag's text as the type that TOML would have given."""
    if not isinstance(value, str):
        return [_place(text) for text in value] if key.kind is Kind.ADDRESSES else value
    if key.kind in (Kind.COUNT, Kind.INTEGER) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    if key.kind in (Kind.SWITCH, Kind.BOOLEAN):
        return {"true": True, "false": False}.get(value, value)
    if key.kind is Kind.PATH:
        return _path(key, value)
    return value


def _path(key: Key, value: str) -> str:
    """As a shell would find it. Links stay: a virtualenv's interpreter is one."""
    if key.name in ("python", "node") and "/" not in value:
        import shutil  # noqa: PLC0415  most paths are whole

        return shutil.which(value) or value
    return _absolute(value) if value else value


def _place(text: str) -> str:
    plain = text.removeprefix("unix:")
    return _absolute(plain) if plain.startswith(("./", "../")) else text


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(path)  # noqa: PTH100  pathlib would keep "..", or resolve links
    except FileNotFoundError:
        return path  # The working directory has been removed: what is wrong with the path is said later.


def _variables(key: Key, texts: Sequence[str], problems: list[Problem]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if equals:
            found[name] = value
        else:
            problems.append(Problem(COMMAND_LINE, key.option, f'"{text}" has no value', f"say {text}=VALUE"))
    return found
