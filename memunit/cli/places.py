"""Where in an app's source the holder of a leak is: the line that defines it, and those that add to it.

The source is only parsed: nothing of the app is executed.
"""

import ast
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from memunit.master.filenames import opened
from memunit.records import dataclass

_LARGEST = 1 << 20
_MOST_LINES = 3
_ADDS = ("add", "append", "appendleft", "extend", "insert", "setdefault", "update")
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True, slots=True)
class Place:
    """Lines of one file, from 1 on. `adds`: the first few lines of it that add to the holder."""

    path: str
    line: int
    adds: tuple[int, ...]

    def __str__(self) -> str:
        """In words."""
        *most, last = map(str, self.adds or ("",))
        lines = f"lines {', '.join(most)} and {last} add" if most else f"line {last} adds"
        more = f"; {lines} to it" if self.adds else ""
        return f"{self.path}, line {self.line}{more}"


def place_of(holder: str, folders: Sequence[str]) -> Place | None:
    """Where "shop.cache.SEEN" is, whose module is sought in `folders`; None if that can't be told. Never raises."""
    names = [each for each in re.split(r"[.:]", holder.partition("[")[0]) if each != "<locals>"]
    if not all(each.isidentifier() for each in names):
        return None
    for folder in folders:
        for known in range(len(names) - 1, 0, -1):
            stem = Path(folder, *names[:known])
            for path in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
                try:
                    found = lines_of(contents(path), names[known:])
                except OSError:
                    continue
                return None if found is None else Place(str(path), *found)
    return None


def lines_of(source: bytes, names: Sequence[str]) -> tuple[int, tuple[int, ...]] | None:
    """The line that binds the name, and the first lines that add to it. Never raises.

    Of `session.cache`, if `session` is no class and no function, the line is that of `session`.
    """
    try:
        module = ast.parse(source)
        bound = _bound(module, names)
        if bound is None:
            return None
        line, name = bound
        nodes = (node for node in ast.walk(module) if isinstance(node, ast.expr | ast.stmt))
        adds = sorted({node.lineno for node in nodes if _adds(node, name)})
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return line, tuple(adds[:_MOST_LINES])


def _bound(module: ast.Module, names: Sequence[str]) -> tuple[int, str] | None:
    found: tuple[int, str] | None = None
    body: Sequence[ast.stmt] = module.body
    for name in names:
        binding = next((each for each in _statements(body) if name in _binds(each)), None)
        if binding is None:
            # What an instance has may be bound anywhere in its class.
            return found and (found[0], name if name == names[-1] else found[1])
        found = (binding.lineno, name)
        body = binding.body if isinstance(binding, _DEFINITIONS) else ()
    return found


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Those of one scope, also within if, try and with."""
    for each in body:
        yield each
        if not isinstance(each, _DEFINITIONS):
            for field in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(each, field, ()))
            for handler in getattr(each, "handlers", ()):
                yield from _statements(handler.body)


def _binds(statement: ast.stmt) -> list[str]:
    if isinstance(statement, _DEFINITIONS):
        return [statement.name]
    if isinstance(statement, ast.Assign):
        return [each.id for each in statement.targets if isinstance(each, ast.Name)]
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return [statement.target.id]
    return []


def _adds(node: ast.expr | ast.stmt, name: str) -> bool:
    if isinstance(node, ast.Subscript):
        return isinstance(node.ctx, ast.Store) and _is(node.value, name)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in _ADDS and _is(node.func.value, name)
    return isinstance(node, ast.AugAssign) and _is(node.target, name)


def _is(node: ast.expr, name: str) -> bool:
    return (isinstance(node, ast.Name) and node.id == name) or (
        isinstance(node, ast.Attribute) and node.attr == name
    )


def contents(path: Path) -> bytes:
    """Of a file that the app may have put there, the first mebibyte; nothing of what is no regular file.

    Raises OSError.
    """
    with open(path, "rb", opener=opened) as file:
        return file.read(_LARGEST) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""
