"""Typed values to JSON and back: the state, facts and actions, for the recorder, its replay and what a master leaves.

The types are the schema. A dataclass is an object in which a field that has its default is left out. Where several
dataclasses are possible, it is an array: the name of the class, then its fields. An infinite number is the text "inf"
or "-inf", and no number is "nan": JSON has none of them (RFC 8259, 6). A mapping is an object if its keys are texts,
and else an array of pairs; the order of either is kept.
"""

import binascii
import enum
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from memunit import records
from memunit.core.codec_forms import (
    SCALARS,
    CodecError,
    Field,
    Form,
    enumeration,
    fixed,
    mapping,
    record,
    row,
    tagged,
    union,
)

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
T = TypeVar("T")
_JSON = json.JSONEncoder(separators=(",", ":"), check_circular=False, allow_nan=False)


class Codec(Generic[T]):
    """Writes and reads values of one type: a dataclass, or any other type that is made of what is written above.

    Raises TypeError for a type that can't be written.
    """

    def __init__(self, kind: Any) -> None:
        compiler = _Compiler()
        self._form = compiler.form(kind)
        described = "\n".join([self._form.name, *sorted(compiler.described.values())])
        self.version = f"{binascii.crc32(described.encode()):08x}"
        """Changes whenever the type, a type in it, or the default of a field does. Data of another version may still
        be read, and then mean something else."""

    def encode(self, value: T) -> Any:
        """The value as JSON's own types; what it consists of is shared and not copied where it can be."""
        return self._form.write(value)

    def decode(self, data: Any) -> T:
        """The value of what `encode` has given. Raises CodecError for all else, a field that is not known included."""
        value: T = self._form.read(data)
        return value

    def dumps(self, value: T) -> str:
        """The value as a text of one line."""
        return _JSON.encode(self._form.write(value))

    def loads(self, text: str | bytes) -> T:
        """The value of such a text. Raises CodecError for any other text."""
        return self.decode(parse(text))


def parse(text: str | bytes) -> Any:
    """JSON's types of a text. Raises CodecError for what is no JSON, however deep it is nested."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"no JSON: {type(error).__name__}: {str(error)[:100]}") from None


def dumps(data: Any) -> str:
    """The text of one line of JSON's own types. Raises ValueError for a number that JSON does not have."""
    return _JSON.encode(data)


class _Compiler:
    """Makes the forms of a type and of all in it; a dataclass once, so that it may contain itself."""

    def __init__(self) -> None:
        self.described: dict[type, str] = {}
        self._objects: dict[type, Form] = {}
        self._arrays: dict[type, Form] = {}

    def form(self, kind: Any) -> Form:
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin in (typing.Union, types.UnionType):
            return self._one_of(arguments)
        if origin is tuple and arguments[1:] == (...,):
            return row(self.form(arguments[0]), tuple)
        if origin is list:
            return row(self.form(arguments[0]), list)
        if origin is tuple:
            return fixed(tuple, [self.form(each) for each in arguments], tuple)
        if origin in (dict, Mapping):
            return mapping(self.form(arguments[0]), self.form(arguments[1]), arguments[0])
        if isinstance(kind, type):
            return self._class(kind)
        raise TypeError(f"{kind!r} can't be written as JSON")

    def _class(self, kind: type) -> Form:
        if kind in SCALARS:
            return SCALARS[kind]
        if issubclass(kind, enum.Enum):
            return enumeration(kind)
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            hints = typing.get_type_hints(kind)
            forms = [self.form(hints[name]) for name in kind._fields]
            return fixed(kind, forms, lambda values: kind(*values))
        if records.is_dataclass(kind):
            return self._one_of((kind,)) if kind.__subclasses__() else self._record(kind)
        raise TypeError(f"{kind!r} can't be written as JSON")

    def _one_of(self, kinds: Sequence[Any]) -> Form:
        """Of several types; a lone dataclass, perhaps beside other types, is still an object."""
        classes = [each for kind in kinds for each in _family(kind)]
        if len(classes) < 2:
            forms = [self.form(kind) for kind in kinds]
            return forms[0] if len(forms) == 1 else union({}, forms)
        arrays = {each.__name__: self._tagged(each) for each in classes}
        if len(arrays) < len(classes):
            raise TypeError(f"two of {classes!r} have one name")
        return union(arrays, [self.form(kind) for kind in kinds if not _family(kind)])

    def _fields(self, kind: type) -> list[Field]:
        hints = typing.get_type_hints(kind)
        # A field that is no argument of the class is made of those that are.
        fields = [Field(each, self.form(hints[each.name])) for each in records.fields(kind) if each.init]
        self.described[kind] = f"{kind.__name__}({', '.join(map(str, fields))})"
        return fields

    def _record(self, kind: type) -> Form:
        if kind not in self._objects:
            fields: list[Field] = []
            self._objects[kind] = record(kind, fields)
            fields += self._fields(kind)
        return self._objects[kind]

    def _tagged(self, kind: type) -> Form:
        if kind not in self._arrays:
            fields: list[Field] = []
            self._arrays[kind] = tagged(kind, fields)
            fields += self._fields(kind)
        return self._arrays[kind]


def _family(kind: Any) -> list[type]:
    """The dataclasses that a value of this type may be an instance of: it, or else all that derive from it."""
    if not (isinstance(kind, type) and records.is_dataclass(kind)):
        return []
    # A class with slots is made twice, and the first of the two may still be there: the last counts.
    derived = {(each.__module__, each.__qualname__): each for each in kind.__subclasses__()}
    return [found for each in derived.values() for found in _family(each)] or [kind]
