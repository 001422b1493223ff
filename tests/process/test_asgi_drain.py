"""The stop of an ASGI worker: nothing that has reached it is refused, reset or cut off."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.support import interpreters
from tests.support.harness import let_go
from tests.support.http import Client
from tests.support.interpreters import DEBIAN
from tests.support.workers import LoadProcess, Stage, stage

pytest_plugins = ["tests.support.stacks"]

Stack = tuple[Path, dict[str, str]]


def _accepted(here: Stage) -> None:
    """Connections are accepted in order: an answered one proves that those before it have been accepted."""
    with Client(here.target) as client:
        assert client.get().status == 200


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_replacements_under_load_lose_nothing(stack: Stack, tmp_path: Path, unix: bool) -> None:
    """Two workers, replaced one by one: new connections, busy and slow keep-alive connections, 0 lost, 0
    reopened.

    A kept-alive connection never ends without `Connection: close` here, because no client is idle for long.
    """
    python, environment = stack
    stops = 6
    with stage(tmp_path, unix=unix) as here:
        serving = [here.start(python, "plain:app", environment=environment).ready() for _ in range(2)]
        loads = [
            LoadProcess(tmp_path, here.target, "--clients", "4", "--rate", "400"),
            LoadProcess(tmp_path, here.target, "--clients", "4", "--rate", "400", "--keep-alive"),
            LoadProcess(tmp_path, here.target, "--clients", "4", "--keep-alive", "--path", "/slow?s=0.05"),
        ]
        for load in loads:
            load.answered()
        for _ in range(stops):
            serving.append(here.start(python, "plain:app", environment=environment).ready())
            old = serving.pop(0)
            old.stop()
            assert old.wait() == 0
            assert old.output == ""
        reports = [load.finish() for load in loads]
        for report in reports:
            assert (report["lost"], report["reopened"], report["examples"]) == (0, 0, [])
            assert report["ok"] == report["sent"] > 50
        assert reports[1]["told"] >= stops - 1
        assert len(reports[0]["pids"]) >= stops


def test_accepted_and_silent_connection_is_answered(stack: Stack, here: Stage) -> None:
    """Accepted before the stop, its request is sent only after it."""
    python, environment = stack
    environment = {**environment, "UVICORN_TIMEOUT_KEEP_ALIVE": "600"}
    worker = here.start(python, "plain:app", environment=environment).ready()
    with Client(here.target) as client:
        _accepted(here)
        worker.stop()
        response = client.get()
        assert response.body == b"ok %d" % worker.pid
        assert response.closes
        assert client.at_end()
    assert worker.wait() == 0


def test_request_and_stop_at_the_same_moment(stack: Stack, here: Stage) -> None:
    """Bytes lie in the kernel when the stop comes: on accepted, kept, and not yet accepted connections."""
    python, environment = stack
    # The successor's start takes as long as the machine likes, and no connection is idle for too long meanwhile.
    environment = {**environment, "UVICORN_TIMEOUT_KEEP_ALIVE": "600"}
    old = here.start(python, "plain:app", environment=environment).ready()
    with Client(here.target) as silent, Client(here.target) as kept:
        kept.get()
        _accepted(here)
        old.signal(signal.SIGSTOP)
        crowd = [Client(here.target) for _ in range(10)]
        for client in (silent, kept, *crowd):
            client.ask()
        old.signal(signal.SIGTERM)
        old.signal(signal.SIGCONT)
        here.hear(old.pid, "STOPPING=1")
        successor = here.start(python, "plain:app", environment=environment).ready()
        for client in (silent, kept):
            response = client.read()
            assert response.body == b"ok %d" % old.pid
            # Read before the signal was: then the next answer is the last.
            assert response.closes or client.get().closes
            assert client.at_end()
        for client in crowd:
            with client:
                assert client.read().body in (b"ok %d" % old.pid, b"ok %d" % successor.pid)
    assert old.wait() == 0


def test_request_that_arrives_in_pieces(stack: Stack, here: Stage) -> None:
    """Half a request before the stop, the other half after it."""
    python, environment = stack
    worker = here.start(python, "plain:app", environment=environment).ready()
    with Client(here.target) as client:
        client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Le")
        _accepted(here)
        worker.stop()
        client.send("ngth: 10\r\n\r\nhello")
        client.send("world")
        response = client.read()
        assert response.body == b"helloworld"
        assert client.at_end()
    assert worker.wait() == 0


def test_request_in_work_is_finished(stack: Stack, here: Stage, fifo: Path) -> None:
    """A second SIGTERM, and a SIGINT, change nothing."""
    python, environment = stack
    worker = here.start(python, "plain:app", environment=environment).ready()
    with Client(here.target) as client:
        client.ask(f"/held?on={fifo}")
        here.hear(worker.pid, "STATUS=held")
        worker.stop()
        worker.signal(signal.SIGTERM)
        worker.signal(signal.SIGINT)
        let_go(fifo)
        response = client.read()
        assert response.body == b"ok %d" % worker.pid
        assert response.closes
    assert worker.wait() == 0


def test_sigint_drains_too(here: Stage, fifo: Path) -> None:
    worker = here.start(DEBIAN, "plain:app").ready()
    with Client(here.target) as client:
        client.ask(f"/held?on={fifo}")
        here.hear(worker.pid, "STATUS=held")
        worker.signal(signal.SIGINT)
        here.hear(worker.pid, "STOPPING=1")
        let_go(fifo)
        assert client.read().closes
    assert worker.wait() == 0


def test_stream_goes_on(stack: Stack, here: Stage) -> None:
    python, environment = stack
    environment = {**environment, "UVICORN_TIMEOUT_KEEP_ALIVE": "1"}
    worker = here.start(python, "plain:app", environment=environment).ready()
    with Client(here.target) as client:
        client.ask("/stream?n=30&s=0.01")
        assert client.socket.recv(1, 2) == b"H"  # MSG_PEEK: the answer has begun
        worker.stop()
        assert client.read().body == b"".join(b"%d\n" % number for number in range(30)) + b"ok"
        assert client.at_end()
    assert worker.wait() == 0


def test_pipelined_requests_are_all_answered(stack: Stack, here: Stage, fifo: Path) -> None:
    """Only the last answer says that it is the last."""
    python, environment = stack
    worker = here.start(python, "plain:app", environment=environment).ready()
    with Client(here.target) as client:
        paths = (f"/held?on={fifo}", "/a", "/b")
        client.send("".join(f"GET {path} HTTP/1.1\r\nHost: t\r\n\r\n" for path in paths))
        here.hear(worker.pid, "STATUS=held")
        worker.stop()
        let_go(fifo)
        assert [client.read().closes for _ in range(3)] == [False, False, True]
        assert client.at_end()
    assert worker.wait() == 0


def test_answer_without_reading_the_upload_is_not_reset(stack: Stack, here: Stage) -> None:
    """A large body left unread by the app: the connection is not closed over it, and the answer arrives."""
    python, environment = stack
    environment = {**environment, "UVICORN_TIMEOUT_KEEP_ALIVE": "6"}
    worker = here.start(python, "plain:app", environment=environment).ready()
    size = 2_000_000
    with Client(here.target) as client:
        _accepted(here)
        worker.stop()
        client.send(f"POST /unread HTTP/1.1\r\nHost: test\r\nContent-Length: {size}\r\n\r\n")
        client.send(bytes(size))
        assert client.read().body == b"ok unread"
        assert client.at_end()
    assert worker.wait() == 0


def test_idle_connection_has_its_keep_alive_time(stack: Stack, here: Stage) -> None:
    """Idle ones are closed by their time-out, and not reset."""
    python, environment = stack
    environment = {**environment, "UVICORN_TIMEOUT_KEEP_ALIVE": "1"}
    worker = here.start(python, "plain:app", environment=environment).ready()
    with Client(here.target) as idle, Client(here.target) as silent:
        _accepted(here)
        asked = time.monotonic()
        idle.get()
        worker.stop()
        assert idle.at_end()
        assert silent.at_end()
        assert time.monotonic() - asked > 0.9
    assert worker.wait() == 0


def test_an_idle_connection_that_wakes_up_is_answered(stack: Stack, here: Stage) -> None:
    python, environment = stack
    environment = {**environment, "UVICORN_TIMEOUT_KEEP_ALIVE": "600"}
    worker = here.start(python, "plain:app", environment=environment).ready()
    with Client(here.target) as waking:
        waking.get()
        worker.stop()
        assert waking.get().closes
        assert waking.at_end()
    assert worker.wait() == 0


def test_draining_worker_takes_nothing_new(stack: Stack, here: Stage, fifo: Path) -> None:
    """What comes after the stop waits in the socket for the next worker."""
    python, environment = stack
    old = here.start(python, "plain:app", environment=environment).ready()
    with Client(here.target) as busy:
        busy.ask(f"/held?on={fifo}")
        here.hear(old.pid, "STATUS=held")
        old.stop()
        with Client(here.target) as waiting:
            waiting.ask()
            let_go(fifo)
            assert busy.read().body == b"ok %d" % old.pid
            assert old.wait() == 0
            new = here.start(python, "plain:app", environment=environment).ready()
            assert waiting.read().body == b"ok %d" % new.pid


def test_draining_worker_sleeps(here: Stage) -> None:
    """A socket that it has let go of, and on which connections wait, costs it nothing."""
    worker = here.start(DEBIAN, "plain:app").ready()
    with Client(here.target) as busy:
        busy.ask("/told?s=1")
        here.hear(worker.pid, "STATUS=slow")
        worker.stop()
        with Client(here.target) as waiting:
            waiting.ask()
            before = _cpu_seconds(worker.pid)
            busy.read()
            spent = _cpu_seconds(worker.pid) - before
    assert spent < 0.3  # of a second of waiting: a loop that spins takes all of it


_LIBRARIES = ["debian-wsproto", "newest-wsproto", "newest-websockets-sansio", "newest-auto"]


@pytest.mark.parametrize("library", _LIBRARIES)
@pytest.mark.parametrize("path", ["/chat", "/deaf"])
def test_websockets_are_told_to_go(here: Stage, library: str, path: str) -> None:
    """1001, to the client and to the app; an app that only sends is ended too, and without a traceback."""
    where, _, name = library.partition("-")
    python = DEBIAN if where == "debian" else interpreters.newest()
    if python is None or not interpreters.can_import(python, "wsproto"):
        pytest.skip(f"no {library} here")
    worker = here.start(python, "waiting:app", environment={"UVICORN_WS": name}).ready()
    with Client(here.target) as client:
        assert client.upgrade(path).status == 101
        if path == "/chat":
            client.send_frame(1, b"hello")
            assert client.read_frame() == (1, b"ok hello")
        worker.stop()
        opcode, payload = client.read_frame()
        while opcode == 1:
            opcode, payload = client.read_frame()
        assert (opcode, payload[:2]) == (8, (1001).to_bytes(2, "big"))
        client.send_frame(8, payload[:2])
    assert worker.wait() == 0
    if path == "/chat":
        here.hear(worker.pid, "STATUS=websocket closed with 1001")
    assert worker.output == ""


@pytest.mark.parametrize("library", _LIBRARIES)
def test_a_websocket_ends_with_its_closing_handshake(here: Stage, library: str) -> None:
    """And not when the patience with clients that do not answer is over: that is ten minutes here."""
    where, _, name = library.partition("-")
    python = DEBIAN if where == "debian" else interpreters.newest()
    if python is None or not interpreters.can_import(python, "wsproto"):
        pytest.skip(f"no {library} here")
    worker = here.start(python, "waiting:app", environment={"UVICORN_WS": name}).ready()
    with Client(here.target) as client:
        assert client.upgrade("/chat").status == 101
        worker.stop()
        opcode, payload = client.read_frame()
        client.send_frame(opcode, payload[:2])
        assert client.at_end()
    assert worker.wait() == 0


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
