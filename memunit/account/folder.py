"""What a folder is: which app is in it, what serves it, and with which interpreter. Nothing of it is executed."""

import ast
import json
import os
import re
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from memunit.records import dataclass, field

_MOST_FILES = 400
_LARGEST = 1 << 20
_DEPTH = 3
_VENVS = (".venv", "venv", "env", "virtualenv")
_PASSED_OVER = {
    *_VENVS,
    *("node_modules", "tests", "test", "docs", "migrations", "build", "dist", "site-packages", "__pycache__"),
}
# Classes whose instances a server calls, and the kind of server.
_MAKERS = {
    "FastAPI": "asgi",
    "Starlette": "asgi",
    "Quart": "asgi",
    "Litestar": "asgi",
    "BlackSheep": "asgi",
    "Flask": "wsgi",
    "Bottle": "wsgi",
    "get_wsgi_application": "wsgi",
    "get_asgi_application": "asgi",
    "ProtocolTypeRouter": "asgi",
    "make_wsgi_app": "wsgi",
}
_FIRST_NAMES = ("wsgi", "asgi", "app", "main", "web", "server", "application")
_SETTINGS = re.compile(r"""DJANGO_SETTINGS_MODULE["'],\s*["']([\w.]+)["']""")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(\(\))?")
_PROGRAMS = ("server.js", "index.js", "app.js", "main.js", "dist/main.js", "dist/index.js", "server.mjs")


@dataclass(frozen=True, slots=True)
class Found:
    """An app: what goes into app.run and app.server, and the words that say how it was found."""

    run: str
    server: str
    why: str
    python: str | None = None
    others: tuple[str, ...] = ()
    hints: tuple[str, ...] = field(default=())


def look(folder: Path) -> Found | None:
    """The app of a folder; None if none is seen. Raises OSError where the folder can't be read."""
    next(folder.iterdir(), None)
    found = _procfile(folder) or _django(folder) or _python(folder) or _node(folder)
    if found is None:
        return None
    if found.server == "node":
        return found
    python = interpreter(folder)
    hints = found.hints
    if python is None:
        hints += (
            "no virtualenv in the folder: memunit's own interpreter runs the app; name app.python if it has one",
        )
    return Found(found.run, found.server, found.why, python, found.others, hints)


def interpreter(folder: Path) -> str | None:
    """The Python of a virtualenv in the folder or beside it."""
    for place in (folder, folder.parent):
        for name in _VENVS:
            path = place / name / "bin" / "python"
            if (place / name / "pyvenv.cfg").is_file() and path.exists():
                # The link itself: what it leads to is not the virtualenv's.
                return str(path)
    return None


def server_of(run: str) -> str:
    """What serves an app that a person has named."""
    return "node" if run.endswith((".js", ".mjs", ".cjs")) else "wsgi" if "wsgi" in run else "asgi"


def _read(path: Path) -> str:
    """The text of a regular file of no great size, "" of any other."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


# -- Python --------------------------------------------------------------------------------------------------------


def _procfile(folder: Path) -> Found | None:
    """What gunicorn, uvicorn or hypercorn serve elsewhere: `web: gunicorn shop.wsgi:application`."""
    for line in _read(folder / "Procfile").splitlines():
        kind, _, command = line.partition(":")
        if kind.strip() != "web":
            continue
        try:
            words = shlex.split(command)
        except ValueError:
            return None
        programs = {Path(word).name for word in words}
        server = "wsgi" if "gunicorn" in programs else "asgi"
        if not programs & {"gunicorn", "uvicorn", "hypercorn", "daphne"}:
            return None
        if any("uvicorn" in word for word in words):
            server = "asgi"
        target = next((word for word in words if _TARGET.fullmatch(word)), None)
        if target is None and "gunicorn" in programs:
            # gunicorn takes a module alone, whose app is then "application".
            plain = [word for word in words[1:] if re.fullmatch(r"[A-Za-z_]\w*(\.\w+)+", word)]
            target = f"{plain[-1]}:application" if plain else None
        if target is not None:
            return Found(target, server, f"Procfile says: {command.strip()}")
    return None


def _django(folder: Path) -> Found | None:
    named = _SETTINGS.search(_read(folder / "manage.py"))
    if named is None:
        return None
    package = named[1].split(".")[0]
    place = folder / package
    asks = _read(folder / "requirements.txt") + _read(folder / "pyproject.toml")
    wants_asgi = re.search(r"^\W*(channels|daphne)\b", asks, re.MULTILINE) is not None
    kinds = ("asgi", "wsgi") if wants_asgi else ("wsgi", "asgi")
    there = [kind for kind in kinds if (place / f"{kind}.py").is_file()]
    if not there:
        return None
    kind = there[0]
    other = tuple(f"{package}.{each}:application ({each})" for each in there[1:])
    return Found(
        f"{package}.{kind}:application", kind, f"Django: manage.py, {package}/{kind}.py", others=other
    )


def _python(folder: Path) -> Found | None:
    found: list[tuple[tuple[int, int, str], str, str, str]] = []
    for path in _sources(folder):
        parts = path.relative_to(folder).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        for name, server, line, how in _apps(_read(path)):
            first = _FIRST_NAMES.index(parts[-1]) if parts[-1] in _FIRST_NAMES else len(_FIRST_NAMES)
            made = name.endswith("()")
            rank = (int(made), len(parts) * 10 + first, module)
            found.append((rank, f"{module}:{name}", server, f"{how}, {path.relative_to(folder)} line {line}"))
    if not found:
        return None
    found.sort(key=lambda each: each[0])
    _, run, server, why = found[0]
    others = tuple(f"{target} ({kind})" for _, target, kind, _ in found[1:6])
    return Found(run, server, why, others=others)


def _sources(folder: Path) -> Iterator[Path]:
    """The app's own modules: not too deep, and not too many."""
    count = 0
    for place, folders, files in os.walk(folder):
        depth = len(Path(place).relative_to(folder).parts)
        folders[:] = sorted(
            name
            for name in folders
            if depth < _DEPTH
            and name not in _PASSED_OVER
            and name.isidentifier()
            and not name.startswith(".")
        )
        for name in sorted(files):
            if name.endswith(".py") and name[:-3].isidentifier() and not name.startswith("test_"):
                count += 1
                if count > _MOST_FILES:
                    return
                yield Path(place, name)


