"""How long a stop may take, and what of that time is for an orderly end of what does not end by itself.

The master ends a worker by SIGKILL when `stop.grace` is over. The last fifth of it, five seconds at most, is the
worker's own: until then it waits for what is under way.
"""

from __future__ import annotations

import math
import os
from typing import Mapping, NamedTuple, Optional

_SHARE = 0.2
_MOST = 5.0


class Grace(NamedTuple):
    """Moments of a stop, in seconds since SIGTERM; infinite where there is no bound."""

    disconnect: float
    """What still runs is told that its client has gone: http.disconnect, an OSError in send()."""
    cancel: float
    """Its tasks are cancelled, and idle connections closed."""
    give_up: float
    """Nothing of the clients' is waited for any more: lifespan.shutdown has its turn."""
    leave: float
    """The process ends, whatever still runs in it."""


def read(environment: Optional[Mapping[str, str]] = None) -> Grace:
    """By MEMUNIT_GRACE_USEC, microseconds, which the master sets; no bounds without it."""
    text = (os.environ if environment is None else environment).get("MEMUNIT_GRACE_USEC", "")
    if not (text.isascii() and text.isdigit()):
        return Grace(math.inf, math.inf, math.inf, math.inf)
    seconds = int(text) / 1e6
    share = min(seconds * _SHARE, _MOST)
    return Grace(seconds - share, seconds - share * 0.7, seconds - share * 0.5, seconds - share * 0.2)
