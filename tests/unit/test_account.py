"""What is made of the journal: entries, lives, findings, the gist of what was printed. Values in, values out."""
# ruff: noqa: E501  each case is a line

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from memunit.account import series, units
from memunit.account.entries import Entry, parse, unit_instance
from memunit.account.facts import Facts
from memunit.account.findings import diagnose
from memunit.account.gist import gist
from memunit.account.lives import Account, build, quantile
from memunit.account.page import page
from memunit.account.text import clean, duration, lines
from memunit.account.units import Unit
from memunit.cli import recorded
from memunit.cli.terminal import Terminal
from memunit.core.messages import END_BY_CAUSE, Message
from memunit.core.model import Cause
from memunit.core.problems import Problem
from memunit.core.settings import examine
from memunit.records import replace

NOW = 1_800_000_000.0
EVIL = '\x1b]0;owned\x07\x1b[2J<script>alert(1)</script>"\u202e\x9b31m\x00\r\n--> '


def raw(at: float, kind: str, message: str = "", **fields: Any) -> dict[str, str]:
    """An entry as the journal has it."""
    told = {name: str(value) for name, value in fields.items()}
    return {
        "__REALTIME_TIMESTAMP": str(int(at * 1e6)),
        "MESSAGE_ID": Message[kind].id,
        "MESSAGE": message,
        "_SYSTEMD_UNIT": "memunit@shop.service",
        "MEMUNIT_INSTANCE": "shop",
        **told,
    }


def entry(at: float, kind: str, message: str = "", **fields: Any) -> Entry:
    found = parse(raw(at, kind, message, **fields))
    assert found is not None
    return found


def worker(slot: int = 0, generation: int = 1, pid: int = 100) -> dict[str, Any]:
    return {"MEMUNIT_SLOT": slot, "MEMUNIT_GENERATION": generation, "MEMUNIT_WORKER_PID": pid}


def ended(at: float, cause: str, message: str = "", **fields: Any) -> Entry:
    kind = END_BY_CAUSE[Cause(cause)].name
    return entry(at, kind, message, MEMUNIT_CAUSE=cause, **fields)


def life(at: float, cause: str, *, slot: int = 0, generation: int = 1, pid: int = 100, lived: float = 60.0,
         **fields: Any) -> list[Entry]:  # fmt: skip
    """The entries of a worker that ended at a time."""
    who = worker(slot, generation, pid)
    usec = {"MEMUNIT_UPTIME_USEC": int(lived * 1e6)}
    return [
        entry(at - lived, "WORKER_STARTING", **who),
        entry(at - lived + 0.5, "WORKER_READY", **who),
        ended(at, cause, f"Worker {slot}.{generation} (pid {pid}) ended: {cause}", **who, **usec, **fields),
    ]


def facts(entries: list[Entry], status: str = "2/2 workers", **unit: Any) -> Facts:
    """All that is known of an instance whose master runs."""
    known = Unit("shop", known=True, active="active", sub="running", pid=9, status=status, listening=True)
    settings = examine(
        {
            "app": {"run": "shop:app"},
            "memory": {"limit": "100M", "ceiling": "200M"},
            "stop": {"grace": "5s"},
        },
        "shop.toml",
    ).settings
    account = build("shop", entries, NOW - 86400, NOW)
    return Facts(replace(known, **unit), account, NOW, "/etc/memunit/shop.toml", settings)


# -- text ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", [EVIL, "".join(map(chr, range(0x20))), "\x7f\x80\x9f\u2028\u2066\ufeff\U000e0001", "a\ud800b"]
)
def test_nothing_that_a_terminal_acts_on_is_left(text: str) -> None:
    shown = clean(text)
    assert shown.isprintable()
    shown.encode()


def test_what_is_printable_stays() -> None:
    assert clean("größer als 5 µs, 速い") == "größer als 5 µs, 速い"
    assert clean("a" * 50, 10) == "aaaaaaa..."
    assert len(clean("\x1b" * 50, 10)) == 10
    assert lines("a\nb\x1b") == ["a", "b\\x1b"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.00 s"), (0.12, "0.12 s"), (4.2, "4.2 s"), (42, "42 s"), (240, "4 min"), (3600, "1 h"), (5400, "1 h 30 min"),
     (36000, "10 h"), (200000, "2 days"), (99.4, "99 s"), (3599, "1 h")],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


# -- entries -------------------------------------------------------------------------------------------------------


