"""An app under prometheus_client in multiprocess mode: what has ended is counted as living no more (FIELD C18)."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.harness import MEMUNIT, Service, Unit, finished
from tests.support.wait import wait_gone
from tests.support.workers import APPS

pytest_plugins = ["tests.support.units"]

LIVE = {"livesum", "liveall", "livemax", "livemin"}


def measured(unit: Unit, name: str = "PROMETHEUS_MULTIPROC_DIR", place: str = "", **app: object) -> Service:
    """Two workers of an app that keeps its metrics in `place`."""
    folder = Path(place or unit.directory / "metrics")
    (unit.directory / folder).mkdir()
    unit.write(app={"run": "counted:app", "environment": {name: str(folder)}, **app}, workers={"count": 2})
    return unit.serve().ready()


def files(unit: Unit) -> set[tuple[str, int]]:
    """Which kinds of file are there, of which process."""
    found = [
        re.fullmatch(r"(?:gauge_)?(\w+)_(\d+)\.db", path.name) for path in unit.directory.glob("metrics/*")
    ]
    return {(each[1], int(each[2])) for each in found if each}


def kinds(unit: Unit, pid: int) -> set[str]:
    return {kind for kind, of in files(unit) if of == pid}


def value(unit: Unit, name: str) -> float:
    """As a scrape sees it."""
    found = re.search(rf"^{name} (\S+)$", unit.get(), re.MULTILINE)
    assert found
    return float(found[1])


@pytest.mark.parametrize("preload", [True, False], ids=["zygote", "exec"])
def test_an_ended_worker_is_counted_no_more(unit: Unit, preload: bool) -> None:
    service = measured(unit, preload=preload)
    service.entry("ready", count=2)
    before = service.serving()
    assert {pid: kinds(unit, pid) for pid in before.values()} == {
        pid: LIVE | {"max", "counter"} for pid in before.values()
    }
    assert value(unit, "app_livesum") == 2
    os.kill(before[0], signal.SIGKILL)
    end = service.entry("ended", pid=before[0])
    service.entry("ready", slot=0, after=end.place)
    # A counter never falls, and other gauges are of whoever has ever been.
    assert kinds(unit, before[0]) == {"max", "counter"}
    assert value(unit, "app_livesum") == 2
    assert value(unit, "app_starts_total") == 3
    output = finished(unit.reload(), service)
    assert output[0] == 0, output
    gone = [*before.values(), service.entries("started", slot=0)[1].pid]
    for pid in gone:
        service.entry("ended", pid=pid)
        assert not kinds(unit, pid) & LIVE
    assert value(unit, "app_livesum") == 2
    last = service.serving().values()
    assert service.stop() == 0
    assert not any(kinds(unit, pid) & LIVE for pid in last)


def test_one_that_has_ended_while_no_master_lived(unit: Unit) -> None:
    first = measured(unit)
    first.entry("ready", count=2)
    gone = first.serving()[0]
    first.send(signal.SIGKILL)
    assert first.exit_code() == -signal.SIGKILL
    os.kill(gone, signal.SIGKILL)
    wait_gone(gone)
    second = unit.serve()
    second.entry("ended", pid=gone)
    assert kinds(unit, gone) == {"max", "counter"}
    assert second.stop() == 0


def test_who_serves_on_is_counted_by_the_next_master_too(unit: Unit) -> None:
    service = measured(unit)
    service.entry("ready", count=2)
    before = service.serving()
    command = subprocess.Popen(
        [*MEMUNIT, "reexec", unit.name], env=unit.environment, stdout=subprocess.PIPE, text=True
    )
    assert finished(command, service)[0] == 0
    assert service.serving() == before
    assert all(kinds(unit, pid) >= LIVE for pid in before.values())
    assert value(unit, "app_livesum") == 2
    assert service.stop() == 0


def test_the_former_name_and_a_path_from_where_the_app_is(unit: Unit) -> None:
    shutil.copy(APPS / "counted.py", unit.directory)
    service = measured(unit, "prometheus_multiproc_dir", "metrics", directory=str(unit.directory))
    service.entry("ready", count=2)
    gone = service.serving()[0]
    assert kinds(unit, gone) >= LIVE
    os.kill(gone, signal.SIGKILL)
    service.entry("ended", pid=gone)
    assert kinds(unit, gone) == {"max", "counter"}
    assert service.stop() == 0
