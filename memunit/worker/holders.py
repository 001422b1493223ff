"""Which variable of which module holds an object, and the line that made it: how a person finds it again."""

from __future__ import annotations

import gc
import os
import sys
import types
from typing import Any, Dict, Iterable, List, NamedTuple, Tuple

# The way to an object leads over few others; an app of a million objects is not to be walked through for it.
_DEEPEST = 8
_MOST = 300_000
# These lead from any module into all others.
_NO_WAY = (types.ModuleType, types.FunctionType, types.FrameType, types.CodeType, types.BuiltinFunctionType)


class Place(NamedTuple):
    """A variable of a module, and what it holds."""

    module: str
    name: str
    kind: str
    file: str
    line: int

    def __str__(self) -> str:
        where = f", {self.file} line {self.line}" if self.line else ""
        return f"{self.module}.{self.name}, a {self.kind}{where}"


def places(targets: Iterable[Any]) -> Dict[int, Place]:
    """By id() of each of `targets`: the variable from which it is reached on the shortest way, if any."""
    wanted = {id(each) for each in targets}
    seen = {id(sys.modules), id(wanted)}
    front: List[Tuple[Any, types.ModuleType, str]] = []
    for module in _modules():
        seen.add(id(module.__dict__))
        front += [(value, module, name) for name, value in list(module.__dict__.items())]
    found: Dict[int, Place] = {}
    for _ in range(_DEEPEST):
        following = []
        for thing, module, name in front:
            if id(thing) in seen:
                continue
            seen.add(id(thing))
            if id(thing) in wanted:
                found[id(thing)] = _place(module, name)
                if len(found) == len(wanted):
                    return found
            if isinstance(thing, _NO_WAY) or len(seen) > _MOST:
                continue
            following += [(each, module, name) for each in gc.get_referents(thing)]
        front = following
    return found


def _modules() -> List[types.ModuleType]:
    """The app's own modules before those of libraries; the standard library's and ours hold what others have made."""
    standard = os.path.dirname(os.__file__) + os.sep
    own = os.path.dirname(os.path.abspath(__file__))
    first, rest = [], []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if type(module) is not types.ModuleType or not isinstance(file, str) or file.startswith(own):
            continue
        if "-packages" + os.sep in file:
            rest.append(module)
        elif not file.startswith(standard) and name != "__main__":
            first.append(module)
    return first + rest


def _place(module: types.ModuleType, name: str) -> Place:
    file = str(module.__file__)
    kind = type(module.__dict__.get(name)).__name__
    return Place(module.__name__, name, kind, file, _line(file, name))


def _line(file: str, name: str) -> int:
    """The last line on which the module gives a value to the name; 0 if there is no source, or no such line."""
    import ast  # noqa: PLC0415  a mebibyte, and needed where something was found

    try:
        with open(file, "rb") as source:
            tree = ast.parse(source.read())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return 0
    lines = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store)
    ]
    return max(lines, default=0)
