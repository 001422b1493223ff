"""HTTP/1.1 as clients meet it: what is read, what is refused, and what an app's answer becomes."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import interpreters, raw
from tests.support.corpus import CASES, Case, chunked, counted, get, post
from tests.support.fuzzing import mutant
from tests.support.interpreters import DEBIAN
from tests.support.nginx import Nginx, program
from tests.support.stacks import KEYS, STACKS
from tests.support.wait import DEADLINE
from tests.support.workers import RunningWorker, Stage, stage

pytest_plugins = ["tests.support.stacks"]

PLAIN = {"UVICORN_LIFESPAN": "off", "UVICORN_WS": "none"}
BOUNDS = {
    "MEMUNIT_HTTP_HEAD_SIZE": "2048",
    "MEMUNIT_HTTP_HEAD_TIMEOUT": "0.5",
    "MEMUNIT_HTTP_BODY_SIZE": "1000",
    "MEMUNIT_HTTP_BODY_TIMEOUT": "0.5",
}


@dataclass
class Served:
    """A worker that serves answers.py, or plainwsgi.py, for the tests of this file."""

    here: Stage
    worker: RunningWorker

    def ask(self, *pieces: bytes, methods: tuple[str, ...] = (), half_close: bool = True) -> list[raw.Answer]:
        """The answers to exactly these bytes, to the end of the connection."""
        return raw.answers(raw.exchange(self.here.target, pieces, half_close=half_close), methods)

    def connect(self) -> socket.socket:
        return raw.connect(self.here.target)

    def hear(self, text: str) -> None:
        self.here.hear(self.worker.pid, "STATUS=" + text)

    def logged(self) -> int:
        """So much of its output has been seen."""
        return len(self.worker.output)


def _serve(
    directory: Path, stack: tuple[str, str, str], server: str = "asgi", **options: str
) -> Iterator[Served]:
    which, loop, parser = stack
    python = DEBIAN if which == "debian" else interpreters.newest()
    if python is None:
        pytest.skip("the newest uvicorn cannot be installed here")
    environment = {**PLAIN, **dict(zip(KEYS, (loop, parser), strict=True)), **options}
    with stage(directory) as here:
        app = "answers:app" if server == "asgi" else "plainwsgi:app"
        yield Served(here, here.start(python, app, server=server, environment=environment).ready())


@pytest.fixture(scope="module", params=STACKS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from _serve(tmp_path_factory.mktemp("served"), request.param)


@pytest.fixture(scope="module", params=STACKS)
def bounded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """With narrow bounds."""
    yield from _serve(tmp_path_factory.mktemp("bounded"), request.param, **BOUNDS)


@pytest.fixture(scope="module", params=[STACKS[1], STACKS[2]])
def threaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A WSGI app, with narrow bounds."""
    yield from _serve(tmp_path_factory.mktemp("threaded"), request.param, "wsgi", **BOUNDS)


def _requests(found: list[raw.Answer], case: Case) -> tuple[tuple[str, ...], int]:
    seen = [
        request if request.startswith("HEAD ") else json.loads(answer.body)["request"]
        for answer, request in zip(found, case.seen, strict=False)
        if answer.status == 200
    ]
    return tuple(seen), next((answer.status for answer in found if answer.status != 200), 0)


def test_the_corpus_over_sockets(served: Served) -> None:
    """Whole, and cut in the middle; with the client's half closed after it, as nc -N does."""
    for case in CASES:
        middle = len(case.sent) // 2
        methods = tuple(request.split(" ")[0] for request in case.seen)
        for pieces in ((case.sent,), (case.sent[:middle], case.sent[middle:])):
            found = served.ask(*(piece for piece in pieces if piece), methods=methods)
            assert _requests(found, case) == (case.seen, case.status), case.name
    assert "Traceback" not in served.worker.output


