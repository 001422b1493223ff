"""A process that may open few more descriptors."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator


@contextlib.contextmanager
def left(many: int) -> Iterator[None]:
    """As long as this lasts, this process may open so many more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The lowest numbers that are free.
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(many + 1)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened[-1], hard))
    for each in opened:
        os.close(each)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
