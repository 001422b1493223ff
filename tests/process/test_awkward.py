"""What apps do that a server does not expect: it works, or one line says what and why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import interpreters
from tests.support.harness import Unit
from tests.support.http import Client
from tests.support.interpreters import DEBIAN
from tests.support.workers import APPS, Stage

pytest_plugins = ["tests.support.stacks", "tests.support.units"]


@pytest.mark.parametrize(
    ("which", "says"),
    [
        (
            "startup",
            "the app raised ConnectionError: no database at lifespan.startup: the worker serves without a lifespan",
        ),
        (
            "path",
            "the app raised KeyError: 'path' at the lifespan scope: the worker serves without a lifespan",
        ),
        ("later", "the app raised LookupError: lost in its lifespan, after its start-up"),
        ("shutdown", "the app raised OSError: cannot flush at lifespan.shutdown"),
        ("declines", ""),
    ],
)
def test_an_app_that_raises_in_its_lifespan(here: Stage, which: str, says: str) -> None:
    worker = here.start(DEBIAN, "awkward:app", environment={"AWKWARD": which}).ready()
    with Client(here.target) as client:
        assert client.get().body == b"ok %d" % worker.pid
    worker.stop()
    assert worker.wait() == 0
    lines = [line for line in worker.output.splitlines() if line.startswith("memunit worker:")]
    assert len(lines) == bool(says), worker.output
    assert says in worker.output
    assert ("Traceback" in worker.output) == (which not in ("path", "declines"))


@pytest.mark.parametrize(
    ("which", "mode", "status", "says"),
    [
        ("startup", "on", 70, "STATUS=the app's start-up failed: ConnectionError: no database"),
        ("path", "on", 70, "STATUS=the app's start-up failed: KeyError: 'path'"),
        ("exit", "auto", 70, "STATUS=the app's start-up failed: SystemExit: no licence"),
    ],
)
def test_a_start_up_that_has_to_succeed(here: Stage, which: str, mode: str, status: int, says: str) -> None:
    environment = {"AWKWARD": which, "UVICORN_LIFESPAN": mode}
    worker = here.start(DEBIAN, "awkward:app", environment=environment)
    assert here.hear(worker.pid, "STATUS=the app's") == says
    assert worker.wait() == status
    assert "READY=1" not in here.said(worker.pid)


def test_a_start_up_that_takes_its_time_is_named(here: Stage, tmp_path: Path) -> None:
    """So that the entry of a start timeout says what the worker has waited for."""
    hold = tmp_path / "hold"
    os.mkfifo(hold)
    worker = here.start(DEBIAN, "awkward:app", environment={"AWKWARD": "long-startup", "HOLD": str(hold)})
    assert here.hear(worker.pid, "STATUS=") == "STATUS=waiting for the app's lifespan.startup"
    assert "READY=1" not in here.said(worker.pid)
    hold.open("w").close()
    worker.ready()
    assert here.hear(worker.pid, "STATUS=") == "STATUS=serving"
    worker.stop()
    assert worker.wait() == 0


def test_the_entry_of_a_start_timeout_says_what_the_worker_waited_for(unit: Unit, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    os.mkfifo(hold)
    unit.write(
        app={"run": "awkward:app", "environment": {"AWKWARD": "long-startup", "HOLD": str(hold)}},
        workers={"count": 1, "start_timeout": "4s"},
    )
    service = unit.serve()
    entry = service.entry("ended")
    assert entry.cause == "start-timeout"
    assert "waiting for the app's lifespan.startup" in entry.rest
    service.stop()


@pytest.mark.parametrize(
    ("server", "path", "says"),
    [
        ("wsgi", "/thread", "thread shop-consumer (in _hang, "),
        ("asgi", "/executor", " (in _hang, "),
    ],
)
def test_a_thread_that_does_not_end(here: Stage, server: str, path: str, says: str) -> None:
    """The worker names it, and ends by itself before its grace does."""
    target = "awkward:wsgi" if server == "wsgi" else "awkward:app"
    environment = {"MEMUNIT_GRACE_USEC": "1500000"}
    worker = here.start(DEBIAN, target, server=server, environment=environment).ready()
    with Client(here.target) as client:
        assert client.get(path).body == b"ok %d" % worker.pid
    worker.stop()
    if server == "wsgi":
        assert here.hear(worker.pid, "STATUS=waiting for ").startswith(f"STATUS=waiting for {says}")
    assert worker.wait() == 0
    assert "its requests are finished, and it ends without " in worker.output
    assert says in worker.output


@pytest.mark.parametrize(
    ("which", "path", "says"),
    [
        ("endless-shutdown", "/", "the app's lifespan.shutdown"),
        ("blocked-shutdown", "/", "the app's lifespan.shutdown"),
        ("blocked-handler", "/", "the app's own handler of SIGTERM"),
        ("", "/stubborn", "task Task-"),
    ],
)
def test_what_does_not_end_after_the_drain(here: Stage, which: str, path: str, says: str) -> None:
    """The app's shutdown, its handler, a task that takes no cancellation: each is named, and needs no SIGKILL."""
    environment = {"AWKWARD": which, "MEMUNIT_GRACE_USEC": "1800000"}
    worker = here.start(DEBIAN, "awkward:app", environment=environment).ready()
    with Client(here.target) as client:
        assert client.get(path).body == b"ok %d" % worker.pid
    worker.stop()
    assert here.hear(worker.pid, "STATUS=waiting for ").startswith(f"STATUS=waiting for {says}")
    assert worker.wait() == 0
    assert f"its requests are finished, and it ends without {says}" in worker.output
    if which == "endless-shutdown":
        here.hear(worker.pid, "STATUS=flushed")
    if path == "/stubborn":
        assert " (in _stubborn, " in worker.output


