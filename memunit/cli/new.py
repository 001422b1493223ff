"""`memunit new INSTANCE [FOLDER]`: look at a folder, and write the file of an instance with each key explained.

Exit codes: 0 the file is written; 64 wrong command line; 66 no app is found in the folder; 74 it could not be written,
or is there already; 77 it may not be written; 78 it is written, and the check of it has found something to mend.
"""

import json
import os
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from memunit.account.folder import Found, interpreter, look, server_of
from memunit.account.text import clean
from memunit.cli.checking import looked_at
from memunit.cli.failing import instance_named, say
from memunit.cli.files import instance_path
from memunit.cli.report import print_problems, print_warnings
from memunit.cli.terminal import as_json, emit
from memunit.cli.usage import Parser, fail
from memunit.core.budget import OWN
from memunit.core.exitcodes import EX_CONFIG, EX_IOERR, EX_NOPERM, OK
from memunit.core.quantity import exact_size
from memunit.core.schema import KEYS, SERVERS, Key
from memunit.master.sampling import memory_available

EX_NOINPUT = 66
_READ_AGAIN = "systemctl daemon-reload"
_PROGRAM = "memunit new"
_DESCRIPTION = """\
Look at a folder (by default the current one), find its app, the server that the app needs and its interpreter, and
write /etc/memunit/INSTANCE.toml with each key explained. The command executes no code of the app."""
_EPILOG = """\
examples:
  cd /srv/shop; sudo memunit new shop
  memunit new shop /srv/shop -o -                 print the file and write nothing
  memunit new shop --app shop.web:app --server wsgi
  memunit new shop -- ./server --port 0           a program in any language

exit codes: 0 written, 64 wrong command line, 66 no app found, 74 can't write the file or it exists already,
77 may not write the file, 78 written, but the file has an error"""
_TABLES = {
    "app": "The app",
    "socket": "The sockets of memunit@{name}.socket. After a change: systemctl daemon-reload, and restart that unit",
    "workers": "The number of workers, and their times",
    "memory": "The bounds of each worker's memory",
    "http": "The bounds for clients of an ASGI or WSGI worker",
    "stop": "The stop of a worker",
    "examine": "The search for what grew, in a worker that is replaced for its memory: memunit leaks {name}",
    "recorder": "The flight recorder, for memunit replay {name}",
    "interface": "The master's interface, which memunit status and memunit top call",
    "service": "For memunit@{name}.service. After a change: systemctl daemon-reload, and restart that unit",
}
_EXAMPLES = {
    "app.command": '["./server", "--flag"]',
    "app.run": '"shop.web:app"',
    "app.python": '"/srv/shop/.venv/bin/python"',
    "app.node": '"/usr/bin/node"',
    "app.directory": '"/srv/shop"',
    "app.environment": '{ NAME = "value" }',
    "app.after_fork": '"shop.hooks:open_connections"',
    "app.before_stop": '"shop.hooks:leave_the_pool"',
    "app.give_back": '"shop.hooks:empty_the_caches"',
    "socket.listen": '["127.0.0.1:8000"]',
    "socket.mode": '"0660"',
    "socket.user": '"root"',
    "socket.group": '"www-data"',
    "examine.command": '["/usr/local/bin/heap-summary", "--top", "20"]',
    "interface.read_group": '"oncall"',
    "service.user": '"shop"',
    "service.group": '"shop"',
    "service.environment_files": '["/etc/shop/secrets.env"]',
    "service.credentials": '{ key = "/etc/shop/key" }',
    "service.writable": '["/srv/shop/uploads"]',
}
_OFTEN = 400 << 20
_STEP = 10 << 20
_WIDTH = 100


