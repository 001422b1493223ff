"""How workers end: by accident, by force and for good, each with one entry and one replacement."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time

import pytest

from tests.support.harness import AS_NOBODY, Service, Unit
from tests.support.wait import wait_gone

pytest_plugins = ["tests.support.units"]

ASKED = {"run": "asked:run", "server": "callable"}


def two(unit: Unit, **tables: dict[str, object]) -> Service:
    """Two workers that serve."""
    workers = {"count": 2, "min_lifetime": 0, **tables.pop("workers", {})}
    unit.write(app=tables.pop("app", dict[str, object](ASKED)), workers=workers, **tables)
    return unit.serve().ready()


def _one_replacement(service: Service, pid: int, mark: int) -> None:
    """One entry of its end, and one worker more, in its slot; the other slot was never touched."""
    slot = service.entry("ended", pid=pid).slot
    ready = service.entry("ready", slot=slot, after=mark)
    service.pass_by()
    (ended,) = service.entries("ended", after=mark)
    (started,) = service.entries("started", after=mark)
    assert ended.pid == pid
    assert started.pid == ready.pid
    assert (started.slot, started.generation) == (slot, ended.generation + 1)
    assert len(service.serving()) == 2


def test_a_killed_worker_is_replaced_once(unit: Unit) -> None:
    service = two(unit)
    mark, pid = service.mark, service.serving()[1]
    os.kill(pid, signal.SIGKILL)
    ended = service.entry("ended", pid=pid)
    assert (ended.slot, ended.cause, ended.reason) == (1, "crash-signal", "")
    assert "killed by SIGKILL" in ended.rest
    service.hear(r"^STATUS=2/2 workers.*, 1 recycled \(1 crash-signal\)$", after=mark)
    _one_replacement(service, pid, mark)
    assert service.stop() == 0


def test_a_worker_that_ignores_sigterm_is_killed_after_grace(unit: Unit) -> None:
    """The entry says what ended it, and why it was being stopped."""
    memory = {"limit": "40M", "interval": "0.05s", "patience": 0}
    service = two(unit, workers={"count": 1}, memory=memory, stop={"grace": "0.5s"})
    mark, pid = service.mark, service.serving()[0]
    unit.get("/deaf")
    asked = time.monotonic()
    unit.get("/leak?kb=50000")
    stopped = service.entry("stopped", pid=pid)
    killed = service.entry("killed", pid=pid)
    assert (stopped.cause, killed.cause) == ("memory-limit", "grace-expired")
    # Its grace began later, and the entry was written sooner.
    assert killed.at >= asked + 0.5
    ended = service.entry("ended", pid=pid)
    assert (ended.cause, ended.reason) == ("grace-expired", "memory-limit")
    assert "killed by SIGKILL" in ended.rest
    assert len(service.entries("ended", after=mark)) == len(service.entries("started", after=mark)) == 1
    service.hear(r"^STATUS=1/1 workers.*, 1 recycled \(1 grace-expired\)$")
    assert service.stop() == 0


def test_what_a_worker_leaves_behind_ends_with_it(unit: Unit) -> None:
    """A sub-process of one that is killed, in a session of its own, is killed too: nobody else would."""
    service = two(unit, workers={"count": 1}, stop={"grace": "0.1s"})
    _, pid, child = unit.get("/child?kb=1").split()
    unit.get("/deaf")
    service.send(signal.SIGHUP)
    ended = service.entry("ended", pid=int(pid))
    assert (ended.cause, ended.reason) == ("grace-expired", "reload")
    wait_gone(int(child))
    assert service.stop() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a set-user-ID program")
def test_a_worker_that_has_become_another_users_does_not_end_the_master(open_unit: Unit) -> None:
    tool = open_unit.directory / "setpriv"
    shutil.copy("/usr/bin/setpriv", tool)
    tool.chmod(0o4755)
    words = [
        str(tool),
        "--reuid=1",
        "--regid=1",
        "--clear-groups",
        "sh",
        "-c",
        "echo it is; exec sleep infinity",
    ]
    open_unit.write(app={"command": words, "ready": "exec"}, workers={"count": 1})
    service = open_unit.serve(prefix=AS_NOBODY).ready()
    service.expect("^it is$")
    (pid,) = service.serving().values()
    mark = service.mark
    service.send(signal.SIGHUP)
    service.expect(
        rf"Worker 0\.1 \(pid {pid}\) can't be sent SIGTERM: it belongs to another user now", after=mark
    )
    service.expect("^it is$", after=mark)
    service.send(signal.SIGTERM)
    service.expect(r"Worker 0\.2 .* can't be sent SIGTERM", after=mark)
    for each in {entry.pid for entry in service.entries("started")}:
        os.kill(each, signal.SIGKILL)
    assert service.exit_code() == 0


def test_a_blocked_worker_is_found_by_its_watchdog(unit: Unit) -> None:
    """SIGABRT first, so that Python writes the stack of every thread to the journal."""
    service = two(unit, workers={"watchdog": "4s"})
    mark = service.mark
    with unit.client() as client:
        client.ask("/stuck")
        pid = int(service.expect("^stuck ").text.split()[1])
        aborted = service.entry("aborted", pid=pid)
        assert aborted.cause == "watchdog"
        ended = service.entry("ended", pid=pid)
    assert (ended.cause, ended.reason) == ("watchdog", "")
    assert "SIGABRT" in ended.rest
    # faulthandler writes word by word, and the master may say something in between.
    fatal = service.expect("Aborted", source="output", after=mark)
    service.expect(r"asked\.py\", line \d+ in _stuck", source="output", after=fatal.place)
    _one_replacement(service, pid, mark)
    assert unit.get().startswith("ok ")
    assert service.stop() == 0


def test_a_stopped_worker_is_replaced_at_once_and_killed_in_the_end(unit: Unit) -> None:
    """SIGSTOP keeps it from SIGABRT too; its replacement does not wait until SIGKILL has ended it."""
    service = two(unit, workers={"watchdog": "4s"}, app={**ASKED, "environment": {"ASKED_COUNT": "1"}})
    mark, pid = service.mark, service.serving()[0]
    # The first ping arms the watchdog.
    service.expect(f"^pinged 1 times {pid}$")
    os.kill(pid, signal.SIGSTOP)
    aborted = service.entry("aborted", pid=pid)
    started = service.entry("started", slot=0, after=mark)
    ended = service.entry("ended", pid=pid)
    assert aborted.place < started.place < ended.place
    assert (ended.cause, ended.reason) == ("watchdog", "")
    assert "killed by SIGKILL" in ended.rest
    _one_replacement(service, pid, mark)
    assert service.stop() == 0


def test_a_crash_loop_costs_only_its_slot(unit: Unit) -> None:
    """Slot 1 can't live: it is tried again and again, more slowly each time; slot 0 serves on, and is READY=1."""
    script = "[ $MEMUNIT_SLOT = 0 ] || exit 3; systemd-notify --ready; exec sleep infinity"
    unit.write(app={"command": ["/bin/sh", "-c", script]}, workers={"count": 2, "start_timeout": "15s"})
    began = time.monotonic()
    service = unit.serve()
    healthy = service.entry("ready", slot=0).pid
    # From the third start on: 0.1, 0.2, 0.4, 0.8, 1.6 s. Lines are read later than they are written, never sooner.
    seventh = service.entry("started", slot=1, count=7)
    assert seventh.at >= began + 3.1
    ended = service.entry("ended", slot=1, count=7)
    assert (ended.cause, ended.reason) == ("start-failed", "")
    assert "exited with status 3" in ended.rest
    service.ready()
    assert service.serving() == {0: healthy}
    service.hear(r"^STATUS=1/2 workers, .*; worker 1 failed to start \(exited with status 3\)")
    assert len(service.entries("started", slot=0)) == 1
    assert service.stop() == 0