def test_an_entry_counts_for_the_unit_that_wrote_it() -> None:
    """An app can write each field but those that journald sets."""
    assert parse(raw(NOW, "WORKER_READY", **worker())) is not None
    other = raw(NOW, "WORKER_READY", **worker()) | {"_SYSTEMD_UNIT": "memunit@evil.service"}
    assert parse(other) is None
    assert parse(raw(NOW, "WORKER_READY") | {"_SYSTEMD_UNIT": "cron.service"}) is None
    without = raw(NOW, "WORKER_READY")
    del without["_SYSTEMD_UNIT"]
    assert parse(without) is None
    manager = {"__REALTIME_TIMESTAMP": "1", "MESSAGE_ID": "d9b373ed55a64feb8242e02dbe79a49c", "_PID": "1",
               "UNIT": "memunit@shop.service"}  # fmt: skip
    assert parse(manager) is not None
    assert parse(manager | {"_PID": "4711"}) is None


@pytest.mark.parametrize("value", ["", "-1", "1e3", "٣", "9" * 40, "0x10", " 1", "1\n"])
def test_what_is_no_number_is_none(value: str) -> None:
    found = parse(raw(NOW, "WORKER_READY", **(worker() | {"MEMUNIT_SLOT": value})))
    assert found is not None
    assert found.slot == -1
    assert build("shop", [found], NOW - 1, NOW).lives == []


def test_a_cause_is_a_word_for_a_sentence() -> None:
    """It is in counts, charts and sentences of every kind: an app that writes its own reaches none of them raw."""
    entries = [
        replace(each, fields={**each.fields, "MEMUNIT_CAUSE": EVIL}) for each in life(NOW - 9, "reload")[2:]
    ]
    (well,) = diagnose(facts(entries))
    assert all(text.isprintable() for text in well.text), well
    assert all(cause.isprintable() for cause in build("shop", entries, NOW - 10, NOW).counts())


def test_units_of_others_are_none() -> None:
    assert unit_instance("memunit@shop.service") == "shop"
    for name in (
        "memunit@.service",
        "memunit@a b.service",
        "memunit@shop.socket",
        "xmemunit@shop.service",
        "shop",
    ):
        assert unit_instance(name) == ""


# -- lives ---------------------------------------------------------------------------------------------------------


def test_a_life_is_put_together() -> None:
    who = worker(1, 6, 77)
    account = build(
        "shop",
        [
            entry(NOW - 50, "WORKER_STARTING", **who),
            entry(NOW - 49, "WORKER_READY", **who),
            entry(NOW - 10, "WORKER_STOPPING", **who, MEMUNIT_STOP_REASON="memory-limit"),
            entry(NOW - 9, "WORKER_STOPPING", **who, MEMUNIT_STOP_REASON="grace-expired"),
            ended(NOW - 5, "grace-expired", **who, MEMUNIT_STOP_REASON="memory-limit", MEMUNIT_DRAIN_USEC=5_000_000,
                  MEMUNIT_MEMORY_BYTES=100, MEMUNIT_PEAK_BYTES=130, EXIT_CODE="killed", EXIT_STATUS=9),
        ],
        NOW - 100,
        NOW,
    )  # fmt: skip
    (life_,) = account.lives
    assert (life_.name, life_.phase, life_.cause, life_.stop_reason) == (
        "1.6",
        "dead",
        "grace-expired",
        "memory-limit",
    )
    assert (life_.started, life_.ready, life_.stopping, life_.ended) == (
        NOW - 50,
        NOW - 49,
        NOW - 10,
        NOW - 5,
    )
    assert (life_.drain, life_.memory, life_.peak) == (5.0, 100, 130)
    assert life_.samples == [(NOW - 5, 100), (NOW - 5, 130)]


def test_names_begin_anew_with_each_master() -> None:
    """Of what the first left behind the journal has no end, and the kernel may give a pid out again."""
    entries = [
        entry(NOW - 50, "WORKER_READY", **worker(0, 1, 5)),
        entry(NOW - 40, "MASTER_STARTED"),
        *life(NOW - 5, "crash-exit", generation=1, pid=6, lived=20),
        entry(NOW - 4, "WORKER_STARTING", **worker(0, 2, 6)),
    ]
    account = build("shop", entries, NOW - 100, NOW)
    assert [(each.name, each.pid, each.phase) for each in account.lives] == [
        ("0.1", 5, "dead"), ("0.1", 6, "dead"), ("0.2", 6, "starting")
    ]  # fmt: skip
    assert account.counts() == {"crash-exit": 1}


def test_one_that_a_new_master_goes_on_with_is_not_lost() -> None:
    who = worker(0, 1, 5)
    entries = [entry(NOW - 50, "WORKER_READY", **who), entry(NOW - 40, "MASTER_STARTED"),
               entry(NOW - 30, "WORKER_STOPPING", **who)]  # fmt: skip
    assert build("shop", entries, NOW - 100, NOW).lives[0].phase == "stop-sigterm"


def test_quantiles() -> None:
    assert quantile([], 0.9) == 0
    assert quantile([3.0], 0.9) == 3
    assert quantile([float(n) for n in range(1, 11)], 0.9) == 9


