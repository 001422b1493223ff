"""Whether a container that has grown is full rather than leaking: whether the app itself has a bound for it."""

from __future__ import annotations

import types
from collections import deque
from typing import Any, Iterator, Optional, Tuple

from memunit.worker.examination import kinds
from memunit.worker.examination.names import Name
from memunit.worker.examination.walk import Grown, Walk, attributes_of

_LEAST = 100
_WORDS = ("max", "limit", "cap", "bound", "size", "most")
_maxlen = deque.__dict__["maxlen"].__get__
_function_code = types.FunctionType.__dict__["__code__"].__get__
_MOST_CODE = 2000


def bound(walk: Walk, grown: Grown, name: Name) -> Optional[int]:
    """The number of elements that the container takes at most, if it has as many; None if no such number is known.

    Known are the bound of a deque and of an lru_cache, an attribute of the object that holds the container whose name
    says so (maxsize), and a number in the code of its module that the container has just reached.
    """
    thing = walk.things[grown.place]
    if grown.is_blob or grown.length < _LEAST:
        return None
    if walk.kinds.base(thing) is deque or name.kind == "lru_cache":
        own = most(walk, grown, name)
        return own if own is not None and grown.length >= own else None
    for value, slack in _said(walk, grown):
        if value - slack <= grown.length <= value + slack:
            return value
    return None


def most(walk: Walk, grown: Grown, name: Name) -> Optional[int]:
    """The number of elements that a deque or an lru_cache takes at most, full or not; None without such a bound."""
    thing = walk.things[grown.place]
    if walk.kinds.base(thing) is deque:
        own: Optional[int] = _maxlen(thing)
        return own
    return name.bound if name.kind == "lru_cache" else None


def _said(walk: Walk, grown: Grown) -> Iterator[Tuple[int, int]]:
    """Numbers that may be its bound, and by how much the container may differ from each."""
    place = grown.place
    for _ in range(6):
        thing = walk.things[place]
        attributes = thing if type(thing) is dict and place != grown.place else attributes_of(thing)
        if type(attributes) is dict and len(attributes) <= _MOST_CODE:
            yield from ((each, 1) for each in _numbers(attributes))
        parent = walk.parents[place]
        if parent < 0:
            break
        place = parent
    space = walk.things[place]
    name = space.get("__name__") if type(space) is dict else None
    if type(name) is str:
        for code in _code_of(space):
            yield from ((each, 0) for each in code.co_consts if type(each) is int and each >= 10 * _LEAST)


def _numbers(attributes: Any) -> Iterator[int]:
    for key, value in list(dict.items(attributes)):
        if type(value) is int and value >= _LEAST and type(key) is str:
            lowered = key.lower()
            if any(word in lowered for word in _WORDS) and _is_round(value):
                yield value


def _is_round(value: int) -> bool:
    """A bound is chosen by a person; a count of elements under such a name is not."""
    return value % 10 == 0 or value & (value - 1) == 0


def _code_of(space: Any) -> Iterator[types.CodeType]:
    """The code of a module's functions and methods, and what is defined in it."""
    waiting = []
    for value in list(dict.values(space)):
        if type(value) is types.FunctionType and value.__globals__ is space:
            waiting.append(_function_code(value))
        elif issubclass(type(value), type) and kinds.module_of(value) == space.get("__name__"):
            waiting += [
                _function_code(each)
                for each in list(kinds.dict_of(value).values())
                if type(each) is types.FunctionType
            ]
    for _ in range(_MOST_CODE):
        if not waiting:
            return
        code = waiting.pop()
        yield code
        waiting += [each for each in code.co_consts if type(each) is types.CodeType]
