"""Reload: by `memunit reload` and by SIGHUP, to what works and to what does not, and under load."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.harness import Service, Unit, finished
from tests.support.wait import wait_readable
from tests.support.workers import LoadProcess

pytest_plugins = ["tests.support.units"]

SAYS_READY = """
import os, socket, sys
told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
told.connect(os.environ["NOTIFY_SOCKET"])
told.send(b"READY=1")
"""
ASKED = {"run": "asked:run", "server": "callable"}


def started(unit: Unit, **more: dict[str, object]) -> Service:
    """Two workers that serve."""
    unit.write(app=ASKED, workers={"count": 2}, **more)
    return unit.serve().ready()


def test_reload_replaces_every_worker_and_returns_when_that_is_done(unit: Unit) -> None:
    service = started(unit)
    before = service.serving()
    unit.write(app=ASKED, workers={"count": 3, "watchdog": "11s"})
    mark = service.mark
    code, text = finished(unit.reload(), service)
    assert code == 0, text
    assert re.fullmatch(r"Reloaded: 3 workers of the new configuration are ready after \d+\.\d s\n", text)
    assert len(service.serving()) == 3
    assert not set(before.values()) & set(service.serving().values())
    # Each is ready before the one that it replaces is told to stop.
    for slot, pid in before.items():
        ready = service.entry("ready", slot=slot, after=mark)
        stopped = service.entry("stopped", pid=pid)
        assert stopped.cause == "reload"
        assert ready.place < stopped.place
        assert service.entry("ended", pid=pid).cause == "reload"
    assert int(unit.get().split()[1]) in service.serving().values()
    service.hear(r"^STATUS=3/3 workers", after=mark)
    assert service.stop() == 0


def test_systemd_is_told_of_a_reload_as_it_wants_to_be(unit: Unit) -> None:
    """Type=notify-reload: RELOADING=1 with the monotonic time in the same datagram, READY=1 at the end."""
    service = started(unit)
    mark = service.mark
    before = time.monotonic_ns() // 1000
    service.send(signal.SIGHUP)
    reloading = service.hear("^RELOADING=1", after=mark)
    found = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", reloading.text)
    assert found is not None
    assert before <= int(found[1]) <= time.monotonic_ns() // 1000
    service.hear("^EXTEND_TIMEOUT_USEC=", after=reloading.place)
    service.hear("^STATUS=reloading, ", after=reloading.place)
    ready = service.hear("^READY=1", after=reloading.place)
    done = service.expect("Reloaded: 2 workers of the new configuration", source="output", after=mark)
    service.entry("ended", after=mark, count=2)
    assert len(service.entries("ready", after=mark)) == 2
    assert [each.text for each in service.said[mark:] if "READY=1" in each.text] == [ready.text]
    assert done.text.startswith("memunit: Reloaded")
    assert service.stop() == 0


def test_a_program_that_says_nothing_and_ends_at_once_leaves_the_old_one_serving(unit: Unit) -> None:
    unit.write(app={"command": ["sleep", "infinity"], "ready": "exec"}, workers={"count": 2})
    service = unit.serve().ready()
    before = service.serving()
    unit.write(app={"command": ["false"], "ready": "exec"}, workers={"count": 2})
    mark = service.mark
    code, text = finished(unit.reload(), service)
    assert code == 78
    # The second try may be either slot's.
    assert re.match(r"Reload failed, the old configuration goes on serving: worker \d failed to start", text)
    assert {entry.cause for entry in service.entries("ended", after=mark)} == {"start-failed"}
    assert service.serving() == before
    assert service.stop() == 0


def test_a_broken_app_leaves_the_old_one_serving(unit: Unit) -> None:
    service = started(unit)
    before = service.serving()
    unit.write(app={"run": "broken.web:app", "server": "callable"}, workers={"count": 2})
    mark = service.mark
    code, text = finished(unit.reload(), service)
    assert code == 78
    why = r"worker \d can't be started: cannot import broken\.web: ModuleNotFoundError: [^\n]*"
    assert re.fullmatch(rf"Reload failed, the old configuration goes on serving: {why}\n", text)
    assert service.serving() == before
    assert service.find("^Traceback", source="output", after=mark) is not None
    reloading = service.hear("^RELOADING=1", after=mark)
    service.hear("^READY=1", after=reloading.place)
    service.hear(r"^STATUS=2/2 workers.*; the last reload failed: worker \d can't be started", after=mark)
    assert {int(unit.get().split()[1]) for _ in range(4)} <= set(before.values())

    # A worker that is lost now comes back as the old one.
    os.kill(before[0], signal.SIGKILL)
    service.entry("ready", slot=0, after=service.entry("ended", pid=before[0]).place)
    unit.write(app=ASKED, workers={"count": 2})
    mark = service.mark
    assert finished(unit.reload(), service)[0] == 0
    service.hear(r"^STATUS=2/2 workers[^;]*$", after=mark)
    assert service.stop() == 0


@pytest.mark.parametrize(
    "last", ['told.send(b"STOPPING=1")', "", "os._exit(0)"], ids=["stops", "crashes", "clean"]
)
def test_an_app_that_ends_right_after_it_was_ready_leaves_the_old_one_serving(unit: Unit, last: str) -> None:
    """With one worker, the reload was done when the new one said READY=1, and then nobody served."""
    unit.write(app=ASKED, workers={"count": 1})
    service = unit.serve().ready()
    before, mark = service.serving(), service.mark
    command = [sys.executable, "-c", f"{SAYS_READY}{last}\nsys.exit(1)"]
    unit.write(app={"command": command}, workers={"count": 1})
    code, text = finished(unit.reload(), service)
    assert code == 78
    assert "Reload failed, the old configuration goes on serving: worker 0 " in text
    assert service.serving() == before
    assert int(unit.get().split()[1]) == before[0]
    service.hear(r"^STATUS=1/1 workers.*the last reload failed", after=mark)
    assert service.stop() == 0


def test_an_app_that_is_never_ready_leaves_the_old_one_serving(unit: Unit) -> None:
    service = started(unit)
    before = service.serving()
    unit.write(app={"command": ["sleep", "infinity"]}, workers={"count": 2, "start_timeout": "0.5s"})
    code, text = finished(unit.reload(), service)
    assert code == 78
    assert re.fullmatch(r"Reload failed, .* goes on serving: worker \d was not ready in time\n", text)
    assert service.serving() == before
    assert service.stop() == 0


@pytest.mark.parametrize("how", ["command", "signal"])
def test_a_broken_file_leaves_the_old_one_serving(unit: Unit, how: str) -> None:
    service = started(unit)
    before = service.serving()
    unit.write(app=ASKED, memory={"limit": "600M", "ceiling": "400M", "patence": "1s"})
    mark = service.mark
    problems = (
        f'{unit.file}: memory.patence: unknown key; did you mean "patience"?',
        f"{unit.file}: memory.limit: 600M is over the memory.ceiling of 400M: a worker would be killed before it is "
        "replaced; ",
    )
    if how == "command":
        code, text = finished(unit.reload(), service)
        assert code == 78
        assert text.startswith("Reload refused, the old configuration goes on serving: ")
        assert all(problem in text for problem in problems)
    else:
        service.send(signal.SIGHUP)
    said = service.expect(
        "Reload refused, the old configuration goes on serving", source="output", after=mark
    )
    assert all(problem in said.text for problem in problems)
    reloading = service.hear("^RELOADING=1", after=mark)
    service.hear("^READY=1", after=reloading.place)
    service.hear("^STATUS=2/2 workers.*; the last reload failed: .*patence", after=mark)
    assert service.serving() == before
    assert service.entries(after=mark) == []
    assert service.stop() == 0


def test_reloads_at_once_are_one(unit: Unit) -> None:
    """SIGHUP and two commands in the same pass of the loop, for the master has been stopped meanwhile."""
    service = started(unit)
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        for each in (first, second):
            each.connect(str(unit.runtime / "control"))
        service.pass_by()
        with service.stopped():
            service.send(signal.SIGHUP)
            for each in (first, second):
                each.sendall(b"reload\n")
        for each in (first, second):
            wait_readable(each.fileno())
            assert each.recv(4096).startswith(
                b"0\nReloaded: 2 workers of the new configuration are ready after"
            )
    service.pass_by()
    assert len([each for each in service.said if "Reloaded: 2" in each.text]) == 1
    assert service.stop() == 0


def held(unit: Unit, folder: Path) -> tuple[Service, subprocess.Popen[str], int]:
    """A service in the middle of a reload whose first worker is held up, and the mark from before it."""
    service = started(unit)
    hold = folder / "hold"
    os.mkfifo(hold)
    app = {**ASKED, "environment": {"ASKED_HOLD": str(hold)}}
    unit.write(app=app, workers={"count": 2, "start_timeout": "600s"})
    mark = service.mark
    reload = unit.reload()
    service.expect("^held$")
    return service, reload, mark


def test_a_later_reload_takes_the_place_of_one_under_way(unit: Unit, tmp_path: Path) -> None:
    service, first, _ = held(unit, tmp_path)
    unit.write(app=ASKED, workers={"count": 2})
    code, text = finished(unit.reload(), service)
    assert code == 0, text
    # What is in the file is served: that is what the first has asked for too.
    assert finished(first, service) == (0, text)
    assert len(service.serving()) == 2
    assert service.stop() == 0


def test_a_stop_of_the_unit_makes_its_reload_no_failure(unit: Unit, tmp_path: Path) -> None:
    """systemd tells both at once, and the reload's end would be the result of the stop."""
    service, asked, _ = held(unit, tmp_path)
    asked.terminate()
    code, text = finished(asked, service)
    assert code == 0
    assert "The service is being stopped" in text
    assert service.stop() == 0


