"""Sizes and times in systemd's notation (systemd.time(7), systemd.resource-control(5)), both ways."""

import math
import re

_SIZE_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50, "E": 1 << 60}
_LARGEST_SIZE = (1 << 63) - 1
# A size without a unit is bytes, as in systemd. Nobody means fewer than this: 400 is a forgotten M.
_LEAST_PLAIN_SIZE = 1 << 20

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_TIME_UNITS = {
    **dict.fromkeys(("usec", "us", "\u00b5s", "\u03bcs"), 1e-6),
    **dict.fromkeys(("msec", "ms"), 1e-3),
    **dict.fromkeys(("seconds", "second", "sec", "s", ""), 1.0),
    **dict.fromkeys(("minutes", "minute", "min", "m"), _MINUTE),
    **dict.fromkeys(("hours", "hour", "hr", "h"), _HOUR),
    **dict.fromkeys(("days", "day", "d"), _DAY),
    **dict.fromkeys(("weeks", "week", "w"), 7 * _DAY),
    **dict.fromkeys(("months", "month", "M"), 30.44 * _DAY),
    **dict.fromkeys(("years", "year", "y"), 365.25 * _DAY),
}
_LONGEST_TIME = 100 * 365.25 * _DAY
_FORMAT_TIMES = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1))

# Digits are spelt out: \d also matches those of other scripts, which nobody means here.
_PART = r"\s*([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([A-Za-z\u00b5\u03bc]*)"


class QuantityError(ValueError):
    """A size or a time that can't be used. `message` says what is wrong, `remedy` what to write instead."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}; {remedy}")
        self.message = message
        self.remedy = remedy


def parse_size(value: str | int) -> int | None:
    """Bytes of "400M", "1.5G", "1G 512M", 419430400 or "419430400"; None for "infinity".

    K, M, G, T, P and E count by 1024. A number without a unit is bytes; from 1 byte to below 1 MiB it is
    refused as a forgotten unit. Raises QuantityError.
    """
    if isinstance(value, str) and value.strip() == "infinity":
        return None
    text = str(value).strip()
    parts = _parts(text)
    if text.startswith("-"):
        raise QuantityError(f"{text} is negative", 'say a size such as "400M"')
    if text.endswith("%"):
        raise QuantityError("a percentage can't be used here", 'say a size such as "400M"')
    if parts is None:
        raise QuantityError(f"{_shown(text)} is not a size", 'say a size such as "400M", or "infinity"')
    if len(parts) == 1 and parts[0][1] in ("", "B"):
        return _plain_size(parts[0][0])
    total = 0.0
    previous = math.inf
    for number, unit in parts:
        if unit not in _SIZE_UNITS or _SIZE_UNITS[unit] >= previous:
            raise QuantityError(f"{_shown(text)} is not a size", _size_remedy(parts))
        previous = _SIZE_UNITS[unit]
        total += float(number) * previous
    if total > _LARGEST_SIZE:
        raise QuantityError(f"{_shown(text)} is more than any machine has", 'say "infinity" for no bound')
    return int(total)


def _plain_size(number: str) -> int:
    if "." in number:
        raise QuantityError(f"{number} bytes, and a byte has no fractions", f'say "{number}M"')
    size = int(number)
    if size > _LARGEST_SIZE:
        raise QuantityError(f"{number} is more than any machine has", 'say "infinity" for no bound')
    if 0 < size < _LEAST_PLAIN_SIZE:
        raise QuantityError(f"{size} bytes", f'say "{size}M"')
    return size


def _size_remedy(parts: list[tuple[str, str]]) -> str:
    """What was meant by "400MB", "400 MiB" or "400m"."""
    number, unit = parts[0]
    capital = unit[:1].upper()
    if len(parts) == 1 and capital in _SIZE_UNITS and unit[1:].lower() in ("", "b", "ib"):
        return f'say "{number}{capital}"'
    return 'units are K, M, G and T, the larger first, as in "400M"'


def parse_time(value: str | float, *, endless: bool = True) -> float:
    """Seconds of "30s", "1min 30s", "500ms", "1.5h", 30 or "30"; `math.inf` for "infinity".

    Units are those of systemd.time(7); a number without one is seconds. Raises QuantityError, whose remedy is never
    "infinity" unless `endless`.
    """
    example = 'say a time such as "30s"'
    if isinstance(value, str) and value.strip() == "infinity":
        return math.inf
    if isinstance(value, float) and not math.isfinite(value):
        remedy = f'{example}, or "infinity" in quotes' if endless else example
        raise QuantityError(f"{value} is not a time", remedy)
    text = f"{value:f}" if isinstance(value, float) else str(value).strip()
    if text.startswith("-"):
        raise QuantityError(f"{text} is negative", example)
    parts = _parts(text)
    if parts is None:
        remedy = f'{example}, or "infinity"' if endless else example
        raise QuantityError(f"{_shown(text)} is not a time", remedy)
    total = 0.0
    for number, unit in parts:
        if unit not in _TIME_UNITS or (unit == "" and len(parts) > 1):
            raise QuantityError(
                f"{_shown(text)} is not a time", 'units are us, ms, s, min, h, d and w, as in "1min 30s"'
            )
        total += float(number) * _TIME_UNITS[unit]
    if total > _LONGEST_TIME:
        remedy = 'say "infinity" for no bound' if endless else example
        raise QuantityError(f"{_shown(text)} is more than a hundred years", remedy)
    return total


def _parts(text: str) -> list[tuple[str, str]] | None:
    """Split "1min 30s" into ("1", "min") and ("30", "s"); None if it is not numbers, each with a word."""
    # Compiled when it is needed, and kept by re: many who print a size read none.
    part = re.compile(_PART)
    parts = []
    at = 0
    while at < len(text):
        found = part.match(text, at)
        if found is None:
            return None
        parts.append((found[1], found[2]))
        at = found.end()
    return parts or None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def format_size(size: int | None) -> str:
    """A size as a person wants it: "212M", "1.6G"; "infinity" for None. Rounded: see exact_size()."""
    if size is None:
        return "infinity"
    if size < 1024:
        return f"{size}B"
    amount = float(size)
    for unit in _SIZE_UNITS:
        amount /= 1024
        if amount < 10 or (amount < 100 and unit not in ("K", "M")):
            text = f"{amount:.1f}".removesuffix(".0")
        else:
            text = f"{amount:.0f}"
        if float(text) < 1024 or unit == "E":
            return text + unit
    raise AssertionError("unreachable: the loop returns at E")


def exact_size(size: int | None) -> str:
    """The notation that parse_size() reads back as the same size: "1536M"; "infinity" for None."""
    if size is None:
        return "infinity"
    for unit, factor in reversed(_SIZE_UNITS.items()):
        if size >= factor and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def format_time(seconds: float) -> str:
    """A time that parse_time() reads back, to the millisecond: "1min 30s", "500ms", "0", "infinity"."""
    if math.isinf(seconds):
        return "infinity"
    left = round(seconds * 1000)
    if left == 0:
        return "0" if seconds == 0 else f"{seconds * 1e6:.0f}us"
    parts = []
    for unit, milliseconds in _FORMAT_TIMES:
        count, left = divmod(left, milliseconds)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts)