@pytest.mark.parametrize("status", [0, 5])
def test_a_worker_that_leaves_by_itself_is_replaced(unit: Unit, status: int) -> None:
    """Nobody asked it to: whatever its status, that is an accident."""
    service = two(unit)
    mark = service.mark
    # The path ends the worker before an answer: the connection is closed.
    with unit.client() as client, pytest.raises((EOFError, ConnectionError)):
        client.get(f"/exit?status={status}")
    ended = service.entry("ended", after=mark)
    assert ended.cause == "crash-exit"
    assert f"exited with status {status}" in ended.rest
    _one_replacement(service, ended.pid, mark)
    assert service.stop() == 0


def test_a_worker_that_somebody_else_stops_is_replaced_and_no_accident(unit: Unit) -> None:
    service = two(unit)
    mark, pid = service.mark, service.serving()[0]
    os.kill(pid, signal.SIGTERM)
    ended = service.entry("ended", pid=pid)
    assert (ended.cause, ended.reason) == ("requested", "")
    _one_replacement(service, pid, mark)
    assert service.stop() == 0


def test_a_stopped_master_blames_nobody_for_its_own_silence(unit: Unit) -> None:
    """It was stopped for longer than its workers' watchdog: pings that it has not read were sent."""
    service = two(unit, workers={"watchdog": "3s"}, app={**ASKED, "environment": {"ASKED_COUNT": "5"}})
    before = service.serving()
    with service.stopped():
        mark = service.mark
        for pid in before.values():
            # 5 pings at a quarter of the watchdog's time.
            said = service.expect(f"^pinged 5 times {pid}$", after=mark)
            service.expect(f"^pinged 5 times {pid}$", after=said.place + 1)
    service.pass_by()
    assert service.serving() == before
    assert service.find("watchdog", source="output") is None
    # And from then on it watches again.
    os.kill(before[0], signal.SIGSTOP)
    aborted = service.entry("aborted", pid=before[0])
    assert aborted.cause == "watchdog"
    with contextlib.suppress(ProcessLookupError):
        # Ten seconds later it is killed.
        os.kill(before[0], signal.SIGCONT)
    assert service.entry("ended", pid=before[0]).cause == "watchdog"
    assert service.stop() == 0