# -- findings ------------------------------------------------------------------------------------------------------


def kinds(known: Facts) -> list[str]:
    return [each.kind for each in diagnose(known)]


def test_all_is_well() -> None:
    (only,) = diagnose(facts([]))
    assert (only.kind, only.rank, only.short) == ("well", 4, "")


@pytest.mark.parametrize("cause", ["start-failed", "crash-signal"])
@pytest.mark.parametrize(
    ("code", "status", "step"),
    [
        ("killed", 15, "memunit did not send SIGTERM: find who did"),
        ("killed", 9, "if nobody sent signal 9, the OOM killer did"),
        ("dumped", 11, "coredumpctl info 100 shows where the worker crashed"),
    ],
)
def test_an_end_by_a_signal_says_where_to_look(cause: str, code: str, status: int, step: str) -> None:
    """A start that SIGTERM had ended was said to be explained by the output of the worker, which was empty."""
    entries = [
        each
        for each in life(NOW - 9, cause, EXIT_CODE=code, EXIT_STATUS=status)
        if cause == "crash-signal" or each.kind != "WORKER_READY"
    ]
    (found,) = [each for each in diagnose(facts(entries)) if each.steps[0].startswith(step)]
    assert "output" not in found.steps[0]


@pytest.mark.parametrize(
    ("cause", "kind", "words"),
    [
        ("memory-ceiling", "ceiling", "killed at its ceiling of 200M: 3 in the last hour, the last 10 s ago"),
        ("watchdog", "hang", "hangs: silent for 30s, then aborted; 3 in the last hour, the last 10 s ago"),
        ("crash-exit", "crash-loop", "crash loop: exits with status 3 after 5.0 s; 3 in the last hour, the last 10 s ago"),
        ("crash-signal", "crash-loop", "crash loop: killed by SIGSEGV after 5.0 s; 3 in the last hour, the last 10 s ago"),
        ("grace-expired", "slow-drain", "slow to stop: killed after its grace of 5s; 3 in the last hour, the last 10 s ago"),
        ("start-failed", "start-failed", "fails to start: 3 in the last hour, the last 10 s ago"),
        ("start-timeout", "start-timeout", "is not ready in time: 3 in the last hour, the last 10 s ago"),
    ],
)  # fmt: skip
def test_each_trouble_is_named(cause: str, kind: str, words: str) -> None:
    code: dict[str, Any] = {"EXIT_CODE": "exited", "EXIT_STATUS": 3}
    if cause == "crash-signal":
        code = {"EXIT_CODE": "killed", "EXIT_STATUS": 11}
    entries = [
        each
        for n in (3, 2, 1)
        for each in life(NOW - 10 * n, cause, generation=4 - n, pid=100 - n, lived=5, **code)
        if each.kind != "WORKER_READY"
    ]
    first = diagnose(facts(entries))[0]
    assert (first.kind, first.short) == (kind, words)
    assert first.rank == 1
    assert first.steps
    assert first.life is not None
    assert first.life.pid == 99


def test_an_end_by_the_oom_killer_is_said_to_be_one() -> None:
    """Its entry said so, and beside it stood: "killed by SIGKILL", and what to do if nobody had sent that."""
    *before, end = life(NOW - 10, "crash-signal", EXIT_CODE="killed", EXIT_STATUS=9)
    how = "by the kernel's OOM killer: the unit was at its MemoryMax=, or the machine was out of memory"
    told = replace(end, message=f"{end.message}; killed by SIGKILL, {how}")
    first = diagnose(facts([*before, told]))[0]
    assert first.short.startswith("crashed: killed by the kernel's OOM killer after ")
    assert first.steps[0].startswith(
        "memory.ceiling in /etc/memunit/shop.toml bounds one worker, MemoryMax= "
    )


def test_an_end_that_nobody_has_seen_is_no_signal() -> None:
    """Of a worker that ended while no master was there: "killed by signal 0" was said of it."""
    ended = life(NOW - 10, "crash-exit", EXIT_CODE="unknown", EXIT_STATUS=0)
    first = diagnose(facts(ended))[0]
    assert first.short.startswith("crashed: ends in an unknown way after ")


@pytest.mark.parametrize("number", [1, 2, 3, 4, 20])
def test_a_leak_is_pressing_when_it_is_frequent(number: int) -> None:
    size = {
        "MEMUNIT_MEMORY_BYTES": 105 << 20,
        "MEMUNIT_LIMIT_BYTES": 100 << 20,
        "MEMUNIT_GROWTH_BYTES_PER_HOUR": 50 << 20,
    }
    entries = [
        each
        for n in range(number, 0, -1)
        for each in life(NOW - 60 * n, "memory-limit", generation=99 - n, pid=n, **size)
    ]
    first = diagnose(facts(entries))[0]
    assert first.kind == "leak"
    assert first.rank == (2 if number >= 4 else 3)
    assert "A worker grows by 50M an hour." in first.text
    assert ('limit = "200M"' in " ".join(first.steps)) == (number >= 4)
    assert first.steps[0].startswith("memunit examine shop 0 ")


