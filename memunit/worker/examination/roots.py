"""Where a look begins: modules, the app's own first, and what is alive without a module."""

from __future__ import annotations

import _thread
import contextvars
import gc
import os
import sys
import threading
import types
from typing import Any, Collection, Dict, List, NamedTuple, Optional, Tuple

from memunit.worker.examination import kinds

MODULE, CONTEXT, TASK, THREAD = "module", "context variable", "task", "thread"
NOWHERE = "nowhere"
"""Of what no way was found to."""
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_STANDARD = os.path.dirname(os.__file__) + os.sep
_MOST_FRAMES = 64
_MOST = 256

_of_module: Any = types.ModuleType.__dict__
_module_dict = _of_module["__dict__"].__get__
_frame_locals = types.FrameType.__dict__["f_locals"].__get__
_context_name = contextvars.ContextVar.__dict__["name"].__get__


class Root(NamedTuple):
    """`thing` is held by what `name` names; of a module, its dictionary."""

    thing: Any
    name: str
    kind: str


def modules(packages: Collection[str]) -> Tuple[List[Root], List[Root], List[Dict[str, Any]]]:
    """The app's own, whose top-level packages may be installed like any library; all others; and the dictionaries of
    memunit's, which hold nothing of the app's.
    """
    own, rest, standard, ours = [], [], [], []
    for name, module in list(sys.modules.items()):
        if type(name) is not str or not issubclass(type(module), types.ModuleType):
            continue
        space = _module_dict(module)
        file = space.get("__file__")
        if name.partition(".")[0] == "memunit" or is_ours(file):
            ours.append(space)
            continue
        root = Root(space, kinds.name_of(name) or "?", MODULE)
        if type(file) is not str:
            standard.append(root)
        elif name.partition(".")[0] in packages:
            own.append(root)
        elif "-packages" + os.sep in file:
            rest.append(root)
        elif file.startswith(_STANDARD):
            standard.append(root)
        else:
            own.append(root)
    return own, rest + standard, ours


def is_ours(file: Any) -> bool:
    """Whether a file is of the worker."""
    return type(file) is str and file.startswith(_OURS)


def contexts(found: List[Any], spaces: Collection[Root]) -> List[Root]:
    """The values of context variables: here, and in the contexts of `found`. Named by the module that has them."""
    roots: List[Root] = []
    seen = set()
    places: Dict[int, str] = {}
    for space in spaces:
        for key, value in list(dict.items(space.thing)):
            if type(value) is contextvars.ContextVar and kinds.name_of(key):
                places.setdefault(id(value), f"{space.name}.{key}")
    for context in [contextvars.copy_context(), *found[:_MOST]]:
        for variable, value in context.items():
            if id(value) not in seen:
                seen.add(id(value))
                own = kinds.name_of(_context_name(variable)) or "?"
                roots.append(Root(value, places.get(id(variable), f"ContextVar {own}"), CONTEXT))
    return roots


def threads() -> List[Root]:
    """The variables of the functions that other threads are in."""
    roots: List[Root] = []
    for ident, frame in list(sys._current_frames().items()):
        if ident == _thread.get_ident():
            continue
        each: Optional[types.FrameType] = frame
        for _ in range(_MOST_FRAMES):
            if each is None or len(roots) > 8 * _MOST:
                break
            if not is_ours(each.f_code.co_filename):
                roots += of_frame(each, THREAD)
            each = each.f_back
    return roots


def of_frame(frame: types.FrameType, kind: str) -> List[Root]:
    """Its variables."""
    where = named_code(frame)
    try:
        variables = list(dict(_frame_locals(frame)).items())
    except (RuntimeError, ValueError):
        return []
    return [Root(value, f"{where}:{kinds.name_of(name) or '?'}", kind) for name, value in variables]


def named_code(frame: types.FrameType) -> str:
    """The function that a frame is of."""
    code, module = frame.f_code, frame.f_globals.get("__name__")
    name = getattr(code, "co_qualname", code.co_name)  # Python 3.11
    return ".".join(filter(None, (kinds.name_of(module), kinds.name_of(name) or "?")))


def others() -> List[Root]:
    """What the interpreter itself holds."""
    found = [Root(gc.garbage, "gc.garbage", MODULE)]
    atexit = sys.modules.get("atexit")
    if atexit is not None:
        found += [Root(each, "the functions of atexit", MODULE) for each in gc.get_referents(atexit)]
    active = getattr(threading, "_active", None)
    if type(active) is dict:
        found.append(Root(active, "threading._active", MODULE))
    return found
