"""What V8 tells of a Node worker: which part of the growth it explains, and a report that lies."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from memunit.core import v8
from memunit.core.v8 import Heap, Heaps
from memunit.records import replace

M = 1 << 20
START = Heap(
    used=10 * M,
    total=16 * M,
    external=2 * M,
    buffers=M,
    spaces={"old_space": 8 * M, "large_object_space": 0},
    resources={"TCPSocketWrap": 1, "Timeout": 2},
)


def heaps(end: dict[str, int], live: dict[str, int] | None = None, **more: Any) -> Heaps:
    """From START by so many mebibytes until the last request, and until after the collection."""

    def grown(by: dict[str, int]) -> Heap:
        return replace(START, **{name: getattr(START, name) + size * M for name, size in by.items()}, **more)

    return Heaps(start=START, end=grown(end), live=None if live is None else grown(live), usec=1500)


@pytest.mark.parametrize(
    ("told", "growth", "verdict", "words"),
    [
        (
            heaps({"used": 90, "total": 94}, {"used": 80, "total": 84}, spaces={"old_space": 86 * M}),
            100,
            "javascript",
            "80M of 100M in JavaScript objects, 78M of them in old_space. This is a leak in the program:",
        ),
        (
            heaps({"external": 90}, {"external": 90}),
            100,
            "javascript",
            "90M of 100M in Buffers, and other memory outside of V8's heap. This is a leak",
        ),
        # Half is held, and half is what V8 keeps beside it.
        (
            heaps({"used": 48, "total": 98}, {"used": 45, "total": 98}),
            100,
            "javascript",
            "45M of 100M in JavaScript",
        ),
        (
            heaps({"used": 90, "total": 95}, {"used": 4, "total": 30}),
            100,
            "fragmentation",
            "91M of 100M in garbage and free memory, which V8 keeps. This is no leak",
        ),
        # Buffers that the collection has freed.
        (heaps({"external": 90}, {}), 100, "fragmentation", "90M of 100M in garbage and free memory"),
        (
            heaps({"used": 5, "total": 6}, {"used": 5, "total": 6}),
            100,
            "native",
            "94M of 100M in anonymous memory that V8",
        ),
        # Not collected: what is used may be garbage.
        (
            heaps({"used": 80, "total": 90}),
            100,
            "javascript",
            "Garbage may be among it, for there was no time to collect",
        ),
        (heaps({"total": 90}), 100, "fragmentation", "90M of 100M in garbage and free memory"),
    ],
)
def test_each_part_is_named(told: Heaps, growth: int, verdict: str, words: str) -> None:
    part = v8.part(told, growth * M, growth * M)
    assert part is not None
    assert part.verdict == verdict, part.text
    assert words in part.text
    assert part.confidence == ("high" if told.live is not None and verdict != "native" else "medium")


def test_three_thirds_have_no_name() -> None:
    told = heaps({"used": 33, "total": 66}, {"used": 33, "total": 66})
    assert v8.part(told, 100 * M, 100 * M) is None


def test_what_keeps_the_loop_alive_is_told_where_there_is_more() -> None:
    live = {"TCPSocketWrap": 3012, "Timeout": 9, "FSReqCallback": 20}
    told = heaps({"used": 1}, {"used": 1}, resources=live)
    assert v8.clause(told) == (
        "V8 after a collection: 11M of objects (10M at the start) in a heap of 16M, 2M outside of it (2M); "
        "TCPSocketWrap from 1 to 3,012; FSReqCallback from 0 to 20."
    )
    assert (
        v8.clause(heaps({"used": 1}))
        == "V8: 11M of objects (10M at the start) in a heap of 16M, 2M outside of it (2M)."
    )


def test_a_report_is_read() -> None:
    told = heaps({"used": 3}, {"used": 1})
    written = json.dumps({"version": 1, "v8": {**v8.numbers(told), "usec": told.usec}}).encode()
    assert v8.decode(written) == told


@pytest.mark.parametrize(
    "report",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"v8": []}',
        b'{"v8": {"start": {}}}',
        b'{"v8": {"start": 7, "end": {}}}',
        b'{"v8": {"start": {}, "end": NaN}}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_what_is_none_is_nothing(report: bytes) -> None:
    assert v8.decode(report) is None


def test_any_report_becomes_bounded_values() -> None:
    """And any of these gives a sentence of one line."""
    chance = random.Random(5)
    hostile: list[Any] = [
        -1,
        2**200,
        1e308,
        -0.5,
        True,
        None,
        "x" * 10_000,
        "\x1b[2J\n",
        [],
        {"\n": "\n"},
        {"Timeout": 2**70},
    ]
    names = ["used", "total", "external", "buffers", "spaces", "resources"]
    for _ in range(2000):
        looks = {
            look: {name: chance.choice(hostile) for name in chance.sample(names, 4)}
            for look in ("start", "end", "live")
        }
        found = v8.decode(json.dumps({"v8": {**looks, "usec": chance.choice(hostile)}}).encode())
        assert found is not None
        part = v8.part(found, chance.randrange(1, 1 << 40), 1 << 30)
        for text in (v8.clause(found), "" if part is None else part.text):
            assert text.isprintable()
            assert len(text) < 1200
        assert 0 <= found.usec <= 2**53
        assert len(json.dumps(v8.numbers(found))) < 200_000
