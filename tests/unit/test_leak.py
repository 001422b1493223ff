"""What a worker says of its leak: read as a hostile party's word, told in sentences that a person can act on."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from memunit.core import leak
from memunit.core.growth import afar
from memunit.master import leakfiles

REPORT: dict[str, Any] = {
    "version": 1,
    "verdict": "python",
    "holder": "shop.cache.SEEN",
    "kind": "module attribute",
    "type": "dict",
    "elements": "str",
    "length": 1_204_311,
    "more": 1_180_002,
    "bound": None,
    "bytes": 371 << 20,
    "growth": 388 << 20,
    "share": 0.956,
    "route": "GET /product/{id}",
    "route_share": 0.917,
    "own": 400 << 20,
    "confidence": "high",
    "numbers": {"threads": 12},
    "usec": 400_000,
    "stopped_for": "",
}


def read(**changes: Any) -> leak.Leak:
    found = leak.decode(json.dumps(REPORT | changes).encode())
    assert found is not None
    return found


def test_the_sentence_of_the_issue() -> None:
    assert leak.sentence(read(), "0.7 (pid 4711)") == (
        "What grew in worker 0.7 (pid 4711): 371M of 388M in shop.cache.SEEN (dict, 1,204,311 entries, "
        "1,180,002 more than at the start), most by GET /product/{id} (92 %). This is a leak in Python objects: "
        "bound that dict."
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "lru_cache"}, "give that cache a maxsize"),
        (
            {"holder": "shop.KEPT[\N{HORIZONTAL ELLIPSIS}]", "type": "bytes"},
            "in Python objects: bound shop.KEPT.",
        ),
        (
            {"kind": "lru_cache", "most": 5_000_000},
            "It takes 5,000,000 entries and is not full: lower that bound",
        ),
        ({"kind": "handlers of a logger", "type": "list"}, "add a handler once"),
        ({"holder": ""}, "No place with a name holds most of them"),
        ({"verdict": "native", "holder": ""}, "that Python does not manage"),
        ({"verdict": "fragmentation", "holder": ""}, "This is no leak of the app's"),
        (
            {"verdict": "threads", "holder": "shop.work"},
            "12 threads more than at the start, most of which run",
        ),
        (
            {"verdict": "tasks", "holder": "shop.refresh"},
            "tasks of asyncio that wait, most of them in shop.refresh",
        ),
        ({"verdict": "shared", "holder": ""}, "files on tmpfs"),
        ({"verdict": "baseline", "bound": 1_204_311}, "is full. This is no leak: raise memory.limit"),
        ({"verdict": "baseline", "holder": ""}, "raise memory.limit"),
        ({"verdict": "unknown", "holder": ""}, "no single place was found"),
        (
            {"verdict": "unknown", "holder": "", "stopped_for": "time"},
            "before it had seen everything: raise examine.time.",
        ),
    ],
)
def test_each_verdict_says_what_to_do(changes: dict[str, Any], words: str) -> None:
    assert words in leak.sentence(read(**changes), "0.7 (pid 4711)")


@pytest.mark.parametrize("changes", [{"holder": ""}, {"bound": 1_204_311}])
def test_who_is_well_under_its_limit_needs_no_higher_one(changes: dict[str, Any]) -> None:
    said = leak.sentence(
        read(verdict="baseline", **changes),
        "0.7 (pid 4711)",
        far="It was well under its limit, at 15M of 60M",
    )
    assert "raise memory.limit" not in said
    if not changes.get("bound"):
        assert said.endswith(
            "It was well under its limit, at 15M of 60M: examine one that has served for longer."
        )


@pytest.mark.parametrize(
    ("memory", "limit", "said"),
    [
        (15, 60, "It was well under its limit, at 15M of 60M"),
        (47, 60, "It was well under its limit, at 47M of 60M"),
        (49, 60, ""),
        (70, 60, ""),
        (None, 60, ""),
        (15, None, "It has no memory.limit"),
    ],
)
def test_who_is_well_under_its_limit(memory: int | None, limit: int | None, said: str) -> None:
    known = {"MEMUNIT_MEMORY_BYTES": memory, "MEMUNIT_LIMIT_BYTES": limit}
    assert afar({name: number << 20 for name, number in known.items() if number is not None}) == said


def test_each_verdict_has_a_sentence() -> None:
    said = {leak.sentence(read(verdict=each, holder=""), "0.7 (pid 1)") for each in leak.VERDICTS}
    assert len(said) == len(leak.VERDICTS)


HOSTILE = [
    b"",
    b"\0" * 100,
    b"[" * 40_000,
    b'{"verdict": ' * 9_000,
    b'{"verdict": "python", "bytes": NaN}',
    b'{"verdict": "python", "bytes": ' + b"9" * 9_000 + b"}",
    b'{"verdict": "worst"}',
    b'{"verdict": ["python"]}',
    b"7",
    b"null",
    b"\xff\xfe",
]


@pytest.mark.parametrize("report", HOSTILE)
def test_what_is_no_report_is_nothing(report: bytes) -> None:
    assert leak.decode(report) is None


def any_json(chance: random.Random, depth: int = 0) -> Any:
    """Some value of JSON's, hostile ones too."""
    match chance.randrange(8 if depth < 3 else 6):
        case 0:
            return chance.choice([None, True, False])
        case 1:
            return chance.choice([0, -1, 1 << 70, -(1 << 70), 7])
        case 2:
            return chance.choice([0.5, -2.5, 1e300, -1e300])
        case 3:
            return chance.choice(["", "shop", "x" * 5000, "\x1b[2J", "two\nlines", "\ud800", "é\u202e"])
        case 4 | 5:
            return chance.choice([*leak.VERDICTS, *leak.CONFIDENCES, "lru_cache", "time"])
        case 6:
            return [any_json(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {
        str(any_json(chance, depth + 1))[:20]: any_json(chance, depth + 1) for _ in range(chance.randrange(4))
    }


@pytest.mark.parametrize("seed", range(20))
def test_whatever_a_worker_says_becomes_bounded_and_printable(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(50):
        said = {key: any_json(chance) for key in [*REPORT, "holders"] if chance.random() < 0.5}
        found = leak.decode(json.dumps({**said, "verdict": chance.choice(leak.VERDICTS)}).encode())
        assert found is not None
        text = leak.sentence(found, "0.7 (pid 1)")
        assert text.isprintable()
        assert len(text) < 2000
        for value in leak.fields(found).values():
            assert str(value).isprintable()
            assert len(str(value)) <= 200
        json.dumps(found.details)


def test_details_are_cut() -> None:
    said = {
        "holders": [{"name": "x" * 10_000}] * 10_000,
        "deep": {"a": {"b": {"c": {"d": {"e": 1}}}}},
        "line\n": "two\nlines\x1b[2J",
        "many": {str(number): number for number in range(1000)},
    }
    details = read(**said).details
    assert len(details["holders"]) == 64
    assert len(details["holders"][0]["name"]) == 200
    assert details["line?"] == "two?lines?[2J"
    assert len(details["many"]) == 64
    assert len(json.dumps(details)) < 100_000


def test_the_newest_reports_are_kept(tmp_path: Path) -> None:
    for number in range(leakfiles.MOST + 6):
        path = leakfiles.save(str(tmp_path), f"20261129T0000{number:02}-0.{number}", {"number": number})
    left = sorted((tmp_path / "leaks").iterdir())
    assert len(left) == leakfiles.MOST
    assert str(left[-1]) == path
    assert json.loads(left[0].read_text()) == {"number": 6}
    assert left[0].stat().st_mode & 0o077 == 0


def test_a_link_that_the_app_has_put_there_leads_nowhere(tmp_path: Path) -> None:
    """The app has the same user, and may write to the folder."""
    target = tmp_path / "target"
    target.write_text("before")
    (tmp_path / "leaks").mkdir()
    (tmp_path / "leaks" / "a.json").symlink_to(target)
    leakfiles.save(str(tmp_path), "a", {"number": 1})
    assert target.read_text() == "before"
    assert not (tmp_path / "leaks" / "a.json").is_symlink()