@pytest.mark.parametrize("upgrade", [b"h2c", b"frob/7", b"websocket"])
def test_an_upgrade_that_is_not_taken(served: Served, upgrade: bytes) -> None:
    """As `curl --http2 -d` sends it; the body comes later, and looks like a request (A1)."""
    body, head = _upgrade(upgrade)
    (answer,) = served.ask(head, body)
    assert json.loads(answer.body)["request"] == "POST /echo " + body.decode()


def test_an_upgrade_that_wsgi_does_not_take(threaded: Served) -> None:
    for upgrade in (b"h2c", b"frob/7", b"websocket"):
        body, head = _upgrade(upgrade)
        assert [answer.body for answer in threaded.ask(head, body)] == [body]


def _upgrade(protocol: bytes, path: bytes = b"/echo") -> tuple[bytes, bytes]:
    body = get(line=b"GET /admin/delete HTTP/1.1")
    head = post(
        b"",
        b"Connection: Upgrade, HTTP2-Settings",
        b"Upgrade: " + protocol,
        b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
        b"Content-Length: %d" % len(body),
        line=b"POST %b HTTP/1.1" % path,
    )
    return body, head


def test_trailers_are_no_headers(served: Served) -> None:
    """A2."""
    trailers = b"X-Remote-User: admin\r\nCookie: a=b\r\nX-Forwarded-For: 192.0.2.66\r\n"
    sent = chunked(b"5\r\nhello\r\n0\r\n" + trailers + b"\r\n")
    for pieces in ((sent,), (sent[:-60], sent[-60:])):
        (answer,) = served.ask(*pieces)
        said = json.loads(answer.body)
        assert said["request"] == "POST / hello"
        assert [name for name, _ in said["headers"]] == ["host", "transfer-encoding"]


