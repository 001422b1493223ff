"""What an object is, how long and how large, found out without a call of anything that the app has written.

`type(x)`, and the slots of CPython's own types and of those in C, are all that is asked: a class of the app's may have
a __len__, __sizeof__, __class__, __hash__ or metaclass that raises, blocks or lies.
"""

from __future__ import annotations

import functools
import gc
import itertools
import types
from collections import deque
from typing import Any, Callable, Dict, List, Optional, Tuple

SKIP, PLAIN, CONTAINER, BLOB, CLASS, FUNCTION, LRU = range(7)
"""Not to be looked into; of any kind; with elements and a length; bytes without referents; and what they say."""
LRU_TYPE = type(functools.lru_cache(maxsize=1)(lambda: None))
LARGE = 1 << 18
"""Bytes from which on one object is worth a line of its own."""

_type_dict = type.__dict__
_mro: Callable[[type], Optional[Tuple[type, ...]]] = _type_dict["__mro__"].__get__
_dict: Callable[[type], Any] = _type_dict["__dict__"].__get__
_qualname: Callable[[type], Any] = _type_dict["__qualname__"].__get__
_module: Callable[[type], Any] = _type_dict["__module__"].__get__
_flags: Callable[[type], int] = _type_dict["__flags__"].__get__
_HAVE_GC, _HEAP_TYPE, _GC_HEAD = 1 << 14, 1 << 9, 16

_BASES = (dict, list, set, frozenset, tuple, deque)
_BLOBS = (str, bytes, bytearray, memoryview)
_ATOMS = (
    *(int, float, complex, bool, type(None), type(Ellipsis), type(NotImplemented), range, slice),
    *(types.CodeType, types.ModuleType, types.BuiltinFunctionType, types.WrapperDescriptorType),
    *(types.MethodDescriptorType, types.MethodWrapperType, types.ClassMethodDescriptorType),
    *(types.GetSetDescriptorType, types.MemberDescriptorType, types.TracebackType),
)
_FARTHEST = 2_000_000

Length = Callable[[Any], int]
Size = Callable[[Any], int]


