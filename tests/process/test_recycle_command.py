"""`memunit recycle` says who is replaced, and who is not."""

from __future__ import annotations

import os

from tests.support.harness import Unit, finished, let_go

pytest_plugins = ["tests.support.units"]


def held(unit: Unit, names: str) -> None:
    """Two workers, of which those with such names (as a shell matches) wait for a FIFO before they are ready."""
    os.mkfifo(unit.directory / "go")
    wait = f"case $MEMUNIT_SLOT.$MEMUNIT_GENERATION in {names}) cat {unit.directory}/go;; esac"
    command = ["/bin/sh", "-c", f"{wait}; systemd-notify --ready; exec sleep infinity"]
    unit.write(app={"command": command}, workers={"count": 2, "start_timeout": "600s", "min_lifetime": 0})


def test_who_starts_is_not_replaced_and_that_is_said(unit: Unit) -> None:
    held(unit, "1.2")
    service = unit.serve().ready()
    before = service.serving()
    os.kill(before[1], 9)
    service.entry("started", slot=1, count=2)
    code, output = finished(unit.asked("recycle"), service)
    first, *_, last = output.splitlines()
    assert (code, last) == (0, f"0.1 (pid {before[0]}) is replaced")
    assert first == "memunit: 1 worker just starts; only workers that serve are replaced"
    let_go(unit.directory / "go")
    service.entry("ready", slot=1, count=2)
    assert service.stop() == 0


def test_a_replacement_that_starts_for_another_caller_is_not_left_out(unit: Unit) -> None:
    """A second caller read that "1 worker just starts", of the one that came for the first."""
    held(unit, "0.2")
    service = unit.serve().ready()
    before = service.serving()
    first = unit.asked("recycle", "0")
    service.entry("started", slot=0, count=2)
    code, output = finished(unit.asked("recycle", "--no-wait"), service)
    assert (code, output) == (0, f"0.1 (pid {before[0]}), 1.1 (pid {before[1]}) are to be replaced\n")
    assert service.stop() == 0
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 69, output


def test_who_is_given_up_meanwhile_is_not_said_to_be_replaced(unit: Unit) -> None:
    held(unit, "?.2")
    service = unit.serve().ready()
    before = service.serving()
    command = unit.asked("recycle")
    # The biggest worker comes first, and that may be either.
    service.entry("started", count=3)
    assert finished(unit.asked("scale", "1"), service)[0] == 0
    assert service.entry("ended", pid=before[1]).cause == "scale-down"
    let_go(unit.directory / "go")
    code, output = finished(command, service)
    assert (code, output.splitlines()[-1]) == (0, f"0.1 (pid {before[0]}) is replaced")
    assert service.stop() == 0
