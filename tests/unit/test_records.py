"""What is made by memunit.records behaves as what dataclasses makes of the same class."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Generic, TypeVar

import pytest

from memunit import records

T = TypeVar("T")


def both(test: Callable[[Any], Any]) -> None:
    """Each says the same of the same, or refuses it with an error of the same class's name."""

    def outcome(module: Any) -> Any:
        try:
            return test(module)
        except (TypeError, ValueError, AttributeError) as error:
            return type(error).__name__

    assert outcome(records) == outcome(dataclasses)


def point(module: Any, **how: Any) -> Any:
    """A class with all kinds of fields."""

    @module.dataclass(slots=True, **how)
    class Point:
        x: int
        y: int = 2
        tags: list[str] = module.field(default_factory=list, compare=False)
        hidden: str = module.field(default="h", repr=False)
        total: int = module.field(init=False, compare=False)
        made: list[int] = module.field(init=False, default_factory=list, repr=False)
        fixed: int = module.field(init=False, default=7)

        def __post_init__(self) -> None:
            object.__setattr__(self, "total", self.x + self.y)

    Point.__qualname__ = "Point"
    return Point


HOWS = [
    {},
    {"frozen": True},
    {"kw_only": True},
    {"eq": False},
    {"frozen": True, "eq": False},
    {"frozen": True, "kw_only": True},
]


@pytest.mark.parametrize("how", HOWS, ids=str)
@pytest.mark.parametrize(
    "arguments",
    [((1,), {}), ((1, 2, ["a"], "b"), {}), ((), {"x": 1, "tags": ["a"]}), ((), {}), ((1,), {"x": 1})],
    ids=str,
)
def test_an_object_is_made_and_shown_alike(how: dict[str, Any], arguments: Any) -> None:
    both(lambda module: repr(point(module, **how)(*arguments[0], **arguments[1])))
    both(lambda module: repr(point(module, **how)(*arguments[0], **arguments[1], total=3)))
    both(lambda module: repr(point(module, **how)(*arguments[0], **arguments[1], other=3)))


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_the_second_object_is_made_as_the_first(how: dict[str, Any]) -> None:
    def test(module: ModuleType) -> Any:
        kind = point(module, **how)
        first, second = kind(x=1), kind(x=1)
        assert first.tags is not second.tags
        return repr(first) == repr(second), first == second, first != second, first == 1

    both(test)


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_equality_and_hash_are_by_the_values_of_the_fields_that_count(how: dict[str, Any]) -> None:
    def test(module: ModuleType) -> Any:
        kind, other = point(module, **how), point(module, **how)
        same = kind(x=1) == kind(x=1, tags=["a"]), kind(x=1) == kind(x=2), kind(x=1) == other(x=1)
        if kind.__hash__ is None:
            return same, None
        return same, hash(kind(x=1, y=2, hidden="h")) == hash(kind(x=1))

    # A list is among the values that count: no hash.
    both(test)
    both(lambda module: hash(point(module, **how)(x=1)) and None)


def test_the_hash_is_that_of_the_values() -> None:
    @records.dataclass(slots=True, frozen=True)
    class One:
        x: int

    @records.dataclass(slots=True, frozen=True)
    class Two:
        x: int
        y: str

    @records.dataclass(slots=True, frozen=True)
    class Nothing:
        pass

    assert hash(One(1)) == hash((1,))
    assert hash(Two(1, "a")) == hash((1, "a"))
    assert hash(Nothing()) == hash(())
    assert Nothing() == Nothing()
    assert repr(Nothing()).endswith("Nothing()")
    assert {One(1), One(1), One(2)} == {One(2), One(1)}


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_a_frozen_object_refuses_change_and_one_with_slots_other_names(how: dict[str, Any]) -> None:
    def change(module: ModuleType) -> Any:
        made = point(module, **how)(x=1)
        made.x = 5
        return made.x

    def delete(module: ModuleType) -> Any:
        made = point(module, **how)(x=1)
        del made.x
        return hasattr(made, "x")

    def add(module: ModuleType) -> None:
        point(module, **how)(x=1).another = 5

    both(change)
    both(delete)
    with pytest.raises((AttributeError, TypeError)):
        add(records)
    assert not hasattr(point(records, **how)(x=1), "__dict__")


