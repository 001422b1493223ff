"""The master's own sockets vanish, and nobody is killed for it (FIELD A15)."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import socket
from collections.abc import Iterable
from pathlib import Path

import pytest

from memunit.core.facts import Unheard
from memunit.core.interfaces import INSTANCE
from memunit.master import doors
from memunit.master.inotify import Watch
from memunit.master.journal import Log
from memunit.master.notify import NotifyListener, Systemd
from memunit.master.report import Reporter
from tests.support.harness import MEMUNIT, Service, Unit, finished
from tests.support.wait import wait_readable

pytest_plugins = ["tests.support.units"]

# They ping four times in the time of a watchdog, and say so after each five: between two such lines lies a watchdog.
COUNT = "5"
WATCHDOG = "3s"
SOCKETS = {"notify": "notify", "control": "control", "interface": INSTANCE}


def pinging(unit: Unit, **more: dict[str, object]) -> Service:
    """Two workers that ping, and say how often."""
    app = {"run": "asked:run", "server": "callable", "environment": {"ASKED_COUNT": COUNT}}
    unit.write(app=app, workers={"count": 2, "watchdog": WATCHDOG, "min_lifetime": 0}, **more)
    return unit.serve().ready()


def outlive_a_watchdog(service: Service, pids: Iterable[int], place: int) -> None:
    """Return once each has pinged for longer than its watchdog, from the place `place` on."""
    for pid in pids:
        line = f"^pinged {COUNT} times {pid}$"
        first = service.expect(line, after=place)
        service.expect(line, after=first.place + 1)
    service.pass_by()


def made_again(service: Service, names: Iterable[str], place: int) -> None:
    """Return once it is said of each of these sockets."""
    for name in names:
        path = re.escape(f"/{SOCKETS[name]}")
        service.expect(rf"The {name} socket .*{path} was removed, and has been made again", after=place)


def remove_notify(runtime: Path) -> None:
    (runtime / "notify").unlink()


def remove_all(runtime: Path) -> None:
    """As `rm -rf` does it, file by file: the master may have made one again when the directory's turn comes."""
    shutil.rmtree(runtime, ignore_errors=True)


def move_all(runtime: Path) -> None:
    runtime.rename(runtime.with_name("elsewhere"))


def replace_by_a_file(runtime: Path) -> None:
    (runtime / "other").write_text("")
    (runtime / "other").rename(runtime / "notify")


def replace_by_a_dead_socket(runtime: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(runtime / "other"))
    (runtime / "other").rename(runtime / "notify")


@pytest.mark.parametrize(
    "remove", [remove_notify, remove_all, move_all, replace_by_a_file, replace_by_a_dead_socket]
)
def test_nobody_is_killed_when_the_notify_socket_vanishes(unit: Unit, remove: object) -> None:
    service = pinging(unit)
    before = service.serving()
    mark = service.mark
    remove(unit.runtime)  # type: ignore[operator]
    said = service.expect(r"The notify socket .*/notify was removed, and has been made again", after=mark)
    assert "warning: " in said.text
    outlive_a_watchdog(service, before.values(), said.place)
    assert service.serving() == before
    # From then on one that is started is heard.
    service.send(signal.SIGTTIN)
    service.entry("ready", slot=2)
    assert service.stop() == 0
    assert not (unit.runtime / "notify").exists()


def test_those_that_serve_are_heard_by_the_new_socket(unit: Unit) -> None:
    """Watched as before: one that is silent from then on is found."""
    service = pinging(unit)
    before = service.serving()
    mark = service.mark
    remove_notify(unit.runtime)
    said = service.expect(r"The notify socket .*/notify was removed, and has been made again", after=mark)
    outlive_a_watchdog(service, before.values(), said.place)
    os.kill(before[0], signal.SIGSTOP)
    assert service.entry("aborted", pid=before[0]).cause == "watchdog"
    with contextlib.suppress(ProcessLookupError):
        # Ten seconds later it is killed.
        os.kill(before[0], signal.SIGCONT)
    service.entry("ready", slot=0, after=mark)
    assert service.entries("aborted", slot=1) == []
    assert service.stop() == 0


def test_the_control_socket_is_made_again(unit: Unit) -> None:
    service = pinging(unit)
    mark = service.mark
    (unit.runtime / "control").unlink()
    made_again(service, ["control"], mark)
    code, text = finished(unit.reload(), service)
    assert (code, text.startswith("Reloaded: 2 workers")) == (0, True)
    mark = service.mark
    remove_all(unit.runtime)
    # The notify socket too, or nobody hears that the reload's workers are ready.
    made_again(service, SOCKETS, mark)
    assert finished(unit.reload(), service)[0] == 0
    assert service.stop() == 0


def test_where_it_cant_be_made_again_those_that_serve_go_on(unit: Unit) -> None:
    """A file in the place of the directory: as a runtime directory that only root may make."""
    service = pinging(unit)
    before = service.serving()
    mark = service.mark
    with service.stopped():
        unit.runtime.rename(unit.directory / "elsewhere")
        unit.runtime.write_text("")
    said = service.expect(r"error: The notify socket .* was removed, and can't be made again: ", after=mark)
    assert "those that serve go on" in said.text
    outlive_a_watchdog(service, before.values(), said.place)
    assert service.serving() == before
    assert service.stop() == 0


