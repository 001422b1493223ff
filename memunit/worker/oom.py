"""Whom of all processes the OOM killer takes first."""

from __future__ import annotations

import contextlib

FIRST = "1000"


def score_adj(text: str) -> str:
    """Set it for this process, and give what it was (proc_pid_oom_score_adj(5))."""
    before = "0"
    with contextlib.suppress(OSError):
        with open("/proc/self/oom_score_adj", encoding="ascii") as file:
            before = file.read()
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(text)
    return before
