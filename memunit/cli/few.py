"""What a person reads of a process that may open too few descriptors (RLIMIT_NOFILE)."""

from __future__ import annotations

import errno
import resource

from memunit.core.problems import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeGuard

REMEDY = "raise LimitNOFILE= of the unit"


def is_want(error: BaseException) -> TypeGuard[OSError]:
    """Whether it failed because this process may open no further descriptor."""
    return isinstance(error, OSError) and error.errno == errno.EMFILE


def too_low(source: str, error: OSError) -> Problem:
    """The problem of the unit (or the command line) that is the `source`."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    place = f"{error.filename}: " if error.filename else ""
    return Problem(source, "", f"LimitNOFILE={soft} is too low: {place}{error.strerror}", REMEDY)
