"""What a zygote does in advance, so that its workers share the pages of it (docs/preload.md)."""

from __future__ import annotations

import contextlib
import sys
from typing import List

from memunit.worker import examined, forked
from memunit.worker.inherited import Inherited
from memunit.worker.serving import Prepared

_TIMES = 8
"""Calls after which CPython begins to specialize a function. Until it has done so, each call writes into its code."""


def once(prepared: Prepared, entries: List[Inherited]) -> None:
    """Before the first fork, for which somebody waits: do what a worker will do. Raises Unusable."""
    prepared.rehearse(entries)
    forked.rehearse()


def well(prepared: Prepared, entries: List[Inherited]) -> None:
    """After the first fork: do it often, for all workers that come.

    The interpreter remembers what it has found in a type by which name, and counts the reference to the name. What a
    worker looks up anew is a write to the page of that name, and to the page of another one that is forgotten for it.
    So the zygote forgets all, and then remembers what a worker looks up.
    """
    examined.load_in_zygote()
    _forget()
    # It went well before. What fails now (descriptors or memory are short) costs pages, and nobody a worker.
    with contextlib.suppress(Exception):
        for _ in range(_TIMES):
            once(prepared, entries)
            examined.rehearse()


def _forget() -> None:
    # The second name is that of Python 3.12 and before.
    forget = getattr(sys, "_clear_internal_caches", None) or getattr(sys, "_clear_type_cache", None)
    if forget is not None:
        forget()
