"""The OOM score of what an import has started: each process inherits the score of the import, and keeps it for good.

The import sets its score in memunit/worker/oom.py.
"""

import contextlib
from collections.abc import Callable, Collection

_FIRST = 1000
# If a process forks while the scores are read, only the next round finds its child. The rounds end, because a process
# may raise its own score each time.
_ROUNDS = 8


def as_the_master(started: Callable[[], Collection[int]]) -> None:
    """Give those of these processes that have the score of an import the score of this process and of its workers."""
    own = _score("self")
    if own is None or own >= _FIRST:
        return
    for _ in range(_ROUNDS):
        lowered = [pid for pid in started() if _lower(pid, own)]
        if not lowered:
            return


def _lower(pid: int, wanted: int) -> bool:
    if _score(pid) != _FIRST:
        return False
    with contextlib.suppress(OSError):  # it has ended, or runs as another user
        with open(f"/proc/{pid}/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(wanted))
        return True
    return False


def _score(pid: int | str) -> int | None:
    try:
        with open(f"/proc/{pid}/oom_score_adj", encoding="ascii") as file:
            return int(file.read())
    except OSError:
        return None
