"""What a client may take of a worker: bytes of a head and of a body, and time for them."""

from __future__ import annotations

import sys
from typing import Mapping, NamedTuple

from memunit.worker.problem import Unusable


class Bounds(NamedTuple):
    """Sizes are in bytes, times in seconds."""

    head_size: int = 64 * 1024
    head_timeout: float = 10.0
    body_size: int = sys.maxsize
    """Without a bound by default: how large an upload may be is the app's, or its proxy's, to say."""
    body_timeout: float = 30.0
    """How long a body may stand still."""


def read(environment: Mapping[str, str]) -> Bounds:
    """The bounds out of MEMUNIT_HTTP_HEAD_SIZE and its like. Raises Unusable for what is no number."""
    given = Bounds()
    return Bounds(
        int(_number(environment, "head_size", given.head_size)),
        _number(environment, "head_timeout", given.head_timeout),
        int(min(_number(environment, "body_size", given.body_size), sys.maxsize)),
        _number(environment, "body_timeout", given.body_timeout),
    )


def _number(environment: Mapping[str, str], name: str, otherwise: float) -> float:
    variable = "MEMUNIT_HTTP_" + name.upper()
    text = environment.get(variable, "")
    try:
        number = float(text) if text else otherwise
    except ValueError:
        number = -1.0
    if not number > 0:
        raise Unusable(f"{variable}={text}: a number above 0 is needed")
    return number