def _memory(pid: int) -> int:
    """Bytes of RSS."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("what", ["lines", "one line", "target", "trailers", "extension"])
def test_no_part_of_a_message_is_without_a_bound(served: Served, what: str) -> None:
    """30 MB of what has no end (A3)."""
    start, more, status = {
        "lines": (b"GET / HTTP/1.1\r\nHost: a\r\n", b"X-A: 1234567890\r\n" * 6000, 431),
        "one line": (b"GET / HTTP/1.1\r\nHost: a\r\nX-A: ", b"a" * 100_000, 431),
        "target": (b"GET /", b"a" * 100_000, 431),
        "trailers": (chunked(b"0\r\n"), b"X-A: 1234567890\r\n" * 6000, 431),
        "extension": (chunked(b"5;"), b"a" * 100_000, 400),
    }[what]
    before = _memory(served.worker.pid)
    (answer,) = served.ask(start, *[more] * 300)
    assert (answer.status, answer.header("connection")) == (status, ["close"])
    assert _memory(served.worker.pid) - before < 8_000_000


def test_bounds_are_settings(bounded: Served) -> None:
    for sent, status in (
        (get(b"X-A: " + b"a" * 1900), 200),
        (get(b"X-A: " + b"a" * 2100), 431),
        (counted(b"a" * 1000), 200),
        (counted(b"a" * 1001), 413),
        (chunked(b"3e8\r\n" + b"a" * 1000 + b"\r\n0\r\n\r\n"), 200),
        (chunked(b"3e9\r\n" + b"a" * 1001 + b"\r\n0\r\n\r\n"), 413),
    ):
        assert [answer.status for answer in bounded.ask(sent)] == [status]


_LINE = b"POST /echo HTTP/1.1"
HALVES = [
    get()[:-2],
    b"G",
    post(b"hel", b"Content-Length: 5", line=_LINE),
    post(b"5\r\nhel", b"Transfer-Encoding: chunked", line=_LINE),
    post(b"0\r\n", b"Transfer-Encoding: chunked", line=_LINE),
]


def _half(served: Served) -> None:
    """408 for each of HALVES, which wait side by side."""
    socks = [served.connect() for _ in HALVES]
    for sock, half in zip(socks, HALVES, strict=True):
        sock.sendall(half)
    for sock in socks:
        with sock:
            (answer,) = raw.answers(raw.to_the_end(sock))
            assert (answer.status, answer.header("connection")) == (408, ["close"])


def test_half_a_request_has_its_time(bounded: Served) -> None:
    _half(bounded)


def test_half_a_request_to_wsgi_has_its_time(threaded: Served) -> None:
    _half(threaded)


@pytest.mark.parametrize("server", ["asgi", "wsgi"])
def test_half_a_request_does_not_hold_a_stop(tmp_path: Path, server: str) -> None:
    """A12: five seconds, and not grace. Those who send on are answered meanwhile."""
    for served in _serve(tmp_path, ("debian", "uvloop", "httptools"), server):
        halves = [get()[:-2], post(b"hel", b"Content-Length: 5", line=_LINE)]
        stuck = [served.connect() for _ in halves]
        going = [served.connect() for _ in halves]
        for socks in (stuck, going):
            for sock, half in zip(socks, halves, strict=True):
                sock.sendall(half)
        assert served.ask(get())  # all have been accepted, in order
        served.worker.stop()
        for sock, rest in zip(going, (b"\r\n", b"lo"), strict=True):
            sock.sendall(rest)
            with sock:
                assert raw.answers(raw.to_the_end(sock))[0].status == 200
        for sock in stuck:
            with sock:
                assert [answer.status for answer in raw.answers(raw.to_the_end(sock))] == [408]
        assert served.worker.wait() == 0


SENDABLE = {
    "blank": (200, b"ok"),
    "own": (200, b"ok"),
    "204": (204, b""),
    "304": (304, b""),
    "stream": (200, b"012"),
    "999": (999, b"ok"),
}


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_answers_that_can_be_sent(served: Served, version: str) -> None:
    logged = served.logged()
    for name, wanted in SENDABLE.items():
        (answer,) = served.ask(get(line=f"GET /odd/{name} HTTP/{version}".encode()))
        assert (answer.status, answer.body, answer.whole) == (*wanted, True)
        kept = ["keep-alive"] if name == "own" else []
        assert answer.header("connection") == (["close"] if version == "1.0" else kept)
        if name == "blank":
            assert (answer.header("x-a"), answer.header("set-cookie")) == (["1"], ["a=1"])
        if name == "own":
            assert (answer.header("date"), answer.header("server")) == (["then"], ["shop"])
        else:
            assert len(answer.header("date")) == 1
            assert answer.header("server") == ["uvicorn"]
        chunks = (name, version) == ("stream", "1.1")
        assert answer.header("transfer-encoding") == (["chunked"] if chunks else [])
        if name == "204":
            assert answer.header("content-length") == []
    assert served.logged() == logged


def test_head_has_no_body(served: Served) -> None:
    """What comes after it is the next answer."""
    for name in ("ok", "stream", "204", "304", "longer"):
        sent = get(line=f"HEAD /odd/{name} HTTP/1.1".encode()) + get(line=b"GET /odd/last HTTP/1.1")
        first, last = served.ask(sent, methods=("HEAD",))
        assert first.status == (int(name) if name.isdigit() else 200)
        assert (last.status, last.body) == (200, b"ok")


UNSENDABLE = {
    "line-break": "x-bad",
    "lf": "x-bad",
    "nul": "x-bad",
    "control": "x-bad",
    "no-name": "''",
    "bad-name": "x-bad",
    "text-name": "x-bad",
    "text-value": "x-bad",
    "negative": "content-length",
    "no-number": "content-length",
    "two-lengths": "content-length",
    "coding": "transfer-encoding",
    "103": "103",
}


def test_a_head_that_cannot_be_sent(served: Served) -> None:
    """500, and the log names the header (A4)."""
    for name, named in UNSENDABLE.items():
        logged = served.logged()
        (answer,) = served.ask(get(line=f"GET /odd/{name} HTTP/1.1".encode()))
        assert (answer.status, answer.body) == (500, b"Internal Server Error"), name
        last = served.worker.output[logged:].splitlines()[-1]
        assert "Unsendable: " in last, name
        assert named in last, name


def test_a_cookie_of_django(threaded: Served) -> None:
    """A4: its value begins with a blank."""
    (answer,) = threaded.ask(get(line=b"GET /bad/cookie HTTP/1.1"))
    assert (answer.status, answer.header("set-cookie")) == (200, ["a=1"])


BROKEN = {
    "longer": (200, b"ok"),
    "shorter": (200, b"ok"),
    "half": (200, b"half"),
    "raises-late": (200, b"half"),
    "raises": (500, b"Internal Server Error"),
    "texts": (500, b"Internal Server Error"),
    "nothing": (500, b"Internal Server Error"),
}


def test_an_answer_that_breaks_off(served: Served) -> None:
    """Whoever reads it sees that it is not whole, and the connection ends."""
    for name, wanted in BROKEN.items():
        logged = served.logged()
        found = served.ask(get(line=f"GET /odd/{name} HTTP/1.1".encode()) + get())
        assert [(answer.status, answer.body) for answer in found] == [wanted], name
        assert found[0].whole == (wanted[0] == 500 or name == "longer"), name
        assert served.logged() > logged, name


def test_an_answer_to_1_0_is_not_whole_if_the_request_was_not(bounded: Served) -> None:
    with bounded.connect() as sock:
        sock.sendall(post(b"hel", b"Content-Length: 5", line=b"POST /odd/drips HTTP/1.0"))
        with pytest.raises(ConnectionResetError):
            raw.to_the_end(sock)


@pytest.mark.parametrize("half_close", [False, True])
def test_an_answer_to_1_0_that_breaks_off(served: Served, half_close: bool) -> None:
    """Its end is the end of the connection, so that one has to be another."""
    for name in ("half", "raises-late"):
        sent = get(line=f"GET /odd/{name} HTTP/1.0".encode())
        with served.connect() as sock:
            sock.sendall(sent)
            if half_close:
                with contextlib.suppress(OSError):  # the reset may be here already
                    sock.shutdown(socket.SHUT_WR)
            with pytest.raises(ConnectionResetError):
                raw.to_the_end(sock)


def test_a_half_closed_client_is_answered(served: Served) -> None:
    """A10, as `printf | nc -N` is: whatever time the app takes, and with all that was pipelined."""
    for sent, bodies in (
        (get(line=b"GET /odd/slow HTTP/1.0", host=b""), [b"slow"]),
        (get(line=b"GET /odd/slow HTTP/1.1") * 2, [b"slow", b"slow"]),
        (get(line=b"GET /odd/stream HTTP/1.1"), [b"012"]),
    ):
        found = served.ask(sent)
        assert [answer.body for answer in found] == bodies
        assert all(answer.whole for answer in found)


def test_half_closed_clients_of_wsgi_are_answered(threaded: Served) -> None:
    for _ in range(10):
        found = threaded.ask(get(line=b"GET /slow?s=0.05 HTTP/1.0", host=b""))
        assert [answer.status for answer in found] == [200]


def test_a_half_closed_client_has_its_answer_whatever_the_app_takes(bounded: Served) -> None:
    """Also beyond the time after which an app hears that its client may have gone; each connection ends."""
    for name, body in (("slower", b"slower"), ("drips", b"01234567")):
        (answer,) = bounded.ask(get(line=f"GET /odd/{name} HTTP/1.1".encode()))
        assert (answer.status, answer.body, answer.whole) == (200, body, True)
    (answer,) = bounded.ask(get(line=b"GET /odd/waits HTTP/1.1"))
    bounded.hear("disconnected")
    assert answer.status == 503


def test_a_half_closed_client_of_wsgi_has_its_answer_too(threaded: Served) -> None:
    (answer,) = threaded.ask(get(line=b"GET /slow?s=1.6 HTTP/1.1"))
    assert answer.status == 200


def test_clients_that_have_gone_leave_no_descriptor(bounded: Served) -> None:
    """They closed while the app waited for that alone; the kernel says no more than that one half is closed."""
    descriptors = Path(f"/proc/{bounded.worker.pid}/fd")
    before = len(list(descriptors.iterdir()))
    for _ in range(5):
        with bounded.connect() as sock:
            sock.sendall(get(line=b"GET /odd/waits HTTP/1.1"))
            bounded.hear("asked")
    for _ in range(5):
        bounded.hear("disconnected")
    bounded.ask(get())  # a pass of the loop
    assert len(list(descriptors.iterdir())) <= before


def test_an_endless_stream_does_not_stop_the_loop(served: Served) -> None:
    """The app sends, and never waits: not when its client has gone, nor to a HEAD, whose answer has no body."""
    with served.connect() as sock:
        sock.sendall(get(line=b"GET /odd/hot HTTP/1.1"))
        assert sock.recv(1)
    assert [answer.status for answer in served.ask(get())] == [200]
    sent = get(line=b"HEAD /odd/hot HTTP/1.1") + get(line=b"GET /odd/last HTTP/1.1")
    assert [answer.body for answer in served.ask(sent, methods=("HEAD",))] == [b"", b"ok"]


def test_an_endless_answer_of_wsgi_ends_where_nothing_more_is_sent(threaded: Served) -> None:
    """PEP 3333: after its Content-Length; and to a HEAD, after the head."""
    for line in (
        b"GET /endless-counted HTTP/1.1",
        b"HEAD /endless HTTP/1.1",
        b"HEAD /endless-counted HTTP/1.1",
    ):
        (answer,) = threaded.ask(get(line=line), methods=(line[:4].decode().strip(),))
        assert (answer.status, answer.body) == (200, b"ok" if line.startswith(b"GET") else b"")
        threaded.hear("closed")


def test_a_client_that_pipelines_without_end_fills_no_memory(served: Served) -> None:
    """Each answer uses up one request, and must not have as much read as the socket holds."""
    before = _memory(served.worker.pid)
    request = get(line=b"GET /odd/last HTTP/1.1")
    block = request * (1_000_000 // len(request))
    with served.connect() as sock:
        sock.setblocking(False)
        received = b""
        while received.count(b"HTTP/1.1 200") < 200:
            readable, writable, _ = select.select([sock], [sock], [], DEADLINE)
            assert readable or writable
            if writable:
                sock.send(block)
            if readable:
                received += sock.recv(65536)
        assert _memory(served.worker.pid) - before < 5_000_000


def test_an_answer_that_nobody_takes_is_given_up(bounded: Served, threaded: Served) -> None:
    """Its memory, and the thread that it is made in, would be its client's for as long as that likes."""
    for served, target, said in (
        (bounded, b"/odd/large-until-gone", "disconnected"),
        (threaded, b"/endless", "closed"),
    ):
        with served.connect() as sock:
            sock.sendall(get(line=b"GET " + target + b" HTTP/1.1"))
            served.hear(said)