def _apps(source: str) -> Iterator[tuple[str, str, int, str]]:
    """(name, server, line, how) of each app that a module binds."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            made = _made(node.value)
            for target in targets:
                if made and isinstance(target, ast.Name):
                    yield target.id, _MAKERS[made], node.lineno, made
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _function(node)


def _made(value: ast.expr | None) -> str:
    if not isinstance(value, ast.Call):
        return ""
    called = value.func
    name = (
        called.id
        if isinstance(called, ast.Name)
        else called.attr
        if isinstance(called, ast.Attribute)
        else ""
    )
    return name if name in _MAKERS else ""


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[str, str, int, str]]:
    """An app that is a function itself, or a factory that needs no argument."""
    names = [each.arg for each in node.args.args]
    if isinstance(node, ast.AsyncFunctionDef):
        if names[:3] == ["scope", "receive", "send"]:
            yield node.name, "asgi", node.lineno, "an ASGI function"
        return
    if names[:2] == ["environ", "start_response"]:
        yield node.name, "wsgi", node.lineno, "a WSGI function"
    needed = len(names) - len(node.args.defaults)
    if node.name in ("create_app", "make_app", "get_app") and needed <= 0:
        made = next(
            (_made(each) for each in ast.walk(node) if isinstance(each, ast.Call) and _made(each)), ""
        )
        if made:
            yield f"{node.name}()", _MAKERS[made], node.lineno, f"a factory of {made}"


# -- Node ----------------------------------------------------------------------------------------------------------


def _node(folder: Path) -> Found | None:
    package = _json(folder / "package.json")
    if package is None and not any((folder / name).is_file() for name in _PROGRAMS[:2]):
        return None
    package = package or {}
    standalone = ".next/standalone/server.js"
    if "next" in {**_table(package, "dependencies")}:
        if (folder / standalone).is_file():
            return Found(standalone, "node", "Next, its standalone server")
        hint = f'Next serves by {standalone}: output: "standalone" in next.config.js, and next build'
        return Found(standalone, "node", "Next in package.json", hints=(hint,))
    started = re.search(
        r"(?:^|\s)node\s+(?:--\S+\s+)*([\w./-]+\.[cm]?js)", str(_table(package, "scripts").get("start", ""))
    )
    main = package.get("main")
    named = [started[1] if started else "", main if isinstance(main, str) else "", *_PROGRAMS]
    for name in named:
        path = os.path.normpath(name) if name else ""
        if path and not path.startswith(("..", "/")) and (folder / path).is_file():
            how = (
                "scripts.start" if started and name == started[1] else "main" if name == main else "its name"
            )
            return Found(path, "node", f"Node: {path} ({how})" if package else f"Node: {path}")
    return None


def _json(path: Path) -> dict[str, Any] | None:
    try:
        read = json.loads(_read(path) or "null")
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def _table(package: dict[str, Any], name: str) -> dict[str, Any]:
    value = package.get(name)
    return value if isinstance(value, dict) else {}
