"""What grows in every life, from examinations of several workers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memunit.account.entries import Entry
from memunit.account.leaks import Examined, examined, merged, of_file, together
from memunit.account.lives import build
from memunit.account.page import page
from memunit.cli.leaks import in_words, kept

NOW = 1_800_000_000.0
M = 1 << 20


def look(at: float, verdict: str = "python", holder: str = "shop.SEEN", **more: Any) -> Examined:
    fields = {"size": 300 * M, "uptime": 3600.0, "type": "dict", "route": "", **more}
    return Examined(
        at=NOW + at, worker=f"0.{int(at) + 1}", pid=100 + int(at), verdict=verdict, holder=holder, **fields
    )


def entry(at: float, generation: int, message: str = "What grew", **fields: str) -> Entry:
    said = {f"MEMUNIT_LEAK_{name}": value for name, value in fields.items()}
    return Entry(at, "EXAMINED", "shop", message, 0, generation, 100 + generation, said)


def ended(at: float, generation: int, uptime: float) -> Entry:
    fields = {"MEMUNIT_CAUSE": "memory-limit", "MEMUNIT_UPTIME_USEC": str(int(uptime * 1e6))}
    return Entry(at, "ENDED_MEMORY_LIMIT", "shop", "ended", 0, generation, 100 + generation, fields)


def test_what_is_in_every_life_is_a_leak() -> None:
    (leak,) = merged([look(0), look(1), look(2, size=360 * M)])
    assert leak.kind == "leak"
    assert (len(leak.found), leak.workers) == (3, 3)
    assert leak.size == 300 * M
    assert leak.per_hour == 320 * M
    assert leak.example.worker == "0.3"


def test_one_life_is_no_proof() -> None:
    assert [leak.kind for leak in merged([look(0)])] == ["maybe"]
    often = [look(at, holder=f"shop.OTHER{at}") for at in range(1, 8)]
    assert {leak.kind for leak in merged([look(0), *often, look(8)])} == {"maybe"}


def test_one_that_was_mended_is_in_none_of_the_last() -> None:
    found = [look(at, holder="shop.SEEN" if at < 5 else "shop.OTHER") for at in range(9)]
    leaks = {leak.holder: in_words(leak) for leak in merged(found)}
    assert "; in 5 of 9 workers, in none of the last 4" in leaks["shop.SEEN"]
    assert leaks["shop.OTHER"].endswith("in 4 of 4 workers")
    (unknown,) = merged([look(0, "unknown", "", type="")])
    assert in_words(unknown) == "not known: no single place; in 1 of 1 worker"


def test_one_that_came_with_a_later_revision_counts_from_then_on() -> None:
    before = [look(at, holder="shop.OLD") for at in range(5)]
    after = [look(at, holder="shop.NEW") for at in range(5, 8)]
    leaks = {leak.holder: leak for leak in merged([*before, *after])}
    assert (leaks["shop.NEW"].kind, leaks["shop.NEW"].workers) == ("leak", 3)
    assert leaks["shop.OLD"].kind == "maybe"


def test_the_fastest_comes_first_and_what_is_none_last() -> None:
    found = [
        *(look(at, size=M, holder="slow") for at in range(3)),
        *(look(at, size=9 * M, holder="fast") for at in range(3)),
        look(0, "baseline", "", size=999 * M),
        look(0, "unknown", "", size=999 * M),
    ]
    assert [(leak.kind, leak.holder) for leak in merged(found)] == [
        ("leak", "fast"), ("leak", "slow"), ("no leak", ""), ("unknown", "")
    ]  # fmt: skip


def test_the_route_is_that_of_most() -> None:
    named: dict[str, Any] = {"route": "GET /product/{id}", "route_share": 0.9}
    (leak,) = merged([look(0, **named), look(1), look(2, route="GET /product/{id}", route_share=0.8)])
    assert leak.route is not None
    assert leak.route[0] == "GET /product/{id}"
    assert 0.8 < leak.route[1] < 0.9
    assert in_words(leak).endswith("in 3 of 3 workers; most by GET /product/{id} (85 %)")
    (other,) = merged([look(0), look(1), look(2, **named)])
    assert other.route is None


def test_a_route_stands_as_it_is() -> None:
    (leak,) = merged([look(0, route="GET /a%20b/%d/{id}", route_share=0.5)])
    assert leak.by == "GET /a%20b/%d/{id} (50 %)"
    assert in_words(leak).endswith("; most by GET /a%20b/%d/{id} (50 %)")


def test_entries_and_ends_are_put_together() -> None:
    said = {
        "VERDICT": "python",
        "HOLDER": "shop.SEEN",
        "TYPE": "dict",
        "BYTES": str(50 * M),
        "CONFIDENCE": "high",
    }
    entries = [
        entry(NOW - 100, 1, **said),
        ended(NOW - 99, 1, 1800),
        entry(NOW - 50, 2, **said, ROUTE="GET /", ROUTE_SHARE="0.75"),
        entry(NOW - 40, 3),
        entry(NOW - 39, 4, VERDICT="nonsense"),
        entry(NOW - 9999, 5, **said),
    ]
    found = examined(build("shop", entries, NOW - 1000, NOW))
    assert [each.worker for each in found] == ["0.1", "0.2"]
    assert (found[0].uptime, found[1].uptime) == (1800.0, None)
    (leak,) = merged(found)
    assert leak.per_hour == 100 * M
    text = in_words(leak)
    assert (
        text
        == "leak (python): shop.SEEN (dict), 50M a worker, 100M an hour; in 2 of 2 workers; most by GET / (75 %)"
    )


def test_the_page_has_them() -> None:
    said = {"VERDICT": "python", "HOLDER": "shop.<b>SEEN", "BYTES": str(50 * M)}
    entries = [entry(NOW - 100, 1, **said), ended(NOW - 99, 1, 1800), entry(NOW - 50, 2, **said)]
    account = build("shop", entries, NOW - 1000, NOW)
    html = page(account, [], limit=None, ceiling=None, grace=None, version="1")
    assert "<h2>What grows</h2>" in html
    assert "shop.&lt;b&gt;SEEN" in html
    assert "2 of 2" in html
    assert "What grows" not in page(
        build("shop", [], 0, NOW), [], limit=None, ceiling=None, grace=None, version="1"
    )


FILE = {
    "verdict": "python",
    "holder": "shop.SEEN",
    "type": "dict",
    "bytes": 5 * M,
    "confidence": "high",
    "worker": "0.3",
    "pid": 103,
    "cause": "memory-limit",
    "uptime_usec": 7_200_000_000,
    "ended": int(NOW),
}


def test_a_file_says_the_same(tmp_path: Path) -> None:
    (tmp_path / "20260101T000000-0.3.json").write_text(json.dumps(FILE))
    ((one,),) = kept(tmp_path, NOW - 1)
    assert (one.worker, one.pid, one.verdict, one.size, one.uptime) == ("0.3", 103, "python", 5 * M, 7200.0)
    assert list(kept(tmp_path, NOW + 1)) == []
    again = Examined(at=NOW - 1, worker="0.3", pid=103, verdict="python", message="What grew")
    (both,) = together([again], [[one]])
    assert (both.message, both.uptime) == ("What grew", 7200.0)
    assert together([], [[one], [look(-5)]]) == [look(-5), one]


def test_two_leaks_at_once_are_two_leaks() -> None:
    """Whichever is the larger one in a worker."""
    found = []
    for place in range(4):
        names = ["shop.A", "shop.B"] if place % 2 else ["shop.B", "shop.A"]
        holders: list[Any] = [{"name": name, "type": "list", "size": M, "bound": None} for name in names]
        holders += [{"name": "shop.bounded", "type": "dict", "size": 9 * M, "bound": 100}, 7, {}]
        holders.append({"name": "shop.filling", "type": "dict", "size": 5 * M, "bound": None, "most": 2000})
        data = {**FILE, "worker": f"0.{place + 1}", "holder": names[0], "holders": holders}
        found.append(of_file(data))
    leaks = merged(together([], found))
    assert sorted((leak.holder, leak.kind, len(leak.found), leak.workers) for leak in leaks) == [
        ("shop.A", "leak", 4, 4),
        ("shop.B", "leak", 4, 4),
    ]


def test_what_came_to_a_worker_that_has_not_grown_is_no_leak() -> None:
    late = {"name": "ctypes", "type": "dict", "size": 20 << 10, "bound": None}
    data = {**FILE, "verdict": "baseline", "holder": "", "bytes": 340 << 10, "holders": [late]}
    assert [(each.verdict, each.holder) for each in of_file(data)] == [("baseline", "")]


def test_who_was_too_young_to_leak_speaks_against_no_leak() -> None:
    """A person has one examined soon after its start."""
    found = [look(0), look(1), look(2, "baseline", "", uptime=5.0)]
    assert [(leak.kind, leak.workers) for leak in merged(found)] == [("leak", 2), ("no leak", 1)]
    old = look(2, "baseline", "", uptime=7200.0)
    assert [(leak.kind, leak.workers) for leak in merged([*found[:2], old])] == [("maybe", 3), ("no leak", 1)]


def test_a_name_comes_before_none() -> None:
    short = look(1, holder="", size=900 * M)
    assert [leak.holder for leak in merged([look(0), short])] == ["shop.SEEN", ""]
    other = look(2, "native", "", size=900 * M)
    assert [leak.verdict for leak in merged([look(0), short, other])] == ["native", "python", "python"]


def test_what_an_app_puts_there_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text(json.dumps(FILE))
    (tmp_path / "broken.json").write_text("{" * 100_000)
    (tmp_path / "other.json").write_text("[1, 2]")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "good.json")
    os.mkfifo(tmp_path / "fifo.json")
    (tmp_path / "large.json").write_text(json.dumps({**FILE, "more": "x" * (2 << 20)}))
    assert len(list(kept(tmp_path, 0.0))) == 1
    assert list(kept(tmp_path / "nothing", 0.0)) == []


words = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=300), st.lists(st.integers())
)


@given(st.dictionaries(st.sampled_from([*FILE, "route", "route_share", "holders"]), words))
def test_no_file_is_an_error(data: dict[str, Any]) -> None:
    of_file({**FILE, **data})
    (one, *_) = of_file({**data, "verdict": "native", "worker": "0.1", "pid": 7, "ended": 5})
    assert one.size >= 0
    assert one.route_share is None or 0 <= one.route_share <= 1
    for name in (one.holder, one.type, one.route):
        assert name.isprintable()
        assert len(name) <= 200


@pytest.mark.parametrize("data", [None, [], "x", {}, {**FILE, "verdict": "bad"}, {**FILE, "pid": -1}])
def test_what_is_no_report_is_none(data: object) -> None:
    assert of_file(data) == []