SAYS_READY = """
import os, signal, socket
{handler}
# Not pause(): a signal that comes right before it would be seen after the next.
read, write = os.pipe()
os.set_blocking(write, False)
signal.set_wakeup_fd(write)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
    told.connect(os.environ["NOTIFY_SOCKET"])
    told.send(b"READY=1")
while True:
    os.read(read, 1)
"""
RAISES_AGAIN = """
def done(*_):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)
signal.signal(signal.SIGTERM, done)
"""


@pytest.mark.parametrize(
    ("command", "lost"),
    [
        ([sys.executable, "-c", SAYS_READY.format(handler="")], True),
        # As uvicorn does from 0.29 on: what it had to finish is finished then.
        ([sys.executable, "-c", SAYS_READY.format(handler=RAISES_AGAIN)], False),
        (
            [
                "sh",
                "-c",
                "trap 'trap - TERM; kill $$' TERM; systemd-notify --ready; while :; do sleep 9 & wait; done",
            ],
            False,
        ),
    ],
    ids=["no handler", "raises it again", "trap of a shell"],
)
def test_what_was_lost_is_said_only_where_it_was(unit: Unit, command: list[str], lost: bool) -> None:
    service = two(unit, app={"command": command}, workers={"count": 1})
    pid = service.serving()[0]
    service.send(signal.SIGHUP)
    ended = service.entry("ended", pid=pid)
    assert ended.cause == "reload"
    assert "killed by SIGTERM" in ended.rest
    assert ("does not handle SIGTERM: what it was doing is lost" in ended.rest) == lost
    assert service.stop() == 0