def test_a_leak_that_was_examined_is_named() -> None:
    found = {"VERDICT": "python", "HOLDER": "shop.SEEN", "TYPE": "dict", "BYTES": 50 << 20}
    fields = {f"MEMUNIT_LEAK_{name}": value for name, value in found.items()}
    entries = []
    for n in (3, 2, 1):
        who = worker(0, 9 - n, 100 - n)
        entries += life(NOW - 60 * n, "memory-limit", generation=9 - n, pid=100 - n)
        entries.append(
            entry(NOW - 60 * n, "EXAMINED", f"What grew in worker 0.{9 - n}: 50M", **who, **fields)
        )
    first = diagnose(facts(entries))[0]
    assert first.text[-1] == "What grew in worker 0.8: 50M."
    assert first.steps[0].startswith("memunit leaks shop ranks what grows")
    assert "in 3 of 3 examined workers" in first.steps[0]


def test_a_leak_of_a_node_program_has_no_lines_of_code_but_a_profile() -> None:
    who = worker(0, 8, 99)
    grown = entry(NOW - 60, "EXAMINED", "has grown", **who, MEMUNIT_LEAK_VERDICT="javascript")
    first = diagnose(facts([*life(NOW - 60, "memory-limit", generation=8, pid=99), grown]))[0]
    assert first.steps[0].startswith("memunit witness shop 0 ")
    assert "memunit examine shop 0" in first.steps[0]


def test_two_recycles_in_the_same_minute_are_no_rate() -> None:
    entries = [each for at in (21, 8) for each in life(NOW - at, "memory-limit", pid=at)]
    first = diagnose(facts(entries))[0]
    assert any("2 recycles, the last 8 s ago" in text for text in first.text)
    assert not any("one every" in text for text in (first.short, *first.text))


def test_a_leak_whose_examination_named_nothing_needs_more_time() -> None:
    who = worker(0, 8, 99)
    unknown = entry(NOW - 60, "EXAMINED", "has grown", **who, MEMUNIT_LEAK_VERDICT="unknown")
    first = diagnose(facts([*life(NOW - 60, "memory-limit", generation=8, pid=99), unknown]))[0]
    assert first.steps[0].startswith('set time = "10s" in [examine] of /etc/memunit/shop.toml')


@pytest.mark.parametrize(
    ("seconds", "slow"), [(5.1, True), (4.8, True), (4.0, True), (3.9, False), (0.0, False)]
)
def test_a_worker_that_ends_by_itself_when_its_grace_is_over(seconds: float, slow: bool) -> None:
    """As those of Python do; the cause is then that of the stop."""
    entries = life(
        NOW - 9, "reload", MEMUNIT_DRAIN_USEC=int(seconds * 1e6), MEMUNIT_WORKER_STATUS="finishing 1 request"
    )
    first = diagnose(facts(entries))[0]
    assert first.kind == ("slow-drain" if slow else "well")
    if slow:
        assert first.short == "slow to stop: used up its grace of 5s; one, 9 s ago"
        assert 'Its last status: "finishing 1 request".' in first.text


def test_planned_ends_are_no_trouble() -> None:
    entries = [
        each
        for cause in ("reload", "max-age", "requested", "scale-down", "stop")
        for each in life(NOW - 9, cause)
    ]
    assert kinds(facts(entries)) == ["well"]


@pytest.mark.parametrize("status", ["", "0/2 workers", "giving up, no worker became ready", "stopping"])
@pytest.mark.parametrize("active", ["active", "activating"])
def test_a_master_that_says_nothing_of_it(status: str, active: str) -> None:
    """It gives up, or has just been started again: the failures stand in the journal."""
    failed = entry(
        NOW - 5, "LAUNCH_FAILED", "Worker 0 can't be started: cannot import shop: KeyError: 'X'", **worker()
    )
    first = diagnose(facts([failed], status, active=active))[0]
    assert (first.kind, first.printed_at) == ("nothing-ready", NOW - 5)
    assert first.short == "nothing serves: worker 0 can't be started: cannot import shop: KeyError: 'X'"
    ready = entry(NOW - 4, "WORKER_READY", **worker(0, 2, 101))
    assert "nothing-ready" not in kinds(facts([failed, ready], status, active="activating"))


