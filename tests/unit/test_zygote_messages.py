"""What a zygote says, as its master takes it: a value or nothing, whatever the app in there has sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memunit.master.zygote_messages import Failed, Made, Ready, Unusable, decode

READY = {"ready": True, "hazards": ["a"], "notes": [], "lingers": False}


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (READY, Ready(("a",), (), False)),
        ({"unusable": "no module\nnamed x\ud800"}, Unusable("no module named x ")),
        ({"id": 1 << 47, "pid": 4_194_304}, Made(1 << 47, 4_194_304)),
        ({"id": 7, "error": "fork", "errno": 11}, Failed(7, "fork", 11)),
    ],
)
def test_what_it_means(said: dict[str, Any], meant: object) -> None:
    assert decode(json.dumps(said).encode()) == meant


@pytest.mark.parametrize(
    "pid", [-1, 0, 10**30, -(10**30), 1 << 22 | 1, True, None, 1.0, "1", [1], float("nan")]
)
def test_a_number_that_is_no_pid(pid: Any) -> None:
    """kill(-1) and kill(0) would reach everybody."""
    assert decode(json.dumps({"id": 1, "pid": pid}).encode()) is None


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"[" * 60000,
        b'{"a":' * 12000,
        b"9" * 60000,
        b'{"id": 1, "pid": ' + b"9" * 5000 + b"}",
        b"\xff\xfe",
        b"\x00" * 10,
        json.dumps(READY | {"more": 1}).encode(),
        json.dumps(READY | {"hazards": "text"}).encode(),
        json.dumps(READY | {"hazards": ["x"] * 65}).encode(),
        json.dumps(READY | {"lingers": 1}).encode(),
        json.dumps(READY | {"ready": False}).encode(),
        json.dumps({"id": 1, "error": "fork", "errno": 10**30}).encode(),
        json.dumps({"id": 1, "error": "fork", "errno": -5}).encode(),
        json.dumps({"id": True, "pid": 1}).encode(),
    ],
    ids=range(15),
)
def test_what_is_no_message(packet: bytes) -> None:
    assert decode(packet) is None


@given(st.binary(max_size=300))
def test_bytes(packet: bytes) -> None:
    decode(packet)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
_KEYS = st.sampled_from(["id", "pid", "error", "errno", "ready", "hazards", "notes", "lingers", "unusable"])


@given(st.dictionaries(_KEYS, _VALUES))
def test_any_values_under_its_own_keys(said: dict[str, Any]) -> None:
    found = decode(json.dumps(said).encode())
    if isinstance(found, Made):
        assert 1 <= found.pid <= 1 << 22