def test_an_answer_that_is_taken_slowly_is_not_given_up(tmp_path: Path) -> None:
    """Also while the kernel takes nothing more of it, for megabytes lie in its own buffers."""
    options = {"MEMUNIT_HTTP_BODY_TIMEOUT": "4"}
    for served in _serve(tmp_path, ("debian", "uvloop", "httptools"), **options):
        with served.connect() as sock:
            sock.sendall(get(b"Connection: close", line=b"GET /odd/large HTTP/1.1"))
            received = bytearray()
            for _ in range(10):
                assert not select.select([], [], [sock], 1.2)[2]
                received += sock.recv(800_000, socket.MSG_WAITALL)
            received += raw.to_the_end(sock)
            (answer,) = raw.answers(bytes(received))
            assert (answer.whole, len(answer.body)) == (True, 20_000_001)


def test_a_client_that_goes_is_noticed(served: Served) -> None:
    """When a write fails."""
    with served.connect() as sock:
        sock.sendall(get(line=b"GET /odd/until-gone HTTP/1.1"))
        assert sock.recv(1)
    served.hear("disconnected")


def test_a_client_at_a_unix_socket_is_missed_at_once(tmp_path: Path) -> None:
    """There the end of both halves is told apart from the end of one; the app has not written a byte."""
    with stage(tmp_path, unix=True) as here:
        worker = here.start(DEBIAN, "answers:app", environment=PLAIN).ready()
        with raw.connect(here.target) as sock:
            sock.sendall(get(line=b"GET /odd/waits HTTP/1.1"))
            here.hear(worker.pid, "STATUS=asked")
        here.hear(worker.pid, "STATUS=disconnected")


