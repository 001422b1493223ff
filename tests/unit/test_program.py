"""What a program that has examined a worker has written is data: printable, short, and one line in the entry."""

from __future__ import annotations

from typing import Any

import pytest

from memunit.core.program import Outcome, clause, details, first_line, may_wait
from tests.support.sim import worker


def told(**facts: object) -> str:
    return clause(Outcome(**facts), time=2.0, memory=64 << 20)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"code": "exited"}, "has written nothing"),
        ({"code": "exited", "output": b"\n  \n a b \nc"}, ": a b"),
        ({"code": "exited", "status": 3, "output": b"why"}, " exited with status 3: why"),
        ({"code": "killed", "status": 11}, " was killed by SIGSEGV"),
        ({"code": "dumped", "status": 6}, " was killed by SIGABRT (core dumped)"),
        (
            {"failure": "/x: No such file or directory"},
            " could not be started: /x: No such file or directory",
        ),
        ({"killed": "time", "output": b"so far"}, " was killed after 2s (examine.time): so far"),
        ({"killed": "memory", "code": "killed", "status": 9}, " was killed at 64M (examine.memory)"),
        ({"killed": "room"}, " was killed at 64M, because the unit had no more memory for it"),
        ({"killed": "worker"}, " was killed, because the worker ended first"),
        ({"killed": "stop"}, " was killed, because memunit stops or executes itself anew"),
        ({"code": "killed", "status": 13, "cut": True, "output": b"y\n"}, ": y"),
        ({"code": "exited", "status": 141, "cut": True, "output": b"y\n"}, ": y"),
        ({"code": "killed", "status": 13}, " was killed by SIGPIPE"),
    ],
)
def test_how_it_ended_is_told_in_one_clause(facts: dict[str, object], said: str) -> None:
    assert told(**facts).startswith("examine.command")
    assert said in told(**facts)
    assert "\n" not in told(**facts)


def test_its_output_is_bounded_and_printable() -> None:
    evil = b"\xff\x1b[31m" + b"x" * 5000 + b"\n" + b"line\n" * 1000
    outcome = Outcome(code="exited", output=evil)
    assert len(first_line(outcome)) == 200
    assert first_line(outcome).isprintable()
    kept = details(outcome, time=2.0, memory=1)
    assert len(kept["output"]) == 200
    assert all(line.isprintable() and len(line) <= 400 for line in kept["output"])
    assert kept["cut"]
    assert not details(Outcome(code="exited", output=b"a"), time=2.0, memory=1)["cut"]


@pytest.mark.parametrize(
    ("facts", "seconds", "wanted"),
    [
        ({"ceiling": None, "steady_pace": 1e9}, 60.0, True),
        ({"memory": None, "steady_pace": 1e9}, 60.0, True),
        ({}, 600.0, True),
        ({"growth": 0.4}, 60.0, True),
        ({"growth": 0.5}, 60.0, False),
        ({"steady_pace": 0.5}, 60.0, False),
        ({"steady_pace": 30.0}, 0.5, True),
        # Past its ceiling already.
        ({"memory": 100}, 0.0, False),
    ],
)
def test_the_signal_waits_unless_the_worker_would_reach_its_ceiling(
    facts: dict[str, Any], seconds: float, wanted: bool
) -> None:
    """At twice its pace: 40 of 100 bytes, and 60 seconds for the rest."""
    one = worker(**{"ceiling": 100, "memory": 40, **facts})
    assert may_wait(one, seconds) is wanted
