"""What the master owes stays due until it is done: to systemd, to whoever has sent it a signal, to a group of its."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from memunit.master.cgroup import claim
from memunit.master.groups import Groups
from memunit.master.sensors import CGROUP, Sensors, Watched
from memunit.master.signals import Signals
from tests.support.harness import Unit, finished, let_go
from tests.support.isolated import isolated

pytest_plugins = ["tests.support.units"]


def held(unit: Unit, *, before: str = "true", after: str = "exec sleep infinity") -> None:
    """A worker that is ready when the FIFO `go` is opened, and goes on then as `after` has it."""
    for name in ("go", "end"):
        os.mkfifo(unit.directory / name)
    script = f"{before}; cat {unit.directory}/go; systemd-notify --ready; {after}"
    unit.write(app={"command": ["/bin/sh", "-c", script]}, workers={"count": 1}, stop={"grace": "600s"})


def test_ready_is_due_until_systemd_has_taken_it(unit: Unit) -> None:
    """Its queue was full for longer than the master waits: that ended in a start timeout."""
    held(unit)
    service = unit.serve()
    service.hear(r"^STATUS=0/1 workers$")
    with service.deaf():
        let_go(unit.directory / "go")
        service.entry("ready")
        service.pass_by()
    service.hear(r"^READY=1")
    service.hear(r"^STATUS=1/1 workers")
    assert service.stop() == 0


def test_stopping_is_due_until_systemd_has_taken_it(unit: Unit) -> None:
    held(
        unit,
        before=f"trap 'cat {unit.directory}/end; exit' TERM",
        after="while :; do sleep 60 & wait $!; done",
    )
    service = unit.serve()
    let_go(unit.directory / "go")
    service.ready()
    with service.deaf():
        service.send(signal.SIGTERM)
        service.entry("stopped")
        service.pass_by()
    service.hear(r"^STOPPING=1")
    service.hear(r"^EXTEND_TIMEOUT_USEC=")
    let_go(unit.directory / "end")
    assert service.exit_code() == 0


def test_a_reload_is_due_until_systemd_has_taken_its_end(unit: Unit) -> None:
    """In order: RELOADING=1 that came after READY=1 would leave the unit reloading for good."""
    unit.write(
        app={"command": ["/bin/sh", "-c", "systemd-notify --ready; exec sleep infinity"]},
        workers={"count": 1},
    )
    service = unit.serve().ready()
    mark = service.mark
    with service.deaf():
        reload = unit.reload()
        service.expect("Reloaded: ", source="output")
        service.pass_by()
    assert finished(reload, service)[0] == 0
    reloading = service.hear(r"^RELOADING=1\nMONOTONIC_USEC=\d+$", after=mark)
    ready = service.hear(r"^READY=1", after=mark)
    assert reloading.place < ready.place
    assert service.stop() == 0


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGTTIN])
def test_no_flood_of_one_signal_loses_another(signum: signal.Signals) -> None:
    """More of them than the pipe holds, while the loop is busy."""

    def body() -> None:
        signals = Signals()
        signals.arm()
        for _ in range(70_000):
            os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signum)
        came: dict[int, int] = {}
        poll = select.poll()
        poll.register(signals.fileno(), select.POLLIN)
        while poll.poll(0):
            came |= dict(signals.received())
        assert came[signum] == 1
        assert came[signal.SIGUSR1] == 70_000

    isolated(body)


class Unheard:
    """The files of a stand-in for the tree can't be polled; what epoll would tell is no part of this."""

    def register(self, *_: Any) -> None:
        """As select.epoll."""

    unregister = register


def stand_in(tmp_path: Path, *workers: str) -> Groups[str]:
    """Groups of these workers, in a folder with the files of a tree."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "cgroup").mkdir()
    (tmp_path / "cgroup/cgroup.controllers").write_text("memory\n")
    (tmp_path / "cgroup/cgroup.type").write_text("domain\n")
    parts = (".", "master", "payload", "payload/zygotes", "payload/workers", "payload/programs")
    for part in (*parts, *(f"payload/workers/{name}" for name in workers)):
        (tmp_path / "cgroup" / part).mkdir(exist_ok=True)
        for file in (
            "cgroup.subtree_control",
            "cgroup.procs",
            "memory.high",
            "memory.max",
            "memory.oom.group",
        ):
            (tmp_path / "cgroup" / part / file).write_text("max\n")
        (tmp_path / "cgroup" / part / "memory.events").write_text("high 0\noom 0\noom_kill 0\n")
        (tmp_path / "cgroup" / part / "memory.stat").write_text("anon 4096\nkernel 0\n")
    tree = claim("", lambda total, held: 0, proc=str(tmp_path / "proc"), mount=str(tmp_path / "cgroup"))
    groups: Groups[str] = Groups(tree, Unheard())  # type: ignore[arg-type]
    for name in workers:
        assert groups.take(name, name, limit=1 << 20, ceiling=None)
    return groups


def watch(name: str) -> Watched[str]:
    return Watched(
        name=name, pid=1, limit=1 << 20, ceiling=None, metric=CGROUP, interval=1.0, over=False, draining=False
    )


def test_what_was_looked_at_within_a_second_is_looked_at_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle master with 64 workers came round 64 times in ten seconds."""
    sensors: Sensors[str] = Sensors(stand_in(tmp_path, "0.1", "1.1", "2.1"))
    now = [0.0]
    monkeypatch.setattr("memunit.master.sensors.time.monotonic", lambda: now[0])
    for at, known in ((100.1, 1), (100.5, 2), (100.9, 3)):
        now[0] = at
        sensors.look([watch(f"{slot}.1") for slot in range(known)], (), 1000.0)
    looks = []
    while now[0] < 130:
        now[0] = sensors.due
        looks.append((now[0], len(sensors.look([watch(f"{slot}.1") for slot in range(3)], (), 1000.0))))
    assert looks == [(110, 3), (120, 3), (130, 3)]


@pytest.mark.parametrize("lost", ["memory.stat", "cgroup.procs", ""])
def test_a_look_that_fails_has_a_next_time(tmp_path: Path, lost: str) -> None:
    """For want of descriptors, say: the loop went round without a pause until there was one."""
    groups = stand_in(tmp_path, "0.1")
    if lost:
        (tmp_path / "cgroup/payload/workers/0.1" / lost).unlink()
    sensors: Sensors[str] = Sensors(groups)
    watched = watch("0.1")
    for _ in range(2):
        before = time.monotonic()
        sensors.look([watched], (), 1.0)
        assert sensors.due > before + 0.5
