"""Whatever stands in the journal: it can be told, and nothing of it acts on a terminal or a page."""
# ruff: noqa: E501  a case is a line

from __future__ import annotations

import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memunit.account.entries import KINDS, MANAGER_KINDS, parse
from memunit.account.facts import Facts
from memunit.account.findings import diagnose
from memunit.account.gist import gist
from memunit.account.lives import CAUSES, build
from memunit.account.page import page
from memunit.account.text import clean
from memunit.account.units import Unit
from memunit.cli import history, recorded, why
from memunit.cli.terminal import Terminal
from memunit.core.settings import examine

# By name it is a longer one: MEMUNIT_EXAMPLES=20000 tests/run properties -- -k account
EXAMPLES = int(os.environ.get("MEMUNIT_EXAMPLES", "60"))
NOW = 1_800_000_000.0

TEXT = st.text(st.characters(), max_size=60) | st.sampled_from(
    ["\x1b[2J", "</svg><script>", "\u202e", "\n\n", ""]
)
NUMBER = st.one_of(st.integers(-5, 10**20), st.integers(0, 3)).map(str) | TEXT
TIMES = st.floats(NOW - 200_000, NOW + 1000).map(lambda at: str(int(at * 1e6)))
NUMBERS = (
    "MEMUNIT_SLOT", "MEMUNIT_GENERATION", "MEMUNIT_WORKER_PID", "MEMUNIT_MEMORY_BYTES", "MEMUNIT_LIMIT_BYTES",
    "MEMUNIT_CEILING_BYTES", "MEMUNIT_PEAK_BYTES", "MEMUNIT_GROWTH_BYTES_PER_HOUR", "MEMUNIT_DRAIN_USEC",
    "MEMUNIT_UPTIME_USEC", "EXIT_STATUS", "MEMUNIT_REPLACEMENT_PID",
)  # fmt: skip
TEXTS = (
    "MESSAGE",
    "MEMUNIT_STOP_REASON",
    "MEMUNIT_WORKER_STATUS",
    "EXIT_CODE",
    "MEMUNIT_METRIC",
    "MEMUNIT_PHASE",
)
ENTRIES = st.lists(
    st.builds(
        lambda at, kind, fields, cause: (
            {
                "__REALTIME_TIMESTAMP": at,
                "MESSAGE_ID": kind,
                "_SYSTEMD_UNIT": "memunit@shop.service",
                "MEMUNIT_INSTANCE": "shop",
                "UNIT": "memunit@shop.service",
                "_PID": "1",
                **fields,
            }
            | ({"MEMUNIT_CAUSE": cause} if cause else {})
        ),
        TIMES,
        st.sampled_from([*KINDS, *MANAGER_KINDS]),
        st.fixed_dictionaries({}, optional=dict.fromkeys(NUMBERS, NUMBER) | dict.fromkeys(TEXTS, TEXT)),
        st.sampled_from(["", "", *CAUSES]) | TEXT,
    ),
    max_size=25,
)
UNITS = st.builds(
    Unit,
    st.just("shop"),
    known=st.booleans(),
    active=st.sampled_from(["active", "activating", "deactivating", "reloading", "failed", "inactive", ""]),
    sub=st.sampled_from(["running", "auto-restart", "dead"]),
    status=TEXT
    | st.sampled_from(
        [
            "2/2 workers",
            "0/2 workers; \x1b[2J",
            "1/3 workers, 4M at most; worker 1 exited",
            "2/2 workers, until the next reload memory.limit = \x9b\u202e5M, memory.ceiling = 9E9E, x = ",
        ]
    ),
    pid=st.sampled_from([0, 999_999_999]),
    exit_code=st.integers(0, 3),
    exit_status=st.integers(0, 300),
    listening=st.booleans(),
)
SETTINGS = st.sampled_from(
    [
        None,
        examine({"app": {"run": "shop:app"}}, "shop.toml").settings,
        examine(
            {
                "app": {"run": "shop:app"},
                "memory": {"limit": "100M", "ceiling": "200M"},
                "stop": {"grace": 0},
                "workers": {"watchdog": "infinity"},
            },
            "shop.toml",
        ).settings,
    ]
)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(raw=ENTRIES, unit=UNITS, said=SETTINGS, width=st.sampled_from([None, 20, 44, 80, 132]), since=TIMES)
def test_anything_can_be_told(
    raw: list[dict[str, str]], unit: Unit, said: object, width: int | None, since: str
) -> None:
    entries = [entry for fields in raw if (entry := parse(fields)) is not None]
    begin = min(NOW - 1, int(since) / 1e6)
    account = build("shop", entries, begin, NOW)
    facts = Facts(unit, account, NOW, "/etc/memunit/shop.toml", said)  # type: ignore[arg-type]
    at = Terminal(width)
    found = diagnose(facts)
    assert found
    texts = [
        recorded._table([facts], at, blind=False),
        recorded._one(facts, at, blind=False),
        why._trouble(facts, found, [clean(line) for line in gist([each.message for each in entries])], at)[0],
        history._drawn(account, *history.bounds(account, said, unit), at),  # type: ignore[arg-type]
        *(why._end(facts, life, [], at)[0] for life in account.lives[:3]),
    ]
    for text in texts:
        rows = text.split("\n")
        assert all(row.isprintable() for row in rows), text
        assert width is None or max(map(len, rows)) <= width, text
    made = page(account, found, limit=None, ceiling=7, grace=0.0, version="1")
    assert all(row.isprintable() for row in made.split("\n"))
    assert "<script" not in made
    assert recorded._json(facts, blind=False)["instance"] == "shop"
    assert history.as_values(account, facts.limit, facts.ceiling)["instance"] == "shop"


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(TEXT | st.sampled_from(['  File "x", line 3, in f', "Traceback (most recent call last):", "Thread 0x1 (most recent call first):", '  File "a.py", line 3 in f', "ValueError: x"]), max_size=20))  # fmt: skip
def test_anything_can_be_boiled_down(printed: list[str]) -> None:
    assert len(gist(printed)) <= 12
