"""What tests/run says at its end: each test that failed, by name, with what it said."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LIBRARY = Path(__file__).resolve().parents[2] / "packaging" / "lib"
TESTS = """
import pytest

@pytest.fixture
def untidy():
    yield
    raise OSError("a worker is left")

def test_good(): pass

def test_bad(): assert [1,
                        2] == []

def test_long(request):
    request.node.user_properties.append(("the journal", "one | two"))
    raise ValueError("first " + "x" * 9000 + " last")

@pytest.mark.parametrize("one", ["a::b"])
def test_untidy(one, untidy): pass

@pytest.mark.skip
def test_skipped(): pass
"""
SECONDS = 120


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(LIBRARY))
    return importlib.import_module("counting")


def report_of(folder: Path) -> tuple[Path, int]:
    (folder / "tests").mkdir()
    (folder / "tests" / "test_it.py").write_text(TESTS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir=.",
        "--junitxml=out",
    ]
    done = subprocess.run([*command, "tests"], cwd=folder, check=False, capture_output=True, timeout=SECONDS)
    return folder / "out", done.returncode


def test_each_failure_is_named_in_one_line(counting: Any, tmp_path: Path) -> None:
    count = counting.of_report(*report_of(tmp_path), "Debian 12")
    assert count.failures[0].startswith("tests/test_it.py::test_bad (Debian 12): assert [1, 2] == []")
    assert count.failures[0].endswith("(at tests/test_it.py:11)")
    assert re.search(
        r"first x{50,}.* last \(at tests/test_it\.py:16\) the journal: one \| two$", count.failures[1]
    )
    assert len(count.failures[1]) < 1500
    assert count.failures[2].startswith("tests/test_it.py::test_untidy[a::b] (Debian 12): failed on teardown")
    assert "a worker is left" in count.failures[2]
    assert len(count.failures) == 3
    assert "\n" not in "".join(count.failures)


def test_counts_add_up_with_their_failures(counting: Any) -> None:
    count = counting.Count
    both = count(1, 1, 0, "", ["one"]) + count(2, 1, 1, "late", ["two"])
    assert both == count(3, 2, 1, "late", ["one", "two"])
