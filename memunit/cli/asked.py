"""What `memunit check` has the app's own interpreter look at: inspection.py hands it this text, and reads its JSON.

Nothing of the app is executed: its modules are searched for as an import would, read, and parsed. Syntax of Python 3.9,
and the standard library alone.
"""

from __future__ import annotations

import ast
import difflib
import importlib.machinery
import json
import os
import sys
import warnings
from typing import Any, Dict, List, Optional, Sequence, Tuple

_APPS = ("app", "application", "api")
_MAKERS = ("create_app", "make_app", "get_app")
# A module that names one of these may bind names in ways that its text does not show.
_DYNAMIC = {
    "globals",
    "locals",
    "vars",
    "exec",
    "eval",
    "setattr",
    "__import__",
    "__dict__",
    "modules",
    "_getframe",
}
# What reads 3.10's list of its own modules knows which imports can't be missing; 3.9 has no such list.
_STANDARD = frozenset(sys.builtin_module_names) | frozenset(getattr(sys, "stdlib_module_names", ()))


class Unsure(Exception):
    """Something that looks wrong and need not be."""


class Wrong(Exception):
    """Something that is wrong; the arguments are its kind and the details."""


def look(asked: Dict[str, Any]) -> List[List[Any]]:
    """All that is wrong for sure, a list of [kind, detail...]; what can't be told is not in it.

    `asked` has paths to "read" (files, and folders to list), to "enter" and to "execute", the "folders" that come
    before sys.path, the modules that are "needed", and "targets", MODULE:ATTRIBUTE.
    """
    found: List[List[Any]] = [["read", path] for path in asked["read"] if not _may_read(path)]
    found += [["enter", path] for path in asked["enter"] if not os.access(path, os.X_OK)]
    found += [["execute", path] for path in asked["execute"] if not os.access(path, os.X_OK)]
    if found:
        return found
    folders = asked["folders"]
    for name in asked["needed"]:
        try:
            if _find(name, folders) is None:
                found.append(["needed", name])
        except (Unsure, Wrong):
            continue
    for target in asked["targets"]:
        try:
            _look_at(target, folders)
        except Wrong as wrong:
            found.append(["target", target, *wrong.args])
        except Unsure:
            continue
    return found


def _may_read(path: str) -> bool:
    return os.access(path, os.R_OK | os.X_OK if os.path.isdir(path) else os.R_OK)


def _find(name: str, folders: Sequence[str], below: Optional[List[str]] = None) -> Any:
    """The spec of a module, None if there is none. Its parents are not imported, and sys.path stays as it is."""
    for finder in sys.meta_path:
        where = below
        if finder is importlib.machinery.PathFinder:
            where = [*folders, *sys.path] if below is None else below
            # What an interpreter may not read of its own, it passes over.
            for folder in folders if below is None else below:
                if os.path.isdir(folder) and not _may_read(folder):
                    raise Wrong("unreadable", folder)
        try:
            spec = finder.find_spec(name, where)
        except Exception:
            raise Unsure from None
        if spec is not None:
            return spec
    return None


def _look_at(target: str, folders: Sequence[str]) -> None:
    module, _, path = target.partition(":")
    spec, tree = _module(module, folders)
    _imports(tree, folders)
    _attribute(path.partition("(")[0].split(".")[0], spec, tree)


def _module(module: str, folders: Sequence[str]) -> Tuple[Any, ast.Module]:
    """The spec of a dotted name, and its syntax tree. Each package on the way is read too."""
    names = module.split(".")
    below: Optional[List[str]] = None
    spec: Any = None
    tree: Optional[ast.Module] = None
    for i in range(len(names)):
        name = ".".join(names[: i + 1])
        before, holds = spec, tree
        spec = _find(name, folders, below)
        if spec is None:
            if before is None:
                raise Wrong("missing", name, "")
            # A namespace, or a package that says itself where its modules are, may find it elsewhere.
            if holds is None or not {"__path__", "modules"}.isdisjoint(_words(holds)):
                raise Unsure
            raise Wrong("missing", name, os.path.dirname(before.origin))
        tree = _tree(spec)
        if spec.submodule_search_locations is not None:
            below = list(spec.submodule_search_locations)
        elif i + 1 < len(names):
            if tree is None or not {"__path__", "modules"}.isdisjoint(_words(tree)):
                raise Unsure
            raise Wrong("no package", spec.origin, ".".join(names[i + 1 :]))
    if tree is None:
        raise Unsure
    return spec, tree


