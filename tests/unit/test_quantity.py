"""Sizes and times: systemd's notation in, a person's notation out."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memunit.core.quantity import (
    QuantityError,
    exact_size,
    format_size,
    format_time,
    parse_size,
    parse_time,
)

K, M, G, T = 1 << 10, 1 << 20, 1 << 30, 1 << 40


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("400M", 400 * M),
        (" 400M ", 400 * M),
        ("400 M", 400 * M),
        ("1.5G", 1536 * M),
        ("1G 512M", 1536 * M),
        ("1G512M", 1536 * M),
        ("100K", 100 * K),
        ("2T", 2 * T),
        ("1P", 1 << 50),
        ("1E", 1 << 60),
        ("1048576", M),
        (1048576, M),
        (419430400, 400 * M),
        (0, 0),
        ("0", 0),
        ("infinity", None),
    ],
)
def test_sizes(text: str | int, size: int | None) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        (400, "400 bytes", 'say "400M"'),
        ("400", "400 bytes", 'say "400M"'),
        ("400B", "400 bytes", 'say "400M"'),
        (1048575, "1048575 bytes", 'say "1048575M"'),
        ("400m", "'400m' is not a size", 'say "400M"'),
        ("400MB", "'400MB' is not a size", 'say "400M"'),
        ("400 MiB", "'400 MiB' is not a size", 'say "400M"'),
        ("400Mbit", "'400Mbit' is not a size", "units are K, M, G and T"),
        ("400X", "'400X' is not a size", "units are K, M, G and T"),
        ("512M 1G", "'512M 1G' is not a size", "the larger first"),
        ("1G 1G", "'1G 1G' is not a size", "the larger first"),
        ("1.5", "a byte has no fractions", 'say "1.5M"'),
        ("-400M", "negative", 'as "400M"'),
        (-5, "negative", 'as "400M"'),
        ("50%", "percent", 'as "400M"'),
        ("", "'' is not a size", '"400M", or "infinity"'),
        ("M", "'M' is not a size", '"400M", or "infinity"'),
        ("lots", "'lots' is not a size", '"400M", or "infinity"'),
        ("1e9", "'1e9' is not a size", "units are"),
        ("\u0661\u0662M", "is not a size", '"400M", or "infinity"'),
        ("Infinity", "'Infinity' is not a size", '"infinity"'),
        ("9E", "more than any machine has", '"infinity"'),
        ("99999999999999999999", "more than any machine has", '"infinity"'),
        ("9" * 500, "is not a size", '"400M"'),
    ],
)
def test_sizes_refused(text: str | int, message: str, remedy: str) -> None:
    with pytest.raises(QuantityError) as refused:
        parse_size(text)
    assert message in refused.value.message
    assert remedy in refused.value.remedy
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("30", 30.0),
        (30, 30.0),
        (0.5, 0.5),
        ("0", 0.0),
        ("500ms", 0.5),
        ("250us", 0.00025),
        ("250\u00b5s", 0.00025),
        ("1min 30s", 90.0),
        ("1min30s", 90.0),
        ("1.5h", 5400.0),
        ("2 hours", 7200.0),
        ("1d", 86400.0),
        ("1w", 604800.0),
        ("1m", 60.0),
        ("1M", 30.44 * 86400),
        ("1y", 365.25 * 86400),
        ("infinity", math.inf),
    ],
)
def test_times(text: str | float, seconds: float) -> None:
    assert parse_time(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("30 parsecs", "'30 parsecs' is not a time"),
        ("", "'' is not a time"),
        ("s", "'s' is not a time"),
        ("1min 30", "'1min 30' is not a time"),
        ("30S", "'30S' is not a time"),
        ("-1s", "negative"),
        (-1, "negative"),
        (-0.5, "negative"),
        (math.nan, "nan is not a time"),
        (math.inf, "inf is not a time"),
        ("200y", "more than a hundred years"),
        (1e300, "is not a time"),
    ],
)
def test_times_refused(text: str | float, message: str) -> None:
    with pytest.raises(QuantityError, match=re.escape(message)) as refused:
        parse_time(text)
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (1536, "1.5K"),
        (M, "1M"),
        (212 * M, "212M"),
        (99 * M + 600 * K, "100M"),
        (1000 * M, "1000M"),
        (G - 1, "1G"),
        (1600 * M, "1.6G"),
        (int(15.54 * G), "15.5G"),
        (250 * G, "250G"),
        (3 * T, "3T"),
        (1 << 70, "1024E"),
        (None, "infinity"),
    ],
)
def test_format_size(size: int | None, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0"),
        (0.00001, "10us"),
        (0.5, "500ms"),
        (30, "30s"),
        (90, "1min 30s"),
        (3600, "1h"),
        (86461.5, "1d 1min 1s 500ms"),
        (59.9996, "1min"),
        (math.inf, "infinity"),
    ],
)
def test_format_time(seconds: float, text: str) -> None:
    assert format_time(seconds) == text


@given(st.integers(min_value=M, max_value=(1 << 53) - 1))
def test_exact_size_reads_back(size: int) -> None:
    assert parse_size(exact_size(size)) == size


@given(st.integers(min_value=M, max_value=1 << 62))
def test_format_size_is_close(size: int) -> None:
    text = format_size(size)
    assert len(text) <= 5
    back = parse_size(text)
    assert back is not None
    assert abs(back - size) <= size * 0.051


@given(st.integers(min_value=0, max_value=10**10))
def test_format_time_reads_back(milliseconds: int) -> None:
    assert parse_time(format_time(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@given(st.text())
def test_any_text_is_a_quantity_or_refused_as_one(text: str) -> None:
    for parse in (parse_size, parse_time):
        try:
            parsed = parse(text)
        except QuantityError:
            continue
        assert parsed is None or parsed >= 0
