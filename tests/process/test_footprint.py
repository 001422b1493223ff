"""What grew in a command or a Node program, told by the kernel's numbers in the entry of its end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import nodes
from tests.support.harness import MEMUNIT, Service, Unit, finished
from tests.support.workers import APPS

pytest_plugins = ["tests.support.units"]

COMMAND = [sys.executable, str(APPS / "growing.py")]
# By what a request leaves: how often, the verdict, and what is told of it.
LEAKS = {
    "heap": (1, "native", "in anonymous memory: the heap of the program"),
    "shared": (1, "shared", "in shared memory, or in files on tmpfs"),
    "threads": (2, "threads", "160 threads more than at the start. Threads are started and do not end."),
    "descriptors": (2, "native", "descriptors from "),
    "processes": (1, "native", "in anonymous memory of a process that it has started since it was ready"),
}


def serve(unit: Unit, tmp_path: Path, **tables: dict[str, object]) -> Service:
    written: dict[str, dict[str, object]] = {
        "app": {"command": COMMAND},
        "workers": {"count": 1, "start_timeout": "120s", "min_lifetime": 0},
        "stop": {"grace": "60s"},
    }
    unit.write(**{**written, **tables})
    state = tmp_path / "state"
    state.mkdir()
    return unit.serve(environment={"STATE_DIRECTORY": str(state)}).ready()


def examine(unit: Unit, service: Service) -> tuple[int, str]:
    command = subprocess.Popen(
        [*MEMUNIT, "examine", unit.name, "0"],
        env=unit.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return finished(command, service)


def newest_report(tmp_path: Path) -> dict[str, Any]:
    newest = max((tmp_path / "state" / "leaks").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    found: dict[str, Any] = json.loads(newest.read_text())
    return found


def test_what_grew_in_a_command_is_told(unit: Unit, tmp_path: Path) -> None:
    """Each kind by its verdict; of a worker of whose inside memunit knows nothing."""
    service = serve(unit, tmp_path)
    for leak, (count, verdict, words) in LEAKS.items():
        for _ in range(count):
            unit.get(f"/{leak}")
        code, said = examine(unit, service)
        assert code == 0, said
        assert words in said, leak
        report = newest_report(tmp_path)
        assert report["verdict"] == verdict, said
        assert report["kernel"]["before"]["processes"] == 1
    assert service.stop() == 0


def test_a_command_is_recycled_for_memory_and_the_entry_says_why(unit: Unit, tmp_path: Path) -> None:
    service = serve(unit, tmp_path, memory={"limit": "48M", "patience": "10ms"})
    unit.get("/heap")
    service.entry("ended")
    told = service.expect(
        r"What grew in worker 0\.1 \(pid \d+\): \d+M of \d+M in anonymous memory", source="output"
    )
    assert told.place > service.entries("ended")[0].place
    assert service.stop() == 0


def test_nothing_is_read_where_it_is_turned_off(unit: Unit, tmp_path: Path) -> None:
    service = serve(unit, tmp_path, examine={"time": 0})
    code, said = examine(unit, service)
    assert code == 64
    assert "examine.time is 0" in said
    assert service.stop() == 0


def test_a_program_that_never_says_ready_is_seen_when_it_has_settled(unit: Unit, tmp_path: Path) -> None:
    """Or not at all, and then its entry says so."""
    hold = "import signal; kept = b'x' * (48 << 20); signal.pause()"
    service = serve(
        unit,
        tmp_path,
        app={"command": [sys.executable, "-c", hold], "ready": "exec"},
        memory={"interval": "100ms"},
    )
    service.entry("ready")
    code, said = examine(unit, service)
    assert code == 0
    assert (
        "What grew in worker 0.1 " in said or "has grown by " in said or "so what grew is not known" in said
    )
    assert service.stop() == 0


def test_a_master_that_was_executed_anew_knows_less_and_says_so(unit: Unit, tmp_path: Path) -> None:
    service = serve(unit, tmp_path, memory={"interval": "1h"})
    command = subprocess.Popen(
        [*MEMUNIT, "reexec", unit.name],
        env=unit.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert finished(command, service)[0] == 0
    unit.get("/heap")
    code, said = examine(unit, service)
    assert code == 0, said
    assert "Worker 0.1 (pid " in said or "What grew in worker 0.1 " in said
    assert service.stop() == 0


# By what a request to leaks.js leaves: the verdict, and what is told of it.
NODE_LEAKS = {
    "objects": (
        "javascript",
        r"\d+M of \d+M in JavaScript objects, \d+M of them in \w+_space\. This is a leak",
    ),
    "buffers": (
        "javascript",
        r"4\dM of \d+M in Buffers, and other memory outside of V8's heap\. This is a leak",
    ),
    "garbage": ("fragmentation", r"in garbage and free memory, which V8 keeps\. This is no leak"),
    "timers": ("javascript", r"in Buffers.*; Timeout from \d+ to 1,\d\d\d\."),
}


@pytest.mark.parametrize("name", nodes.chosen())
def test_what_grew_in_a_node_program_is_told(unit: Unit, tmp_path: Path, name: str) -> None:
    """By V8 itself, after a collection: what is garbage is no leak. MEMUNIT_NODES=18,20,22,24 is the long form."""
    node = nodes.named(name)
    if node is None:
        pytest.skip(f"there is no Node {name} here")
    app: dict[str, object] = {"run": "leaks.js", "server": "node", "directory": str(APPS / "node")}
    service = serve(unit, tmp_path, app={**app, "node": str(node)})
    for leak, (verdict, words) in NODE_LEAKS.items():
        unit.get(f"/{leak}")
        code, said = examine(unit, service)
        assert code == 0, said
        assert re.search(words, said), (leak, said)
        assert re.search(
            r"V8 after a collection: \d.* of objects \(\d.* at the start\) in a heap of \d", said
        ), said
        report = newest_report(tmp_path)
        assert report["verdict"] == verdict, (leak, said)
        assert report["v8"]["live"]["spaces"]["old_space"] > 0
        assert report["v8"]["start"]["resources"]
    assert service.stop() == 0


@pytest.mark.skipif(nodes.system() is None, reason="there is no Node here")
def test_a_heap_too_large_for_the_time_is_not_collected(unit: Unit, tmp_path: Path) -> None:
    """Two milliseconds for each megabyte: then garbage may be among it, and the entry says so."""
    app: dict[str, object] = {"run": "leaks.js", "server": "node", "directory": str(APPS / "node")}
    service = serve(unit, tmp_path, app=app, examine={"time": "10ms"})
    unit.get("/objects")
    code, said = examine(unit, service)
    assert code == 0, said
    assert "Garbage may be among it, for there was no time to collect." in said
    assert newest_report(tmp_path)["v8"]["live"] is None
    assert service.stop() == 0


@pytest.mark.skipif(nodes.system() is None, reason="there is no Node here")
def test_a_stop_that_nobody_examines_collects_nothing(unit: Unit, tmp_path: Path) -> None:
    app: dict[str, object] = {"run": "leaks.js", "server": "node", "directory": str(APPS / "node")}
    service = serve(unit, tmp_path, app=app)
    unit.get("/objects")
    assert service.stop() == 0
    assert not (tmp_path / "state" / "leaks").exists()