def test_a_try_that_was_cut_short_does_not_hide_why() -> None:
    """The master gave up in the middle of the last one, whose entry is for debugging."""
    failed = entry(
        NOW - 5, "LAUNCH_FAILED", "Worker 0 can't be started: KeyError: 'X'", PRIORITY=3, **worker()
    )
    last = "Worker 0 can't be started: the app was not imported in time"
    cut = entry(NOW - 4, "LAUNCH_FAILED", last, PRIORITY=7, **worker(0, 2))
    first = diagnose(facts([failed, cut], "", active="activating"))[0]
    assert first.short == "nothing serves: worker 0 can't be started: KeyError: 'X'"
    assert "nothing-ready" not in kinds(facts([cut], "", active="activating"))


@pytest.mark.parametrize(
    ("tries", "status", "rank", "short"),
    [
        (1, "2/2 workers", 2, "can't be started: one, 5 s ago"),
        (3, "2/2 workers", 2, "can't be started: 3 in the last hour, the last 5 s ago"),
        (3, "1/2 workers", 1, "can't be started: 3 in the last hour, the last 5 s ago"),
    ],
)
def test_a_replacement_that_can_not_be_started_while_the_others_serve(
    tries: int, status: str, rank: int, short: str
) -> None:
    """At TasksMax= a recycle waited for ever, and nothing was wrong by `memunit why`."""
    text = "Worker 0 can't be started: fork: Resource temporarily unavailable"
    failed = [
        entry(NOW - 5 * n, "LAUNCH_FAILED", text, PRIORITY=3, **worker(0, 9 - n)) for n in range(tries, 0, -1)
    ]
    first = diagnose(facts(failed, status))[0]
    assert (first.kind, first.rank, first.short) == ("launch-failed", rank, short)
    assert first.text[0] == f"{text}."
    assert first.printed_at == NOW - 5
    healed = entry(NOW - 4, "WORKER_READY", **worker(0, 9, 101))
    (past,) = [each for each in diagnose(facts([*failed, healed])) if each.kind == "launch-failed"]
    assert (past.rank, past.short) == (3, short.replace("can't", "could not"))
    long_ago = entry(NOW - 3700, "LAUNCH_FAILED", text, PRIORITY=3, **worker())
    assert kinds(facts([long_ago])) == ["well"]


def test_a_master_that_is_started_again_has_failed_of_something() -> None:
    failed = entry(NOW - 5, "LAUNCH_FAILED", "Worker 0 can't be started", **worker())
    for unit in ({"active": "activating", "sub": "auto-restart"}, {"active": "failed", "sub": "failed"}):
        first = diagnose(facts([failed], "", pid=0, exit_code=1, exit_status=69, **unit))[0]
        assert (first.rank, first.printed_at) == (0, NOW - 5)


def test_a_file_that_can_not_be_used_and_a_master_that_waits_for_it() -> None:
    """It serves nothing: an earlier reload that failed has left no old code that does."""
    failed = entry(NOW - 20, "RELOAD_FAILED", "Reload refused, the old configuration goes on serving: x")
    problems = [Problem("/etc/memunit/shop.toml", "memory.limt", "unknown key")]
    status = "/etc/memunit/shop.toml: memory.limt: unknown key; waiting until the file is mended"
    (first,) = diagnose(replace(facts([failed], status, active="activating"), problems=problems))
    assert (first.kind, first.rank) == ("file", 0)
    assert first.text[-1] == "No worker serves: the master waits until the file is mended."
    assert first.steps[-1] == "then systemctl restart memunit@shop"
    first, *others = diagnose(replace(facts([failed]), problems=problems))
    assert (first.kind, first.rank, [each.kind for each in others]) == ("file", 2, ["reload-failed"])


@pytest.mark.parametrize(("own", "told"), [(96 << 20, "100M"), (100 << 20, "100M"), (50 << 20, "50M")])
def test_the_limit_that_was_in_effect_is_told(own: int, told: str) -> None:
    """The file's, or where a person had set another, the worker's own."""
    first = diagnose(facts(life(NOW - 60, "memory-limit", MEMUNIT_LIMIT_BYTES=own)))[0]
    assert f" of {told} " in first.short


def test_what_serves_nobody_comes_first() -> None:
    """Before a crash of the same instance, and with what the master says of it."""
    entries = life(NOW - 9, "start-failed")
    known = facts(entries, "0/2 workers; worker 0 failed to start (exited with status 1), next try in 12 s")
    first = diagnose(known)[0]
    assert (first.kind, first.rank) == ("nothing-ready", 0)
    assert first.short.startswith("nothing serves: worker 0 failed to start")


@pytest.mark.parametrize(
    "status",
    [
        "2/2 workers; the last reload failed: no such module",
        "1/2 workers; worker 1 exited with status 3, next try in 9 s",
    ],
)
def test_what_the_master_tells_is_told_when_the_journal_has_nothing_of_it(status: str) -> None:
    """A reload that failed before what was read of the journal, for one."""
    (only,) = diagnose(facts([], status))
    assert (only.kind, only.rank) == ("few", 2)
    assert only.short == status.partition("; ")[2]


