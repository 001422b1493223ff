"""The line of an app's source that defines the holder of a leak, and those that add to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from memunit.cli.places import Place, contents, lines_of, place_of

SOURCE = b"""\
import functools

SEEN = {}
LIMIT: int = 3
try:
    import fast
except ImportError:
    HOOKS = []


class Product:
    every: list = []

    def __init__(self):
        Product.every.append(self)
        self.every.extend([])


@functools.lru_cache
def price(number):
    SEEN[number] = LIMIT
    print(SEEN[number])
    return SEEN.setdefault(number, 1)


def count():
    counted = []

    def hook():
        counted.append(1)

    HOOKS.append(hook)
    return hook


session = Session()
"""


@pytest.mark.parametrize(
    ("holder", "line", "adds"),
    [
        ("SEEN", 3, (21, 23)),
        ("LIMIT", 4, ()),
        ("HOOKS", 8, (32,)),
        ("Product.every", 12, (15, 16)),
        ("price", 20, ()),
        ("count:counted", 27, (30,)),
        ("count.<locals>.hook", 29, ()),
        ("session.cache", 36, ()),
        ("SEEN[…]", 3, (21, 23)),
    ],
)
def test_what_is_there(tmp_path: Path, holder: str, line: int, adds: tuple[int, ...]) -> None:
    file = tmp_path / "shop" / "cache.py"
    file.parent.mkdir()
    file.write_bytes(SOURCE)
    assert place_of(f"shop.cache.{holder}", ["/nowhere", str(tmp_path)]) == Place(str(file), line, adds)
    file.rename(tmp_path / "shop" / "__init__.py")
    package = place_of(f"shop.{holder}", [str(tmp_path)])
    assert package == Place(str(tmp_path / "shop" / "__init__.py"), line, adds)


def test_in_words() -> None:
    assert str(Place("/srv/shop.py", 3, ())) == "/srv/shop.py, line 3"
    assert str(Place("/srv/shop.py", 3, (7,))) == "/srv/shop.py, line 3; line 7 adds to it"
    assert str(Place("/srv/shop.py", 3, (7, 9, 11))) == "/srv/shop.py, line 3; lines 7, 9 and 11 add to it"


@pytest.mark.parametrize(
    "holder", ["", "shop", ".", "shop.cache.NONE", "../etc/passwd", "shop.cache. ", "a/b.c", "..SEEN"]
)
def test_what_is_not_there(tmp_path: Path, holder: str) -> None:
    (tmp_path / "shop.py").write_bytes(SOURCE)
    assert place_of(holder, [str(tmp_path)]) is None


@pytest.mark.parametrize(
    "source", [b"SEEN = {", b"\0", b"\xff\xfe", b"(" * 5000, b"SEEN = " + b"-" * 60000 + b"1"]
)
def test_source_that_no_python_reads(source: bytes) -> None:
    assert lines_of(source, ["NONE"]) is None


def test_no_link_and_no_fifo_is_read(tmp_path: Path) -> None:
    (tmp_path / "real.py").write_bytes(SOURCE)
    (tmp_path / "link.py").symlink_to(tmp_path / "real.py")
    os.mkfifo(tmp_path / "pipe.py")
    assert place_of("link.SEEN", [str(tmp_path)]) is None
    assert contents(tmp_path / "pipe.py") == b""