def test_a_body_that_is_cut_off_is_told(served: Served) -> None:
    assert served.ask(post(b"hell", b"Content-Length: 5", line=b"POST /told HTTP/1.1")) == []
    served.hear("lost")


def test_continue_comes_when_the_app_reads(served: Served) -> None:
    """And not at all where it does not: then the connection ends, for nobody knows whether a body follows."""
    lines = (b"Expect: 100-continue", b"Content-Length: 5")
    with served.connect() as sock:
        sock.sendall(get(*lines, line=b"POST /odd/read-later HTTP/1.1"))
        served.hear("asked")
        assert sock.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"hello")
        sock.shutdown(socket.SHUT_WR)
        (answer,) = raw.answers(raw.to_the_end(sock))
        assert json.loads(answer.body)["request"] == "POST /odd/read-later hello"
    with served.connect() as sock:
        sock.sendall(get(*lines, line=b"POST /odd/200 HTTP/1.1"))
        (answer,) = raw.answers(raw.to_the_end(sock))
        assert (answer.status, answer.header("connection")) == (200, ["close"])


def test_the_time_for_a_body_begins_with_the_continue(bounded: Served) -> None:
    """An app that reads late has not taken it away from its client."""
    with bounded.connect() as sock:
        lines = (b"Expect: 100-continue", b"Content-Length: 5")
        sock.sendall(get(*lines, line=b"POST /odd/read-much-later HTTP/1.1"))
        assert sock.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert not select.select([sock], [], [], 0.6)[0]
        sock.sendall(b"hello")
        sock.shutdown(socket.SHUT_WR)
        (answer,) = raw.answers(raw.to_the_end(sock))
        assert json.loads(answer.body)["request"] == "POST /odd/read-much-later hello"