def test_a_stop_or_a_start_under_way_is_no_trouble() -> None:
    assert kinds(facts([], "stopping, 2 workers left", active="deactivating")) == ["well"]
    (only,) = diagnose(facts([], "0/2 workers", active="activating", sub="start"))
    assert (only.rank, only.short) == (3, "starting: 0 of 2 workers serve")


def test_what_was_before_the_end_of_an_instance_is_past() -> None:
    entries = life(NOW - 60, "memory-ceiling")
    found = diagnose(facts(entries, "", pid=0, active="inactive", sub="dead", listening=False))
    assert [(each.kind, each.rank) for each in found] == [("inactive", 3), ("ceiling", 3)]


def test_a_worker_that_is_older_than_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker may live for months: its group and its process say that it is there, and since when."""
    group = tmp_path / "system.slice/memunit@shop.service/payload/workers/3.7"
    group.mkdir(parents=True)
    (group / "cgroup.procs").write_text(f"{os.getpid()}\n")
    (group / "memory.stat").write_text("anon 1000\nshmem 20\nkernel 3\nslab_reclaimable 1\n")
    (group.parent / "junk").mkdir()
    (group.parent / "4.1").mkdir()
    (group.parent / "4.1/cgroup.procs").write_text("")
    monkeypatch.setattr("memunit.master.cgroup.MOUNT", str(tmp_path))
    unit = Unit("shop", known=True, pid=1, group="/system.slice/memunit@shop.service")
    assert units.has_groups(unit)
    (only,) = units.workers(unit, [])
    assert (only.slot, only.generation, only.pid, only.memory, only.phase) == (
        3,
        7,
        os.getpid(),
        1022,
        "running",
    )
    assert only.since is not None
    assert 0 <= time.time() - only.since < 86400
    assert not units.has_groups(Unit("shop", known=True, pid=1, group="/elsewhere"))


@pytest.mark.parametrize(
    ("unit", "kind"),
    [
        ({"active": "failed", "sub": "failed", "exit_code": 1, "exit_status": 78}, "failed"),
        ({"active": "activating", "sub": "auto-restart", "exit_code": 1, "exit_status": 69}, "restarting"),
        # ExecStopPost= runs, which takes a moment on a slow machine; and systemd 254 has a state between those.
        (
            {"active": "deactivating", "sub": "stop-post", "result": "exit-code", "exit_code": 1},
            "restarting",
        ),
        ({"active": "activating", "sub": "auto-restart-queued", "result": "exit-code"}, "restarting"),
        ({"active": "deactivating", "sub": "stop-post", "result": "success"}, "stopping"),
        ({"active": "inactive", "sub": "dead"}, "idle"),
        ({"active": "inactive", "sub": "dead", "listening": False}, "inactive"),
    ],
)
def test_one_that_does_not_run(unit: dict[str, Any], kind: str) -> None:
    assert kinds(facts([], "", pid=0, **unit))[0] == kind


@pytest.mark.parametrize(
    "unit",
    [
        {"active": "activating", "sub": "auto-restart", "exit_code": 1, "exit_status": 69, "pid": 0},
        {"active": "failed", "sub": "failed", "exit_code": 1, "exit_status": 69, "pid": 0},
        {"active": "activating", "sub": "start"},
    ],
)
def test_where_nothing_is_ready_the_first_step_is_that_of_the_last_worker(unit: dict[str, Any]) -> None:
    """A worker that was not ready in time has printed nothing, and `memunit check` finds nothing."""
    late = life(NOW - 5, "start-timeout")
    first = diagnose(facts([late[0], late[2]], "0/2 workers", **unit))[0]
    assert first.rank == 0
    assert first.steps[0].startswith("if the app only needs more time, raise start_timeout in [workers] of ")
    broken = life(NOW - 5, "start-failed")
    first = diagnose(facts([broken[0], broken[2]], "0/2 workers", **unit))[0]
    assert first.steps[:2] == [
        "mend the error that the last worker printed; the next try then succeeds without you",
        "memunit check shop finds the usual mistakes",
    ]


@pytest.mark.parametrize(
    ("code", "status", "serves"),
    [(2, signal.SIGKILL, True), (3, signal.SIGABRT, True), (1, 70, True), (1, 69, False), (1, 78, False)],
)
def test_workers_that_outlive_their_master_serve(code: int, status: int, *, serves: bool) -> None:
    """`kill -9` of the master, its watchdog, or a fault of memunit's: nobody is told that nothing serves."""
    unit = {"active": "activating", "sub": "auto-restart", "exit_code": code, "exit_status": int(status)}
    found = diagnose(facts([], "", pid=0, **unit))[0]
    assert found.kind == "restarting"
    told = " ".join([found.short, *found.text])
    assert ("nothing serves" in told, "go on serving" in told) == (not serves, serves)


