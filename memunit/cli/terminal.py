"""What a person's terminal can show, and how a command's whole output gets there."""

from __future__ import annotations

import errno
import json
import os
import select
import sys

from memunit.core.exitcodes import EX_IOERR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TextIO

# As a shell says that SIGPIPE has ended a program: whoever read the output has hung up (`memunit history | head`).
HUNG_UP = 141
_COLOURS = {"good": "32", "warn": "33", "bad": "1;31", "dim": "2", "bold": "1", "": ""}
_NARROWEST = 20
# The style of a finding by its rank (account/facts.py).
RANK_STYLES = ("bad", "bad", "warn", "dim", "good")


class Terminal:
    """`width` is in columns, None where lines are not bounded: in a pipe or a file, where they are for a program."""

    __slots__ = ("colour", "unicode", "width")

    def __init__(self, width: int | None = None, colour: bool = False, unicode: bool = True) -> None:
        self.width, self.colour, self.unicode = width, colour, unicode

    def paint(self, text: str, style: str) -> str:
        """`text` in a colour, where there are colours."""
        code = _COLOURS[style]
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and code and text else text

    @property
    def columns(self) -> int:
        """How wide to draw."""
        return self.width or 100


def terminal(stream: TextIO | None = None, environment: Mapping[str, str] | None = None) -> Terminal:
    """What stdout is.

    COLUMNS bounds the width in any case; NO_COLOR (no-color.org) and TERM=dumb switch colours off.
    """
    out = sys.stdout if stream is None else stream
    env = os.environ if environment is None else environment
    said = env.get("COLUMNS", "")
    width = int(said) if said.isascii() and said.isdigit() and len(said) < 5 and int(said) else None
    isatty = False
    try:
        isatty = out.isatty()
        if isatty and width is None:
            width = os.get_terminal_size(out.fileno()).columns or 80
    except (OSError, ValueError):
        # It is closed, or knows no width.
        pass
    colour = isatty and not env.get("NO_COLOR") and env.get("TERM") not in ("dumb", "", None)
    return Terminal(None if width is None else max(_NARROWEST, width), colour, _speaks_unicode(out))


def _speaks_unicode(out: TextIO) -> bool:
    try:
        "▁█▏─│".encode(out.encoding or "ascii")
    except (UnicodeError, LookupError):
        return False
    return True


def emit(text: str, code: int = 0, *, what: str = "the output") -> int:
    """Write all of a command's output to stdout; returns `code`, or what says that it could not be written."""
    try:
        encoding = sys.stdout.encoding or "ascii"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except OSError as error:
        # Or the interpreter tries again at its end, and complains at length.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.EPIPE:
            return HUNG_UP
        sys.stderr.write(f"memunit: {what} can't be printed: {error.strerror}\n")
        return EX_IOERR
    return code


def hung_up_within(seconds: float) -> bool:
    """Wait so long; whether whoever reads stdout, a pipe, has hung up meanwhile."""
    poll = select.poll()
    # poll(2) tells of POLLERR unasked.
    poll.register(sys.stdout.fileno(), 0)
    return bool(poll.poll(seconds * 1000))


def as_json(value: Any) -> str:
    """For a program: one document, in ASCII, so that nothing in it can act on a terminal."""
    return json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False) + "\n"
