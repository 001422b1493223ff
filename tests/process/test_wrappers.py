"""Commands behind a wrapper: the first process of a worker is not the one that serves (FIELD A14)."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from pathlib import Path

import pytest

from tests.support.harness import Service, Unit, let_go
from tests.support.wait import DEADLINE, wait_gone
from tests.support.workers import APPS

pytest_plugins = ["tests.support.units"]

SERVER = f"{sys.executable} {APPS}/wrapped.py"
FORWARDING = """
const { spawn } = require('child_process');
const child = spawn(process.argv[2], process.argv.slice(3), { stdio: [0, 1, 2, 3] });
process.on('SIGTERM', () => child.kill('SIGTERM'));
"""


def wrapped(how: str, directory: Path, signum: str = "SIGTERM") -> list[str]:
    """The command of a worker whose server is under a wrapper."""
    server = f"{SERVER} {signum}"
    script = directory / "forward.js"
    script.write_text(FORWARDING)
    return {
        # FIELD: `sh -c 'node server.js; echo x'`. A shell forwards nothing, and ends by the signal.
        "sh": ["sh", "-c", f"{server}; echo wrapper goes on"],
        "background": ["sh", "-c", f"{server} & wait"],
        "nested": ["sh", "-c", f"sh -c '{server}; :'; :"],
        # As uv run and systemd-run --pty do: in a session, and so in a process group, of its own.
        "session": ["sh", "-c", f"setsid --wait {server}; :"],
        # As npm does: what is under it is told twice.
        "forwarding": ["node", str(script), *server.split()],
    }[how]


def hold(directory: Path) -> Path:
    """A FIFO to wait on, which the test keeps open: a reader that comes first does not find its end."""
    fifo = directory / "hold"
    os.mkfifo(fifo)
    return fifo


def server_of(service: Service, after: int = 0) -> int:
    """The pid of the process that really serves, by its own words."""
    return int(service.expect(r"^waits (\d+)$", after=after).text.split()[1])


@pytest.mark.parametrize(
    ("how", "ready"),
    [
        ("sh", "notify"),
        ("sh", "exec"),
        ("background", "notify"),
        ("nested", "notify"),
        ("session", "exec"),
        ("forwarding", "notify"),
    ],
)
def test_what_is_in_work_under_a_wrapper_is_finished(
    unit: Unit, tmp_path: Path, how: str, ready: str
) -> None:
    fifo = hold(tmp_path)
    writer = os.open(fifo, os.O_RDWR)
    unit.write(app={"command": wrapped(how, tmp_path), "ready": ready}, workers={"count": 1})
    service = unit.serve().ready()
    (wrapper,) = service.serving().values()
    with unit.client() as client:
        client.ask(f"/wait?on={fifo}")
        server = server_of(service)
        assert server != wrapper
        mark = service.mark
        service.send(signal.SIGHUP)
        service.entry("stopped", pid=wrapper, after=mark)
        service.expect(f"^told to stop {server}$", after=mark)
        service.expect("Reloaded: 1 worker", source="output", after=mark)
        service.pass_by()
        assert service.entries("ended", pid=wrapper) == []
        os.write(writer, b"go\n")
        assert client.read().body == b"whole\n"
    ended = service.entry("ended", pid=wrapper, after=mark)
    assert (ended.cause, ended.reason) == ("reload", "")
    assert "is lost" not in ended.rest
    os.close(writer)
    wait_gone(server)
    assert service.stop() == 0


def test_a_wrapper_that_ends_last_has_cut_nothing_off(unit: Unit, tmp_path: Path) -> None:
    """Stopped, it keeps the signal pending, as one that has no processor does."""
    fifo = hold(tmp_path)
    unit.write(app={"command": wrapped("sh", tmp_path)}, workers={"count": 1})
    service = unit.serve().ready()
    (wrapper,) = service.serving().values()
    with unit.client() as client:
        client.ask(f"/wait?on={fifo}")
        server = server_of(service)
        os.kill(wrapper, signal.SIGSTOP)
        ending = os.pidfd_open(server)
        mark = service.mark
        service.send(signal.SIGHUP)
        service.expect(f"^told to stop {server}$", after=mark)
        let_go(fifo)
        assert client.read().body == b"whole\n"
        assert select.select([ending], [], [], DEADLINE)[0]
        os.close(ending)
        os.kill(wrapper, signal.SIGCONT)
    ended = service.entry("ended", pid=wrapper, after=mark)
    assert (ended.cause, ended.reason) == ("reload", "")
    assert "is lost" not in ended.rest
    assert service.stop() == 0


@pytest.mark.parametrize("together", [False, True])
def test_a_stop_of_the_service_waits_for_them_too(unit: Unit, tmp_path: Path, together: bool) -> None:
    """systemd signals every process of the unit, and the master as well: twice is harmless.

    A master that was not running meanwhile hears of its signal and of the wrapper's end `together`.
    """
    fifo = hold(tmp_path)
    unit.write(app={"command": wrapped("sh", tmp_path)}, workers={"count": 1})
    service = unit.serve().ready()
    with unit.client() as client:
        client.ask(f"/wait?on={fifo}")
        server = server_of(service)
        (wrapper,) = service.serving().values()
        # The main process first, as systemd does it: else the wrapper's end may be the first that the master hears of.
        with service.stopped() if together else contextlib.nullcontext():
            for pid in (service.pid, server, wrapper):
                os.kill(pid, signal.SIGTERM)
            if together:
                wait_gone(wrapper)
        service.hear("^STOPPING=1")
        service.pass_by()
        assert service.running
        assert not service.entries("ended")
        let_go(fifo)
        assert client.read().body == b"whole\n"
    assert service.exit_code() == 0
    assert [entry.cause for entry in service.entries("ended")] == ["stop"]


def test_the_stop_signal_of_the_file_goes_to_all_of_them(unit: Unit, tmp_path: Path) -> None:
    fifo = hold(tmp_path)
    unit.write(
        app={"command": wrapped("sh", tmp_path, "SIGUSR2")},
        workers={"count": 1},
        stop={"signal": "SIGUSR2"},
    )
    service = unit.serve().ready()
    with unit.client() as client:
        client.ask(f"/wait?on={fifo}")
        server = server_of(service)
        mark = service.mark
        service.send(signal.SIGHUP)
        service.expect(f"^told to stop {server}$", after=mark)
        let_go(fifo)
        assert client.read().body == b"whole\n"
    ended = service.entry("ended", after=mark)
    assert (ended.cause, ended.reason) == ("reload", "")
    assert service.stop() == 0


def test_what_does_not_go_within_grace_is_killed(unit: Unit, tmp_path: Path) -> None:
    """The wrapper's own end is none: the entry says that grace is over."""
    app = {"command": wrapped("session", tmp_path), "environment": {"WRAPPED_DEAF": "1"}}
    unit.write(app=app, workers={"count": 1}, stop={"grace": "5s"})
    service = unit.serve().ready()
    with unit.client() as client:
        client.ask(f"/wait?on={hold(tmp_path)}")
        server = server_of(service)
        (wrapper,) = service.serving().values()
        service.send(signal.SIGHUP)
        service.expect(f"^told to stop {server}$")
        ended = service.entry("ended", pid=wrapper)
    assert (ended.cause, ended.reason) == ("grace-expired", "reload")
    wait_gone(server)
    assert service.stop() == 0


