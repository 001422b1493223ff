"""A witness: one worker for one life. V8 or memray tells who allocates what it holds; an entry names the profile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.process.test_footprint import COMMAND, examine, serve
from tests.support import interpreters, nodes
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


def witnessed(unit: Unit, service: Service) -> tuple[int, str]:
    """Have a witness replace the worker of slot 0: its pid, and what the command has printed."""
    first = service.serving()[0]
    code, said = witness(unit, service)
    assert code == 0, said
    assert service.entry("ended", pid=first).cause == "requested"
    return service.serving()[0], said


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
    second, said = witnessed(unit, service)
    assert "A witness replaces the worker of slot 0: V8 samples its allocations." in said
    assert profiles(tmp_path) == []
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
    assert "a command can't be a witness" in said
    assert "no worker serves in slot '7'" in witness(unit, service, "7")[1]
    assert service.stop() == 0


APP = """
KEPT = []


def remember_visitor(request):
    KEPT.append({"agent": request * 9000})


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    remember_visitor(scope["path"])
    if scope["path"] == "/exit":
        raise SystemExit(3)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def wsgi(environ, start_response):
    remember_visitor(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
# By memray's public reader, as `memray flamegraph --leaks` has it.
LEAKED = """
import sys
from memray import FileReader
for record in FileReader(sys.argv[1]).get_leaked_allocation_records(merge_threads=True):
    print(record.size, *(name for name, _, _ in record.stack_trace(max_stacks=1)))
"""


def python_app(tmp_path: Path, python: Path | None, **more: object) -> dict[str, object]:
    if python is None:
        pytest.skip("memray cannot be installed here")
    (tmp_path / "shop.py").write_text(APP)
    return {"run": "shop:app", "directory": str(tmp_path), "python": str(python), **more}


@pytest.mark.parametrize("preload", [True, False], ids=["preload", "import"])
@pytest.mark.parametrize(("run", "server"), [("shop:app", "asgi"), ("shop:wsgi", "wsgi")])
def test_memray_names_what_holds_the_memory(
    unit: Unit, tmp_path: Path, run: str, server: str, preload: bool
) -> None:
    """With and without a zygote; for one life, and nothing of the file is anybody else's to read."""
    python = interpreters.frameworks()
    app = python_app(tmp_path, python, run=run, server=server, preload=preload)
    service = serve(unit, tmp_path, app=app)
    second, said = witnessed(unit, service)
    assert "memray traces its allocations, if the app's environment has memray" in said
    for _ in range(50):
        unit.get("/" + "x" * 30)
    code, said = examine(unit, service)
    assert code == 0, said
    (profile,) = profiles(tmp_path)
    assert profile.name == f"0.2-{second}.memray"
    assert (
        f"It was a witness: its profile is {profile} (python -m memray flamegraph --leaks {profile})" in said
    )
    assert profile.stat().st_mode & 0o077 == 0
    told = subprocess.run([str(python), "-c", LEAKED, profile], capture_output=True, text=True, check=True)
    sizes: dict[str, int] = {}
    for line in told.stdout.splitlines():
        size, *name = line.split()
        sizes[" ".join(name)] = sizes.get(" ".join(name), 0) + int(size)
    assert sizes["remember_visitor"] > 4_000_000
    assert sizes["remember_visitor"] > sum(sizes.values()) / 2, sizes
    service.entry("ended", pid=second)
    assert examine(unit, service)[0] == 0
    assert profiles(tmp_path) == [profile]
    assert service.stop() == 0


def test_a_killed_python_worker_leaves_none(unit: Unit, tmp_path: Path) -> None:
    """Half a profile is none."""
    service = serve(unit, tmp_path, app=python_app(tmp_path, interpreters.frameworks()))
    second, _ = witnessed(unit, service)
    assert [path.suffix for path in profiles(tmp_path)] == [".new"]
    os.kill(second, signal.SIGKILL)
    service.entry("ended", pid=second)
    service.pass_by()  # the entry comes first
    assert profiles(tmp_path) == []
    assert service.stop() == 0


def test_without_memray_it_serves_and_says_what_to_install(unit: Unit, tmp_path: Path) -> None:
    service = serve(unit, tmp_path, app=python_app(tmp_path, interpreters.newest()))
    first = service.serving()[0]
    assert witness(unit, service)[0] == 0
    service.expect(r"it can't be a witness: .*memray.*pip install memray", source="output")
    service.entry("ended", pid=first)
    unit.get("/")
    assert profiles(tmp_path) == []
    assert service.stop() == 0


TRACED = """
import os
import memray
memray.Tracker(f"own-{os.getpid()}.memray").__enter__()
"""


@pytest.mark.parametrize("preload", [True, False], ids=["preload", "import"])
def test_an_app_that_traces_itself_serves_and_is_examined(unit: Unit, tmp_path: Path, preload: bool) -> None:
    """It can't be a witness beside that, and the reason is told; what grew is found as ever."""
    app = python_app(tmp_path, interpreters.frameworks(), preload=preload)
    (tmp_path / "shop.py").write_text(APP + TRACED)
    service = serve(unit, tmp_path, app=app)
    second, _ = witnessed(unit, service)
    service.expect(
        r"it can't be a witness: \w+Error.*; the app has loaded memray itself, and a process can have only one",
        source="output",
    )
    for _ in range(50):
        unit.get("/" + "x" * 30)
    code, said = examine(unit, service)
    assert code == 0, said
    assert "in shop.KEPT (list, 50 entries" in said
    service.entry("ended", pid=second)
    assert profiles(tmp_path) == []
    assert service.stop() == 0
