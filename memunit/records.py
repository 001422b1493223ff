"""What memunit uses of the module dataclasses, by the same names, at little cost until a class has its first object.

A master defines 140 such classes before it starts its first worker, and makes objects of only a few of them. The module
dataclasses compiles up to six methods where a class is defined, and imports inspect: half of the time that a master's
imports took (docs/speed.md). Here __init__ is compiled for the first object, and the other methods are not compiled at
all.

Type checkers are shown the module dataclasses itself. Not supported: ClassVar, InitVar, order=, classes without slots.
"""

import operator
from typing import TYPE_CHECKING, Any

__all__ = [
    "MISSING",
    "Field",
    "FrozenInstanceError",
    "asdict",
    "dataclass",
    "field",
    "fields",
    "is_dataclass",
    "replace",
]

if TYPE_CHECKING:
    from dataclasses import (
        MISSING,
        Field,
        FrozenInstanceError,
        asdict,
        dataclass,
        field,
        fields,
        is_dataclass,
        replace,
    )
else:

    class FrozenInstanceError(AttributeError):
        """Somebody wants to change an object of a frozen class."""

    class _Missing:
        def __repr__(self) -> str:
            return "MISSING"

    MISSING = _Missing()

    class Field:
        """A field as it was declared. `default` and `default_factory` are MISSING where there is none."""

        __slots__ = ("compare", "default", "default_factory", "init", "kw_only", "name", "repr", "type")

        def __init__(self, default: Any, default_factory: Any, init: bool, repr: bool, compare: bool) -> None:
            self.name = ""
            self.type: Any = None
            self.default = default
            self.default_factory = default_factory
            self.init = init
            self.repr = repr
            self.compare = compare
            self.kw_only = False

        @property
        def optional(self) -> bool:
            """Whether its argument may be left out."""
            return self.default is not MISSING or self.default_factory is not MISSING

    def field(
        *,
        default: Any = MISSING,
        default_factory: Any = MISSING,
        init: bool = True,
        repr: bool = True,
        compare: bool = True,
    ) -> Any:
        """What is written in the place of a default: see dataclasses.field()."""
        return Field(default, default_factory, init, repr, compare)

    def dataclass(*, slots: bool, frozen: bool = False, kw_only: bool = False, eq: bool = True) -> Any:
        """Make a class with named fields from the decorated class: see dataclasses.dataclass().

        Raises TypeError for a field without a default after one that has a default, or for a default that can change.
        """
        assert slots, "classes without slots are left to dataclasses"
        return lambda decorated: _with_slots(decorated, frozen, kw_only, eq)

    def is_dataclass(what: Any) -> bool:
        """Whether it is such a class, or an object of one."""
        return hasattr(what, "__record_fields__")

    def fields(what: Any) -> "tuple[Field, ...]":
        """The fields of such a class, or of an object of one. Raises TypeError for all else."""
        try:
            return what.__record_fields__
        except AttributeError:
            raise TypeError(f"{what!r} is no dataclass") from None

    def replace(what: Any, /, **changes: Any) -> Any:
        """An object of the same class, equal but for `changes`."""
        for each in fields(what):
            if each.init and each.name not in changes:
                changes[each.name] = getattr(what, each.name)
        return type(what)(**changes)

    def asdict(what: Any) -> dict[str, Any]:
        """The values by the fields' names. A value that is such an object becomes a dict; one in a list does not."""
        values = {each.name: getattr(what, each.name) for each in fields(what)}
        return {name: asdict(value) if is_dataclass(value) else value for name, value in values.items()}

    def _with_slots(decorated: type, frozen: bool, kw_only: bool, eq: bool) -> type:
        """Make a new class, because __slots__ has no effect on a class that exists."""
        inherited = {
            each.name: each
            for base in reversed(decorated.__bases__)
            for each in getattr(base, "__record_fields__", ())
        }
        contents = dict(decorated.__dict__)
        for name in ("__dict__", "__weakref__"):
            contents.pop(name, None)
        own = [_declared(decorated, name, kind, contents) for name, kind in decorated.__annotations__.items()]
        for each in own:
            each.kw_only = kw_only
        every = tuple((inherited | {each.name: each for each in own}).values())
        _check_order(decorated, every)
        contents["__slots__"] = tuple(each.name for each in own if each.name not in inherited)
        contents["__record_fields__"] = every
        contents["__match_args__"] = tuple(each.name for each in every if each.init and not each.kw_only)
        contents.setdefault("__repr__", _repr)
        contents["__getstate__"], contents["__setstate__"] = _state, _set_state
        if frozen:
            contents["__setattr__"] = contents["__delattr__"] = _refuse
        if eq and "__eq__" not in contents:
            contents["__eq__"], hashed = _comparing(tuple(each.name for each in every if each.compare))
            contents["__hash__"] = hashed if frozen else None
        made: Any = type(decorated)(decorated.__name__, decorated.__bases__, contents)
        made.__qualname__ = decorated.__qualname__

        def first(self: Any, *arguments: Any, **named: Any) -> None:
            made.__init__ = _init(made)
            made.__init__(self, *arguments, **named)

        made.__init__ = first
        return made

    def _declared(decorated: type, name: str, kind: Any, contents: dict[str, Any]) -> Field:
        # The name belongs to a slot now.
        found = contents.pop(name, MISSING)
        made = found if isinstance(found, Field) else field(default=found)
        if type(made.default).__hash__ is None:
            raise TypeError(
                f"{decorated.__name__}.{name} has a default that can change: say default_factory="
            )
        made.name, made.type = name, kind
        return made

    def _check_order(decorated: type, every: "tuple[Field, ...]") -> None:
        optional = ""
        for each in every:
            if not each.init or each.kw_only:
                continue
            if optional and not each.optional:
                raise TypeError(
                    f"{decorated.__name__}.{each.name} has no default, and {optional} before it has one"
                )
            optional = optional or (each.name if each.optional else "")

    def _init(made: type) -> Any:
        """Compile __init__ of the class. In a frozen class it sets slots by their descriptors: setattr() is refused."""
        frozen = made.__setattr__ is _refuse
        known: dict[str, Any] = {"MISSING": MISSING}
        arguments: dict[bool, list[str]] = {False: [], True: []}
        lines = []
        for each in made.__record_fields__:
            name, value = each.name, each.name
            if frozen:
                known[f"__set_{name}"] = getattr(made, name).__set__
            if each.default_factory is not MISSING:
                known[f"__make_{name}"] = each.default_factory
                value = f"__make_{name}()" + (f" if {name} is MISSING else {name}" if each.init else "")
            elif each.default is not MISSING:
                known[f"__default_{name}"] = each.default
                value = name if each.init else f"__default_{name}"
            elif not each.init:
                continue
            lines.append(f"    __set_{name}(self, {value})" if frozen else f"    self.{name} = {value}")
            if each.init:
                default = "MISSING" if each.default_factory is not MISSING else f"__default_{name}"
                arguments[each.kw_only].append(f"{name}={default}" if each.optional else name)
        named = ["*", *arguments[True]] if arguments[True] else []
        if hasattr(made, "__post_init__"):
            lines.append("    self.__post_init__()")
        head = f"def __init__({', '.join(['self', *arguments[False], *named])}):"
        exec("\n".join([head, *(lines or ["    pass"])]), known)  # noqa: S102  as dataclasses does
        init = known["__init__"]
        init.__qualname__ = f"{made.__qualname__}.__init__"
        return init

    def _comparing(names: tuple[str, ...]) -> tuple[Any, Any]:
        """__eq__ and __hash__ by the values of these fields."""
        if len(names) > 1:
            values = operator.attrgetter(*names)
        elif names:
            value = operator.attrgetter(*names)

            def values(what: Any) -> tuple[Any, ...]:
                return (value(what),)
        else:

            def values(what: Any) -> tuple[Any, ...]:
                return ()

        def equal(self: Any, other: Any) -> Any:
            return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

        def hashed(self: Any) -> int:
            return hash(values(self))

        return equal, hashed

    def _repr(self: Any) -> str:
        shown = (f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if each.repr)
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def _refuse(self: Any, name: str, *_value: Any) -> None:
        raise FrozenInstanceError(f"can't change {name!r}: {type(self).__qualname__} is frozen")

    def _state(self: Any) -> list[Any]:
        return [getattr(self, each.name) for each in fields(self)]

    def _set_state(self: Any, state: list[Any]) -> None:
        for each, value in zip(fields(self), state, strict=True):
            object.__setattr__(self, each.name, value)