def test_stop_during_a_reload(unit: Unit, tmp_path: Path) -> None:
    """The reload is told to have come to nothing, READY=1 comes before STOPPING=1, and all workers end."""
    service, reload, mark = held(unit, tmp_path)
    reloading = service.hear("^RELOADING=1", after=mark)
    service.send(signal.SIGTERM)
    assert finished(reload, service) == (78, "Reload not finished: the service is being stopped\n")
    ready = service.hear("^READY=1", after=reloading.place)
    assert ready.place < service.hear("^STOPPING=1", after=mark).place
    assert service.exit_code() == 0
    assert {entry.cause for entry in service.entries("ended", after=mark)} == {"stop"}
    assert len(service.entries("ended")) == len(service.entries("started"))


def test_reload_of_what_does_not_run(unit: Unit) -> None:
    reload = unit.reload()
    text, _ = reload.communicate()
    reason = f"{unit.runtime / 'control'}: no memunit listens here; is the service running?"
    assert (reload.returncode, text) == (69, f"memunit: app can't be reloaded: {reason}\n")


@pytest.mark.parametrize("keep_alive", [False, True], ids=["new", "keep-alive"])
def test_reloads_under_load_lose_nothing(unit: Unit, tmp_path: Path, keep_alive: bool) -> None:
    unit.write(app={"run": "plain:app"}, workers={"count": 2})
    service = unit.serve().ready()
    words = ["--clients", "4", "--rate", "400", *(["--keep-alive"] if keep_alive else [])]
    load = LoadProcess(tmp_path, unit.target, *words)
    pids = set(service.serving().values())
    for _ in range(3):
        load.answered(50)
        code, text = finished(unit.reload(), service)
        assert code == 0, text
        pids |= set(service.serving().values())
    service.entry("ended", count=6)
    report = load.finish()
    assert report["lost"] == 0, report
    assert report["ok"] == report["sent"] > 100
    assert len(pids) == 8
    assert {int(pid) for pid in report["pids"]} <= pids
    assert len(report["pids"]) >= 4
    assert service.stop() == 0
