"""The examples in other languages, each run from its own instance file: recycles, reloads, drains and accidents.

MEMUNIT_RECYCLES=50 MEMUNIT_RELOADS=10 tests/run process -- -k 'examples and loses' is the long form.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from memunit.master.proctree import descendants
from tests.support.harness import Service, Unit, finished
from tests.support.wait import wait_gone
from tests.support.workers import ROOT, LoadProcess

pytest_plugins = ["tests.support.units"]

RECYCLES = int(os.environ.get("MEMUNIT_RECYCLES", "2"))
RELOADS = int(os.environ.get("MEMUNIT_RELOADS", "1"))
NEEDS = {"node": ("node",), "c": ("cc", "make"), "sh": ("s6-ipcserverd", "systemd-notify")}


def serve(unit: Unit, name: str, **workers: object) -> Service:
    """A copy of the example, from its instance file with its folder put in, and with other [workers] keys."""
    for program in NEEDS[name]:
        if not shutil.which(program):
            pytest.skip(f"no {program}")
    folder = unit.directory / name
    shutil.copytree(ROOT / "examples" / name, folder)
    text = (folder / f"{name}.toml").read_text()
    installed = f"/srv/memunit-examples/{name}"
    assert text.count(installed) == 1
    text = text.replace(installed, str(folder))
    if workers:
        assert text.count("count = 2\n") == 1
        keys = "".join(f"{key} = {json.dumps(value)}\n" for key, value in {"count": 2, **workers}.items())
        text = text.replace("count = 2\n", keys)
    unit.file.write_text(text)
    if (folder / "Makefile").exists():
        subprocess.run(["make", "-s", "-B", "-C", folder], check=True, timeout=300)
    return unit.serve().ready()


@pytest.mark.parametrize("name", ["node", "c"])
def test_it_is_recycled_and_reloaded_and_loses_nothing(unit: Unit, tmp_path: Path, name: str) -> None:
    service = serve(unit, name)
    load = _load(tmp_path, unit, "/leak?kb=128", 200)
    for number in range(1, RELOADS + 1):
        _recycles(service, RECYCLES * number // RELOADS)
        code, text = finished(unit.reload(), service)
        assert code == 0, text
    _lost_nothing(service, load)
    _kill_one(unit, service)
    assert service.stop() == 0


def test_sh_is_recycled_for_one_connection_that_grows_and_loses_nothing(unit: Unit, tmp_path: Path) -> None:
    """That one is answered too, by the worker that has been told to stop for it."""
    service = serve(unit, "sh")
    load = _load(tmp_path, unit, "/", 100)
    for number in range(RECYCLES):
        mark = service.mark
        with unit.client() as large:
            large.ask("/keep?kb=40000")
            stopped = service.entry("stopped", after=mark)
            assert stopped.cause == "memory-limit"
            large.send("\r\n")
            assert large.read().body == b"ok %d\n" % stopped.pid
        service.entry("ended", pid=stopped.pid, after=mark)
        if number < RELOADS:
            code, text = finished(unit.reload(), service)
            assert code == 0, text
    _lost_nothing(service, load)
    _kill_one(unit, service)
    assert service.stop() == 0


def test_sh_finishes_what_is_in_flight_when_systemd_stops_every_process_of_the_unit(unit: Unit) -> None:
    service = serve(unit, "sh", count=1)
    (pid,) = service.serving().values()
    with unit.client() as busy, unit.client() as begun:
        busy.ask("/keep?kb=1000")
        begun.send("GET / HTTP/1.1\r\n")
        unit.get()  # which came after them, and so they have been accepted
        mark = service.mark
        service.send(signal.SIGTERM)
        os.killpg(pid, signal.SIGTERM)
        service.entry("stopped", pid=pid, after=mark)
        for client in (busy, begun):
            client.send("\r\n")
            assert client.read().body == b"ok %d\n" % pid
    assert service.exit_code() == 0
    assert "exited with status 0" in service.entry("ended", pid=pid, after=mark).rest


def test_node_drains(unit: Unit) -> None:
    """The request in flight is answered, and so is the next on a kept connection, which is told to close."""
    service = serve(unit, "node", count=1)
    with unit.client() as busy, unit.client() as kept:
        pid = int(kept.get().body.split()[1])
        busy.ask("/slow?s=5")
        assert unit.get() == f"ok {pid}\n"  # which came after it
        mark = service.mark
        os.kill(pid, signal.SIGTERM)
        service.entry("started", after=mark)  # it has said STOPPING=1
        answer = kept.get()
        assert (answer.status, answer.closes) == (200, True)
        assert int(answer.body.split()[1]) == pid
        assert kept.at_end()
        assert busy.read().status == 200
    service.expect(rf"clean: {pid} ", after=mark)
    assert "exited with status 0" in service.entry("ended", pid=pid, after=mark).rest
    assert service.stop() == 0


def test_node_survives_what_a_client_may_say(unit: Unit) -> None:
    service = serve(unit, "node", count=1)
    with unit.client() as client:
        for path in ("/leak?kb=x", "/leak?kb=-1", "/leak?kb=1e99", "/slow?s=x"):
            assert client.get(path).status == 400, path
        for path in ("//", "*", "/%", "/leak?kb="):
            assert client.get(path).status == 200, path
    assert not service.entries("ended")
    assert service.stop() == 0


def test_a_c_worker_that_hangs_is_aborted_and_replaced(unit: Unit) -> None:
    service = serve(unit, "c", watchdog="6s")
    slot, pid = next(iter(service.serving().items()))
    mark = service.mark
    os.kill(pid, signal.SIGSTOP)
    assert service.entry("aborted", pid=pid, after=mark).cause == "watchdog"
    assert service.entry("ended", pid=pid, after=mark).cause == "watchdog"
    assert service.entry("ready", slot=slot, after=mark).pid != pid
    # The sibling had as long to be idle, and pings.
    assert {entry.pid for entry in service.entries("ended")} == {pid}
    assert unit.get().startswith("ok ")
    assert service.stop() == 0


def _load(directory: Path, unit: Unit, path: str, rate: int) -> LoadProcess:
    """New connections only; as long as the long form may take."""
    words = ("--clients", "4", "--path", path, "--rate", str(rate), "--seconds", "900")
    load = LoadProcess(directory, unit.target, *words)
    load.answered()
    return load


def _recycles(service: Service, count: int) -> None:
    def enough() -> bool | None:
        return sum(entry.cause == "memory-limit" for entry in service.entries("ended")) >= count or None

    service.until(enough, f"{count} recycles", timeout=120.0 + 20.0 * count)


def _lost_nothing(service: Service, load: LoadProcess) -> None:
    """The report of the load, and that every worker which has served has ended as it was asked to."""
    report = load.finish()
    ended = service.entries("ended")
    causes = Counter(entry.cause for entry in ended)
    print(json.dumps({"sent": report["sent"], "lost": report["lost"], **causes}))
    assert report["lost"] == 0, report
    assert report["ok"] == report["sent"] > 50
    assert set(causes) <= {"memory-limit", "reload"}
    # One that a reload replaces before it has its handler dies of SIGTERM, and has accepted nothing.
    served = {entry.pid for entry in service.entries("ready")}
    odd = [entry for entry in ended if entry.pid in served and "exited with status 0" not in entry.rest]
    assert odd == []


def _kill_one(unit: Unit, service: Service) -> None:
    """It is replaced, and nothing that it has started is left."""
    service.until(lambda: len(service.serving()) == 2 or None, "two workers")
    mark = service.mark
    slot, pid = next(iter(service.serving().items()))
    started = descendants(pid)
    os.kill(pid, signal.SIGKILL)
    assert service.entry("ended", pid=pid, after=mark).cause == "crash-signal"
    assert service.entry("ready", slot=slot, after=mark).pid != pid
    for child in started:
        wait_gone(child)
    assert unit.get().startswith("ok ")
