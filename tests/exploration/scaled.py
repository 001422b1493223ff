"""Policy's constants made small, so that the set of states closes: whole seconds, and as few as tell them apart.

What is scaled is time and jitter, and nothing that is decided. The figures stand in docs/proof.md.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections.abc import Iterator

import memunit.core

# The module that has it, its name, and its value here. Jitter is none: states then differ by nothing but what matters.
CONSTANTS: dict[tuple[str, str], float] = {
    ("phases", "ABORT_GRACE"): 1.0,
    ("phases", "KILL_GRACE"): 1.0,
    ("phases", "PROBATION"): 1.0,
    ("failures", "STABLE"): 1.0,
    ("failures", "MOST"): 3,
    ("kills", "LAG"): 1.0,
    ("kills", "EXTEND_MOST"): 4.0,
    ("starts", "REVERSAL_PAUSE"): 2.0,
    ("starts", "LONG_WAIT"): 3.0,
    ("recycle", "AGE_SPREAD"): 0.0,
    ("recycle", "BLIND"): 2.0,
    ("recycle", "FIRST_LOOK"): 1.0,
    ("recycle", "UNDECIDED"): 1.0,
    ("recycle", "SHORTEST_LOOK"): 1.0,
    ("backoff", "FIRST"): 1.0,
    ("backoff", "CAP"): 2.0,
    ("backoff", "SPREAD"): 0.0,
    ("backoff", "SHORT"): 4.0,
    ("memory", "LIMIT_SPREAD"): 0.0,
    ("failures", "FUTILE_CAP"): 2.0,
    ("giving", "REST"): 3.0,
    ("giving", "SOON"): 1.0,
}
# What is longer ago than this, in seconds, was long ago; and what is further to come than that, is far away. More than
# any of the above, and than any two that follow each other.
PAST, FUTURE = 4.0, 8.0
# As many failures in a row as have a delay of their own.
FAILURES = 3


@contextlib.contextmanager
def scaled() -> Iterator[None]:
    """All of memunit.core with these constants, whoever has imported them."""
    names = [each.name for each in pkgutil.iter_modules(memunit.core.__path__)]
    modules = [importlib.import_module(f"memunit.core.{name}") for name in names]
    before = []
    for (home, name), value in CONSTANTS.items():
        old = getattr(importlib.import_module(f"memunit.core.{home}"), name)
        for module in modules:
            if getattr(module, name, None) is old:
                before.append((module, name, old))
                setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, old in before:
            setattr(module, name, old)
