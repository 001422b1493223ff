"""What the app prints reaches the journal line by line."""

from __future__ import annotations

import contextlib
import sys


def by_line() -> None:
    """Have each line of stdout and stderr be one write(2), where it would be several.

    With PYTHONUNBUFFERED=1, which memunit sets so that a line is in the journal when it is printed, print("a", 1) is
    four writes; all workers have the same stdout, and their lines get mixed. Called before the app is imported, so the
    app can change its streams after that. A terminal shows a part of a line at once.
    """
    for stream in (sys.stdout, sys.stderr):
        # A stream may be None, or closed.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            if stream.write_through and not stream.isatty():  # type: ignore[union-attr]
                stream.reconfigure(line_buffering=True, write_through=False)  # type: ignore[union-attr]