def test_a_refusal_reaches_who_is_still_sending(bounded: Served) -> None:
    """A close over unread bytes is a reset, and takes the answer away."""
    for sent in (counted(b"a" * 3_000_000), b"GET / HTTP/1.1\n" + b"a" * 3_000_000):
        (answer,) = bounded.ask(sent)
        assert answer.status in (400, 413)


def test_the_app_slows_the_client_down(served: Served) -> None:
    """What an app does not read stays with the client, but for what the socket and the high-water mark hold."""
    before = _memory(served.worker.pid)
    with served.connect() as sock:
        sock.sendall(get(b"Content-Length: 60000000", line=b"POST /odd/unread HTTP/1.1"))
        served.hear("asked")
        sock.setblocking(False)
        taken = 0
        while select.select([], [sock], [], 0.3)[1]:
            taken += sock.send(bytes(1_000_000))
        assert taken < 60_000_000
    assert _memory(served.worker.pid) - before < 8_000_000


def test_a_scanner_does_not_fill_the_journal(bounded: Served) -> None:
    """A line a second says why; the next one counts what it left out."""
    logged = bounded.logged()
    began, asked = time.monotonic(), 0
    # The second in which it begins may have had its line, for another test.
    while asked < 60 or logged == bounded.logged():
        assert time.monotonic() < began + DEADLINE
        assert [answer.status for answer in bounded.ask(b"GET /\r\n\r\n")] == [400]
        asked += 1
    lines = bounded.worker.output[logged:].splitlines()
    assert all("Invalid HTTP request received: " in line for line in lines)
    # As many as seconds of the clock were seen.
    assert len(lines) <= time.monotonic() - began + 2