def test_a_reload_that_failed_is_told_until_one_succeeds() -> None:
    failed = entry(
        NOW - 60, "RELOAD_FAILED", "Reload failed, the old configuration goes on serving: worker 0 exited"
    )
    assert kinds(facts([failed])) == ["reload-failed"]
    assert kinds(facts([failed, entry(NOW - 50, "RELOAD_DONE")])) == ["well"]
    assert kinds(facts([failed, entry(NOW - 50, "MASTER_STARTED")])) == ["well"]


def test_a_reload_that_took_too_long_needs_more_time() -> None:
    said = "Reload failed, the old configuration goes on serving: worker 1 was not ready in time"
    (found,) = diagnose(facts([entry(NOW - 60, "RELOAD_FAILED", said)]))
    assert found.steps[0].startswith("if the app only needs more time, raise start_timeout in [workers] of ")
    assert found.steps[1] == "systemctl reload memunit@shop"


def test_a_limit_that_is_too_low() -> None:
    size = {"MEMUNIT_MEMORY_BYTES": 120 << 20, "MEMUNIT_LIMIT_BYTES": 100 << 20}
    first = diagnose(
        facts([entry(NOW - 60, "BASELINE_OVER_LIMIT", "memory.limit is below", **worker(), **size)])
    )[0]
    assert first.kind == "limit-too-low"
    assert 'raise limit = "240M"' in first.steps[0]


def test_no_finding_carries_what_a_terminal_acts_on() -> None:
    entries = [each for cause in END_BY_CAUSE for each in life(NOW - 9, cause, MEMUNIT_WORKER_STATUS=EVIL)]
    entries += [replace(each, message=EVIL) for each in entries]
    entries += [
        entry(NOW - 5, kind, EVIL)
        for kind in ("RELOAD_FAILED", "BASELINE_OVER_LIMIT", "UNMEASURED", "LAUNCH_FAILED")
    ]
    for status in (f"0/2 workers; {EVIL}", f"1/2 workers; {EVIL}"):
        found = diagnose(facts(entries, status))
        assert len(found) > 5
        for each in found:
            assert all(text.isprintable() for text in (each.short, *each.text, *each.steps)), each


@pytest.mark.parametrize(
    ("status", "counted"),
    [("2/2 workers, 45M of 160M at most", (2, 2)), ("reloading, 1/4 workers of the new configuration, 3 serve", (3, 4)),
     ("stopping, 2 workers left", None), ("giving up, no worker became ready", None), ("", None)],
)  # fmt: skip
def test_the_sentence_of_the_master_is_read(status: str, counted: tuple[int, int] | None) -> None:
    assert Unit("shop", known=True, pid=1, status=status).counted == counted
    assert Unit("shop", known=True, pid=0, status=status).counted is None


@pytest.mark.parametrize(
    ("said", "limit", "shown"),
    [
        ("", 100 << 20, "/100M  "),
        (", until the next reload memory.limit = 150M, workers.count = 3", 150 << 20, "/150M*  "),
        (
            ", gave back 5M once, until the next reload workers.max_age = 1h, memory.limit = 150M",
            150 << 20,
            "/150M*  ",
        ),
        (", until the next reload memory.limit = infinity", None, "M*  "),
        (", until the next reload memory.limit = much", 100 << 20, "/100M*  "),
        ("; worker 0: , until the next reload memory.limit = 150M", 100 << 20, "/100M  "),
    ],
)
def test_the_table_has_the_limit_in_force_and_marks_it(said: str, limit: int | None, shown: str) -> None:
    """It had the file's, whatever a person had set."""
    # This process is the worker: what it holds is shown.
    started = [entry(NOW - 60, "WORKER_STARTING", **worker(pid=os.getpid()))]
    known = facts(started, f"2/2 workers{said}", pid=os.getppid())
    assert (known.limit, known.ceiling) == (limit, 200 << 20)
    table = recorded._table([known], Terminal(132), blind=False)
    assert shown in table
    for path, value in known.unit.changed.items():
        assert f"{path} = {value}" in table.partition("\n* shop: set by hand until the next reload: ")[2]
    assert ("2/2*" in table) == ("workers.count" in said)


def test_the_master_tells_what_a_person_has_set() -> None:
    from memunit.core.model import Policy
    from memunit.core.state import initial
    from memunit.core.status import sentence

    state = initial(Policy(count=2, limit=150 << 20), now=0.0)
    state.settings = {"memory.limit": "150M", "workers.count": "2"}
    told = Unit("shop", known=True, pid=1, status=sentence(state, 0.0))
    assert told.changed == {"memory.limit": "150M", "workers.count": "2"}
    assert replace(told, pid=0).changed == {}


