"""The name of what was met on a walk: a module's attribute and what leads on from it, without values of the app's."""

from __future__ import annotations

import _thread
import contextvars
import types
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from memunit.worker.examination import kinds, roots
from memunit.worker.examination.kinds import CLASS, CONTAINER, FUNCTION, LRU
from memunit.worker.examination.walk import Walk, attributes_of

_LONGEST = 160
_ELEMENT = "[…]"
_LOCAL: type = _thread._local
_SPACE, _CLOSURE, _DEFAULTS = "namespace", "closure", "defaults"

_function = {
    name: types.FunctionType.__dict__[name].__get__
    for name in ("__code__", "__closure__", "__defaults__", "__kwdefaults__")
}
_frames: Dict[type, Any] = {
    types.CoroutineType: types.CoroutineType.__dict__["cr_frame"].__get__,
    types.GeneratorType: types.GeneratorType.__dict__["gi_frame"].__get__,
    types.AsyncGeneratorType: types.AsyncGeneratorType.__dict__["ag_frame"].__get__,
}
_frame_locals = types.FrameType.__dict__["f_locals"].__get__


class Name(NamedTuple):
    """`text` as `shop.cache.SEEN`, and what kind of place that is."""

    text: str
    kind: str
    bound: Optional[int] = None
    """The most elements that an lru_cache on the way takes."""


def name(walk: Walk, place: int) -> Name:
    """Of the thing at this place of the walk."""
    chain: List[int] = []
    while place >= 0:
        chain.append(place)
        place = walk.parents[place]
    chain.reverse()
    root = walk.roots.get(chain[0])
    if root is None or root.kind == roots.NOWHERE:
        return Name("", "")
    text = root.name
    kind = "module attribute" if root.kind == roots.MODULE else root.kind
    role = _SPACE if root.kind == roots.MODULE else ""
    function: Any = None
    bound: Optional[int] = None
    for step, place in enumerate(chain[:-1]):
        parent, child = walk.things[place], walk.things[chain[step + 1]]
        code = walk.kinds.code(type(parent))
        before, role = role, ""
        if before == _CLOSURE:
            text, kind, role = text + _free(function, parent, child), "closure", "cell"
        elif before == _DEFAULTS:
            text, kind = text + _argument(function, parent, child), "default argument"
        elif type(parent) is dict and before == _SPACE:
            key = _key(parent, child)
            text += f".{key}" if key else _ELEMENT
        elif code == CONTAINER:
            attributes = attributes_of(parent)
            if attributes is child:
                role, kind = _SPACE, "instance attribute"
            elif issubclass(type(parent), dict) and before == "of thread local":
                role = _SPACE
            elif not text.endswith(_ELEMENT):
                text += _ELEMENT
        elif code == CLASS:
            if type(child) is dict:
                role, kind = _SPACE, "class attribute"
        elif code == FUNCTION:
            function, role = parent, _part_of(parent, child)
        elif code == LRU:
            kind, bound = "lru_cache", kinds.lru_bound(parent)
        elif type(parent) is contextvars.ContextVar:
            kind = "context variable"
        elif issubclass(type(parent), _LOCAL):
            kind, role = "thread local", "of thread local"
        elif type(parent) in (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType):
            text, kind = text + _variable(parent, child), "local variable"
        elif before != "cell":
            more, role = _attribute(parent, child)
            text += more
            kind = "instance attribute" if more or role else kind
    return Name(_short(text), _special(walk, chain, text, kind), bound)


def _special(walk: Walk, chain: List[int], text: str, kind: str) -> str:
    if text.endswith((".handlers", ".handlers" + _ELEMENT)):
        for place in chain[-3:]:
            if kinds.type_name(type(walk.things[place])) == "logging.Logger":
                return "handlers of a logger"
    return kind


def _short(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST // 2]}…{text[-_LONGEST // 2 :]}"


def _key(space: Dict[Any, Any], child: Any) -> str:
    try:
        for key, value in dict.items(space):
            if value is child:
                return kinds.name_of(key)
    except RuntimeError:
        pass
    return ""


def _part_of(function: Any, child: Any) -> str:
    if child is _function["__closure__"](function):
        return _CLOSURE
    if child is _function["__defaults__"](function):
        return _DEFAULTS
    if child is _function["__kwdefaults__"](function) or type(child) is dict:
        return _SPACE
    return ""


def _free(function: Any, closure: Any, cell: Any) -> str:
    for free, each in enumerate(closure):
        if each is cell:
            return f":{_function['__code__'](function).co_freevars[free]}"
    return ""


def _argument(function: Any, defaults: Any, child: Any) -> str:
    code = _function["__code__"](function)
    names = code.co_varnames[: code.co_argcount][-len(defaults) :]
    for place, each in enumerate(defaults):
        if each is child and place < len(names):
            return f":{names[place]}"
    return ""


def _variable(generator: Any, child: Any) -> str:
    frame = _frames[type(generator)](generator)
    if frame is None:
        return ""
    try:
        key = _key(dict(_frame_locals(frame)), child)
    except (RuntimeError, ValueError):
        return ""
    return f":{key}" if key else ""


def _attribute(parent: Any, child: Any) -> Tuple[str, str]:
    """What to add to the name of an instance, and the role of the child."""
    attributes = attributes_of(parent)
    if attributes is child:
        return "", _SPACE
    key = _key(attributes, child) if type(attributes) is dict else ""
    if not key:
        for each in kinds.mro_of(type(parent)):
            for slot, member in list(kinds.dict_of(each).items()):
                if type(member) is types.MemberDescriptorType and _is_at(member, parent, child):
                    key = kinds.name_of(slot)
    return (f".{key}" if key else ""), ""


def _is_at(member: Any, parent: Any, child: Any) -> bool:
    try:
        return member.__get__(parent) is child
    except (AttributeError, TypeError):
        return False
