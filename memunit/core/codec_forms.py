"""How values are written as JSON and read from it, type by type: what codec.py puts together."""

import enum
import math
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from memunit import records

Function = Callable[[Any], Any]
_ODD = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
# JSON has whole numbers of any size, and Python reads NaN and Infinity in it, which are written as texts here.
_MOST = math.nextafter(math.inf, 0.0)


class CodecError(ValueError):
    """Data that is not what its type says. `path` names the place, as in "workers[0][1].phase"; "" is the whole."""

    def __init__(self, message: str, place: str = "") -> None:
        self.message, self._place = message, place
        self.path = place.removeprefix(".")
        super().__init__(f"{self.path}: {message}" if place else message)

    def within(self, place: str) -> "CodecError":
        """The same error, seen from the value that has this one at `place`: ".field" or "[index]"."""
        return CodecError(self.message, place + self._place)


class Form(NamedTuple):
    """How values of one type are written and read: values whose class is one of `kinds`. `plain`: as they are."""

    name: str
    kinds: tuple[type, ...]
    write: Function
    read: Function
    plain: bool = False


class Field:
    """A field of a dataclass, its form, and its default (MISSING for none)."""

    def __init__(self, field: "records.Field[Any]", form: Form) -> None:
        self.name, self.form, self.keyword = field.name, form, field.kw_only
        make: Any = field.default_factory
        self.default = field.default if make is records.MISSING else make()

    @property
    def optional(self) -> bool:
        return self.default is not records.MISSING

    def is_default(self, value: Any) -> bool:
        """By type too: 1 is no default of True."""
        return type(value) is type(self.default) and bool(value == self.default)

    def __str__(self) -> str:
        default = f" = {self.form.write(self.default)!r}" if self.optional else ""
        return f"{self.name}: {self.form.name}{default}"


def _expect(data: Any, kind: type | tuple[type, ...], what: str) -> None:
    if not isinstance(data, kind):
        raise CodecError(f"{_shown(data)} is not {what}")


def _shown(data: Any) -> str:
    text = repr(data)
    return text if len(text) <= 60 else text[:57] + "..."


def _same(value: Any) -> Any:
    return value


def _scalar(kind: type, what: str) -> Form:
    def read(data: Any) -> Any:
        if type(data) is not kind:
            raise CodecError(f"{_shown(data)} is not {what}")
        return data

    return Form(kind.__name__, (kind,), _same, read, plain=True)


def _write_float(value: float) -> Any:
    if math.isfinite(value):
        return float(value)
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def _read_float(data: Any) -> float:
    if type(data) in (float, int) and abs(data) <= _MOST:
        return float(data)
    if type(data) is str and data in _ODD:
        return _ODD[data]
    raise CodecError(f"{_shown(data)} is not a number")


SCALARS: dict[Any, Form] = {
    bool: _scalar(bool, "true or false"),
    int: _scalar(int, "a whole number"),
    str: _scalar(str, "a text"),
    float: Form("float", (float, int), _write_float, _read_float),
    types.NoneType: _scalar(types.NoneType, "null"),
}


def enumeration(kind: type[enum.Enum]) -> Form:
    """By value, whose type is kept: "1" is not 1. By name where a value is no text and no number."""
    plain = all(type(member.value) in (str, int) for member in kind)
    words = {member: member.value if plain else member.name for member in kind}
    known = {(type(word), word): member for member, word in words.items()}

    def read(data: Any) -> Any:
        try:
            return known[type(data), data]
        except (KeyError, TypeError):
            raise CodecError(f"{_shown(data)} is no {kind.__name__}") from None

    names = ", ".join(map(repr, words.values()))
    return Form(f"{kind.__name__}[{names}]", (kind,), words.__getitem__, read)


def _each(form: Form, data: Sequence[Any]) -> list[Any]:
    values: list[Any] = []
    try:
        for item in data:
            values.append(form.read(item))
    except CodecError as error:
        raise error.within(f"[{len(values)}]") from None
    return values


def row(item: Form, make: type) -> Form:
    def read(data: Any) -> Any:
        _expect(data, (list, tuple), "an array")
        return make(_each(item, data))

    write = _same if item.plain else lambda values: list(map(item.write, values))
    return Form(f"{make.__name__}[{item.name}]", (make,), write, read, item.plain)


