"""Who is not to be first for the OOM killer any more: what an import has started has its score from it for good.

The other side is memunit/worker/oom.py.
"""

import contextlib
from collections.abc import Callable, Collection

_FIRST = 1000
# A process may fork while its score is read. One that raises its own score again and again is to hold up nobody.
_ROUNDS = 8


def as_the_master(started: Callable[[], Collection[int]]) -> None:
    """Give those of these pids that are to be killed first the score of this process, which is that of the workers."""
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
