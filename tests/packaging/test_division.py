"""Each booted test runs in one kind of machine, whichever kinds can be had."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path

import pytest

MARKS = ("native", "pressure", "parallel")
LIBRARY = Path(__file__).resolve().parents[2] / "packaging" / "lib"


def machines(monkeypatch: pytest.MonkeyPatch, without: set[str], marks: set[str]) -> list[str]:
    """The kinds that a test with these marks goes to."""
    monkeypatch.syspath_prepend(str(LIBRARY))
    division = importlib.import_module("booted").division(without)
    has = {mark: mark in marks for mark in MARKS}
    # pytest's expressions of marks are Python's.
    return [kind for kind, words in division.items() if not words or eval(words, {}, has)]


@pytest.mark.parametrize(
    "without",
    [set(), {"nspawn"}, {"uml"}, {"nspawn", "uml"}],
    ids=lambda each: "+".join(sorted(each)) or "all",
)
@pytest.mark.parametrize("has", list(itertools.product((False, True), repeat=len(MARKS))), ids=str)
def test_a_test_goes_to_one_kind_of_machine(
    monkeypatch: pytest.MonkeyPatch, without: set[str], has: tuple[bool, ...]
) -> None:
    marks = {mark for mark, there in zip(MARKS, has, strict=True) if there}
    (kind,) = machines(monkeypatch, without, marks)
    assert kind not in without


@pytest.mark.parametrize(
    ("without", "marks", "kind"),
    [
        (set(), set(), "uml"),
        (set(), {"native"}, "nspawn"),
        (set(), {"pressure"}, "qemu"),
        (set(), {"native", "parallel"}, "qemu"),
        ({"nspawn"}, {"native"}, "uml"),
        ({"uml"}, set(), "qemu"),
        ({"uml"}, {"native"}, "nspawn"),
        ({"nspawn", "uml"}, {"native"}, "qemu"),
    ],
)
def test_it_is_the_one_that_has_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, without: set[str], marks: set[str], kind: str
) -> None:
    assert machines(monkeypatch, without, marks) == [kind]
