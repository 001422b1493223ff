"""Tables at every width, with python3-rich and without, for a terminal and for a pipe."""
# ruff: noqa: E501  a row is a line

from __future__ import annotations

import io
import os
import re
import sys

import pytest

from memunit.cli import tables
from memunit.cli.tables import Cell, Column, bar, render, sparks
from memunit.cli.terminal import Terminal, emit, terminal

COLUMNS = (
    Column("INSTANCE"),
    Column("READY", right=True),
    Column("MEMORY", rank=3),
    Column("RECYCLED/H", rank=1),
    Column("LAST TROUBLE"),
)
ROWS = [
    [Cell("shop", "bold"), Cell("2/2", "good"), Cell("████ 62M/100M"), Cell("12 memory-limit"), Cell("-")],
    [Cell("a-long-name", "bold"), Cell("0/2", "bad"), Cell("-"), Cell("0"), Cell("nothing serves: " + "word " * 12, "bad")],
    [Cell("evil"), Cell("1/1"), Cell("\x1b[2J"), Cell("0"), Cell("[bold]no markup[/bold] :smile: \x1b]0;x\x07", "bad")],
]  # fmt: skip
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(params=["rich", "plain"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways, whether this machine has the library or not."""
    if request.param == "rich":
        pytest.importorskip("rich")
    monkeypatch.setattr(tables, "_has_rich", lambda: request.param == "rich")
    return str(request.param)


@pytest.mark.parametrize("width", [20, 30, 43, 44, 60, 80, 132, 500])
@pytest.mark.parametrize("colour", [True, False])
def test_every_width(way: str, width: int, colour: bool) -> None:
    text = render(COLUMNS, ROWS, Terminal(width, colour))
    assert text.endswith("\n")
    bare = ANSI.sub("", text)
    assert max(map(len, bare.splitlines())) <= width, bare
    assert (bare != text) == colour
    assert all(line.isprintable() for line in bare.splitlines()), bare
    for name in ("shop", "a-long-name", "evil"):
        assert name in bare
    assert "[bold]nomarkup[/bold]:smile:" in "".join(bare.split())
    assert bare.count("word") == 12


def test_both_ways_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    said = []
    for has in (True, False):
        monkeypatch.setattr(tables, "_has_rich", lambda has=has: has)
        said.append(render(COLUMNS, ROWS, Terminal(100)).split())
    assert said[0] == said[1]


def test_in_a_pipe_a_row_is_a_line() -> None:
    assert len(render(COLUMNS, ROWS, Terminal(None)).splitlines()) == 1 + len(ROWS)


def test_bars_and_sparks() -> None:
    wide, plain = Terminal(80), Terminal(80, unicode=False)
    assert bar(0.5, 8, wide) == "████░░░░"
    assert bar(0.5, 8, plain) == "####...."
    assert bar(-1, 4, wide) == "░░░░"
    assert bar(9, 4, wide) == "████"
    assert sparks([0, 1, 8], wide) == " ▂█"
    assert sparks([0, 0], wide) == "  "
    assert sparks([0, 1, 8], plain).isascii()
    assert len(sparks([0.001, 5000], wide)) == 2


class Stream(io.StringIO):
    """A stdout of our making."""

    def __init__(self, tty: bool, encoding: str = "utf-8") -> None:
        super().__init__()
        self._tty, self._encoding = tty, encoding

    def isatty(self) -> bool:
        return self._tty

    def fileno(self) -> int:
        raise OSError

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding


@pytest.mark.parametrize(
    ("tty", "environment", "colour", "width"),
    [
        (True, {"TERM": "xterm", "COLUMNS": "132"}, True, 132),
        (True, {"TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "80"}, False, 80),
        (True, {"TERM": "xterm", "NO_COLOR": "", "COLUMNS": "80"}, True, 80),
        (True, {"TERM": "dumb", "COLUMNS": "80"}, False, 80),
        (True, {"COLUMNS": "80"}, False, 80),
        (False, {"TERM": "xterm"}, False, None),
        (False, {"TERM": "xterm", "COLUMNS": "100"}, False, 100),
        (False, {"COLUMNS": "3"}, False, 20),
        (False, {"COLUMNS": "many"}, False, None),
    ],
)
def test_what_a_terminal_can(tty: bool, environment: dict[str, str], colour: bool, width: int | None) -> None:
    at = terminal(Stream(tty), environment)
    assert (at.colour, at.width) == (colour, width)
    assert at.unicode
    assert not terminal(Stream(tty, "ascii"), environment).unicode


def test_a_pipe_that_closes() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", closefd=True) as out:
        before, sys.stdout = sys.stdout, out
        try:
            # dup2 puts /dev/null in the place of the pipe: of this one, and of nobody else's.
            assert emit("text\n" * 100_000) == 141
        finally:
            sys.stdout = before
