"""memunit.run: a program that is its own worker. Workers are forked, and so there at once."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from memunit.master.proctree import descendants
from tests.support.harness import Service, Unit
from tests.support.interpreters import DEBIAN
from tests.support.workers import APPS, ROOT, LoadProcess

pytest_plugins = ["tests.support.units"]

MIB = 1 << 20
AT_ONCE: dict[str, Any] = {"interval": 0.03, "patience": 0.0, "min_lifetime": 0.0}


def program(unit: Unit, environment: dict[str, str] | None = None, **options: object) -> Service:
    """The program that calls memunit.run with these arguments, on the unit's sockets."""
    return unit.start(str(DEBIAN), "library.py", json.dumps(options), environment=environment)


def test_a_program_serves_recycles_cleans_and_returns(unit: Unit) -> None:
    service = program(unit, limit=32 * MIB, workers=2, clean=True, grace=20.0, **AT_ONCE).ready()
    pid = int(unit.get("/leak?kb=40000").split()[1])
    ended = service.entry("ended")
    assert (ended.pid, ended.cause) == (pid, "memory-limit")
    cleaned = service.expect(f"^clean {pid}$")
    assert service.entry("stopped", pid=pid).place < cleaned.place < ended.place
    service.entry("ready", slot=ended.slot, count=2)
    rest = set(service.serving().values())
    assert service.stop() == 0
    assert {entry.pid for entry in service.entries("ended")} == {pid, *rest}
    for each in rest:
        assert service.find(f"^clean {each}$") is not None
    assert service.find("^returned 0$") is not None
    assert service.find("^as before$") is not None


def test_thirty_recycles_leave_nothing_behind(unit: Unit, tmp_path: Path) -> None:
    """The master has as many descriptors and children after them as before; and nothing was lost."""
    service = program(unit, limit="24M", workers=2, grace=20.0, **AT_ONCE).ready()
    before = _descriptors(service)
    load = LoadProcess(tmp_path, unit.target, "--clients", "4", "--rate", "200")
    load.answered()
    while len(service.entries("ended")) < 30:
        # By and by: who takes all of it at once, again and again, is recycled less and less often.
        for _ in range(20):
            unit.get("/leak?kb=1000")
        service.pass_by()
    assert {entry.cause for entry in service.entries("ended")} == {"memory-limit"}
    report = load.finish()
    assert report["lost"] == 0, report
    # The last may have been replaced a moment ago: pass after pass of the loop, until all is as it was.
    service.until(lambda: _quiet(service, before) or None, "as many descriptors and children as before")
    assert service.stop() == 0


def _quiet(service: Service, descriptors: list[str]) -> bool:
    service.pass_by()
    workers = service.serving().values()
    return (
        len(workers) == 2
        and sorted(descendants(service.pid)) == sorted(workers)
        and _descriptors(service) == descriptors
    )


