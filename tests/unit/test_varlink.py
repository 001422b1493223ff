"""The messages of varlink: what is a call, and that nothing else becomes one. MEMUNIT_FUZZ=300: for five minutes."""

from __future__ import annotations

import json
import os
import random
import re
import time

import pytest

from memunit.core import interfaces, varlink
from memunit.core.varlink import LARGEST, Call, Frames, Malformed, Refused
from tests.support.mutants import mutant

SECONDS = int(os.environ.get("MEMUNIT_FUZZ", "0"))
MESSAGES = 20_000
_SEEDS = [
    varlink.call("io.memunit.Instance.Workers", {"slot": 1}),
    varlink.call("io.memunit.Instance.Follow", more=True),
    varlink.call("io.systemd.service.Ping", oneway=True),
    varlink.call("io.memunit.Instance.Set", {"settings": {"memory.limit": "500M"}}),
]


def taken(*blocks: bytes) -> list[bytes]:
    frames = Frames()
    found = []
    for block in blocks:
        frames.feed(block)
        while (message := frames.take()) is not None:
            found.append(message)
    return found


def test_a_call() -> None:
    call = varlink.parse(b'{"method":"io.memunit.Instance.Workers","parameters":{"slot":3},"more":true}')
    assert call == Call(method="io.memunit.Instance.Workers", parameters={"slot": 3}, more=True)
    assert (call.interface, call.name) == ("io.memunit.Instance", "Workers")
    # null is what some clients send for what they have not.
    assert varlink.parse(b'{"method":"a.B","parameters":null,"more":null,"oneway":false}').parameters == {}


def test_both_ends_agree() -> None:
    for seed in _SEEDS:
        (message,) = taken(seed)
        call = varlink.parse(message)
        assert varlink.call(call.method, call.parameters, more=call.more, oneway=call.oneway) == seed
    assert varlink.answer(varlink.reply({"a": 1}, continues=True)[:-1]) == ({"a": 1}, True)
    with pytest.raises(Refused) as caught:
        varlink.answer(varlink.error(Refused("a.B", {"reason": "so"}))[:-1])
    assert (caught.value.error, caught.value.parameters) == ("a.B", {"reason": "so"})


def test_messages_come_in_any_pieces() -> None:
    whole = b"".join(_SEEDS)
    expected = [seed[:-1] for seed in _SEEDS]
    assert taken(whole) == expected
    assert taken(*(whole[i : i + 1] for i in range(len(whole)))) == expected
    assert taken(*(whole[i : i + 37] for i in range(0, len(whole), 37))) == expected


def test_the_size_of_a_message_is_bounded() -> None:
    assert len(taken(b"x" * LARGEST + b"\0")[0]) == LARGEST
    for sent in ([b"x" * (LARGEST + 1)], [b"x" * 4096] * 17, [b"a\0" + b"x" * (LARGEST + 1) + b"\0"]):
        with pytest.raises(Malformed, match="65536 bytes at most"):
            taken(*sent)


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[]", "a call is an object"),
        (b"{}", "a call has a method"),
        (b'{"method":""}', "a call has a method"),
        (b'{"method":7}', "a call has a method"),
        ('{"method":"ä"}'.encode(), "a call has a method"),
        (b'{"method":"a.B","parameters":[]}', "parameters of a call are an object"),
        (b'{"method":"a.B","more":1}', "true or false"),
        (b'{"method":"a.B","more":true,"oneway":true}', "wants no reply"),
        (b'{"method":"a.B","upgrade":true}', "another protocol"),
        (b'{"method":"a.B","parameters":{"a":NaN}}', "NaN is no number"),
        (b'{"method":"a.B","parameters":{"a":1e999}}', "1e999 is no number"),
        (b'{"method":"a.B","parameters":{"a":-Infinity}}', "-Infinity is no number"),
        (b'{"method":"a.B","parameters":{"a":' + b"[" * 16 + b"]" * 16 + b"}}", "nested"),
        (b"[" * 60000, "nested"),
    ],
)  # fmt: skip
def test_what_is_no_call(sent: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=re.escape(why)):
        varlink.parse(sent)


def test_brackets_in_a_text_are_no_depth() -> None:
    call = varlink.parse(json.dumps({"method": "a.B", "parameters": {"a": '"[{\\' * 500}}).encode())
    assert call.parameters["a"].startswith('"[{')


def test_fuzz() -> None:
    """Whatever comes is a call or Malformed, in whatever pieces; and what is a call can be answered."""
    begin, number = time.monotonic(), int(os.environ.get("MEMUNIT_SEED", "0"))
    last = number + MESSAGES
    while number < last or time.monotonic() - begin < SECONDS:
        sent = mutant(number, _SEEDS)
        number += 1
        found = outcome([sent])
        cut = random.Random(number).randint(0, len(sent))
        assert outcome([sent[:cut], sent[cut:]]) == found, number - 1
        for each in found:
            if isinstance(each, Call):
                echoed = varlink.error(Refused("a.B", {"method": each.method, **each.parameters}))
                assert echoed.isascii(), number - 1


def outcome(blocks: list[bytes]) -> list[Call | str]:
    found: list[Call | str] = []
    frames = Frames()
    try:
        for block in blocks:
            frames.feed(block)
            while (message := frames.take()) is not None:
                found.append(varlink.parse(message))
    except Malformed as error:
        found.append(str(error))
    return found


def test_each_description_is_one() -> None:
    """No name stands twice and no type is missing; varlinkctl does the rest of the grammar."""
    for name, text in interfaces.DESCRIPTIONS.items():
        assert f"interface {name}\n" in text
        members = re.findall(r"^(?:type|method|error) (\w+)", text, re.MULTILINE)
        assert len(set(members)) == len(members)
        types = set(re.findall(r"^type (\w+)", text, re.MULTILINE)) | {
            "int",
            "string",
            "bool",
            "float",
            "object",
        }
        plain = re.sub(r"^#.*$", "", text, flags=re.MULTILINE)
        used = re.findall(r": (?:\?|\[string\]|\[\])*(\w+)", plain)
        assert set(used) <= types, set(used) - types
