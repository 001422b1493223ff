"""Node programs as workers: what listen() takes, what a stop looks like to clients, and what is said of accidents.

MEMUNIT_NODES=18,20,22,24 runs all with each of these versions, and not with the system's alone.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memunit.cli.start import WORKER
from memunit.master.child import Launch
from memunit.master.held import Child
from memunit.master.notify import Datagram, NotifyListener
from memunit.master.sockets import addresses
from memunit.master.spawn import launch
from tests.support import nodes
from tests.support.harness import Service, Unit, let_go
from tests.support.http import Client
from tests.support.wait import DEADLINE, wait_end, wait_readable
from tests.support.workers import APPS

pytest_plugins = ["tests.support.units"]

PRELOAD = WORKER / "node" / "preload.cjs"
VERSIONS = nodes.chosen()


@pytest.fixture(params=VERSIONS)
def node(request: pytest.FixtureRequest) -> Path:
    found = nodes.named(request.param)
    if found is None:
        pytest.skip(f"no Node {request.param}")
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The apps, with what npm gives beside them."""
    made = tmp_path / "apps"
    shutil.copytree(APPS / "node", made)
    modules = nodes.modules()
    if modules is None:
        pytest.skip("npm's packages can't be installed here")
    (made / "node_modules").symlink_to(modules)
    return made


class App:
    """An instance of a Node program."""

    def __init__(self, unit: Unit, node: Path, folder: Path) -> None:
        self.unit, self._node, self._folder = unit, node, folder

    def write(self, run: str, *, count: int = 1, stop: Any = None, **environment: str) -> None:
        app = {"run": run, "server": "node", "node": str(self._node), "directory": str(self._folder)}
        app["environment"] = environment  # type: ignore[assignment]
        self.unit.write(app=app, workers={"count": count, "watchdog": "60s"}, stop=stop or {"grace": "120s"})

    def start(self, run: str, **more: Any) -> Service:
        self.write(run, **more)
        return self.unit.serve().ready()


@pytest.fixture
def app(unit: Unit, node: Path, folder: Path) -> App:
    return App(unit, node, folder)


@pytest.fixture
def hold(tmp_path: Path) -> Path:
    """The FIFO for whose writer /held of asked.js waits."""
    fifo = tmp_path / "hold"
    os.mkfifo(fifo)
    return fifo


def only(service: Service) -> int:
    (pid,) = service.serving().values()
    return pid


# -- what listen() takes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "listen",
    [
        [],
        [3000],
        ["3000", "0.0.0.0"],
        [3000, "127.0.0.1", 5],
        [{"port": 3000, "exclusive": True}],
        ["/tmp/memunit.sock"],
        [{"path": "/x/y"}],
        [{"fd": 3}],
    ],
    ids=json.dumps,
)
def test_one_socket_is_taken_whatever_the_address(app: App, listen: list[Any]) -> None:
    service = app.start("asked.js", LISTEN=json.dumps(listen))
    port = app.unit.listener.getsockname()[1]
    said = service.expect(r"^listening on .*\"port\":", source="output").text
    assert f'"port":{port}' in said
    assert app.unit.get() == f"ok {only(service)}"
    assert service.stop() == 0
    assert "exited with status 0" in service.entries("ended")[0].rest