def _descriptors(service: Service) -> list[str]:
    """What they are, without those that the loop has closed between two looks of ours."""
    found = []
    for entry in Path(f"/proc/{service.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(re.sub(r"\d+", "N", str(entry.readlink())))
    return sorted(found)


def test_what_is_shared_with_the_master_does_not_count(unit: Unit) -> None:
    """Each worker has all that the program had loaded before the fork, and by uss nothing of it."""
    service = program(unit, limit="60M", workers=2, ballast=120 * MIB, **AT_ONCE).ready()
    service.hear(r"^STATUS=2/2 workers, ([\d.]{1,4}M|\d+K) of 60M at most$")
    for _ in range(3):
        service.pass_by()
    assert service.entries("stopped") == []
    # Its own does.
    pid = int(unit.get("/leak?kb=70000").split()[1])
    assert service.entry("ended").pid == pid
    assert service.stop() == 0


def test_by_rss_it_does(unit: Unit) -> None:
    service = program(unit, limit="60M", metric="rss", workers=1, ballast=120 * MIB, **AT_ONCE).ready()
    said = service.expect("memory.limit is below what the app needs to start", source="output")
    assert re.search(r"had 1\d\d[\d.]*M of (60|5\d)[\d.]*M \(rss\)", said.text)
    assert service.stop() == 0


@pytest.mark.parametrize(
    ("environment", "workers", "count"),
    [({}, None, len(os.sched_getaffinity(0))), ({"CPU_COUNT": "3"}, None, 3), ({"CPU_COUNT": "3"}, 1, 3)],
)
def test_how_many_workers(unit: Unit, environment: dict[str, str], workers: int | None, count: int) -> None:
    """As many as CPUs; CPU_COUNT has the last word."""
    service = program(unit, environment, what="waiting", workers=workers).ready()
    assert sorted(service.serving()) == list(range(count))
    for slot in range(count):
        service.expect(f"^slot {slot} generation 1 with 1 sockets$")
    assert service.stop() == 0
    assert len([each for each in service.said if each.text.startswith("stopping ")]) == count


def test_check_interval_is_in_milliseconds(unit: Unit) -> None:
    """With an hour between two samples nothing would be seen; with 30 ms it is."""
    options: dict[str, Any] = {
        "limit": "32M",
        "workers": 1,
        "patience": 0.0,
        "min_lifetime": 0.0,
        "interval": 3600.0,
    }
    service = program(unit, {"CHECK_INTERVAL": "30"}, **options).ready()
    unit.get("/leak?kb=40000")
    assert service.entry("ended").cause == "memory-limit"
    assert service.stop() == 0


@pytest.mark.parametrize("never", [0, math.inf, "infinity"])
def test_without_a_watchdog_a_worker_may_ping(unit: Unit, never: float | str) -> None:
    """0 is for ever, as in a file: not at once, upon the first ping."""
    service = program(unit, {"ASKED_COUNT": "2"}, workers=1, watchdog=never).ready()
    pid = service.serving()[0]
    for _ in range(2):
        assert unit.get() == f"ok {pid}"
    service.expect(f"^pinged 2 times {pid}$")
    assert service.stop() == 0
    assert [entry.cause for entry in service.entries("ended")] == ["stop"]


@pytest.mark.parametrize(
    ("options", "environment", "error"),
    [
        ({"workers": 0}, {}, "ValueError: workers: 0 is too few; 1 is the least"),
        ({"limit": "lots"}, {}, "ValueError: limit: "),
        ({"limit": 0}, {}, "ValueError: limit: 0 bytes is less than any program needs"),
        ({"limit": "400M", "ceiling": "300M"}, {}, "ValueError: limit is over ceiling"),
        ({"metric": "vms"}, {}, "ValueError: metric: 'vms' is not known; say uss, pss or rss"),
        ({"interval": 0}, {}, "ValueError: interval: 0 would leave no time for anything else"),
        ({"grace": -1.0}, {}, "ValueError: grace: "),
        (
            {"grace": math.inf},
            {},
            "ValueError: grace: this time can't be infinity; say a time",
        ),
        ({"grace": "infinity"}, {}, "ValueError: grace: this time can't be infinity"),
        ({"start_timeout": math.inf}, {}, "ValueError: start_timeout: this time can't be infinity"),
        ({"start_timeout": 0}, {}, 'ValueError: start_timeout: 0 is too short; say "100ms" at least'),
        ({"max_age": 0}, {}, 'ValueError: max_age: 0 is too short; say "1s" at least'),
        ({"watchdog": 0.01}, {}, 'ValueError: watchdog: 10ms is too short; say "100ms" at least'),
        ({"watchdog": None}, {}, "ValueError: watchdog: "),
        ({"sockets": ["nowhere:at:all"]}, {}, "ValueError: sockets: "),
        (
            {"workers": 4, "limit": "900G"},
            {},
            "ValueError: limit: 4 workers x 900G + 25M for memunit = ",
        ),
        ({}, {"CPU_COUNT": "many"}, "ValueError: CPU_COUNT=many: a number of workers is needed"),
        ({}, {"CHECK_INTERVAL": "5s"}, "ValueError: CHECK_INTERVAL=5s: milliseconds are needed"),
    ],
)
def test_arguments_that_can_not_be_used(
    options: dict[str, Any], environment: dict[str, str], error: str
) -> None:
    """They raise before anything is started, and leave the program as it was."""
    done = subprocess.run(
        [DEBIAN, "library.py", json.dumps(options)],
        cwd=APPS,
        env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )
    first, second = done.stdout.splitlines()
    assert first.startswith(f"raised {error}")
    assert second == "as before"


def test_an_address_in_use(unit: Unit) -> None:
    service = program(unit, workers=1, sockets=[unit.target])
    assert service.exit_code() == 0
    raised = service.find("^raised OSError: ")
    assert raised is not None
    assert unit.target in raised.text
    assert service.find("^as before$") is not None


def test_two_calls_one_after_the_other(unit: Unit) -> None:
    """Both serve; between them, and after, the program's own signal handling is as it was."""
    service = program(unit, workers=1, calls=2).ready()
    first = service.serving()[0]
    assert unit.get() == f"ok {first}"
    service.send(signal.SIGTERM)
    between = service.expect("^as before$")
    second = service.entry("ready", after=between.place).pid
    assert second != first
    assert unit.get() == f"ok {second}"
    assert service.stop() == 0
    assert [each.text for each in service.said if each.text.startswith(("returned", "as before"))] == [
        "returned 0",
        "as before",
        "returned 0",
        "as before",
    ]
    # Only the first call has systemd's ear: it takes what is for one process alone.
    assert len([each for each in service.said if each.text.startswith("READY=1")]) == 1


def test_an_exception_in_run_is_shown_and_ends_in_bounded_time(unit: Unit) -> None:
    service = program(unit, what="raising", workers=1, start_timeout=5)
    assert service.exit_code() == 0
    assert service.find("^returned 69$") is not None
    assert service.find("^as before$") is not None
    traceback = service.find("^Traceback", source="output")
    assert traceback is not None
    assert service.find(r"library.py\", line \d+, in raising", after=traceback.place) is not None
    assert service.find("^LookupError: no settings$", after=traceback.place) is not None
    assert (
        service.find(r"^STATUS=.*failed to start: failed: LookupError: no settings", source="notify")
        is not None
    )


def test_a_killed_worker_is_forked_again(unit: Unit) -> None:
    service = program(unit, workers=2).ready()
    pid = service.serving()[1]
    os.kill(pid, signal.SIGKILL)
    ended = service.entry("ended")
    assert (ended.pid, ended.cause) == (pid, "crash-signal")
    service.entry("ready", slot=1, count=2)
    assert len(service.entries("started")) == 3
    assert service.stop() == 0


def test_reload_forks_all_anew(unit: Unit) -> None:
    service = program(unit, workers=2).ready()
    before = set(service.serving().values())
    service.send(signal.SIGHUP)
    service.expect("Reloaded: 2 workers", source="output")
    service.entry("ended", count=2)
    assert not before & set(service.serving().values())
    assert service.stop() == 0