def test_without_inotify_it_is_noticed_before_anybody_is_aborted(unit: Unit, tmp_path: Path) -> None:
    """fs.inotify.max_user_instances may be used up; a shim fails the call as the kernel would."""
    code = (
        "import memunit.master.inotify as i\ni._libc = type('No', (), {'inotify_init1': lambda *_: -1})()\n"
    )
    app = {"run": "asked:run", "server": "callable", "environment": {"ASKED_COUNT": COUNT, "PYTHONPATH": ""}}
    unit.write(app=app, workers={"count": 2, "watchdog": WATCHDOG})
    service = unit.serve(environment=unit.begun_with(tmp_path, code)).ready()
    before = service.serving()
    for pid in before.values():
        # The first ping arms the watchdog; before that there is no time to run out.
        service.expect(f"^pinged {COUNT} times {pid}$")
    mark = service.mark
    remove_notify(unit.runtime)
    said = service.expect(r"The notify socket .* was removed, and has been made again", after=mark)
    outlive_a_watchdog(service, before.values(), said.place)
    assert service.serving() == before
    assert service.stop() == 0


def test_it_is_not_taken_from_another_master(unit: Unit) -> None:
    """Two that take it from each other would do so for ever."""
    service = pinging(unit)
    mark = service.mark
    remove_all(unit.runtime)
    made_again(service, SOCKETS, mark)
    mark = service.mark
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(unit.runtime / "theirs"))
        (unit.runtime / "theirs").rename(unit.runtime / "notify")
        service.expect("can't be made again: another process has made its own there", after=mark)
        service.pass_by()
        assert len(service.serving()) == 2
    assert service.stop() == 0
    assert (unit.runtime / "notify").exists()


def test_what_is_connected_to_the_former_socket_is_still_heard(tmp_path: Path) -> None:
    """sdnotify connects once and keeps its socket."""
    listener = NotifyListener(str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.connect(listener.path)
        for number in range(3):
            (tmp_path / "notify").unlink()
            assert not listener.reachable()
            listener.renew()
            assert listener.reachable()
            client.send(b"WATCHDOG=%d" % number)
            assert [each.payload for each in listener.receive()] == [b"WATCHDOG=%d" % number]
    listener.close()
    assert not (tmp_path / "notify").exists()


def test_a_watch_tells_of_a_removal_and_of_nothing_else(tmp_path: Path) -> None:
    watch = Watch((str(tmp_path), str(tmp_path / "nothing")))
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").chmod(0o600)
    assert watch.fileno() >= 0
    (tmp_path / "a").unlink()
    wait_readable(watch.fileno())
    watch.clear()
    watch.close()
    assert watch.fileno() == -1


def test_memunit_run_in_tmp(unit: Unit) -> None:
    """FIELD's own: `rm` of the notify socket of `memunit run`, which has a directory of its own in /tmp."""
    words = ("--app", "asked:run", "--server", "callable", "--workers", "2", "--watchdog", WATCHDOG)
    environment = {"TMPDIR": str(unit.directory), "RUNTIME_DIRECTORY": "", "ASKED_COUNT": COUNT}
    service = unit.start(*MEMUNIT, "run", *words, environment=environment).ready()
    before = service.serving()
    (notify,) = unit.directory.glob("memunit-*/notify")
    mark = service.mark
    notify.unlink()
    said = service.expect("The notify socket .* was removed, and has been made again", after=mark)
    outlive_a_watchdog(service, before.values(), said.place)
    assert service.serving() == before
    assert service.stop() == 0


def test_whoever_removes_them_for_hours_does_not_fill_the_journal() -> None:
    """Two entries a second were 170,000 a day."""
    losses = doors._Losses()
    told = [losses.made(1000.0 + second) for second in range(3600)]
    assert told[:8] == [0] * 8
    assert [each for each in told[8:] if each is not None] == [59] * 59
    assert losses.made(1e6) == 52
    assert [losses.made(1e6 + second) for second in range(1, 9)] == [0] * 7 + [None]


def test_no_socket_waits_because_another_was_made_again(tmp_path: Path) -> None:
    """`rm` removes one after the other, and what workers say to a missing one is lost."""
    report = Reporter(Log("app", native=False), Systemd({}))
    with select.epoll() as epoll:
        made = doors.Doors(str(tmp_path / "notify"), str(tmp_path / "control"), None, epoll, report)
        made.arm()
        (tmp_path / "control").unlink()
        assert made.lost((), deciding=True) == []
        assert (tmp_path / "control").exists()
        (tmp_path / "notify").unlink()
        assert made.lost((), deciding=True) == [Unheard()]
        assert (tmp_path / "notify").exists()
        made.close()


def test_each_socket_is_told_of_that_cant_be_made_again(unit: Unit) -> None:
    """And a directory outlives a restart: the remedy is another."""
    service = pinging(unit)
    mark = service.mark
    with service.stopped():
        for name in ("notify", "control"):
            (unit.runtime / name).unlink()
            (unit.runtime / name).mkdir()
    for name in ("notify", "control"):
        said = service.expect(
            rf"error: The {name} socket .* was removed, and can't be made again: ", after=mark
        )
        assert said.text.endswith("remove the directory that is in its place")
    assert service.stop() == 0


def test_a_lost_control_socket_is_found_without_inotify(unit: Unit, tmp_path: Path) -> None:
    """It runs into no deadline of a worker's; somebody has to look."""
    code = (
        "import memunit.master.inotify as i\nimport memunit.master.doors as d\nd._AGAIN = 0.2\n"
        "i._libc = type('No', (), {'inotify_init1': lambda *_: -1})()\n"
    )
    app = {"run": "asked:run", "server": "callable", "environment": {"PYTHONPATH": ""}}
    unit.write(app=app, workers={"count": 1, "watchdog": "infinity"})
    service = unit.serve(environment=unit.begun_with(tmp_path, code)).ready()
    (unit.runtime / "control").unlink()
    service.expect("The control socket .* was removed, and has been made again")
    assert finished(unit.reload(), service)[0] == 0
    assert service.stop() == 0