def test_the_pings_of_what_drains_are_heard_after_the_wrappers_end(unit: Unit, tmp_path: Path) -> None:
    """Nobody is its parent any more but the master."""
    fifo = hold(tmp_path)
    app = {"command": wrapped("sh", tmp_path), "environment": {"WRAPPED_PING": "0.5"}}
    unit.write(app=app, workers={"count": 1, "watchdog": "4s"})
    service = unit.serve().ready()
    with unit.client() as client:
        client.ask(f"/wait?on={fifo}")
        server = server_of(service)
        service.send(signal.SIGHUP)
        told = service.expect(f"^told to stop {server}$")
        # Five seconds each: twice its watchdog, and more.
        for _ in range(2):
            told = service.expect(rf"^pinged \d+ times {server}$", after=told.place + 1)
        assert service.entries("aborted") == []
        let_go(fifo)
        assert client.read().body == b"whole\n"
    assert service.entry("ended").cause == "reload"
    assert service.stop() == 0


def test_a_wrapper_that_is_killed_is_replaced_at_once_and_what_it_leaves_may_finish(
    unit: Unit, tmp_path: Path
) -> None:
    fifo = hold(tmp_path)
    unit.write(app={"command": wrapped("sh", tmp_path)}, workers={"count": 1})
    service = unit.serve().ready()
    with unit.client() as client:
        client.ask(f"/wait?on={fifo}")
        server = server_of(service)
        (wrapper,) = service.serving().values()
        os.kill(wrapper, signal.SIGKILL)
        assert service.entry("ended", pid=wrapper).cause == "crash-signal"
        service.expect(f"^told to stop {server}$")
        service.entry("ready", slot=0, count=2)
        let_go(fifo)
        assert client.read().body == b"whole\n"
    wait_gone(server)
    assert service.stop() == 0


