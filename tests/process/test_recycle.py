"""Memory: what is over its limit is replaced without losing a request, and nothing else is."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.harness import Service, Unit
from tests.support.wait import wait_gone
from tests.support.workers import LoadProcess

pytest_plugins = ["tests.support.units"]

# Each with an import of its own: what a worker alone holds is then all of it.
ASKED = {"run": "asked:run", "server": "callable", "preload": False}
# Sampled often, and recycled at the first sample over the limit.
AT_ONCE = {"interval": "0.05s", "patience": 0}


@pytest.mark.parametrize("keep_alive", [False, True], ids=["new", "keep-alive"])
def test_recycles_under_load_lose_nothing(unit: Unit, tmp_path: Path, keep_alive: bool) -> None:
    """At least ten replacements of two ASGI workers that leak; each is ready before the old one is stopped."""
    unit.write(
        app={"run": "plain:app"},
        workers={"count": 2, "min_lifetime": 0},
        memory={**AT_ONCE, "limit": "64M"},
        stop={"grace": "120s"},
    )
    service = unit.serve().ready()
    more = ["--keep-alive"] if keep_alive else []
    load = LoadProcess(
        tmp_path, unit.target, "--clients", "8", "--path", "/leak?kb=256", "--rate", "400", *more
    )
    service.entry("ended", count=10, timeout=120.0)
    report = load.finish()
    assert report["lost"] == 0, report
    assert report["ok"] == report["sent"] > 200
    assert len(report["pids"]) >= 10
    assert {entry.cause for entry in service.entries("ended")} == {"memory-limit"}
    _replaced_first(service)
    assert len(service.entries("stopped")) >= 10
    assert service.stop() == 0
    assert len(service.entries("ended")) == len(service.entries("started"))


def _replaced_first(service: Service) -> None:
    """Of every recycle: the next generation is ready before the old one is told to stop, and one at a time."""
    stopped = [entry for entry in service.entries("stopped") if entry.cause == "memory-limit"]
    for entry in stopped:
        heirs = [e for e in service.entries("ready", slot=entry.slot) if e.generation == entry.generation + 1]
        assert [heir.place < entry.place for heir in heirs] == [True]
    for earlier, later in pairwise(stopped):
        (end,) = service.entries("ended", pid=earlier.pid)
        (heir,) = [
            e for e in service.entries("started", slot=later.slot) if e.generation == later.generation + 1
        ]
        assert end.place < heir.place


def one(unit: Unit, **memory: object) -> Service:
    """One worker, over its limit when a test makes it so."""
    unit.write(
        app=ASKED,
        workers={"count": 1, "min_lifetime": 0},
        memory={**AT_ONCE, "limit": "40M", **memory},
        stop={"grace": "120s"},
    )
    return unit.serve().ready()


def test_the_entries_of_a_recycle(unit: Unit) -> None:
    service = one(unit)
    pid = service.serving()[0]
    unit.get("/leak?kb=50000")
    ended = service.entry("ended")
    assert (ended.pid, ended.cause, ended.reason) == (pid, "memory-limit", "")
    # Of 40M less at most 5 % of jitter; what it has may have been measured while it was still growing.
    size = r"[3-6]\d(\.\d)?M of (40|39|38)(\.\d)?M \(uss\)"
    assert service.find(rf"Worker 0\.1 \(pid {pid}\) is being stopped: memory-limit, {size}$") is not None
    assert service.find(
        rf"Worker 0\.1 \(pid {pid}\) ended: memory-limit, {size}; exited with status 0 after [\d.]+ s, "
        r"[\d.]+ s of it to stop$"
    )
    service.hear(r"^STATUS=1/1 workers, [\d.]+M of 40M at most, 1 recycled \(1 memory-limit\)$")
    assert service.serving()[0] != pid
    assert service.stop() == 0


def test_a_spike_is_no_leak(unit: Unit) -> None:
    """Seen over the limit, and gone before patience has ended: it goes on serving."""
    service = one(unit, patience="600s")
    pid = service.serving()[0]
    # One that is over its limit for a second is asked to give memory back, and may have been asked by then.
    end = r"M of 40M at most(, gave back [\d.]+M (once|\d+ times))?$"
    for _ in range(2):
        mark = service.mark
        unit.get("/leak?kb=50000")
        over = service.hear(r"^STATUS=1/1 workers, (5[5-9]|6\d)[\d.]*" + end, after=mark)
        unit.get("/free")
        service.hear(r"^STATUS=1/1 workers, [\d.]{1,4}" + end, after=over.place + 1)
    assert unit.get() == f"ok {pid}"
    assert len(service.entries()) == 2  # started, ready
    assert service.stop() == 0


def test_what_sub_processes_hold_counts_and_they_end_with_their_worker(unit: Unit) -> None:
    """A sub-process in a session of its own, too."""
    service = one(unit)
    _, pid, child = unit.get("/child?kb=60000").split()
    ended = service.entry("ended")
    assert (ended.pid, ended.cause) == (int(pid), "memory-limit")
    wait_gone(int(child))
    assert service.stop() == 0


def test_the_ceiling_kills_at_once(unit: Unit) -> None:
    service = one(unit, limit="40M", ceiling="80M", patience="60s")
    pid = service.serving()[0]
    mark = service.mark
    with service.stopped():  # a look while it grows could find it over its limit alone
        unit.get("/leak?kb=120000")
    killed = service.entry("killed", pid=pid, after=mark)
    assert killed.cause == "memory-ceiling"
    ended = service.entry("ended", pid=pid)
    assert (ended.cause, ended.reason) == ("memory-ceiling", "")
    assert "killed by SIGKILL" in ended.rest
    service.entry("ready", slot=0, after=mark)
    assert len(service.entries("started", after=mark)) == 1
    service.hear(r"^STATUS=1/1 workers.*1 recycled \(1 memory-ceiling\)")
    assert service.stop() == 0


def test_a_limit_below_what_the_app_needs_is_told_once_and_recycles_no_one(unit: Unit) -> None:
    service = one(unit, limit="2M")
    said = service.expect("memory.limit is below what the app needs to start", source="output")
    assert "raise memory.limit" in said.text
    for _ in range(3):  # samples go on, and change nothing
        service.pass_by()
    assert service.entries("stopped") == []
    assert service.stop() == 0


def test_without_room_for_a_surge_the_old_one_stops_first(unit: Unit) -> None:
    """surge = 0 asks for that order: the slot is empty for a moment, and the other goes on serving."""
    unit.write(
        app=ASKED,
        workers={"count": 2, "min_lifetime": 0, "surge": 0},
        memory={**AT_ONCE, "limit": "40M"},
    )
    service = unit.serve().ready()
    mark = service.mark
    pid = int(unit.get("/leak?kb=50000").split()[1])
    ended = service.entry("ended", pid=pid)
    assert ended.cause == "memory-limit"
    started = service.entry("started", after=mark)
    assert service.entry("stopped", pid=pid).place < started.place
    assert len(service.entries("stopped", after=mark)) == 1
    service.entry("ready", slot=ended.slot, after=mark)
    assert service.stop() == 0