def test_a_unix_socket_has_its_address(app: App, tmp_path: Path) -> None:
    """Frameworks read it: Fastify would fail at null."""
    path = str(tmp_path / "app.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        app.write("asked.js")
        service = app.unit.serve(sockets=[("memunit@app.socket", listener)]).ready()
        service.expect(rf'^listening on "{path}"')
        with Client(path) as client:
            assert client.get().body == b"ok %d" % only(service)
        assert service.stop() == 0
        app.write("fastify.mjs")
        service = app.unit.serve(sockets=[("memunit@app.socket", listener)]).ready()
        with Client(path) as client:
            assert client.get().body == b'{"hello":"world"}'
        assert service.stop() == 0
    assert os.path.exists(path)  # noqa: PTH110


@pytest.fixture
def three(tmp_path: Path) -> Iterator[list[tuple[str, socket.socket]]]:
    """A port, a path, and a port that is named."""
    found = [("web", socket.create_server(("127.0.0.1", 0))), ("path", socket.socket(socket.AF_UNIX))]
    found[1][1].bind(str(tmp_path / "x.sock"))
    found[1][1].listen()
    found.append(("9100", socket.create_server(("127.0.0.1", 0))))
    yield found
    for _, each in found:
        each.close()


def test_several_are_taken_by_port_by_path_and_by_name(
    app: App, three: list[tuple[str, socket.socket]], tmp_path: Path
) -> None:
    """READY=1 comes when all are served."""
    web = three[0][1].getsockname()[1]
    both = [three[0], three[2]]
    app.write("asked.js", LISTEN=f"[{web}]", SECOND="[9100]")
    service = app.unit.serve(sockets=both).ready()
    assert _ask(both[0][1]) == b"ok %d" % only(service)
    assert _ask(both[1][1]) == b"second"
    assert service.stop() == 0
    both = [three[1], three[2]]
    app.write("asked.js", LISTEN='["9100"]', SECOND=json.dumps([str(tmp_path / "x.sock")]))
    service = app.unit.serve(sockets=both).ready()
    assert _ask(both[0][1]) == b"second"
    assert _ask(both[1][1]) == b"ok %d" % only(service)
    assert service.stop() == 0


def _both_families() -> tuple[socket.socket, socket.socket]:
    """Sockets of 127.0.0.1 and ::1 with one port, which is free in both."""
    taken = []
    try:
        while True:
            first = socket.create_server(("127.0.0.1", 0))
            try:
                second = socket.create_server(("::1", first.getsockname()[1]), family=socket.AF_INET6)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                taken.append(first)
            else:
                return first, second
    finally:
        for each in taken:
            each.close()


def test_one_server_serves_all_addresses_of_its_port(app: App, hold: Path) -> None:
    """As 127.0.0.1 and ::1, each with a socket of its own."""
    first, second = _both_families()
    port = first.getsockname()[1]
    with first, second:
        app.write("asked.js", LISTEN=f"[{port}]", CLEAN="1")
        service = app.unit.serve(sockets=[("a", first), ("b", second)]).ready()
        answers = {_ask(each) for each in (first, second)}
        assert answers == {b"ok %d" % only(service)}
        with socket.create_connection(("::1", port)) as kept:
            kept.sendall(f"GET /held?on={hold} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            assert _ask(second) == b"ok %d" % only(service)  # which came after it
            mark = service.mark
            service.send(signal.SIGTERM)
            service.expect("drain begins", after=mark)
            let_go(hold)
            answer = kept.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"\r\nConnection: close\r\n" in answer
        assert service.exit_code() == 0


def test_a_listen_that_fits_nothing_says_what_there_is(
    app: App, three: list[tuple[str, socket.socket]]
) -> None:
    app.write("asked.js", LISTEN="[4444]")
    service = app.unit.serve(sockets=[three[0], three[2]])
    port, named = (each.getsockname()[1] for each in (three[0][1], three[2][1]))
    service.expect(
        rf"no inherited socket is for 4444: there are 127\.0\.0\.1:{port} \(web\), 127\.0\.0\.1:{named} \(9100\)"
    )
    entry = service.entry("ended")
    assert "status 1" in entry.rest
    service.stop()


@pytest.mark.parametrize("second", ["[9100]", '[{"port": 9100, "host": "127.0.0.1"}]', '["3000"]'])
def test_a_second_address_needs_a_socket(app: App, second: str) -> None:
    """All workers would want to bind it, and a replacement could not while the old one has it."""
    app.write("asked.js", SECOND=second)
    service = app.unit.serve()
    service.expect(r"can't be listened on: .* is what memunit has passed, and a server has taken it already")
    assert service.entry("ended").cause in ("start-failed", "crash-exit")
    service.stop()


@pytest.mark.parametrize("second", ["[0]", '[{"port": 0, "host": "127.0.0.1"}]'])
def test_an_address_of_its_own_is_left_alone(app: App, second: str) -> None:
    """A port of the kernel's choice; and so is a path beside the one socket that has been taken."""
    service = app.start("asked.js", SECOND=second)
    port = app.unit.listener.getsockname()[1]
    said = service.expect(r"^second on ").text
    assert f'"port":{port}' not in said
    assert app.unit.get().startswith("ok ")
    assert service.stop() == 0


def test_what_does_not_listen_is_told_of(app: App, three: list[tuple[str, socket.socket]]) -> None:
    """The entry says what was waited for: one of two sockets that nobody serves would keep its clients waiting."""
    app.write("asked.js", LISTEN="[9100]")
    text = app.unit.file.read_text().replace("[workers]", '[workers]\nstart_timeout = "10s"')
    app.unit.file.write_text(text)
    service = app.unit.serve(sockets=[three[0], three[2]])
    entry = service.entry("ended")
    assert entry.cause == "start-timeout"
    port = three[0][1].getsockname()[1]
    assert f"last status: waiting until the app listens on 127.0.0.1:{port} (web)" in entry.rest
    service.stop()


def _ask(listener: socket.socket) -> bytes:
    name = listener.getsockname()
    with Client(name if isinstance(name, str) else f"{name[0]}:{name[1]}") as client:
        return client.get().body


# -- programs ------------------------------------------------------------------------------------------------


def test_the_processes_of_a_cluster_take_it_and_drain(app: App) -> None:
    """Both answer, requests under way are finished, and what the app forks for each that ends does not serve."""
    service = app.start("cluster.js")
    found: set[bytes] = set()
    until = time.monotonic() + DEADLINE
    while len(found) < 2:
        assert time.monotonic() < until, found
        # All at once: an idle process would take each that comes alone.
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(app.unit.client()) for _ in range(16)]
            for client in clients:
                client.ask()
            found |= {client.read().body for client in clients}
    primary = only(service)
    assert b"hello world %d\n" % primary not in found
    with app.unit.client() as kept:
        kept.get()
        mark = service.mark
        os.kill(primary, signal.SIGTERM)
        # In the place of the primary, which is one worker, comes another; the connection is served meanwhile.
        service.expect(rf"\(pid {primary}\) .*", after=mark)
        # The primary tells its processes, which may take a moment to hear it.
        while not (answer := kept.get()).closes:
            assert answer.status == 200
        assert answer.status == 200
        assert kept.at_end()
    assert "exited with status 0" in service.entry("ended", pid=primary).rest
    assert service.find(r"died, 0, true", after=mark)
    assert service.stop() == 0


def test_a_server_in_a_thread_is_told_that_it_can_not(app: App) -> None:
    service = app.start("thread.js")
    service.expect(r"in the thread: memunit: a server in a worker thread can't take what memunit has passed")
    assert app.unit.get() == "ok"
    assert service.stop() == 0


def test_a_forked_helper_is_none_of_memunits(app: App) -> None:
    """It has our option of the command line; it listens, and ends, as it does without."""
    service = app.start("helper.js")
    assert app.unit.get() == "helper"
    with app.unit.client() as client:
        client.ask("/kill")
        service.expect("the helper ended by SIGTERM")
    assert service.stop() == 0


def test_typescript_and_options_pass_through(app: App) -> None:
    service = app.start("typescript.ts", NODE_OPTIONS="--import tsx --max-old-space-size=200")
    assert app.unit.get() == "Hello World"
    assert service.stop() == 0


# -- a stop --------------------------------------------------------------------------------------------------


def test_a_stop_finishes_what_is_under_way(app: App, hold: Path) -> None:
    """A request in work, one that comes on a kept connection, one half sent, and one whose connection is silent yet."""
    service = app.start("asked.js", CLEAN="1", KEEP_ALIVE="600000")
    pid = only(service)
    unit = app.unit
    with unit.client() as busy, unit.client() as kept, unit.client() as half, unit.client() as silent:
        kept.get()
        busy.ask(f"/held?on={hold}")
        half.send("POST /body HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nab")
        unit.get()  # which came after them, and so they have been accepted
        mark = service.mark
        service.send(signal.SIGTERM)
        service.expect("drain begins", after=mark)
        for client, path in ((kept, "/"), (silent, "/x")):
            answer = client.get(path)
            assert (answer.status, answer.closes, answer.body) == (200, True, b"ok %d" % pid)
            assert client.at_end()
        half.send("cde")
        answer = half.read()
        assert (answer.body, answer.closes) == (b"5", True)
        let_go(hold)
        answer = busy.read()
        assert (answer.status, answer.closes) == (200, True)
    assert service.exit_code() == 0
    texts = [each.text for each in service.said[mark:]]
    assert texts.index("drain begins") < texts.index("clean begins") < texts.index("clean ended")
    assert "exited with status 0" in service.entries("ended")[0].rest


def test_pipelined_requests_at_a_stop_are_all_answered(app: App, hold: Path) -> None:
    """Only the last answer of what has come says close."""
    service = app.start("asked.js", CLEAN="1", KEEP_ALIVE="600000")
    with app.unit.client() as client, app.unit.client() as slow, app.unit.client() as last:
        client.get()
        last.get()
        slow.ask(f"/held?on={hold}")
        app.unit.get()
        mark = service.mark
        service.send(signal.SIGTERM)
        service.expect("drain begins", after=mark)
        client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n" * 3)
        answers = [client.read() for _ in range(3)]
        assert [each.status for each in answers] == [200] * 3
        assert [each.closes for each in answers] == [False, False, True]
        assert client.at_end()
        slow.ask()
        assert last.get().closes  # which came after it, and so it has been read
        let_go(hold)
        answers = [slow.read() for _ in range(2)]
        assert [each.closes for each in answers] == [False, True]
    assert service.exit_code() == 0


def test_an_idle_connection_is_kept_for_its_time(app: App) -> None:
    """And one on which nothing has come; then both end, and with them the worker, without a reset."""
    service = app.start("asked.js", CLEAN="1", KEEP_ALIVE="700")
    with app.unit.client() as kept, app.unit.client() as silent:
        kept.get()
        app.unit.get()
        mark = service.mark
        service.send(signal.SIGTERM)
        begun = service.expect("drain begins", after=mark).place
        assert kept.at_end()
        assert silent.at_end()
    ended = service.expect("clean begins", after=mark).place
    # By the worker's own clock, for who listens may be late.
    over = service.find("most of the keep-alive time is over")
    assert over is not None
    assert begun < over.place < ended
    assert service.exit_code() == 0


def test_websockets_are_closed_with_1001(app: App) -> None:
    service = app.start("asked.js", WS="1")
    with app.unit.client() as client:
        assert client.upgrade("/").status == 101
        client.send_frame(1, b"hello")
        assert client.read_frame() == (1, b"hello %d" % only(service))
        mark = service.mark
        service.send(signal.SIGTERM)
        assert client.read_frame() == (8, b"\x03\xe9")
        client.send_frame(8, b"\x03\xe9")
        assert client.read_frame() == (8, b"\x03\xe9")  # the library's own answer
        assert client.at_end()
    service.expect("websocket closed with 1001", after=mark)
    assert service.exit_code() == 0
    assert "exited with status 0" in service.entries("ended")[0].rest


def test_a_stream_that_does_not_end_is_ended_whole(app: App) -> None:
    """Its chunks are, and then there is time for the app's clean-up; all within grace."""
    service = app.start("asked.js", CLEAN="1", stop={"grace": "15s"})
    with app.unit.client() as client:
        client.ask("/stream")
        client.more()
        mark = service.mark
        service.send(signal.SIGTERM)
        assert client.read().body.endswith(b"more\n")
        assert client.at_end()
    service.expect("the stream was closed", after=mark)
    service.expect("clean ended", after=mark)
    assert service.exit_code() == 0
    entry = service.entries("ended")[0]
    assert entry.cause == "stop"
    assert "exited with status 0" in entry.rest


def test_what_never_answers_does_not_keep_clean_from_running(app: App) -> None:
    service = app.start("asked.js", CLEAN="1", stop={"grace": "15s"})
    with app.unit.client() as client:
        client.ask("/slow?s=1000")
        app.unit.get()
        mark = service.mark
        service.send(signal.SIGTERM)
        service.expect("clean ended", after=mark)
    assert service.exit_code() == 0
    assert service.entries("ended")[0].cause == "stop"


def test_the_apps_own_handler_comes_after_the_drain(app: App, hold: Path) -> None:
    """It is the usual one, which looks at the error of close(), and ends the process."""
    service = app.start("asked.js", TERM_HANDLER="1", CLEAN="1", KEEP_ALIVE="600000")
    with app.unit.client() as busy, app.unit.client() as kept:
        kept.get()
        busy.ask(f"/held?on={hold}")
        app.unit.get()
        mark = service.mark
        service.send(signal.SIGTERM)
        service.expect("drain begins", after=mark)
        assert kept.get().closes
        let_go(hold)
        assert busy.read().status == 200
    service.expect("clean ended", after=mark)
    service.expect("the app has closed: undefined", after=mark)
    assert service.exit_code() == 0
    assert "exited with status 0" in service.entries("ended")[0].rest


def test_a_framework_that_is_starting_is_stopped_without_a_crash(app: App, folder: Path, hold: Path) -> None:
    """Between its listen() and its address(); a connection that it has accepted by then is answered."""
    (folder / "late.js").write_text(
        "const server = require('http').createServer((request, response) => response.end('late'));\n"
        "process.on('memunit:drain', () => console.log('drain begins'));\n"
        "const address = () => console.log(`address ${server.address().port}`);\n"
        f"server.listen(3000, () => require('fs').readFile({json.dumps(str(hold))}, address));\n"
    )
    service = app.start("late.js")
    with app.unit.client() as client:
        client.send("GET / HTTP/1.1\r\nHost: test\r\n")
        app.unit.get()
        mark = service.mark
        service.send(signal.SIGTERM)
        service.expect("drain begins", after=mark)
        let_go(hold)
        service.expect(r"^address \d+", after=mark)
        client.send("\r\n")
        assert client.read().body == b"late"
    assert service.exit_code() == 0
    assert "exited with status 0" in service.entries("ended")[0].rest


def test_a_clean_that_fails_is_told_and_holds_nothing_up(app: App, hold: Path) -> None:
    service = app.start("asked.js", CLEAN="throw")
    with app.unit.client() as busy:
        busy.ask(f"/held?on={hold}")
        app.unit.get()
        mark = service.mark
        service.send(signal.SIGTERM)
        service.expect("Error: can not leave the queue", after=mark)
        let_go(hold)
        assert busy.read().status == 200
    service.expect("Error: can not clean", after=mark)
    assert service.exit_code() == 0
    assert "exited with status 1" in service.entries("ended")[0].rest


def test_another_protocol_ends_by_itself(app: App) -> None:
    service = app.start("echo.js")
    with app.unit.client() as client:
        client.send("hello\r\n")
        assert client._line() == "hello"
        mark = service.mark
        service.send(signal.SIGTERM)
        service.expect("drain begins", after=mark)
        client.send("still\r\n")
        assert client._line() == "still"
    assert service.exit_code() == 0
    assert "exited with status 0" in service.entries("ended")[0].rest


# -- other servers -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("certificate")
    names = {"KEY": str(folder / "key.pem"), "CERT": str(folder / "cert.pem")}
    words = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subprocess.run(
        ["openssl", "req", *words, "-subj", "/CN=localhost", "-keyout", names["KEY"], "-out", names["CERT"]],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return names


@pytest.mark.parametrize("kind", ["https", "h2"])
def test_over_tls_the_drain_is_the_same(app: App, certificate: dict[str, str], kind: str) -> None:
    """h2: an HTTP/1.1 client of a server that prefers HTTP/2."""
    service = app.start("secure.js", KIND=kind, **certificate)
    context = ssl.create_default_context(cafile=certificate["CERT"])
    context.check_hostname = False
    address = app.unit.listener.getsockname()
    with (
        context.wrap_socket(socket.create_connection(address, DEADLINE)) as kept,
        context.wrap_socket(socket.create_connection(address, DEADLINE)) as busy,
    ):
        kept.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        assert b" 200 " in kept.recv(65536)
        busy.sendall(b"GET /held HTTP/1.1\r\nHost: test\r\n\r\n")
        kept.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        assert b" 200 " in kept.recv(65536)
        mark = service.mark
        service.send(signal.SIGTERM)
        service.expect("drain begins", after=mark)
        kept.sendall(b"GET /go HTTP/1.1\r\nHost: test\r\n\r\n")
        for each in (kept, busy):
            answer = each.recv(65536)
            assert b" 200 " in answer
            assert b"\r\nConnection: close\r\n" in answer
    assert service.exit_code() == 0
    assert "exited with status 0" in service.entries("ended")[0].rest


def test_http2_clients_are_told_by_goaway_and_lose_nothing(app: App, node: Path, folder: Path) -> None:
    """The first GOAWAY refuses no stream; the connection closes when the one under way has ended."""
    service = app.start("h2c.js")
    client = subprocess.Popen(
        [node, "h2client.js", app.unit.target],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    with client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write("/first\n/slow\n/second\n")
        pid = only(service)
        assert {client.stdout.readline(), client.stdout.readline()} == {
            f"/first ok {pid}\n",
            f"/second ok {pid}\n",
        }
        service.send(signal.SIGTERM)
        assert client.stdout.readline() == "goaway 0 all\n"
        line = client.stdout.readline()
        assert line.startswith("goaway 0 ")
        assert not line.endswith("all\n")
        # Another connection of the same worker is not to be had; the stream ends by the request that came before.
        client.kill()
    service.stop()


# -- accidents -----------------------------------------------------------------------------------------------


def test_a_hang_is_noticed_by_the_watchdog(app: App) -> None:
    """Its pings come from the loop."""
    app.write("asked.js")
    text = app.unit.file.read_text().replace('"60s"\n', '"6s"\n', 1)
    app.unit.file.write_text(text)
    service = app.unit.serve().ready()
    pid = only(service)
    with app.unit.client() as client:
        client.ask("/hang")
        assert service.entry("aborted", pid=pid).cause == "watchdog"
        assert service.entry("ended", pid=pid).cause == "watchdog"
    service.entry("ready", count=2)
    assert service.stop() == 0


def test_an_exception_is_a_crash_with_its_stack(app: App) -> None:
    service = app.start("asked.js")
    pid = only(service)
    with app.unit.client() as client:
        client.ask("/throw")
        service.expect(r"Error: nothing to sell")
        service.expect(r"at Server\..*asked\.js:\d+")
        entry = service.entry("ended", pid=pid)
    assert entry.cause == "crash-exit"
    service.entry("ready", count=2)
    assert app.unit.get().startswith("ok ")
    assert service.stop() == 0


def test_an_exception_that_the_app_handles_is_no_cause_of_what_comes_later(app: App) -> None:
    app.write("asked.js", HANDLES="1")
    text = app.unit.file.read_text().replace('"60s"\n', '"6s"\n', 1)
    app.unit.file.write_text(text)
    service = app.unit.serve().ready()
    pid = only(service)
    with app.unit.client() as thrower, app.unit.client() as client:
        thrower.ask("/throw")
        service.expect("handled: nothing to sell")
        client.ask("/hang")
        entry = service.entry("ended", pid=pid)
    assert entry.cause == "watchdog"
    assert "nothing to sell" not in entry.rest
    service.entry("ready", count=2)
    assert service.stop() == 0


def test_an_exception_before_it_listens_is_named_in_the_entry(app: App, folder: Path) -> None:
    (folder / "broken.js").write_text("require('http');\nthrow new Error('no stock');\n")
    app.write("broken.js")
    service = app.unit.serve()
    entry = service.entry("ended")
    assert entry.cause == "start-failed"
    assert "uncaughtException: Error: no stock" in entry.rest
    service.stop()


def test_signals_that_are_meant_for_the_master_end_nobody(app: App) -> None:
    service = app.start("asked.js")
    pid = only(service)
    for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR2):
        os.kill(pid, number)
        assert app.unit.get() == f"ok {pid}"
    assert service.stop() == 0


REMOVES = """
const server = require('http').createServer((request, response) => {
  if (request.url === '/removes') %s;
  if (request.url === '/slow') setTimeout(() => response.end('slow'), 1000);
  else response.end('ok');
});
server.listen(3000);
"""


@pytest.mark.parametrize(
    "removes",
    [
        "process.removeAllListeners()",
        "for (const each of ['SIGTERM', 'SIGHUP']) process.removeAllListeners(each)",
        "for (const each of process.listeners('SIGHUP')) process.removeListener('SIGHUP', each)",
    ],
    ids=["all", "named", "one"],
)
def test_an_app_that_removes_listeners_is_not_ended_by_the_signal(
    app: App, folder: Path, removes: str
) -> None:
    """The signal had its default action then: the request under way was lost."""
    (folder / "removes.js").write_text(REMOVES % removes)
    service = app.start("removes.js")
    pid = only(service)
    with app.unit.client() as client:
        assert client.get("/removes").status == 200
        os.kill(pid, signal.SIGHUP)
        client.ask("/slow")
        assert app.unit.get() == "ok"  # the loop has come to what was sent before
        os.kill(pid, signal.SIGTERM)
        assert client.read().body == b"slow"
    assert "exited with status 0" in service.entry("ended", pid=pid).rest
    service.stop()


def test_a_wrapper_that_does_not_exec_is_told_of(app: App, tmp_path: Path, node: Path) -> None:
    wrapper = tmp_path / "node-wrapper"
    wrapper.write_text(f'#!/bin/sh\n{node} "$@"\nexit $?\n')
    wrapper.chmod(0o755)
    app._node = wrapper
    app.write("asked.js")
    service = app.unit.serve()
    service.expect(r"a wrapper has to exec\(2\) node, or `node` in \[app\] to be the program itself")
    assert service.entry("ended").cause in ("start-failed", "crash-exit")
    service.stop()


def test_pings_survive_a_new_notify_socket(tmp_path: Path, node: Path, folder: Path) -> None:
    """The descriptor leads to a socket that is no more, as after another master: systemd-notify speaks then."""
    if shutil.which("systemd-notify") is None:
        pytest.skip("no systemd-notify")
    path = str(tmp_path / "notify")
    first = NotifyListener(path)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        _started(node, folder, path, ("a", listener)) as child,
    ):
        assert _hear(first, "READY=1").pid == child.pid
        first.close()
        second = NotifyListener(path)
        _hear(second, "WATCHDOG=1")
        child.signal(signal.SIGTERM)
        _hear(second, "STOPPING=1")
        assert wait_end(child).status == 0
        second.close()


def test_the_status_tells_what_is_not_listened_on_yet(
    tmp_path: Path, node: Path, folder: Path, three: list[tuple[str, socket.socket]]
) -> None:
    path = str(tmp_path / "notify")
    notify = NotifyListener(path)
    web, _, named = three
    where = f"127.0.0.1:{web[1].getsockname()[1]} (web)"
    with _started(node, folder, path, web, named, LISTEN="[9100]") as child:
        other = f"127.0.0.1:{named[1].getsockname()[1]} (9100)"
        _hear(notify, f"STATUS=waiting until the app listens on {where} and {other}")
        _hear(notify, f"STATUS=waiting until the app listens on {where}, too")
        child.signal(signal.SIGTERM)
        assert wait_end(child).status == 0
    notify.close()


@contextlib.contextmanager
def _started(
    node: Path, folder: Path, path: str, *sockets: tuple[str, socket.socket], **environment: str
) -> Iterator[Child]:
    """asked.js by itself, as a master starts it."""
    passed = tuple((name, each.fileno()) for name, each in sockets)
    child = launch(
        Launch(
            argv=(str(node), "--require", str(PRELOAD), "asked.js"),
            environment={"PATH": os.environ["PATH"], "MEMUNIT_LISTEN": addresses(passed), **environment},
            directory=str(folder),
            sockets=passed,
            notify_path=path,
            notify_descriptor=True,
            watchdog_usec=600_000,
        )
    )
    try:
        yield child
    finally:
        child.kill_tree()
        child.close()


def _hear(listener: NotifyListener, word: str) -> Datagram:
    while True:
        wait_readable(listener.fileno())
        for datagram in listener.datagrams():
            if word in datagram.payload.decode().split("\n"):
                return datagram


CLOSES = """
const server = require('http').createServer((request, response) => response.end(`ok ${process.pid}`));
server.on('error', (error) => console.log(`again: ${error.code} ${error.message}`));
process.on('SIGWINCH', () => %s);
server.listen(3000);
setInterval(() => {}, 1000);
"""


@pytest.mark.parametrize(
    "close",
    [
        "server.close()",
        "server.close(() => server.listen(3000))",
        "require('net').Server.prototype.close.call(server)",
    ],
)
def test_one_that_closes_its_server_is_replaced(app: App, folder: Path, close: str) -> None:
    """It lived on, was counted as one that serves, and its clients waited for ever."""
    (folder / "closes.js").write_text(CLOSES % close)
    service = app.start("closes.js", stop={"grace": "600s"})
    pid, mark = only(service), service.mark
    with app.unit.client() as kept:
        assert kept.get().status == 200
        os.kill(pid, signal.SIGWINCH)
        new = service.entry("ready", after=mark)
        assert app.unit.get() == f"ok {new.pid}"
    service.expect(
        rf"Worker 0\.1 \(pid {pid}\) says that it stops, and is replaced, last status: the app has closed its "
        r"server, so this worker accepts nobody at 127\.0\.0\.1:\d+ .*; "
    )
    os.kill(pid, signal.SIGTERM)  # it has until nearly the end of its grace to end by itself
    assert "exited with status 0" in service.entry("ended", pid=pid, after=mark).rest
    if "listen" in close:
        said = service.expect(
            "^again: EADDRNOTAVAIL memunit: 3000 can't be listened on again: ", source="output"
        )
        assert "the app has closed the server" in said.text
    assert service.stop() == 0


ENDS = """
const server = require('http').createServer((request, response) => response.end('ok'));
process.on('memunit:clean', async () => console.log('the app has cleaned up'));
process.on('SIGWINCH', () => %s);
server.listen(3000);
%s;
"""
ENDLESS = "setInterval(() => {}, 1000)"
HANDLES = ENDLESS + "; process.on('SIGTERM', () => { console.log('the app was told'); process.exit(4); })"
LEAVES = (
    "server.close(() => setTimeout(() => { console.log('the app has ended itself'); process.exit(3); }, 500))"
)


@pytest.mark.parametrize(
    ("close", "more", "said", "status"),
    [
        ("server.close()", HANDLES, "the app was told", 4),
        ("server.close()", "", "", 0),
        (LEAVES, ENDLESS, "the app has ended itself", 3),
        # A client whose connection is kept for longer than the app's grace.
        ("server.close()", ENDLESS + "; server.keepAliveTimeout = 60000", "", 0),
    ],
    ids=["handles", "ends", "leaves", "kept"],
)
def test_one_that_closes_its_server_cleans_up_and_is_not_killed(
    app: App, folder: Path, close: str, more: str, said: str, status: int
) -> None:
    """Nobody told it to stop, so nothing but SIGKILL at the end of its grace ended it."""
    (folder / "ends.js").write_text(ENDS % (close, more))
    service = app.start("ends.js", stop={"grace": "15s"})
    pid, mark = only(service), service.mark
    with app.unit.client() as client:
        assert client.get().status == 200
        if "keepAlive" not in more:
            client.close()
        os.kill(pid, signal.SIGWINCH)
        service.entry("ready", after=mark)
        end = service.entry("ended", pid=pid, after=mark)
    assert f"exited with status {status}" in end.rest
    assert "killed" not in end.rest
    service.expect("^the app has cleaned up$", source="output")
    if said:
        service.expect(f"^{said}$", source="output")
    assert service.stop() == 0


def test_one_that_closes_its_server_ends_when_it_is_told_to(app: App, folder: Path) -> None:
    (folder / "ends.js").write_text(ENDS % ("server.close()", ENDLESS))
    service = app.start("ends.js", stop={"grace": "600s"})
    pid, mark = only(service), service.mark
    os.kill(pid, signal.SIGWINCH)
    service.expect("^the app has cleaned up$", source="output")
    service.entry("ready", after=mark)
    os.kill(pid, signal.SIGTERM)
    assert "exited with status 0" in service.entry("ended", pid=pid, after=mark).rest
    assert service.stop() == 0


CLUSTER = """
const cluster = require('cluster');
if (cluster.isPrimary) {
  for (let number = 0; number < %d; number += 1) cluster.fork();
  cluster.on('exit', () => %s);
  process.on('SIGWINCH', () => Object.values(cluster.workers).forEach((each) => each.process.kill('SIGWINCH')));
  process.on('memunit:clean', () => console.log('the primary has cleaned up'));
  setInterval(() => {}, 1000);
} else {
  const server = require('http').createServer((request, response) => response.end('ok'));
  server.listen(3000, () => console.log('listens'));
  process.on('SIGWINCH', () => %s);
}
"""


# Its exit is known before the end of its channel to the primary, which somebody else holds open.
CHANNEL_STAYS = (
    "require('child_process').spawn('sleep', ['1000'], { stdio: ['ignore', 'ignore', 'ignore', process.channel.fd] })"
    ".on('spawn', () => process.exit(1))"
)


@pytest.mark.parametrize(
    ("count", "on_exit", "way"),
    [
        (2, "{}", "process.exit(1)"),
        (2, "{}", "server.close()"),
        # What is forked then can't listen: Node's primary has closed the descriptor with the last that had it.
        (1, "cluster.fork()", "process.exit(1)"),
        (2, "{}", CHANNEL_STAYS),
    ],
    ids=["exit", "close", "forked again", "channel stays"],
)
def test_a_cluster_of_which_none_serves_is_replaced(
    app: App, folder: Path, count: int, on_exit: str, way: str
) -> None:
    (folder / "none.js").write_text(CLUSTER % (count, on_exit, way))
    service = app.start("none.js", stop={"grace": "600s"})
    service.until(lambda: sum(said.text == "listens" for said in service.said) == count or None, "all")
    pid, mark = only(service), service.mark
    assert app.unit.get() == "ok"
    os.kill(pid, signal.SIGWINCH)
    service.entry("ready", after=mark)
    assert app.unit.get() == "ok"
    service.expect(
        rf"Worker 0\.1 \(pid {pid}\) says that it stops, and is replaced, last status: no process of its cluster "
        r"that has served is left, so this worker accepts nobody at 127\.0\.0\.1:\d+ .*; "
    )
    service.expect("^the primary has cleaned up$", source="output")
    os.kill(pid, signal.SIGTERM)  # it has until nearly the end of its grace to end by itself
    assert "exited with status 0" in service.entry("ended", pid=pid, after=mark).rest
    service.stop()


def test_a_syntax_error_is_named_and_not_its_place_alone(app: App, folder: Path) -> None:
    (folder / "syntax.js").write_text("const x = ;\n")
    app.write("syntax.js")
    service = app.unit.serve()
    rest = service.entry("ended").rest
    assert "uncaughtException: SyntaxError: Unexpected token ';' (/" in rest
    assert "syntax.js:1)" in rest
    service.stop()


FORGETS = """
const { Sockets } = require(process.argv[1]);
const sockets = new Sockets();
const open = [];
let most = 0;
for (let number = 0; number < 10000; number++) {
  const socket = { destroyed: number % 100 !== 0 };
  sockets.add(socket);
  if (!socket.destroyed) open.push(socket);
  most = Math.max(most, sockets._all.size);
}
const all = [...sockets];
console.log(all.length === 100 && all.every((each) => open.includes(each)), most);
"""


def test_what_has_closed_is_not_kept(node: Path) -> None:
    """Nothing listens for the ends of connections, and yet the memory of them is free soon after."""
    words = [str(node), "-e", FORGETS, str(WORKER / "node" / "sockets.cjs")]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    assert said[0] == "true"
    assert int(said[1]) <= 100 * 1.5 + 33