def _words(tree: ast.AST) -> set[str]:
    """Every name and attribute in it."""
    nodes = list(ast.walk(tree))
    return {each.id for each in nodes if isinstance(each, ast.Name)} | {
        each.attr for each in nodes if isinstance(each, ast.Attribute)
    }


def _tree(spec: Any) -> Optional[ast.Module]:
    """None for what has no source: a namespace, an extension, a module of the interpreter's own."""
    if type(spec.loader) is not importlib.machinery.SourceFileLoader:
        return None
    if not _may_read(spec.origin):
        raise Wrong("unreadable", spec.origin)
    try:
        with open(spec.origin, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(file.read(), spec.origin)
    except SyntaxError as error:
        raise Wrong("syntax", spec.origin, error.lineno or 0, error.msg) from None
    except Exception:
        raise Unsure from None


def _imports(tree: ast.Module, folders: Sequence[str]) -> None:
    """The imports that a module begins with. A later import may depend on what was executed before."""
    for statement in tree.body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        if isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom) and statement.level == 0 and statement.module:
            names = [statement.module]
        else:
            return
        for name in names:
            top = name.split(".")[0]
            if top in _STANDARD or top == "memunit":
                continue
            spec = _find(top, folders)
            if spec is None:
                raise Wrong("imports", top, statement.lineno)
            # The app's own may add to sys.path what comes next.
            places = [spec.origin, *(spec.submodule_search_locations or ())]
            if any(str(place).startswith(os.path.join(folder, "")) for place in places for folder in folders):
                return


class _Names(ast.NodeVisitor):
    """The names that a module's own statements bind."""

    def __init__(self) -> None:
        self.bound: set[str] = set()
        self._inside = 0

    def visit_Name(self, node: ast.Name) -> None:
        if not self._inside and isinstance(node.ctx, ast.Store):
            self.bound.add(node.id)

    def visit_alias(self, node: ast.alias) -> None:
        if not self._inside:
            self.bound.add((node.asname or node.name).split(".")[0])

    def visit_Global(self, node: ast.Global) -> None:
        self.bound.update(node.names)

    def generic_visit(self, node: ast.AST) -> None:
        # Of functions, classes and exceptions, and of the captures of a match.
        for field in ("name", "rest"):
            bound = getattr(node, field, None)
            if not self._inside and isinstance(bound, str):
                self.bound.add(bound)
        inner = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda))
        self._inside += inner
        super().generic_visit(node)
        self._inside -= inner


def _attribute(name: str, spec: Any, tree: ast.Module) -> None:
    names = _Names()
    names.visit(tree)
    if name in names.bound or not {"*", "__getattr__"}.isdisjoint(names.bound):
        return
    if name.startswith("__") or not _DYNAMIC.isdisjoint(_words(tree)):
        return
    if spec.submodule_search_locations is not None and _find(
        f"{spec.name}.{name}", [], list(spec.submodule_search_locations)
    ):
        return
    public = sorted(each for each in names.bound if not each.startswith("_"))
    usual = [each for each in _APPS if each in public]
    meant = usual[:1] or difflib.get_close_matches(name, public, 1)
    makers = [f"{each}()" for each in _MAKERS if each in public]
    raise Wrong("attribute", spec.origin, name, *(meant or makers[:1]))


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(look(json.loads(sys.argv[1]))) + "\n")