def test_the_sentence_that_is_read_is_the_one_that_is_written() -> None:
    """By the core itself, for it is the only place where the two meet."""
    from memunit.core.model import Policy
    from memunit.core.state import initial
    from memunit.core.status import sentence

    state = initial(Policy(count=3), now=0.0)
    state.trouble = "worker 0 exited"
    told = Unit("shop", known=True, pid=1, status=sentence(state, 0.0))
    assert told.counted == (0, 3)
    assert told.trouble.startswith("worker 0 exited")


# -- the gist ------------------------------------------------------------------------------------------------------

TRACE = """\
starting
Traceback (most recent call last):
  File "/usr/lib/python3/dist-packages/memunit/worker/lifespans.py", line 40, in run
    await app(scope, receive, send)
  File "/srv/shop/web.py", line 12, in startup
    connect(os.environ["DATABASE_URL"])
            ~~~~~~~~~~^^^^^^^^^^^^^^^^
  File "<frozen os>", line 685, in __getitem__
KeyError: 'DATABASE_URL'
bye"""
STACK = """\
Fatal Python error: Aborted

Thread 0x00007f0000000001 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 324 in wait

Current thread 0x00007f0000000000 [asyncio] (most recent call first):
  File "/usr/lib/python3.11/ssl.py", line 1311 in recv
  File "/srv/shop/web.py", line 31 in query
  File "/srv/shop/web.py", line 40 in app
  File "/usr/lib/python3/dist-packages/memunit/worker/asgi.py", line 200 in serve
"""


def test_the_gist_of_a_traceback() -> None:
    assert gist(TRACE.split("\n")) == [
        "KeyError: 'DATABASE_URL'",
        '  at /srv/shop/web.py:12 in startup: connect(os.environ["DATABASE_URL"])',
    ]


def test_the_gist_of_stacks() -> None:
    assert gist(STACK.split("\n")) == [
        "a thread is at /srv/shop/web.py:31 in query, which waits in recv (/usr/lib/python3.11/ssl.py:1311)"
    ]


@pytest.mark.parametrize(
    "printed", [[], [""], ["Traceback (most recent call last):"], ["one", "", "two"], ["  File"]]
)
def test_the_gist_of_anything(printed: list[str]) -> None:
    assert gist(printed) == ([each for each in printed if each.strip()])


def test_the_gist_is_the_end_of_much() -> None:
    assert gist([f"line {n}" for n in range(1000)]) == [f"line {n}" for n in range(988, 1000)]


# -- over time -----------------------------------------------------------------------------------------------------


def leaking(slots: int = 2, each: int = 5) -> Account:
    size = {"MEMUNIT_MEMORY_BYTES": 100 << 20, "MEMUNIT_LIMIT_BYTES": 98 << 20, "MEMUNIT_DRAIN_USEC": 400_000}
    entries = [
        told
        for slot in range(slots)
        for n in range(each, 0, -1)
        for told in life(NOW - 100 * n + slot, "memory-limit", slot=slot, generation=each - n + 1, pid=slot * 1000 + n,
                         lived=100, **size)
    ]  # fmt: skip
    return build("shop", sorted(entries, key=lambda told: told.at), NOW - 600, NOW)


def test_points_of_a_tooth() -> None:
    account = leaking(1, 1)
    assert series.points(account.lives[0], NOW) == [(NOW - 199.5, 0), (NOW - 100, 100 << 20)]
    account.lives[0].growth = 3600 << 20
    # It grew by a mebibyte a second: for 99.5 s.
    assert series.points(account.lives[0], NOW)[0] == (NOW - 199.5, 512 << 10)


def test_parts_count_each_end_once() -> None:
    account = leaking()
    for count in (1, 7, 60, 1000):
        rows = series.by_cause(account, count)
        assert {cause: sum(row) for cause, row in rows.items()} == {"memory-limit": 10}
        assert max(series.slowest(account, count)) == 0.4
        slots = series.by_slot(account, count)
        assert set(slots) == {0, 1}
        assert max(slots[0]) == 100 << 20


@pytest.mark.parametrize("span", [1.0, 59.0, 600.0, 86400.0, 40 * 86400.0])
def test_ticks_are_few_and_within(span: float) -> None:
    for most in (2, 6, 12):
        found = series.ticks(NOW - span, NOW, most)
        assert len(found) <= most + 1
        assert all(NOW - span <= tick <= NOW for tick in found)


def test_an_account_of_no_time_at_all() -> None:
    account = build("shop", [], NOW, NOW)
    assert series.by_cause(account, 5) == {}
    assert "<svg" not in page(account, [], limit=None, ceiling=None, grace=None, version="1")