def test_threads_that_end_are_waited_for(here: Stage) -> None:
    """A timer at work, and an executor whose threads Python ends itself: no word, and nothing is cut off."""
    worker = here.start(
        DEBIAN, "awkward:wsgi", server="wsgi", environment={"MEMUNIT_GRACE_USEC": "30000000"}
    ).ready()
    with Client(here.target) as client:
        client.get("/pool")
        client.get("/ends")
    worker.stop()
    assert worker.wait() == 0
    here.hear(worker.pid, "STATUS=the work is done")
    assert worker.output == ""


def test_a_thread_of_an_import_without_an_app(here: Stage) -> None:
    """No stop was asked for: the end has a bound all the same."""
    environment = {"AWKWARD": "import-thread", "MEMUNIT_GRACE_USEC": "1000000"}
    worker = here.start(DEBIAN, "awkward:nothing", environment=environment)
    assert worker.wait() == 78
    assert "it ends without thread shop-consumer" in worker.output


_GEVENT = """
from gevent import monkey; monkey.patch_all()
import os
from gevent.pywsgi import WSGIServer

def app(environ, start_response):
    start_response("200 OK", [("Connection", "close")])
    return [b"ok %d" % os.getpid()]

def serve(sockets, stopping):
    server = WSGIServer(sockets[0], app, log=None)
    server.start()
    stopping.wait()
    server.stop()
"""


def test_gevent(here: Stage, tmp_path: Path) -> None:
    """Its patch and its server work as a callable; as a WSGI app one line says what to do."""
    python = interpreters.frameworks()
    if python is None:
        pytest.skip("the frameworks cannot be installed here")
    (tmp_path / "green.py").write_text(_GEVENT)
    worker = here.start(python, "green:serve", server="callable", directory=tmp_path).ready()
    with Client(here.target) as client:
        assert client.get().body == b"ok %d" % worker.pid
    worker.stop()
    assert worker.wait() == 0
    assert worker.output == ""
    refused = here.start(python, "green:app", server="wsgi", directory=tmp_path)
    assert refused.wait() == 78
    assert len(refused.output.splitlines()) == 1
    assert "gevent has replaced threading, socket, select" in refused.output
    assert 'server = "callable"' in refused.output


def test_run_without_standard_input(unit: Unit, tmp_path: Path) -> None:
    """The program's own socket got the free number 0, and serves all the same."""
    program = (
        "import os, socket, sys\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "print('port', listener.getsockname()[1], listener.fileno(), flush=True)\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import memunit\n"
        "from asked import run\n"
        "sys.exit(memunit.run(None, run, workers=1, sockets=[listener]))\n"
    )
    service = unit.start("/bin/sh", "-c", 'exec 0<&-; exec "$@"', "sh", str(DEBIAN), "-c", program, str(APPS))
    port, number = service.expect(r"^port ").text.split()[1:]
    assert number == "0"
    service.ready()
    with Client(f"127.0.0.1:{port}") as client:
        assert client.get().status == 200
    assert service.stop() == 0
