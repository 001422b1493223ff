"""What is known of some servers as a `command`: the inherited socket, and when they say READY=1 (docs/commands.md).

A guess from the words of the command, so all of it is a warning.
"""

import ast
import re
import shlex
from collections.abc import Sequence

from memunit.records import dataclass

_SHELLS = ("sh", "bash", "dash", "zsh")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


@dataclass(frozen=True, slots=True)
class _Server:
    """`socket` is what makes it take the inherited socket, "" if nothing does; `kind` what memunit serves instead.

    `given` tells whether the words do. None: it takes it by itself.
    """

    kind: str
    socket: str | None = None
    given: re.Pattern[str] | None = None


# Each was tried with two workers: gunicorn 27.0, uvicorn 0.54, hypercorn 0.18, daphne 4.2, granian 2.8, waitress 3.0,
# Flask 3.1; Django 5.2's runserver with one inherited socket, which it left alone.
_SERVERS = {
    "gunicorn": _Server("wsgi"),
    "uvicorn": _Server("asgi", "--fd 3", re.compile(r"--fd(=.*)?")),
    "hypercorn": _Server("asgi", "--bind fd://3", re.compile(r"(-b|--bind=?)?fd://[0-9]+")),
    "daphne": _Server("asgi", "--fd 3", re.compile(r"--fd(=.*)?")),
    "granian": _Server("asgi", ""),
    "waitress-serve": _Server("wsgi", ""),
    "waitress": _Server("wsgi", ""),
    "flask": _Server("wsgi", ""),
    "manage.py": _Server("wsgi", ""),
}
# Of these two only one of their commands serves.
_SERVING = {"flask": "run", "manage.py": "runserver"}


def warnings_of(
    command: Sequence[str], ready: str, *, more: str = "", configuration: str | None = None
) -> list[tuple[str, str, str]]:
    """(key, what will happen, remedy) of what the command is known for; `ready` is as in the file.

    `more` are further words that gunicorn takes from GUNICORN_CMD_ARGS; `configuration` is the text of its file, where
    that could be read.
    """
    name, words = _server(flat(command))
    if name is None:
        return []
    if name in _SERVING and _SERVING[name] not in words:
        return []
    server = _SERVERS[name]
    ours = f'say run = "MODULE:ATTRIBUTE" and server = "{server.kind}", which needs none of this'
    if server.socket == "":
        called = f"{name} {_SERVING[name]}" if name in _SERVING else name
        text = (
            f"{called} uses no inherited socket: it listens on a port of its own. No second worker can have that "
            "port, or no client of the inherited socket reaches it"
        )
        return [("app.command", text, ours)]
    found: list[tuple[str, str, str]] = []
    if server.given is not None and not any(server.given.fullmatch(word) for word in words):
        text = (
            f"{name} uses the inherited socket only if an option says so: now it listens on a port of its own"
        )
        found.append(("app.command", text, f'add "{server.socket}" to it; or {ours}'))
    if name != "gunicorn":
        if ready != "exec":
            text = f"{name} never says READY=1, so no worker of it will ever be ready"
            found.append(("app.ready", text, f'say ready = "exec"; or {ours}'))
    elif ready != "exec":
        found += _gunicorn([*words, *shlex_split(more)], configuration)
    return found


def configuration_of(command: Sequence[str]) -> str | None:
    """The file that gunicorn reads its settings from, as the command names it; None if the command is no gunicorn."""
    name, words = _server(flat(command))
    if name != "gunicorn":
        return None
    for i, word in enumerate(words):
        if word in ("-c", "--config") and i + 1 < len(words):
            return words[i + 1].removeprefix("file:")
        if word.startswith("--config="):
            return word.removeprefix("--config=").removeprefix("file:")
    return "gunicorn.conf.py"


def shlex_split(text: str) -> list[str]:
    """The words of a shell's line; none where it is not one."""
    try:
        return shlex.split(text)
    except ValueError:
        return []


def _gunicorn(words: Sequence[str], configuration: str | None) -> list[tuple[str, str, str]]:
    preloads = None if configuration is None else _preloads(configuration)
    if "--preload" in words or preloads:
        return []
    text = (
        "gunicorn says READY=1 before it has loaded the app: a reload to an app that can't be loaded counts as done, "
        "and then no worker serves"
    )
    if configuration is not None and preloads is None:
        text += ", unless its configuration file sets preload_app"
    return [("app.command", text, 'add "--preload" to it, or preload_app = True to its configuration file')]


def _preloads(configuration: str) -> bool | None:
    """What the file sets preload_app to at its top level; False if it is not there, None if that can't be told."""
    try:
        tree = ast.parse(configuration)
    except (SyntaxError, ValueError, RecursionError):
        return None
    known: bool | None = False
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "preload_app" and isinstance(node.ctx, ast.Store):
            known = None
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "preload_app" for target in statement.targets
        ):
            value = statement.value
            known = bool(value.value) if isinstance(value, ast.Constant) else None
    return known


def _server(words: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    for i, word in enumerate(words):
        name = word.rpartition("/")[2]
        if name in _SERVERS and (i == 0 or not _is_value(words[i - 1])):
            return name, words[i + 1 :]
    return None, ()


def _is_value(before: str) -> bool:
    """Whether a word after this one is the value of an option, and no program; -m of python names one."""
    return before.startswith("-") and before not in (
        "-m",
        "--",
        "-i",
        "-u",
        "-I",
        "-E",
        "-s",
        "-B",
        "-O",
        "-P",
    )


def flat(command: Sequence[str]) -> list[str]:
    """The words, with those of a shell's script, if the command is a shell's, and without variables in front."""
    words = list(command)
    if words and words[0].rpartition("/")[2] in _SHELLS and "-c" in words[:-1]:
        words = shlex_split(words[words.index("-c") + 1])
    return [word for word in words if not _ASSIGNMENT.match(word) or word.startswith("-")]
