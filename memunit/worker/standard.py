"""Standard input, output and error, which an app may close, as a daemon does."""

from __future__ import annotations

import contextlib
import os

_NUMBERS = (0, 1, 2)


def fill() -> None:
    """Have /dev/null in the place of those that are closed.

    Without that, the next sockets of the process get these numbers. Then a client receives what C code writes to
    standard error, and libuv aborts a process that closes one of these numbers.
    """
    for number in _NUMBERS:
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                # The lowest number that is free is this one.
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
