"""The flags of `memunit run`, made from the table of keys, and read by the same parser as the file."""

import argparse
import os
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from memunit.cli.usage import Parser, fail
from memunit.core.problems import Problem
from memunit.core.schema import KEYS, Key, Kind
from memunit.core.settings import COMMAND_LINE, Parsed, examine

_PROGRAM = "memunit run"
_USAGE = (
    "memunit run [--listen ADDR]... [--workers N] [--limit SIZE] [OPTION]... (--app MODULE:ATTR | -- COMMAND)"
)
_DESCRIPTION = """\
Serve in the foreground with workers that are replaced at their memory limit. Takes the sockets that it
inherits (LISTEN_FDS), else listens on each ADDR."""
_EPILOG = """\
SIZE is as in 400M or 1.5G, TIME as in 30s or "1min 30s"; both may be infinity. Each option is a key of the
same name in /etc/memunit/INSTANCE.toml, see memunit.toml(5)."""
# Names that somebody may expect, beside the one that is in the help.
_ALIASES = {"workers.count": ("--count",), "app.run": ("--run",)}


def parse_flags(arguments: Sequence[str]) -> Parsed:
    """Settings from the words after `memunit run`.

    Each of `problems` names its flag. Raises SystemExit with 64 for options that do not exist, and with 0 after
    --help.
    """
    options, command = _split(arguments)
    parser = _parser()
    chosen, rest = parser.parse_known_args(options)
    if rest:
        _refuse(rest)
    problems: list[Problem] = []
    document: dict[str, dict[str, Any]] = {}
    for key in KEYS:
        value = command if key.option == "--" else getattr(chosen, key.path)
        if value is None:
            continue
        if key.kind is Kind.MAPPING:
            value = _variables(key, value, problems)
        document.setdefault(key.table, {})[key.name] = _typed(key, value)
    parsed = examine(document, COMMAND_LINE)
    if not problems:
        return parsed
    doubtful = parsed.doubtful | {"app.environment"}
    return replace(parsed, problems=(*problems, *parsed.problems), doubtful=doubtful)


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """What stands before the first bare "--", and the command after it."""
    words = list(arguments)
    if "--" not in words:
        return words, None
    at = words.index("--")
    return words[:at], words[at + 1 :]


def _parser() -> Parser:
    parser = Parser(_PROGRAM, _DESCRIPTION, _USAGE, _EPILOG)
    groups: dict[str, argparse._ArgumentGroup] = {}
    for key in KEYS:
        if key.option == "--":
            continue
        if key.table not in groups:
            groups[key.table] = parser.add_argument_group(key.table)
        names = (key.option, *_ALIASES.get(key.path, ()))
        text = (key.help + _default(key)).replace("%", "%%")
        if key.kind is Kind.BOOLEAN:
            groups[key.table].add_argument(
                *names, dest=key.path, default=None, action=argparse.BooleanOptionalAction, help=text
            )
        else:
            groups[key.table].add_argument(
                *names,
                dest=key.path,
                default=None,
                metavar=key.metavar,
                action="append" if key.kind in (Kind.ADDRESSES, Kind.MAPPING) else "store",
                help=text,
            )
    return parser


def _default(key: Key) -> str:
    if key.kind in (Kind.ADDRESSES, Kind.MAPPING):
        return "; may be repeated"
    return f" [{key.default}]" if isinstance(key.default, str | int) and key.default is not False else ""


def _refuse(rest: Sequence[str]) -> None:
    first = rest[0]
    if not first.startswith("-"):
        fail(f"a command comes after --, as in -- {shlex.join(rest)}", _PROGRAM)
    name = first.partition("=")[0]
    known = [key.option for key in KEYS if key.option != "--"]
    guess = get_close_matches(name, known, n=1)
    fail(f"unknown option {name}" + (f", did you mean {guess[0]}?" if guess else ""), _PROGRAM)


def _typed(key: Key, value: Any) -> Any:
    """A flag's text as the type that TOML would have given."""
    if not isinstance(value, str):
        return [_place(text) for text in value] if key.kind is Kind.ADDRESSES else value
    if key.kind in (Kind.COUNT, Kind.INTEGER) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    if key.kind is Kind.PATH:
        return _path(key, value)
    return value


def _path(key: Key, value: str) -> str:
    """As a shell would find it. Links stay: a virtualenv's interpreter is one."""
    if key.name == "python" and "/" not in value:
        return shutil.which(value) or value
    return os.path.abspath(value) if value else value  # noqa: PTH100  pathlib would keep "..", or resolve links


def _place(text: str) -> str:
    return os.path.abspath(text) if text.startswith(("./", "../")) else text  # noqa: PTH100  see _path


def _variables(key: Key, texts: Sequence[str], problems: list[Problem]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if equals:
            found[name] = value
        else:
            problems.append(Problem(COMMAND_LINE, key.option, f'"{text}" has no value', f"say {text}=VALUE"))
    return found