def test_the_error_of_a_frozen_object_names_the_field_and_the_class() -> None:
    with pytest.raises(records.FrozenInstanceError, match=r"'x': .*Point is frozen"):
        point(records, frozen=True)(x=1).x = 2


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_replace_and_fields_and_asdict(how: dict[str, Any]) -> None:
    def made(module: Any) -> Any:
        return point(module, **how)(x=1, tags=["a"])

    both(lambda module: repr(module.replace(made(module), x=5)))
    both(lambda module: repr(module.replace(made(module), unknown=5)))
    both(lambda module: module.asdict(made(module)))
    both(
        lambda module: [
            (each.name, each.type, each.init, each.repr, each.compare, each.kw_only)
            for each in module.fields(made(module))
        ]
    )
    both(lambda module: [each.default is module.MISSING for each in module.fields(point(module, **how))])
    both(lambda module: module.is_dataclass(made(module)) and module.is_dataclass(point(module, **how)))
    both(lambda module: module.is_dataclass(1) or module.is_dataclass(int))
    both(lambda module: module.fields(1))
    both(lambda module: point(module, **how).__match_args__)


def test_a_class_has_the_fields_of_its_bases_first() -> None:
    def test(module: Any) -> Any:
        @module.dataclass(slots=True, frozen=True)
        class Base:
            x: int
            y: int = 2

        @module.dataclass(slots=True, frozen=True)
        class Derived(Base):
            z: int = 3
            y: int = 4

        class Plain(Derived):
            pass

        base: Any = Base
        derived: Any = Derived
        plain: Any = Plain
        made = derived(1), derived(1, 5, 6), plain(1), base(1), derived(1) == base(1), plain(1) == derived(1)
        names = [each.name for each in module.fields(derived)], derived.__match_args__, base.__match_args__
        return [str(each).rpartition(".")[2] for each in made], names, derived.__slots__

    both(test)


def test_a_generic_class_stays_one() -> None:
    def test(module: Any) -> Any:
        @module.dataclass(slots=True, frozen=True)
        class Box(Generic[T]):
            content: T

        made: Any = Box
        return made[int](3).content, made(3) == made[int](3), str(made[int]).rpartition(".")[2]

    # The first versions of Python 3.11 raise TypeError with dataclasses, where typing sets __orig_class__.
    assert test(records) == (3, True, "Box[int]")


def test_a_match_takes_the_fields_in_order() -> None:
    kind = point(records, frozen=True)
    match kind(1, 5):
        case kind(x, y):
            assert (x, y) == (1, 5)


def test_what_a_class_says_itself_stands() -> None:
    def test(module: Any) -> Any:
        @module.dataclass(slots=True, frozen=True)
        class Own:
            x: int

            def __repr__(self) -> str:
                return "mine"

            def __eq__(self, other: object) -> bool:
                return True

            def __hash__(self) -> int:
                return 5

        own: Any = Own
        return repr(own(1)), own(1) == own(2), hash(own(1))

    both(test)


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_a_copy_is_equal(how: dict[str, Any]) -> None:
    def test(module: ModuleType) -> Any:
        made = point(module, **how)(x=1, tags=["a"])
        return repr(copy.copy(made)), repr(copy.deepcopy(made))

    both(test)


@records.dataclass(slots=True, frozen=True)
class Sent:
    """At the top of a module, as what is pickled has to be."""

    x: int
    y: str = "b"


def test_an_object_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(Sent(1))) == Sent(1)


def test_a_wrong_class_is_refused_where_it_is_defined() -> None:
    def order(module: Any) -> None:
        @module.dataclass(slots=True)
        class Wrong:
            x: int = 1
            y: int

    def later(module: Any) -> None:
        @module.dataclass(slots=True)
        class Base:
            x: int = 1

        @module.dataclass(slots=True)
        class Wrong(Base):
            y: int

    def by_name(module: Any) -> str:
        @module.dataclass(slots=True, kw_only=True)
        class Right:
            x: int = 1
            y: int

        right: Any = Right
        return repr(right(y=2)).rpartition(".")[2]

    both(order)
    both(later)
    both(by_name)
    with pytest.raises(TypeError, match=r"Wrong\.y has no default, and x before it has one"):
        order(records)


def test_a_default_that_can_change_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Wrong\.x has a default that can change: say default_factory="):

        @records.dataclass(slots=True)
        class Wrong:
            x: list[int] = []  # noqa: RUF012  that is the test


def test_it_imports_neither_dataclasses_nor_inspect() -> None:
    code = "import sys; import memunit.records; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"dataclasses", "inspect"} & set(loaded.stdout.split())