def test_access_log(tmp_path: Path) -> None:
    """uvicorn's own line."""
    options = {"UVICORN_ACCESS_LOG": "true", "UVICORN_LOG_LEVEL": "info"}
    for served in _serve(tmp_path, ("debian", "uvloop", "httptools"), **options):
        with served.connect() as sock:
            host, port = sock.getsockname()
            sock.sendall(get(b"Connection: close", line=b"GET /a%20b?c=d HTTP/1.1"))
            raw.to_the_end(sock)
        served.worker.stop()
        assert served.worker.wait() == 0
        (line,) = [line for line in served.worker.output.splitlines() if "GET" in line]
        assert line.startswith("INFO:")
        assert line.endswith(f'{host}:{port} - "GET /a%20b?c=d HTTP/1.1" 200 OK')


def test_limit_concurrency(tmp_path: Path) -> None:
    options = {"UVICORN_LIMIT_CONCURRENCY": "2"}
    for served in _serve(tmp_path, ("debian", "uvloop", "httptools"), **options):
        with served.connect() as sock:
            sock.sendall(get(line=b"GET /odd/waits HTTP/1.1"))
            served.hear("asked")
            (answer,) = served.ask(get())
            assert (answer.status, answer.body) == (503, b"Service Unavailable")


@pytest.fixture
def front(served: Served, tmp_path: Path) -> Iterator[Nginx]:
    """nginx that passes on everything, Upgrade too, but for /admin."""
    if program() is None:
        pytest.skip("no nginx")
    made = Nginx(tmp_path / "nginx", served.here.target, protected="/admin")
    try:
        yield made
    finally:
        made.close()


def test_no_byte_of_a_body_is_a_request_behind_nginx(served: Served, front: Nginx) -> None:
    """The corpus and mutants of it, by way of nginx, which denies /admin: the app sees what nginx has let pass."""
    sent = [case.sent for case in CASES if len(case.sent) < 20_000]
    sent += [mutant(number) for number in range(300)]
    for each in sent:
        with contextlib.suppress(ConnectionError):  # nginx closes over unread bytes
            raw.exchange(front.target, [each])
    for protocol in (b"h2c", b"websocket", b"frob/7"):
        body, head = _upgrade(protocol, b"/unbuffered")
        with raw.connect(front.target) as sock:
            sock.sendall(head)
            select.select([sock], [], [], 0.1)  # so that nginx passes on the head by itself
            sock.sendall(body)
            sock.shutdown(socket.SHUT_WR)
            (answer,) = raw.answers(raw.to_the_end(sock))
            assert json.loads(answer.body)["request"] == "POST /unbuffered " + body.decode()
    front.finish()
    (answer,) = served.ask(get(line=b"GET /odd/seen HTTP/1.1"))
    seen = json.loads(answer.body)
    passed = [each for each in front.passed() if each.upstream != ("",)]
    assert len(passed) >= len(seen["targets"]) > 200
    assert not [target for target in seen["targets"] if target.startswith("/admin")]


@pytest.mark.parametrize("what", ["lifespan", "websocket", "state"])
def test_a_uvicorn_that_does_not_fit_is_found_before_ready(here: Stage, what: str) -> None:
    """B17: its classes ask for other arguments than they did."""
    worker = here.start(DEBIAN, f"unfit:{what}", environment={"UVICORN_WS": "wsproto"})
    assert worker.wait() == 78
    status = here.hear(worker.pid, "STATUS=uvicorn 0.17.6 does not fit this memunit (")
    assert status.endswith("; versions 0.17.6 to 0.54.0 are known to work")
    assert here.said(worker.pid) == []