def fixed(kind: type, items: list[Form], make: Function) -> Form:
    readers = [form.read for form in items]

    def read(data: Any) -> Any:
        _expect(data, (list, tuple), "an array")
        if len(data) != len(items):
            raise CodecError(f"{_shown(data)} has not {len(items)} items")
        try:
            return make([read(item) for read, item in zip(readers, data, strict=True)])
        except CodecError:
            # Once more, to say where.
            return make([_at(f"[{index}]", form, data[index]) for index, form in enumerate(items)])

    def write(values: Any) -> Any:
        return [form.write(value) for form, value in zip(items, values, strict=True)]

    plain = all(form.plain for form in items)
    described = f"{kind.__name__}[{', '.join(form.name for form in items)}]"
    return Form(described, (kind,), _same if plain else write, read, plain)


def _at(place: str, form: Form, data: Any) -> Any:
    try:
        return form.read(data)
    except CodecError as error:
        raise error.within(place) from None


def mapping(key: Form, value: Form, kind: Any) -> Form:
    enumeration = isinstance(kind, type) and issubclass(kind, enum.Enum)
    texts = kind is str or (enumeration and all(isinstance(member.value, str) for member in kind))

    def read(data: Any) -> Any:
        if texts:
            _expect(data, dict, "an object")
            pairs = list(data.items())
        else:
            _expect(data, (list, tuple), "an array of pairs")
            pairs = data
        found = {}
        for index, pair in enumerate(pairs):
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise CodecError(f"{_shown(pair)} is not a pair", f"[{index}]")
            name = _at(f"[{index}]", key, pair[0])
            if name in found:
                raise CodecError(f"{_shown(pair[0])} is there twice", f"[{index}]")
            found[name] = _at(f"[{_shown(pair[0])}]", value, pair[1])
        return found

    def write(values: Any) -> Any:
        pairs = [(key.write(name), value.write(each)) for name, each in values.items()]
        return dict(pairs) if texts else pairs

    return Form(f"dict[{key.name}, {value.name}]", (dict, types.MappingProxyType), write, read)


def record(kind: type, fields: list[Field]) -> Form:
    def write(value: Any) -> Any:
        data = {}
        for field in fields:
            found = getattr(value, field.name)
            if not field.is_default(found):
                data[field.name] = field.form.write(found)
        return data

    def read(data: Any) -> Any:
        _expect(data, dict, f"an object with the fields of {kind.__name__}")
        found = {}
        for field in fields:
            if field.name in data:
                found[field.name] = _at(f".{field.name}", field.form, data[field.name])
            elif not field.optional:
                raise CodecError(f"{kind.__name__} has no {field.name!r}")
        if len(found) < len(data):
            raise CodecError(f"{kind.__name__} knows no field {sorted(data.keys() - found.keys())[0]!r}")
        return _make(kind, found)

    return Form(kind.__name__, (kind,), write, read)


def tagged(kind: type, fields: list[Field]) -> Form:
    name = kind.__name__

    def write(value: Any) -> Any:
        return [name, *[field.form.write(getattr(value, field.name)) for field in fields]]

    def read(data: Any) -> Any:
        items = data[1:]
        if len(items) != len(fields):
            raise CodecError(f"{name} has {len(fields)} fields, and not {len(items)}")
        try:
            found = {field.name: field.form.read(item) for field, item in zip(fields, items, strict=True)}
        except CodecError:
            # Once more, to say where.
            found = {
                field.name: _at(f".{field.name}", field.form, item)
                for field, item in zip(fields, items, strict=True)
            }
        return _make(kind, found)

    return Form(name, (kind,), write, read)


def _make(kind: type, named: dict[str, Any]) -> Any:
    try:
        return kind(**named)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise CodecError(f"{kind.__name__}: {error}") from None


def union(arrays: dict[str, Form], others: list[Form]) -> Form:
    forms = [*arrays.values(), *others]
    writers = {kind: form.write for form in forms for kind in form.kinds}
    names = " | ".join(form.name for form in forms)
    alone = [form for form in others if form.kinds != (types.NoneType,)]

    def write(value: Any) -> Any:
        return writers[type(value)](value)

    def read(data: Any) -> Any:
        if arrays and isinstance(data, list | tuple) and data and isinstance(data[0], str):
            if data[0] not in arrays:
                raise CodecError(f"{_shown(data[0])} is none of {names}")
            return _at(f".{data[0]}", arrays[data[0]], data)
        if data is None and len(alone) < len(others):
            return None
        if len(alone) == 1 and not arrays:
            return alone[0].read(data)
        for form in others:
            try:
                return form.read(data)
            except CodecError:
                continue
        raise CodecError(f"{_shown(data)} is none of {names}")

    plain = all(form.plain for form in forms)
    return Form(names, tuple(writers), _same if plain else write, read, plain)
