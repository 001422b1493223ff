"""A witness: one worker of Node for one life. V8 samples its allocations, and an entry names its profile."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.process.test_footprint import COMMAND, examine, serve
from tests.support import nodes
from tests.support.harness import MEMUNIT, Service, Unit, finished
from tests.support.workers import APPS

pytest_plugins = ["tests.support.units"]

NODE: dict[str, object] = {"run": "growing.js", "server": "node", "directory": str(APPS / "node")}
needs_node = pytest.mark.skipif(nodes.system() is None, reason="there is no Node here")


def witness(unit: Unit, service: Service, *slot: str) -> tuple[int, str]:
    command = subprocess.Popen(
        [*MEMUNIT, "witness", unit.name, *slot],
        env=unit.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return finished(command, service)


def profiles(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "state" / "witness").iterdir())


def functions(node: dict[str, Any]) -> dict[str, int]:
    """{function: bytes} of a profile."""
    found: dict[str, int] = {node["callFrame"]["functionName"]: node["selfSize"]}
    for child in node["children"]:
        for name, size in functions(child).items():
            found[name] = found.get(name, 0) + size
    return found


@needs_node
def test_its_profile_names_what_holds_the_memory(unit: Unit, tmp_path: Path) -> None:
    """For one life: the worker after it is none."""
    service = serve(unit, tmp_path, app=NODE)
    first = service.serving()[0]
    code, said = witness(unit, service)
    assert code == 0, said
    assert "The worker of slot 0 is being replaced by a witness" in said
    assert service.entry("ended", pid=first).cause == "requested"
    assert profiles(tmp_path) == []
    second = service.serving()[0]
    for _ in range(20):
        unit.get("/remember")
    code, said = examine(unit, service)
    assert code == 0, said
    (profile,) = profiles(tmp_path)
    assert profile.name == f"0.2-{second}.heapprofile"
    assert said.rstrip().endswith(f"It was a witness: its profile is {profile}")
    found = functions(json.loads(profile.read_text())["head"])
    assert found["rememberVisitor"] > sum(found.values()) / 2
    assert profile.stat().st_mode & 0o077 == 0
    service.entry("ended", pid=second)
    assert examine(unit, service)[0] == 0
    assert profiles(tmp_path) == [profile]
    assert service.stop() == 0


@needs_node
def test_an_app_that_ends_itself_leaves_it_too(unit: Unit, tmp_path: Path) -> None:
    """Whatever the reason of its end, an entry has it."""
    service = serve(unit, tmp_path, app=NODE)
    first = service.serving()[0]
    assert witness(unit, service, "0")[0] == 0
    pid = service.entry("ready", count=2).pid
    # Until then it may be the first one that takes the request.
    service.entry("ended", pid=first)
    with unit.client() as client:
        client.ask("/exit")
        service.entry("ended", pid=pid)
    told = service.expect(
        rf"Worker 0\.2 \(pid {pid}\) has ended\. It was a witness: its profile is ", source="output"
    )
    assert told.text.endswith(f"/state/witness/0.2-{pid}.heapprofile")
    assert service.stop() == 0


def test_a_command_can_be_none_and_is_told_what_can(unit: Unit, tmp_path: Path) -> None:
    service = serve(unit, tmp_path, app={"command": COMMAND})
    code, said = witness(unit, service)
    assert code == 64
    assert 'only a worker of server = "node" can be a witness' in said
    assert "no worker serves in slot '7'" in witness(unit, service, "7")[1]
    assert service.stop() == 0
