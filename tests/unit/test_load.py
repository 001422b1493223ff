"""The load client against servers that do wrong: a lost request is counted as what it is, and never as ok."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import load as module
from tests.support.load import LOST, Load, Report

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok 7"
LAST = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
Serve = Callable[[socket.socket], None]


@contextlib.contextmanager
def _server(serve: Serve) -> Iterator[str]:
    """A server that hands each connection to `serve` and closes it after that; the target."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    serve(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(60)


def _request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        block = connection.recv(65536)
        if not block:
            raise ConnectionError
        data += block
    return data


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _saying(*blocks: bytes, reset: bool = False) -> Serve:
    def serve(connection: socket.socket) -> None:
        _request(connection)
        for block in blocks:
            connection.sendall(block)
        if reset:
            _reset(connection)

    return serve


def _reset_at_once(connection: socket.socket) -> None:
    _reset(connection)


def _hang(connection: socket.socket) -> None:
    _request(connection)
    connection.recv(1)  # until the client gives up


def _hang_within(connection: socket.socket) -> None:
    _request(connection)
    connection.sendall(OK[:-2])
    connection.recv(1)


def _run(target: str, *, timeout: float = 240.0, **options: object) -> Report:
    return Load(target, clients=1, requests=3, timeout=timeout, **options).run()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("serve", "kind"),
    [
        pytest.param(_saying(), "cut", id="closed before a byte"),
        pytest.param(_saying(OK[:10]), "cut", id="closed in the status line"),
        pytest.param(_saying(OK[:30]), "cut", id="closed in the head"),
        pytest.param(_saying(OK[:-1]), "cut", id="one byte short"),
        pytest.param(
            _saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nok 7\r\n"),
            "cut",
            id="no last chunk",
        ),
        pytest.param(
            _saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nok 7\r\n0\r\n"),
            "cut",
            id="no last line",
        ),
        pytest.param(_reset_at_once, "reset", id="reset before the request"),
        pytest.param(_saying(reset=True), "reset", id="reset before the answer"),
        pytest.param(_saying(OK[:-1], reset=True), "reset", id="reset within the answer"),
        pytest.param(_saying(OK.replace(b"200 OK", b"503 No")), "wrong", id="status"),
        pytest.param(_saying(OK.replace(b"ok 7", b"no 7")), "wrong", id="body"),
        pytest.param(_saying(OK + b"x"), "wrong", id="more than it says"),
        pytest.param(_saying(b"HTTP/1.1 200 OK\r\n\r\nok 7"), "wrong", id="no length"),
        pytest.param(
            _saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nok 7\r\n"), "wrong", id="no chunk"
        ),
        pytest.param(_saying(b"SSH-2.0\r\n\r\n"), "wrong", id="not HTTP"),
        pytest.param(_hang, "timeout", id="no answer"),
        pytest.param(_hang_within, "timeout", id="half an answer"),
    ],
)
@pytest.mark.parametrize("keep_alive", [False, True])
def test_each_loss_has_its_kind(serve: Serve, kind: str, keep_alive: bool) -> None:
    with _server(serve) as target:
        # Short where nobody answers, and else so long that no machine is too slow.
        report = _run(target, keep_alive=keep_alive, timeout=0.5 if kind == "timeout" else 240.0)
    assert {name: getattr(report, name) for name in (*LOST, "ok", "sent", "reopened")} == {
        **dict.fromkeys(LOST, 0),
        kind: 3,
        "ok": 0,
        "sent": 3,
        "reopened": 0,
    }
    assert report.lost == 3
    assert len(report.examples) == 3


def test_refused(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert _run(f"127.0.0.1:{closed.getsockname()[1]}").refused == 3
    assert _run(str(tmp_path / "nobody.sock")).refused == 3
    assert _run("@memunit-nobody").refused == 3


@pytest.mark.parametrize(
    "answer",
    [
        LAST,
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + LAST,
        b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nok 7",
        LAST.replace(b"Content-Length: 4", b"Transfer-Encoding: chunked").replace(
            b"ok 7", b"1;a=b\r\no\r\n3\r\nk 7\r\n0\r\n\r\n"
        ),
    ],
)
def test_right_answers(answer: bytes) -> None:
    """Byte by byte, and each on its own connection because the server says so."""
    with _server(_saying(*(bytes((byte,)) for byte in answer))) as target:
        report = _run(target, keep_alive=True)
    assert (report.ok, report.lost, report.reopened, report.told, report.connections) == (3, 0, 0, 3, 3)
    assert report.pids == {7: 3}
    assert (
        0 < report.p50 <= report.p99 <= report.slowest <= report.longest_gap + 1e-9 <= report.elapsed + 1e-9
    )


@pytest.mark.parametrize("reset", [False, True])
def test_close_of_a_kept_connection_is_reopened(reset: bool) -> None:
    """One answer a connection, and an end that was not announced: allowed, tried again, and counted apart."""
    with _server(_saying(OK, reset=reset)) as target:
        report = _run(target, keep_alive=True)
    assert (report.ok, report.lost, report.reopened, report.told, report.connections) == (3, 0, 2, 0, 3)


def test_close_within_an_answer_is_cut_on_a_kept_connection_too() -> None:
    def serve(connection: socket.socket) -> None:
        _saying(OK)(connection)
        _saying(OK[:12])(connection)

    with _server(serve) as target:
        report = _run(target, keep_alive=True)
    assert (report.ok, report.cut, report.reopened) == (2, 1, 0)


def test_only_one_more_try() -> None:
    """A server that answers the first connection once and never again: reopened once, then lost."""
    answered = threading.Event()

    def serve(connection: socket.socket) -> None:
        if not answered.is_set():
            answered.set()
            _saying(OK)(connection)
        else:
            _saying()(connection)

    with _server(serve) as target:
        report = _run(target, keep_alive=True)
    assert (report.ok, report.cut, report.reopened, report.connections) == (1, 2, 1, 3)


def test_longest_gap_counts_silence_at_the_end() -> None:
    with _server(_hang) as target:
        report = _run(target, timeout=0.5)
    assert 1.4 < report.longest_gap <= report.elapsed


def test_stops_by_file_by_call_and_by_time(tmp_path: Path) -> None:
    with _server(_saying(LAST)) as target:
        (tmp_path / "stop").touch()
        assert Load(target, stop_file=str(tmp_path / "stop")).run().sent == 0
        assert Load(target, clients=2, seconds=0.2).run().elapsed < 120
        load = Load(target, clients=2).start()
        load.stop()
        report = load.join()
        assert report.ok == report.sent


def test_rate() -> None:
    with _server(_saying(LAST)) as target:
        report = Load(target, clients=2, requests=20, rate=40).run()
    assert report.ok == 20
    assert report.elapsed > 0.4


def test_script() -> None:
    """The exit status tells: 0 only when something was sent and nothing lost."""
    for answer, status in ((LAST, 0), (LAST[:-1], 1)):
        with _server(_saying(answer)) as target:
            command = [sys.executable, module.__file__, "--target", target, "--requests", "4", "--json"]
            ended = subprocess.run(command, capture_output=True, check=False, timeout=240)
        assert ended.returncode == status, ended.stderr
        report = json.loads(ended.stdout)
        assert report["sent"] == 4
        assert report["lost"] == 4 * status
    none = subprocess.run([*command, "--stop-file", "/"], capture_output=True, check=False, timeout=240)
    assert none.returncode == 1
    assert json.loads(none.stdout)["sent"] == 0
