"""The examples in other languages, each run from its own instance file: recycles, drains and accidents."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.harness import Service, Unit
from tests.support.workers import ROOT, LoadProcess

pytest_plugins = ["tests.support.units"]


def serve(unit: Unit, name: str) -> Service:
    """A copy of the example, from its instance file with its folder put in."""
    folder = unit.directory / name
    shutil.copytree(ROOT / "examples" / name, folder)
    text = (folder / f"{name}.toml").read_text()
    installed = f"/srv/memunit-examples/{name}"
    assert text.count(installed) == 1
    unit.file.write_text(text.replace(installed, str(folder)))
    if (folder / "Makefile").exists():
        subprocess.run(["make", "-s", "-B", "-C", folder], check=True, timeout=60)
    return unit.serve().ready()


@pytest.mark.parametrize("name", ["node", "c"])
def test_it_is_recycled_at_its_limit_and_loses_nothing(unit: Unit, tmp_path: Path, name: str) -> None:
    if name == "c" and not (shutil.which("cc") and shutil.which("make")):
        pytest.skip("no C compiler (cc) or no make")
    service = serve(unit, name)
    load = LoadProcess(tmp_path, unit.target, "--clients", "4", "--path", "/leak?kb=128", "--rate", "200")
    service.entry("ended", count=2, timeout=60.0)
    report = load.finish()
    assert report["lost"] == 0, report
    assert report["ok"] == report["sent"] > 50
    assert {entry.cause for entry in service.entries("ended")} == {"memory-limit"}
    assert all("exited with status 0" in entry.rest for entry in service.entries("ended"))

    service.until(lambda: len(service.serving()) == 2 or None, "two workers")
    mark = service.mark
    slot, pid = next(iter(service.serving().items()))
    os.kill(pid, signal.SIGKILL)
    assert service.entry("ended", pid=pid, after=mark).cause == "crash-signal"
    assert service.entry("ready", slot=slot, after=mark).pid != pid
    assert unit.get().startswith("ok ")
    assert service.stop() == 0


def test_node_drains(unit: Unit) -> None:
    """The request in flight is answered, and so is the next on a kept connection, which is told to close."""
    service = serve(unit, "node")
    with unit.client() as busy, unit.client() as kept:
        pid = int(kept.get().body.split()[1])
        busy.ask("/slow?s=1")
        mark = service.mark
        os.kill(pid, signal.SIGTERM)
        service.expect(rf"clean: {pid} ", after=mark)
        answer = kept.get()
        assert (answer.status, answer.closes) == (200, True)
        assert int(answer.body.split()[1]) == pid
        assert kept.at_end()
        assert busy.read().status == 200
    assert service.stop() == 0
