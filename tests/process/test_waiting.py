"""A worker that does not come to its end says what it waits for (FIELD C13)."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.harness import Unit, let_go
from tests.support.wait import DEADLINE

pytest_plugins = ["tests.support.units"]

CALLABLE = {"run": "asked:run", "server": "callable"}
# Its own orderly end comes later than that it is asked.
THREADED = """
from memunit.worker import grace

grace._SHARE = 0.01

def app(environ, start_response):
    print("waits", flush=True)
    with open(HOLD) as hold:
        text = hold.read().encode()
    start_response("200 OK", [("Content-Length", str(len(text)))])
    return [text]
"""


@pytest.mark.parametrize("preload", [True, False])
def test_its_stacks_are_in_the_journal_before_it_is_killed(unit: Unit, tmp_path: Path, preload: bool) -> None:
    hold = tmp_path / "hold"
    os.mkfifo(hold)
    unit.write(app={**CALLABLE, "preload": preload}, workers={"count": 1}, stop={"grace": "12s"})
    service = unit.serve().ready()
    (pid,) = service.serving().values()
    with unit.client() as client:
        client.ask(f"/wait?on={hold}")
        service.expect("^waiting ")
        mark = service.mark
        service.send(signal.SIGHUP)
        asked = service.expect(
            rf"Worker 0\.1 \(pid {pid}\) has [\d.]+ s of its grace left.*; its stacks follow$", after=mark
        )
        stacks = service.expect(r'asked\.py", line \d+ in ', after=asked.place)
        killed = service.entry("killed", pid=pid)
        assert stacks.place < killed.place
        ended = service.entry("ended", pid=pid)
    assert (ended.cause, ended.reason) == ("grace-expired", "reload")
    assert "killed by SIGKILL" in ended.rest
    assert service.stop() == 0


def test_who_is_asked_may_still_make_it(unit: Unit, tmp_path: Path) -> None:
    """In another thread of a WSGI worker; the signal ends nobody."""
    hold = tmp_path / "hold"
    os.mkfifo(hold)
    (tmp_path / "threaded.py").write_text(THREADED.replace("HOLD", repr(str(hold))))
    app = {"run": "threaded:app", "server": "wsgi", "directory": str(tmp_path)}
    unit.write(app=app, workers={"count": 1}, stop={"grace": "12s"})
    service = unit.serve().ready()
    (pid,) = service.serving().values()
    with unit.client() as client:
        client.ask("/")
        service.expect("^waits$")
        service.send(signal.SIGHUP)
        asked = service.expect("of its grace left.*; its stacks follow$")
        service.expect(r'threaded\.py", line \d+ in app', after=asked.place)
        let_go(hold)
        assert client.read().body == b"go\n"
    assert service.entry("ended", pid=pid).cause == "reload"
    assert service.stop() == 0


@pytest.mark.parametrize("ready", ["notify", "exec"])
def test_the_last_status_of_a_command_is_quoted(unit: Unit, tmp_path: Path, ready: str) -> None:
    fifo = tmp_path / "nobody"
    os.mkfifo(fifo)
    trap = "trap 'systemd-notify --status=\"counting sheep\"' TERM"
    # Opened for writing too, a FIFO has no end: it waits without a process that the signal would end.
    script = f"{trap}; systemd-notify --ready; while :; do read -r x <>{fifo}; done"
    unit.write(
        app={"command": ["bash", "-c", script], "ready": ready}, workers={"count": 1}, stop={"grace": "10s"}
    )
    service = unit.serve().ready()
    (pid,) = service.serving().values()
    service.send(signal.SIGHUP)
    ended = service.entry("ended", pid=pid)
    assert (ended.cause, ended.reason) == ("grace-expired", "reload")
    assert ended.rest.endswith(", last status: counting sheep")
    assert service.find("its stacks follow", source="output") is None
    assert service.stop() == 0


SLOW = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "http":
        print("waits for " + scope["path"], flush=True)
        with open(HOLD) as hold:
            text = (await asyncio.get_running_loop().run_in_executor(None, hold.read)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
        await send({"type": "http.response.body", "body": text})
"""


def test_a_drain_says_which_requests_it_waits_for(unit: Unit, tmp_path: Path) -> None:
    """Renewed each second; the account that SIGUSR1 asks for shows it before there is an end."""
    hold = tmp_path / "hold"
    os.mkfifo(hold)
    writer = os.open(hold, os.O_RDWR)
    (tmp_path / "slow.py").write_text(SLOW.replace("HOLD", repr(str(hold))))
    unit.write(app={"run": "slow:app", "directory": str(tmp_path)}, workers={"count": 1})
    service = unit.serve().ready()
    with unit.client() as client:
        client.ask("/report?secret=1")
        service.expect("^waits for /report$")
        service.send(signal.SIGHUP)
        service.expect("Reloaded: 1 worker", source="output")
        mark = service.mark
        wanted = r"status: finishing 1 request, the oldest GET /report for \d+ s; 1 connection, \d tasks?, \d threads?"
        said, until = None, time.monotonic() + DEADLINE
        while said is None and time.monotonic() < until:
            # Asked again until the STATUS= that the worker has sent is there: of its arrival nothing tells.
            service.pass_by()
            said = service.find(wanted, source="output", after=mark)
        assert said is not None
        assert "secret" not in said.text
        os.write(writer, b"go\n")
        os.close(writer)
        assert client.read().body == b"go\n"
    assert service.entry("ended").cause == "reload"
    assert service.stop() == 0