def parser() -> Parser:
    """What may be typed after its name."""
    made = Parser(_PROGRAM, _DESCRIPTION, epilog=_EPILOG)
    made.add_argument("instance", metavar="INSTANCE", help="the name of the instance")
    made.add_argument("folder", metavar="FOLDER", nargs="?", default=".", help="the folder of the app [.]")
    made.add_argument("--app", metavar="MODULE:ATTR", help="the app; memunit then looks for none")
    made.add_argument(
        "--server", choices=SERVERS, metavar="KIND", help="the kind of the app: asgi, wsgi, callable or node"
    )
    made.add_argument("-o", "--output", metavar="FILE", help="write the file there; - is standard output")
    made.add_argument(
        "--json", action="store_true", help="print the findings as JSON, for a program, and write nothing"
    )
    return made


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code. Raises SystemExit for wrong arguments and for --help."""
    words, command = list(arguments), None
    if "--" in words:
        place = words.index("--")
        words, command = words[:place], words[place + 1 :]
    chosen = parser().parse_args(words)
    instance = instance_named(chosen.instance, _PROGRAM)
    if command is not None and not command:
        fail("a program and its arguments must follow --", _PROGRAM)
    folder = Path(chosen.folder).absolute()
    found = _found(folder, chosen.app, chosen.server, command)
    if isinstance(found, int):
        return found
    values = _values(found, folder, command)
    if chosen.json:
        return emit(as_json({"instance": instance, "folder": str(folder), **_told(found, values)}))
    text = written(instance, found.why, values, found)
    if chosen.output == "-":
        return emit(text, what="the file")
    return _finish(instance, Path(chosen.output) if chosen.output else None, text, found)


def _found(folder: Path, app: str | None, server: str | None, command: list[str] | None) -> Found | int:
    """What is in the folder, or what a person has said; or the exit code after a line of why there is none."""
    if command is not None:
        return Found("", "", f"the command {' '.join(command)}")
    if app is not None:
        kind = server or server_of(app)
        return Found(app, kind, "named on the command line", interpreter(folder) if kind != "node" else None)
    try:
        found = look(folder)
    except OSError as error:
        say(f"{folder} can't be looked at: {error.strerror}; name the folder of the app")
        return EX_NOINPUT
    if found is None:
        say(
            f"no app found in {folder}; name the app: memunit new NAME --app shop.web:app, --app server.js, or -- and "
            "a program"
        )
        return EX_NOINPUT
    return (
        found
        if server is None
        else Found(found.run, server, found.why, found.python, found.others, found.hints)
    )


def _values(found: Found, folder: Path, command: list[str] | None) -> dict[str, Any]:
    """The keys that are said; all others stand there as comments."""
    values: dict[str, Any] = {}
    if command is not None:
        program = shutil.which(command[0]) if "/" not in command[0] else str((folder / command[0]).resolve())
        values["app.command"] = [program or command[0], *command[1:]]
    else:
        values["app.run"] = found.run
        values["app.server"] = found.server
        if found.python:
            values["app.python"] = found.python
        node = shutil.which("node") if found.server == "node" else None
        if node and not node.startswith(("/usr/bin/", "/bin/")):
            values["app.node"] = node
    values["app.directory"] = str(folder)
    limit = _limit()
    values["memory.limit"] = exact_size(limit)
    values["memory.ceiling"] = exact_size(limit // _STEP * 3 // 2 * _STEP)
    return values


def _limit() -> int:
    """400M, or what as many workers as there are processors can have of half the machine."""
    room = memory_available()
    count = len(os.sched_getaffinity(0))
    fits = (room.total // 2 - OWN) // (count + 1) if room.total else _OFTEN
    return max(4 * _STEP, min(_OFTEN, fits) // _STEP * _STEP)


def _told(found: Found, values: dict[str, Any]) -> dict[str, Any]:
    return {"found": found.why, "others": list(found.others), "hints": list(found.hints), "keys": values}


def written(instance: str, why: str, values: dict[str, Any], found: Found | None = None) -> str:
    """The text of the file: each key with what it means, those of `values` said, and others as comments."""
    lines = [
        f"# The instance {instance} of memunit: {clean(why, 200)}.",
        "# A key behind a # is not set; its line has the default, or an example. memunit.toml(5) describes each key.",
        f"# memunit check {instance} checks this file, and systemctl reload memunit@{instance} applies a change",
        "# without losing a request.",
    ]
    for other in found.others if found else ():
        lines.append(f"# Also seen: {clean(other, 150)}.")
    for hint in found.hints if found else ():
        lines += textwrap.wrap(
            f"Note: {clean(hint, 300)}.", _WIDTH, initial_indent="# ", subsequent_indent="#   "
        )
    table = ""
    for key in KEYS:
        if key.table != table:
            table = key.table
            lines += ["", f"# {_TABLES.get(table, table).format(name=instance)}.", f"[{table}]"]
        lines += _key(key, values)
    return "\n".join(lines) + "\n"


def _key(key: Key, values: dict[str, Any]) -> list[str]:
    helped = textwrap.wrap(key.help, _WIDTH, initial_indent="# ", subsequent_indent="# ")
    if key.path in values:
        return [*helped, f"{key.name} = {_toml(values[key.path])}"]
    if key.path in _EXAMPLES:
        return [*helped, f"# {key.name} = {_EXAMPLES[key.path]}"]
    return [*helped, f"# {key.name} = {_toml(key.default)}"]


def _toml(value: Any) -> str:
    """A value as TOML: of JSON's texts, lists and numbers, TOML takes all."""
    if isinstance(value, str):
        # TOML has no \\/ and wants DEL escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(each) for each in value)}]"
    return "{}" if value == {} else json.dumps(value)


def _finish(instance: str, output: Path | None, text: str, found: Found) -> int:
    path = output or instance_path(instance)
    try:
        with path.open("x", encoding="utf-8") as file:
            try:
                os.fchmod(file.fileno(), 0o644)
                file.write(text)
                file.flush()
            except (OSError, UnicodeEncodeError):
                # An empty file is an instance too, and would stay as it is.
                path.unlink(missing_ok=True)
                raise
    except FileExistsError:
        say(f"{path} is there already, and stays as it is; edit it, or say -o with another place")
        return EX_IOERR
    except PermissionError:
        say(f"{path} may not be written by this user; sudo, or -o with another place")
        return EX_NOPERM
    except OSError as error:
        missing = output is None and isinstance(error, FileNotFoundError)
        remedy = f"mkdir {path.parent}" if missing else "say -o with another place"
        say(f"{path} can't be written: {error.strerror}; {remedy}")
        return EX_IOERR
    except UnicodeEncodeError:
        say(f"{path} can't be written: a name in it is not UTF-8; rename the folder")
        return EX_IOERR
    result = looked_at(instance if output is None else str(path))
    print_problems(result.problems)
    # That systemd has not read the file yet is among what is next.
    print_warnings(each for each in result.warnings if each.remedy != _READ_AGAIN)
    lines = [f"{path} is written: {clean(found.why, 200)}"]
    lines += [f"  also seen: {clean(each, 150)}" for each in found.others]
    if output is None:
        lines += [
            "next:",
            *(
                [f"  memunit check {instance}     after what is named above is mended"]
                if result.problems
                else []
            ),
            f"  {_READ_AGAIN}",
            f"  systemctl enable --now memunit@{instance}.socket",
            f"  curl --unix-socket /run/memunit/{instance}.sock http://localhost/",
            f"  memunit status {instance}",
        ]
    return emit("\n".join(lines) + "\n", EX_CONFIG if result.problems else OK)