class Kinds:
    """What is known of each type, by its id(): a type's own hash may be the app's."""

    def __init__(self) -> None:
        self._kept: List[type] = []
        self.codes: Dict[int, int] = {}
        """A code by id(type); code() fills it."""
        self._bases: Dict[int, type] = {}
        self._sizes: Dict[int, Tuple[Size, int]] = {}
        for each in _ATOMS:
            self._note(each, SKIP)

    def code(self, kind: type) -> int:
        """SKIP, PLAIN, CONTAINER, BLOB, CLASS or FUNCTION."""
        found = self.codes.get(id(kind))
        return self._find(kind) if found is None else found

    def length(self, thing: Any) -> int:
        """Of a CONTAINER: its elements."""
        return _LENGTHS[self._base(type(thing))](thing)

    def base(self, thing: Any) -> type:
        """Of a CONTAINER: the type of CPython's that it is, or is derived from."""
        return self._base(type(thing))

    def size(self, thing: Any) -> int:
        """Bytes of this object alone; what a type in Python says of itself is not asked."""
        kind = type(thing)
        found = self._sizes.get(id(kind))
        if found is None:
            self.code(kind)
            found = self._sizes[id(kind)] = (
                _sizer(kind),
                _GC_HEAD if _flags(kind) & _HAVE_GC else 0,
            )
        try:
            size = found[0](thing)
        except Exception:  # a method in C that refuses an object which is not finished
            return 0
        return size + found[1] if type(size) is int and 0 <= size < 1 << 48 else found[1]

    def sample(self, thing: Any, most: int, new: Optional[int] = None) -> List[Any]:
        """At most `most` elements of a CONTAINER, spread over the `new` ones that came last; keys and values of a dict
        are two. Empty if it was changed meanwhile.
        """
        base = self._base(type(thing))
        length = _LENGTHS[base](thing)
        span = min(length, length if new is None else new)
        if span <= 0:
            return []
        step = max(1, span // most)
        try:
            if base is dict:
                items = itertools.islice(reversed(dict.items(thing)), 0, min(span, _FARTHEST), step)
                return [each for pair in itertools.islice(items, most) for each in pair]
            if base in (set, frozenset):
                every = itertools.islice(
                    base.__iter__(thing), 0, min(length, _FARTHEST), max(1, length // most)
                )
                return list(itertools.islice(every, most))
            get = _GETS[base]
            return [get(thing, place) for place in range(length - 1, length - span - 1, -step)][:most]
        except (RuntimeError, IndexError):
            return []

    def _base(self, kind: type) -> type:
        found = self._bases.get(id(kind))
        if found is None:
            self._find(kind)
            found = self._bases[id(kind)]
        return found

    def _find(self, kind: type) -> int:
        code = PLAIN
        for base in _BASES:
            # Of a true type this asks its real bases, and no metaclass.
            if issubclass(kind, base):
                self._bases[id(kind)] = base
                return self._note(kind, CONTAINER)
        if issubclass(kind, type):
            code = CLASS
        elif kind is types.FunctionType:
            code = FUNCTION
        elif kind is LRU_TYPE:
            code = LRU
        elif issubclass(kind, types.ModuleType):
            code = SKIP
        elif issubclass(kind, _BLOBS) or not _flags(kind) & _HAVE_GC:
            code = BLOB if issubclass(kind, _BLOBS) or _may_be_large(kind) else SKIP
        return self._note(kind, code)

    def _note(self, kind: type, code: int) -> int:
        self._kept.append(kind)
        self.codes[id(kind)] = code
        return code


_LENGTHS: Dict[type, Length] = {each: each.__len__ for each in _BASES}
_GETS: Dict[type, Callable[[Any, int], Any]] = {each: each.__getitem__ for each in (list, tuple, deque)}


def _may_be_large(kind: type) -> bool:
    """Of what the collector does not know, what has a size of its own to tell (numpy's arrays, io.BytesIO)."""
    return _sizer(kind) is not object.__sizeof__


def _sizer(kind: type) -> Size:
    for each in mro_of(kind):
        found = dict_of(each).get("__sizeof__")
        if type(found) is types.MethodDescriptorType:
            return found
    return object.__sizeof__


def mro_of(kind: type) -> Tuple[type, ...]:
    """The bases of a class, itself first. Those of a type that CPython 3.9 has not made ready are not known."""
    return _mro(kind) or ()


def dict_of(kind: type) -> Any:
    """What a class itself defines, by name."""
    return _dict(kind) or {}


def is_heap_type(kind: type) -> bool:
    """Whether a class statement has made it, or could have."""
    return bool(_flags(kind) & _HEAP_TYPE)


def type_name(kind: type) -> str:
    """`module.Class`, without the module for CPython's own."""
    module, name = _module(kind), _qualname(kind)
    name = name_of(name) or "?"
    module = name_of(module)
    return name if module in ("", "builtins") else f"{module}.{name}"


def module_of(kind: type) -> str:
    """The module that a class says it is of, "" if that is no name."""
    return name_of(_module(kind))


def name_of(text: Any) -> str:
    """A dotted name of identifiers, as CPython makes them (`view.<locals>.inner` too); "" for all else.

    What is no name might be a value of the app's.
    """
    if type(text) is not str or not 0 < len(text) <= 120:
        return ""
    for part in text.split("."):
        if not (part.isidentifier() or part in ("<locals>", "<lambda>", "<genexpr>", "<listcomp>")):
            return ""
    return text


def lru_bound(cache: Any) -> Optional[int]:
    """The most entries that an lru_cache takes, None for one without a bound."""
    found: Optional[int] = LRU_TYPE.cache_info(cache)[2]
    return found


def lru_parts(cache: Any) -> Tuple[List[Any], List[Any]]:
    """Of an lru_cache: its dictionaries and functions, and the keys and results of one with a bound.

    The entries of such a one are objects that the collector is not told of.
    """
    parts: List[Any] = []
    entries: List[Any] = []
    for each in gc.get_referents(cache):
        (parts if type(each) in (dict, types.FunctionType) and len(parts) < 8 else entries).append(each)
    return parts, entries


def base_of_array(thing: Any) -> Optional[Any]:
    """Of an array of numpy's that is a view: the object that holds its memory, which the collector is not told of."""
    kind = type(thing)
    if _qualname(kind) != "ndarray" or _module(kind) != "numpy":
        return None
    found = dict_of(kind).get("base")
    if type(found) is not types.GetSetDescriptorType:
        return None
    return found.__get__(thing)