def test_what_it_leaves_and_does_not_finish_is_killed_after_grace(unit: Unit, tmp_path: Path) -> None:
    app = {"command": wrapped("sh", tmp_path), "environment": {"WRAPPED_DEAF": "1"}}
    unit.write(app=app, workers={"count": 1}, stop={"grace": "5s"})
    service = unit.serve().ready()
    with unit.client() as client:
        client.ask(f"/wait?on={hold(tmp_path)}")
        server = server_of(service)
        (wrapper,) = service.serving().values()
        os.kill(wrapper, signal.SIGKILL)
        service.expect(f"^told to stop {server}$")
        wait_gone(server)
    assert service.stop() == 0


HELPING = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    helper = await asyncio.create_subprocess_exec("sh", "-c", "echo helps; read x <$1", "sh", FIFO)
    status = await helper.wait()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % status})
"""


@pytest.mark.parametrize("preload", [True, False])
def test_the_helpers_of_an_apps_requests_are_told_nothing(unit: Unit, tmp_path: Path, preload: bool) -> None:
    """They are needed for the answer; only a command is stopped in all of its processes."""
    fifo = hold(tmp_path)
    (tmp_path / "helping.py").write_text(HELPING.replace("FIFO", repr(str(fifo))))
    app = {"run": "helping:app", "directory": str(tmp_path), "preload": preload}
    unit.write(app=app, workers={"count": 1})
    service = unit.serve().ready()
    with unit.client() as client:
        client.ask("/")
        service.expect("^helps$")
        service.send(signal.SIGHUP)
        service.expect("Reloaded: 1 worker", source="output")
        let_go(fifo)
        assert client.read().body == b"0"
    assert service.entry("ended").cause == "reload"
    assert service.stop() == 0


def test_a_command_that_goes_into_the_background_is_told_of(unit: Unit) -> None:
    """It exits with status 0, its successor finds the port taken, and nothing said why."""
    command = ["/bin/sh", "-c", "sleep 1000 & exit 0"]
    unit.write(app={"command": command, "ready": "exec"}, workers={"count": 1}, stop={"grace": "30s"})
    service = unit.serve()
    said = service.expect(
        r"Worker 0\.1 \(pid \d+\) has ended and left 1 of its processes \(\d+\): they are sent SIGTERM, and killed"
    )
    assert "A command has to stay in the foreground" in said.text
    wait_gone(int(said.text.partition("processes (")[2].partition(")")[0]))
    service.stop()
