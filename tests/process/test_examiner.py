"""The program of examine.command is run against a worker that is replaced for its memory, and harms nobody."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.process.test_footprint import COMMAND, examine, serve
from tests.support import nodes
from tests.support.harness import MEMUNIT, Service, Unit, finished, let_go
from tests.support.wait import DEADLINE, read_line, wait_gone
from tests.support.workers import APPS

pytest_plugins = ["tests.support.units"]

WORKERS = {"count": 1, "start_timeout": "120s", "min_lifetime": 0, "watchdog": 0}


def begin(unit: Unit, tmp_path: Path, script: str, **tables: dict[str, object]) -> Service:
    """A master whose examine.command is this script of sh(1)."""
    bounds = {"time": "60s", **tables.pop("examine", {})}
    return serve(
        unit,
        tmp_path,
        **{"workers": WORKERS, "examine": {"command": ["/bin/sh", "-c", script], **bounds}, **tables},
    )


def newest(tmp_path: Path) -> dict[str, Any]:
    """The newest report."""
    files = (tmp_path / "state" / "leaks").glob("*.json")
    report: dict[str, Any] = json.loads(max(files, key=lambda path: path.stat().st_mtime_ns).read_text())
    return report


class Held:
    """A program that tells its pid, and ends when it is let go."""

    def __init__(self, tmp_path: Path) -> None:
        self.told, self.go = tmp_path / "told", tmp_path / "go"
        for path in (self.told, self.go):
            os.mkfifo(path)
        self.script = f"echo $$ >{self.told}; read go <{self.go}; echo seen"
        self.reader = os.open(self.told, os.O_RDONLY | os.O_NONBLOCK)

    def pid(self) -> int:
        """Wait until it runs."""
        return int(read_line(self.reader))


def asked(unit: Unit) -> subprocess.Popen[str]:
    """`memunit examine`, under way."""
    return subprocess.Popen(
        [*MEMUNIT, "examine", unit.name, "0"],
        env=unit.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def under_way(unit: Unit, tmp_path: Path) -> tuple[Service, int, subprocess.Popen[str], int]:
    """A master, the worker that is being examined, `memunit examine`, and the program, which is held."""
    held = Held(tmp_path)
    service = begin(unit, tmp_path, held.script, examine={"time": "10min"})
    old = service.serving()[0]
    command = asked(unit)
    program = held.pid()
    service.entry("stopped", pid=old)
    return service, old, command, program


def test_what_it_writes_is_in_the_entry_and_in_the_report(unit: Unit, tmp_path: Path) -> None:
    """It sees the worker while that serves, and knows what it is about; unprintable text is data."""
    script = (
        'echo "$MEMUNIT_INSTANCE $MEMUNIT_SLOT.$MEMUNIT_GENERATION for $MEMUNIT_CAUSE"; '
        "grep ^State: /proc/$MEMUNIT_PID/status; printf 'a\\033[31mb'"
    )
    service = begin(unit, tmp_path, script)
    unit.get("/heap")
    code, said = examine(unit, service)
    assert code == 0, said
    assert "in anonymous memory: the heap of the program" in said
    assert said.rstrip().endswith("examine.command: app 0.1 for requested.")
    report = newest(tmp_path)
    assert report["verdict"] == "native"
    command = report["command"]
    assert command["failure"] == ""
    assert command["output"][1].startswith("State:")
    assert command["output"][2] == "a?[31mb"
    assert service.entry("ended").cause == "requested"
    assert service.stop() == 0


def test_a_recycle_for_memory_runs_it_too(unit: Unit, tmp_path: Path) -> None:
    service = begin(unit, tmp_path, "echo for $MEMUNIT_CAUSE", memory={"limit": "48M", "patience": "10ms"})
    unit.get("/heap")
    service.entry("ended")
    service.expect(r"examine\.command: for memory-limit\.", source="output")
    assert service.stop() == 0


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["/bin/sh", "-c", "echo why; exit 3"], "examine.command exited with status 3: why."),
        (["/bin/sh", "-c", "kill -SEGV $$"], "examine.command was killed by SIGSEGV"),
        (["/bin/sh", "-c", "yes"], "examine.command: y."),
        (["/bin/true"], "examine.command has written nothing."),
    ],
    ids=["status", "signal", "flood", "nothing"],
)
def test_its_failure_is_one_line(unit: Unit, tmp_path: Path, command: list[str], said: str) -> None:
    service = serve(unit, tmp_path, workers=WORKERS, examine={"command": command, "time": "60s"})
    assert said in examine(unit, service)[1]
    end = service.entry("ended")
    assert (end.cause, "exited with status 0" in end.rest) == ("requested", True)
    assert service.stop() == 0


def test_one_that_is_gone_by_then_is_told(unit: Unit, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    service = serve(unit, tmp_path, workers=WORKERS, examine={"command": [str(program)]})
    program.unlink()
    said = examine(unit, service)[1]
    assert f"examine.command could not be started: {program}: No such file or directory" in said
    assert service.entry("ended").cause == "requested"
    assert service.stop() == 0


def test_one_that_takes_too_long_is_killed_with_what_it_has_started(unit: Unit, tmp_path: Path) -> None:
    held = Held(tmp_path)
    script = f"sleep 1000 & echo $! >{held.told}; wait"
    service = begin(unit, tmp_path, script, examine={"time": "1s"})
    command = asked(unit)
    said = finished(command, service)[1]
    assert "examine.command was killed after 1s (examine.time)" in said
    assert service.entry("ended").cause == "requested"
    # A slow machine may have killed it before it could start anything.
    child = os.read(held.reader, 64)
    if child:
        wait_gone(int(child))
    assert service.stop() == 0


def test_the_worker_serves_until_it_has_ended(unit: Unit, tmp_path: Path) -> None:
    """The signal waits for it, and grace begins with the signal; one that has stopped the worker leaves it running."""
    held = Held(tmp_path)
    script = f"{held.script}; kill -STOP $MEMUNIT_PID"
    service = begin(unit, tmp_path, script)
    old = service.serving()[0]
    command = asked(unit)
    held.pid()
    stopped = service.entry("stopped", pid=old)
    for _ in range(20):
        unit.get()
    service.pass_by()
    assert not service.entries("ended", pid=old)
    assert stopped.cause == "requested"
    let_go(held.go)
    assert "examine.command: seen" in finished(command, service)[1]
    end = service.entry("ended", pid=old)
    assert (end.cause, "exited with status 0" in end.rest) == ("requested", True)
    assert service.stop() == 0


def test_a_stop_does_not_wait_for_it(unit: Unit, tmp_path: Path) -> None:
    held = Held(tmp_path)
    service = begin(unit, tmp_path, held.script, examine={"time": "10min"})
    command = asked(unit)
    program = held.pid()
    assert service.stop() == 0
    wait_gone(program)
    ends = service.entries("ended")
    assert len(ends) == 2
    assert all("exited with status 0" in end.rest for end in ends)
    command.communicate(timeout=DEADLINE)


def test_none_outlives_a_master_that_executes_itself_anew(unit: Unit, tmp_path: Path) -> None:
    service, old, command, program = under_way(unit, tmp_path)
    anew = subprocess.Popen(
        [*MEMUNIT, "reexec", unit.name],
        env=unit.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert finished(anew, service)[0] == 0
    wait_gone(program)
    end = service.entry("ended", pid=old)
    assert (end.cause, "exited with status 0" in end.rest) == ("requested", True)
    assert service.stop() == 0
    command.communicate(timeout=DEADLINE)


def test_none_outlives_a_master_that_is_killed(unit: Unit, tmp_path: Path) -> None:
    first, old, command, program = under_way(unit, tmp_path)
    first.pass_by()
    first.send(signal.SIGKILL)
    assert first.exit_code() == -signal.SIGKILL
    wait_gone(program)
    second = unit.serve(environment={"STATE_DIRECTORY": str(tmp_path / "state")})
    second.entry("ended", pid=old)
    assert second.stop() == 0
    command.communicate(timeout=DEADLINE)


def test_a_worker_that_ends_meanwhile_ends_it_too(unit: Unit, tmp_path: Path) -> None:
    service, old, command, program = under_way(unit, tmp_path)
    os.kill(old, signal.SIGKILL)
    assert "examine.command was killed, because the worker ended first." in finished(command, service)[1]
    wait_gone(program)
    assert service.stop() == 0


def test_without_a_replacement_nothing_waits_for_it(unit: Unit, tmp_path: Path) -> None:
    """With surge 0 the slot is empty until the worker has ended."""
    held = Held(tmp_path)
    service = begin(unit, tmp_path, held.script, workers={**WORKERS, "surge": 0}, examine={"time": "10min"})
    code, said = examine(unit, service)
    assert code == 0, said
    assert "examine.command was killed, because the worker ended first." in said
    service.entry("ready", count=2)
    assert service.stop() == 0


@pytest.mark.skipif(nodes.system() is None, reason="there is no Node here")
def test_it_examines_a_node_program(unit: Unit, tmp_path: Path) -> None:
    service = begin(
        unit,
        tmp_path,
        "tr '\\0' ' ' </proc/$MEMUNIT_PID/cmdline",
        app={"run": "asked.js", "server": "node", "directory": str(APPS / "node")},
    )
    code, said = examine(unit, service)
    assert code == 0, said
    assert "/preload.cjs asked.js." in said
    assert service.stop() == 0


def test_a_python_app_has_none(unit: Unit) -> None:
    unit.write(app={"run": "plain:app"}, examine={"command": ["/bin/true"]})
    service = unit.serve()
    assert service.exit_code() == 78
    assert service.find('examine.command: goes with a command or app.server "node"')


def test_a_program_that_is_not_there_is_found_before_the_start(unit: Unit) -> None:
    unit.write(app={"command": COMMAND}, examine={"command": ["/does/not/exist"]})
    service = unit.serve()
    assert service.exit_code() == 78
    assert service.find("examine.command: /does/not/exist does not exist")
