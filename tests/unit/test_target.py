"""Of "module:attribute": a module that is not the one that was meant, by where it came from."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from memunit.worker.problem import Unusable
from memunit.worker.target import load


@pytest.mark.parametrize(
    ("target", "origin"),
    [
        ("random:app", f"it was imported from {random.__file__}"),
        ("time:app", f"it is a module of {sys.executable}"),
        ("app_folder:app", "it is a folder without an __init__.py: {folder}/app_folder"),
    ],
)
def test_a_module_that_was_not_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, origin: str
) -> None:
    """An app's random.py, which the standard library's hides: "random has no attribute 'app'" was all that was said."""
    (tmp_path / "app_folder").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(Unusable) as raised:
        load(target)
    module = target.partition(":")[0]
    said = f"{module} has no attribute 'app' (from '{target}'; {origin.format(folder=tmp_path)})"
    assert str(raised.value) == said


def test_an_attribute_of_an_attribute_has_no_file() -> None:
    with pytest.raises(Unusable) as raised:
        load("sys:flags.app")
    assert str(raised.value) == "sys.flags has no attribute 'app' (from 'sys:flags.app')"
