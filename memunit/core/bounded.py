"""What a hostile party has said, in JSON's types: each becomes a bounded, typed, printable value."""

import json
import math
from typing import Any

_LONGEST = 200
_LARGEST = 1 << 53
_DEEPEST = 4
_MOST = 64


def table(said: bytes) -> dict[str, Any] | None:
    """The JSON object in `said`; None if `said` has none. The values in the object are not checked. Never raises."""
    try:
        found = json.loads(said, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def text(value: object) -> str:
    """A short text without control characters; "" for what is none."""
    if not isinstance(value, str):
        return ""
    return "".join(each if each.isprintable() else "?" for each in value[:_LONGEST])


def count(value: object) -> int:
    """From 0 to 2**53; 0 for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return int(max(0, min(value, _LARGEST))) if isinstance(value, int) or math.isfinite(value) else 0


def share(value: object) -> float:
    """From 0 to 1; 0 for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return float(max(0.0, min(value, 1.0)))


def counts(value: object) -> dict[str, int]:
    """Counts by name, the first 64 of them."""
    if not isinstance(value, dict):
        return {}
    return {text(name): count(each) for name, each in list(value.items())[:_MOST]}


def whole(value: object, depth: int = 0) -> Any:
    """All of it, as far as it is neither deep nor long."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return max(-_LARGEST, min(value, _LARGEST))
    if isinstance(value, str):
        return text(value)
    if depth >= _DEEPEST:
        return None
    if isinstance(value, list):
        return [whole(each, depth + 1) for each in value[:_MOST]]
    if isinstance(value, dict):
        return {text(key): whole(each, depth + 1) for key, each in list(value.items())[:_MOST]}
    return None


def _no_number(name: str) -> float:
    raise ValueError(name)
