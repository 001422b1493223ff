"""Tables, by python3-rich where it is there, else in plain columns; where there is no room for columns, in blocks."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache

from memunit.account.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from memunit.cli.terminal import Terminal

_GAP = 2
# In fewer columns than this a table is harder to read than its rows one below the other.
_LEAST = 44
# So wide is the last column at least: narrower, its sentences become towers.
_LAST = 24
# A sentence in longer lines is hard to read, however wide the terminal is.
_READABLE = 100
_RICH_STYLES = {"good": "green", "warn": "yellow", "bad": "bold red", "dim": "dim", "bold": "bold", "": ""}


class Column:
    """`rank` is 0 for what is always shown; of the others those of the greatest rank go first when room is short."""

    __slots__ = ("rank", "right", "title")

    def __init__(self, title: str, *, right: bool = False, rank: int = 0) -> None:
        self.title, self.right, self.rank = title, right, rank


class Cell:
    """One field. Its text is made fit for a terminal here, whoever wrote it."""

    __slots__ = ("style", "text")

    def __init__(self, text: str, style: str = "") -> None:
        self.text, self.style = text, style


Row = Sequence[Cell]


def render(columns: Sequence[Column], rows: Sequence[Row], at: Terminal, *, plain: bool = False) -> str:
    """The table, of which the last column may be of many words: it takes what room there is, and more lines.

    `plain` is without the library, which takes longer to load than a table of 256 rows to draw.
    """
    cleaned = [
        [cell if cell.text.isprintable() else Cell(clean(cell.text), cell.style) for cell in row]
        for row in rows
    ]
    if at.width is not None and at.width < _LEAST:
        return _blocks(columns, cleaned, at)
    kept = _kept(columns, cleaned, at.width)
    titles = [columns[index] for index in kept]
    shown = [[row[index] for index in kept] for row in cleaned]
    if plain or at.width is None or not _has_rich():
        return _plain(titles, shown, at)
    return _rich(titles, shown, at)


def _kept(columns: Sequence[Column], rows: Sequence[Row], width: int | None) -> list[int]:
    """The columns for which there is room."""
    kept = list(range(len(columns)))
    while width is not None:
        widths = _widths([columns[n] for n in kept], [[row[n] for n in kept] for row in rows])
        widths[-1] = min(widths[-1], _LAST)
        if sum(widths) + _GAP * (len(widths) - 1) <= width:
            break
        out = max(kept, key=lambda n: (columns[n].rank, n))
        if columns[out].rank == 0:
            break
        kept.remove(out)
    return kept


def _widths(columns: Sequence[Column], rows: Sequence[Row]) -> list[int]:
    return [max([len(column.title), *(len(row[n].text) for row in rows)]) for n, column in enumerate(columns)]


def _plain(columns: Sequence[Column], rows: Sequence[Row], at: Terminal) -> str:
    widths = _widths(columns, rows)
    if at.width is not None:
        left = at.width - sum(widths[:-1]) - _GAP * (len(widths) - 1)
        widths[-1] = max(min(_LAST, at.width), left)
    lines = [_line([Cell(column.title, "bold") for column in columns], columns, widths, at)]
    for row in rows:
        whole = at.width is None or len(row[-1].text) <= widths[-1]
        parts = [row[-1].text] if whole else _wrapped(row[-1].text, widths[-1])
        lines.append(_line([*row[:-1], Cell(parts[0], row[-1].style)], columns, widths, at))
        for part in parts[1:]:
            blank = [Cell("") for _ in row[:-1]]
            lines.append(_line([*blank, Cell(part, row[-1].style)], columns, widths, at))
    return "".join(f"{line}\n" for line in lines)


def _line(cells: Row, columns: Sequence[Column], widths: Sequence[int], at: Terminal) -> str:
    parts = [
        cell.text.rjust(width) if column.right else cell.text.ljust(width)
        for cell, column, width in zip(cells, columns, widths, strict=True)
    ]
    if at.colour:
        # The room around a text is not painted.
        for number, cell in enumerate(cells):
            if cell.text:
                parts[number] = parts[number].replace(cell.text, at.paint(cell.text, cell.style), 1)
    return (" " * _GAP).join(parts).rstrip()


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap  # noqa: PLC0415  most texts are short

    return textwrap.wrap(text, max(1, width), break_on_hyphens=False) or [""]


def _blocks(columns: Sequence[Column], rows: Sequence[Row], at: Terminal) -> str:
    """Each row as lines of its own: the first cell, and below it what the others are."""
    import textwrap  # noqa: PLC0415  as above

    lines: list[str] = []
    for row in rows:
        lines.append(at.paint(row[0].text[: at.columns], "bold"))
        for column, cell in zip(columns[1:], row[1:], strict=True):
            if cell.text:
                text = f"{column.title.lower()}: {cell.text}"
                parts = textwrap.wrap(text, at.columns, initial_indent="  ", subsequent_indent="    ")
                lines += [at.paint(part, cell.style) for part in parts]
    return "".join(f"{line}\n" for line in lines)


@cache
def _has_rich() -> bool:
    try:
        import rich  # noqa: F401, PLC0415  only these commands need it, and it takes a while to load
    except ImportError:
        return False
    return True


def _rich(columns: Sequence[Column], rows: Sequence[Row], at: Terminal) -> str:
    from rich.console import Console  # noqa: PLC0415  as above
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    out = io.StringIO()
    console = Console(
        file=out,
        width=at.width,
        force_terminal=at.colour,
        color_system="standard" if at.colour else None,
        no_color=not at.colour,
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
    )
    table: Any = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for number, column in enumerate(columns):
        last = number == len(columns) - 1
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=not last,
            overflow="fold",
            ratio=1 if last else None,
        )
    for row in rows:
        table.add_row(*(Text(cell.text, style=_RICH_STYLES[cell.style]) for cell in row))
    console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def fold(text: str, at: Terminal, *, hang: str = "", style: str = "") -> str:
    """A sentence in lines that fit; in a pipe it is one. Its own indent is kept, further lines have `hang` more."""
    if at.width is None:
        return at.paint(text, style)
    if len(text) <= min(at.width, _READABLE) and text.isprintable():
        return at.paint(text.rstrip(), style)
    import textwrap  # noqa: PLC0415  as above

    indent = " " * (len(text) - len(text.lstrip()))
    parts = textwrap.wrap(
        text.strip(),
        min(at.width, _READABLE),
        initial_indent=indent,
        subsequent_indent=indent + hang,
        break_on_hyphens=False,
    )
    return "\n".join(at.paint(part, style) for part in parts)


def bar(share: float, width: int, at: Terminal) -> str:
    """A bar of so many columns, of which this share is full."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    if not at.unicode:
        full = round(eighths / 8)
        return "#" * full + "." * (width - full)
    full, part = divmod(eighths, 8)
    rest = " ▏▎▍▌▋▊▉"[part] if part else ""
    return ("█" * full + rest).ljust(width, "░")


def sparks(values: Sequence[float], at: Terminal) -> str:
    """One character a value, as high as it is beside the greatest."""
    most = max(values, default=0.0)
    steps = "▁▂▃▄▅▆▇█" if at.unicode else ".:-=+*#@"
    return "".join(
        steps[min(7, int(value / most * 8))] if value > 0 and most > 0 else " " if value <= 0 else steps[0]
        for value in values
    )
