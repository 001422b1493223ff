"""The one exception by which a worker says that it cannot serve, in words for the person who can mend it."""

from __future__ import annotations

import contextlib
import sys
from typing import Optional

EX_SOFTWARE = 70
EX_CONFIG = 78
FORKED = (
    "the app's import has forked process {} and went on in both; process {}, the child, ends here: a worker is one "
    "process (start others in after_fork, by subprocess or multiprocessing, and let them end there)"
)


def say(line: str) -> None:
    """A line to stderr, which the app's import may have closed."""
    with contextlib.suppress(Exception):
        print(line, file=sys.stderr, flush=True)


class Unusable(Exception):
    """This worker cannot serve. `str()` is one line; `cause`, if any, is what to show a traceback of."""

    def __init__(
        self, summary: str, *, exit_status: int = EX_CONFIG, cause: Optional[BaseException] = None
    ) -> None:
        super().__init__(summary)
        self.exit_status = exit_status
        self.cause = cause
