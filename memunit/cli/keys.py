"""A terminal as `memunit top` needs it: a key at a time, a screen of its own, and all as it was in the end."""

import contextlib
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from types import FrameType
from typing import Any

_ALTERNATE, _BACK = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _REST, _LINE = "\x1b[H", "\x1b[J", "\x1b[K"


class Keys:
    """Reads keys from stdin and draws on stdout, both terminals."""

    def __init__(self) -> None:
        self._wake, self._woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._typed = ""
        self.ended = False
        """Whether a signal wants it to end."""

    @contextlib.contextmanager
    def screen(self) -> Iterator[None]:
        """The screen is ours as long as this lasts, whatever ends it."""
        before = termios.tcgetattr(0)
        handlers: dict[int, Any] = {}
        try:
            tty.setcbreak(0)
            for each in (signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                handlers[each] = signal.signal(each, self._told)
            self._write(_ALTERNATE)
            yield
        finally:
            with contextlib.suppress(OSError):
                self._write(_BACK)
            with contextlib.suppress(termios.error):
                termios.tcsetattr(0, termios.TCSADRAIN, before)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            os.close(self._wake)
            os.close(self._woken)

    def _told(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGWINCH:
            self.ended = True
        with contextlib.suppress(BlockingIOError):
            os.write(self._woken, b"\0")

    def draw(self, text: str, height: int) -> None:
        """These lines and nothing else, as many as there is room for. Raises OSError when the terminal has gone."""
        lines = text.split("\n")[: max(1, height)]
        self._write(_HOME + "\n".join(f"{line}{_LINE}" for line in lines) + _REST)

    def _write(self, text: str) -> None:
        data = text.encode(sys.stdout.encoding or "ascii", "backslashreplace")
        while data:
            data = data[os.write(1, data) :]

    def next(self, seconds: float) -> str:
        """The next key within so many seconds; "" for none, and when the size of the terminal has changed.

        Raises EOFError when the terminal has gone.
        """
        if self._typed:
            key, self._typed = self._typed[0], self._typed[1:]
            return key
        ready, _, _ = select.select([0, self._wake], [], [], max(0.0, seconds))
        if self._wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 64)
            return ""
        if 0 not in ready:
            return ""
        data = os.read(0, 64)
        if not data:
            raise EOFError
        # What a key with an escape sequence sends is no key of ours.
        self._typed = "" if data[:1] == b"\x1b" else data.decode("utf-8", "replace")
        return self.next(0.0) if self._typed else ""
