"""WSGI workers: PEP 3333 to the letter, errors, bodies, threads. Their stop is in test_wsgi_drain.py."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.harness import let_go
from tests.support.http import Client, Response
from tests.support.interpreters import DEBIAN
from tests.support.workers import RunningWorker, Stage, stage

pytest_plugins = ["tests.support.stacks"]

Stack = tuple[Path, dict[str, str]]


def _start(here: Stage, stack: Stack, app: str = "plainwsgi:app", **options: str) -> RunningWorker:
    python, environment = stack
    return here.start(python, app, server="wsgi", environment={**environment, **options}).ready()


def _to_its_end(worker: RunningWorker) -> str:
    """Stop it: all that it has written. What it writes of an answer may come after the answer."""
    worker.stop()
    assert worker.wait() == 0
    return worker.output


@pytest.fixture(params=["h11", "httptools"])
def parser(request: pytest.FixtureRequest) -> Stack:
    """Debian's interpreter and uvicorn, with either parser."""
    return DEBIAN, {"UVICORN_HTTP": request.param, "UVICORN_LOOP": "asyncio"}


@pytest.fixture
def client(here: Stage) -> Iterator[Client]:
    with Client(here.target) as made:
        yield made


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_serves_what_it_inherits(stack: Stack, tmp_path: Path, unix: bool) -> None:
    """On one connection after the other, with nothing that wsgiref's validator has to say."""
    with stage(tmp_path, unix=unix) as here:
        worker = _start(here, stack, "plainwsgi:validated")
        for _ in range(3):
            with Client(here.target) as client:
                for _ in range(3):
                    response = client.get()
                    assert (response.status, response.body) == (200, b"ok %d" % worker.pid)
                    assert not response.closes
        worker.stop()
        assert worker.wait() == 0
        assert worker.output == ""


def test_environ(here: Stage, parser: Stack) -> None:
    """CGI's names, bytes as Latin-1, and nothing that a client could pass off as something else."""
    _start(here, parser)
    with Client(here.target) as client:
        client.ask(
            "/environ",
            "Content-Type: text/x",
            "X-Two: 1",
            "x-two: 2",
            "Cookie: a=1",
            "Cookie: b=2",
            "X_Two: 3",
            "Proxy: evil",
        )
        seen = json.loads(client.read().body)
        host, port = here.target.split(":")
        assert seen["HTTP_X_TWO"] == "1,2"
        assert seen["HTTP_COOKIE"] == "a=1;b=2"
        assert (seen["CONTENT_TYPE"], seen["HTTP_HOST"]) == ("text/x", "test")
        assert (seen["SERVER_NAME"], seen["SERVER_PORT"], seen["REMOTE_ADDR"]) == (host, port, "127.0.0.1")
        assert (seen["REQUEST_METHOD"], seen["SERVER_PROTOCOL"]) == ("GET", "HTTP/1.1")
        assert (seen["SCRIPT_NAME"], seen["wsgi.url_scheme"]) == ("", "http")
        assert not {"HTTP_PROXY", "HTTP_CONTENT_TYPE", "CONTENT_LENGTH"} & set(seen)
        client.ask("/environ?q=%C3%A4&x=1")
        assert json.loads(client.read().body)["QUERY_STRING"] == "q=%C3%A4&x=1"
        client.send("GET http://elsewhere/environ HTTP/1.1\r\nHost: test\r\n\r\n")
        seen = json.loads(client.read().body)
        assert (seen["PATH_INFO"], seen["HTTP_HOST"]) == ("/environ", "elsewhere")


@pytest.mark.parametrize(("path", "seen"), [("/shop/environ", "/environ"), ("/environ", "/environ")])
def test_script_name(here: Stage, parser: Stack, path: str, seen: str) -> None:
    """Whether the proxy in front leaves the prefix in the path or takes it off."""
    _start(here, parser, SCRIPT_NAME="/shop")
    with Client(here.target) as client:
        found = json.loads(client.get(path).body)
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("/shop", seen)


def test_the_proxy_at_a_unix_socket_is_believed(tmp_path: Path, parser: Stack) -> None:
    with stage(tmp_path, unix=True) as here:
        _start(here, parser, "plainwsgi:validated", FORWARDED_ALLOW_IPS="192.0.2.9")
        with Client(here.target) as client:
            forwarded = "X-Forwarded-For: 203.0.113.66, 198.51.100.7, 192.0.2.9"
            client.ask("/environ", forwarded, "X-Forwarded-Proto: https")
            seen = json.loads(client.read().body)
            assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"]) == ("198.51.100.7", "https")
            assert (seen["SERVER_NAME"], seen["SERVER_PORT"]) == ("test", "443")
            client.ask("/environ")
            seen = json.loads(client.read().body)
            assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"]) == ("", "http")


def _bad(here: Stage, name: str, method: str = "GET") -> Response:
    with Client(here.target) as client:
        client.send(f"{method} /bad/{name} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        return client.read(head_only=method == "HEAD")


def test_answers_as_the_app_gives_them(here: Stage, parser: Stack) -> None:
    worker = _start(here, parser)
    assert _bad(here, "written").body == b"written and yielded"
    recovered = _bad(here, "recover")
    assert (recovered.status, recovered.body) == (503, b"sorry")
    assert _bad(here, "bare").headers["content-length"] == "4"
    assert _bad(here, "nothing").headers["content-length"] == "0"
    assert _bad(here, "bare", "HEAD").headers["content-length"] == "4"
    for status in (204, 304):
        response = _bad(here, str(status), "HEAD")
        assert response.status == status
        assert not {"content-length", "transfer-encoding"} & set(response.headers)
    assert worker.output == ""


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("raise", "RuntimeError: asked for"),
        ("twice", "AssertionError: start_response() is called again"),
        ("silent", "AssertionError: the app answers before it has called start_response()"),
        ("texts", "TypeError: a WSGI answer is made of bytes, not of str"),
        ("split", "ValueError: the header 'X-One' has a line break in it"),
    ],
)
def test_errors_before_the_answer(here: Stage, parser: Stack, name: str, says: str) -> None:
    worker = _start(here, parser)
    assert _bad(here, name).status == 500
    with Client(here.target) as client:
        assert client.get().status == 200
    assert says in _to_its_end(worker)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("middle", "RuntimeError: asked for"),
        ("late", "RuntimeError: too late"),
    ],
)
def test_errors_within_the_answer(here: Stage, parser: Stack, name: str, says: str) -> None:
    """The client must see that its answer is not whole."""
    worker = _start(here, parser)
    with pytest.raises((EOFError, ValueError)):
        _bad(here, name)
    worker.stop()
    assert worker.wait() == 0
    assert says in worker.output


def test_an_answer_that_is_too_short_does_not_look_whole(here: Stage, parser: Stack) -> None:
    """A 500 if the app had done with it before its head was out, which is up to its thread; else it is cut off."""
    worker = _start(here, parser)
    with contextlib.suppress(EOFError):
        assert _bad(here, "short").status == 500
    assert "Response content shorter than Content-Length" in _to_its_end(worker)


def test_an_answer_ends_at_its_content_length(here: Stage, parser: Stack) -> None:
    worker = _start(here, parser)
    assert _bad(here, "long").body == b"long"
    assert "longer than its Content-Length" in _to_its_end(worker)


def test_exit_of_the_app_is_an_error_of_the_request(here: Stage, parser: Stack) -> None:
    worker = _start(here, parser)
    with Client(here.target) as client:
        assert client.get("/exit").status == 500
    with Client(here.target) as client:
        assert client.get().body == b"ok %d" % worker.pid
    assert "the app raised SystemExit" in _to_its_end(worker)


@pytest.mark.parametrize("path", ["/bad/bare", "/stream?n=3&s=0"])
def test_http_1_0(here: Stage, stack: Stack, path: str) -> None:
    """No chunks: the end of the connection is the end of the answer."""
    _start(here, stack)
    with Client(here.target) as client:
        client.send(f"GET {path} HTTP/1.0\r\n\r\n")
        whole = b""
        while block := client.socket.recv(65536):
            whole += block
    head, _, body = whole.partition(b"\r\n\r\n")
    assert body == (b"bare" if "bare" in path else b"0\n1\n2\nok")
    assert b"transfer-encoding" not in head.lower()


def test_streams_as_it_yields(here: Stage, stack: Stack, tmp_path: Path) -> None:
    """The first block arrives while the app is still at work, and close() is called at the end."""
    hold = tmp_path / "hold"
    os.mkfifo(hold)
    worker = _start(here, stack)
    with Client(here.target) as client:
        client.ask(f"/stream?on={hold}")
        client.read(head_only=True)
        assert client._line() == "6"
        assert client._exactly(6) == b"first\n"
        assert not any("closed" in line for line in here.said(worker.pid))
        let_go(hold)
        here.hear(worker.pid, "STATUS=closed")


def test_endless_answer_ends_with_its_client(here: Stage, stack: Stack) -> None:
    """A client that reads slowly slows the app down, and one that goes ends it; without a word in the log."""
    worker = _start(here, stack)
    with Client(here.target) as client:
        client.ask("/endless")
        assert client.socket.recv(1000)
    here.hear(worker.pid, "STATUS=closed")
    worker.stop()
    assert worker.wait() == 0
    assert worker.output == ""


def test_large_answer_to_a_slow_reader(here: Stage, stack: Stack) -> None:
    _start(here, stack)
    with Client(here.target) as client:
        assert client.get("/large?size=20000000").body == b"x" * 20_000_000


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_uploads(here: Stage, stack: Stack, chunked: bool) -> None:
    """Bodies that are read ahead, and such that are streamed, one after the other on one connection."""
    _start(here, stack)
    pattern = bytes(place % 251 for place in range(251))
    with Client(here.target) as client:
        for size in (0, 1, 65536, 65537, 5_000_000):
            body = (pattern * (size // 251 + 1))[:size]
            how = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
            client.send(f"POST /echo HTTP/1.1\r\nHost: test\r\n{how}\r\n\r\n")
            if chunked:
                for start in range(0, size, 100_000):
                    part = body[start : start + 100_000]
                    client.send(b"%x\r\n%b\r\n" % (len(part), part))
                client.send(b"0\r\n\r\n")
            else:
                client.send(body)
            assert client.read().body == body


def test_lines_of_a_body(here: Stage, stack: Stack) -> None:
    _start(here, stack)
    with Client(here.target) as client:
        body = "one\ntwo\n" + "x" * 70_000
        client.send(f"POST /lines HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n{body}")
        assert json.loads(client.read().body) == ["one\n", "two\n", "x" * 70_000]


def test_continue_is_said_when_the_app_reads(here: Stage, stack: Stack) -> None:
    _start(here, stack)
    with Client(here.target) as client:
        head = "HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        client.send("POST /echo " + head)
        assert client.socket.recv(4096).startswith(b"HTTP/1.1 100 ")
        client.send("hello")
        assert client.read().body == b"hello"
    with Client(here.target) as client:
        client.send("POST /unread " + head)
        assert client.read().body == b"ok unread"


def test_a_slow_upload_holds_no_thread(here: Stage, parser: Stack) -> None:
    worker = _start(here, parser, MEMUNIT_THREADS="1")
    with Client(here.target) as slow, Client(here.target) as other:
        slow.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhel")
        assert other.get().body == b"ok %d" % worker.pid
        slow.send("lo")
        assert slow.read().body == b"hello"


def test_threads_run_at_once(here: Stage, parser: Stack) -> None:
    _start(here, parser, MEMUNIT_THREADS="3")
    clients = [Client(here.target) for _ in range(3)]
    for client in clients:
        client.ask("/meet")
    for client in clients:
        with client:
            assert client.read().status == 200


def test_an_exhausted_worker_leaves_connections_to_its_siblings(here: Stage, parser: Stack) -> None:
    """Its only thread is busy: every new connection is the sibling's, and it accepts again afterwards."""
    # Its client may take as long as the sibling and the twenty need.
    busy = _start(here, parser, MEMUNIT_THREADS="1", MEMUNIT_HTTP_BODY_TIMEOUT="600")
    with Client(here.target) as client:
        client.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert client.read(head_only=True).status == 100  # its thread is reading
        sibling = _start(here, parser, MEMUNIT_THREADS="1")
        for _ in range(20):
            with Client(here.target) as other:
                assert other.get().body == b"ok %d" % sibling.pid
        client.send("hello")
        assert client.read().body == b"hello"
    sibling.stop()
    assert sibling.wait() == 0
    with Client(here.target) as other:
        assert other.get().body == b"ok %d" % busy.pid


def test_pings_while_a_thread_is_free(here: Stage, parser: Stack) -> None:
    python, environment = parser
    environment = {**environment, "MEMUNIT_THREADS": "2", "UVICORN_TIMEOUT_KEEP_ALIVE": "600"}
    # At this rate a ping is given up that finds the queue full, so that none comes later than it was asked for.
    worker = here.start(
        python, "plainwsgi:app", server="wsgi", environment=environment, watchdog_usec=60_000
    ).ready()
    with contextlib.ExitStack() as stack:
        one, two, *loop = (stack.enter_context(Client(here.target)) for _ in range(4))
        for client in loop:
            assert client.get().status == 200  # accepted: an exhausted worker accepts nobody
        one.ask("/stuck")
        here.hear(worker.pid, "STATUS=stuck")
        here.said(worker.pid).clear()
        for _ in range(3):
            here.hear(worker.pid, "WATCHDOG=1")
        two.ask("/stuck")
        here.hear(worker.pid, "STATUS=stuck")
        # The thread may have asked for a ping just before. Behind what the loop refuses by itself, it has been sent.
        loop[0].send("GET / HTTP/9\r\n\r\n")
        assert loop[0].read().status == 400
        here.said(worker.pid).clear()
        with pytest.raises(TimeoutError):
            here.hear(worker.pid, "WATCHDOG=1", timeout=0.3)
        loop[1].send("GET / HTTP/9\r\n\r\n")
        assert loop[1].read().status == 400  # the loop has come round since: it could have pinged
        assert "WATCHDOG=1" not in here.said(worker.pid)
        worker.signal(signal.SIGABRT)
        assert worker.wait() == -signal.SIGABRT
    assert worker.output.count("in _stuck") == 2


_UPLOAD = "POST /sum HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("kind", ["heads alone", "slow uploads", "readers that do not read"])
def test_pings_while_every_thread_waits_for_its_client(here: Stage, parser: Stack, kind: str) -> None:
    """The pool is not stuck: it is the clients that take their time."""
    python, environment = parser
    environment = {**environment, "MEMUNIT_THREADS": "2"}
    worker = here.start(
        python, "plainwsgi:app", server="wsgi", environment=environment, watchdog_usec=100_000
    ).ready()
    with Client(here.target) as one, Client(here.target) as two:
        for client in (one, two):
            if kind == "readers that do not read":
                client.ask("/endless")
                assert client.socket.recv(1, 2) == b"H"
            else:
                client.send(_UPLOAD)
        here.said(worker.pid).clear()
        for _ in range(4):
            here.hear(worker.pid, "WATCHDOG=1")
            if kind == "slow uploads":
                one.send("1\r\nx\r\n")
                two.send("1\r\nx\r\n")
        if kind != "readers that do not read":
            for client in (one, two):
                client.send("0\r\n\r\n")
                assert client.read().body == (b"4" if kind == "slow uploads" else b"0")


def test_pings_while_every_thread_streams(here: Stage, parser: Stack) -> None:
    python, environment = parser
    environment = {**environment, "MEMUNIT_THREADS": "1"}
    worker = here.start(
        python, "plainwsgi:app", server="wsgi", environment=environment, watchdog_usec=100_000
    ).ready()
    with Client(here.target) as client:
        client.ask("/stream?n=100&s=0.01")
        assert client.socket.recv(1, 2) == b"H"
        here.said(worker.pid).clear()
        for _ in range(3):
            here.hear(worker.pid, "WATCHDOG=1")
        assert client.read().body.endswith(b"99\nok")


@pytest.mark.parametrize(
    ("app", "server", "says"),
    [
        ("plain:app", "wsgi", 'plain:app is an ASGI app: say server = "asgi"'),
        ("plainwsgi:app", "asgi", 'plainwsgi:app is a WSGI app: say server = "wsgi"'),
    ],
)
def test_the_other_kind_of_app(here: Stage, app: str, server: str, says: str) -> None:
    worker = here.start(DEBIAN, app, server=server)
    assert worker.wait() == 78
    assert here.hear(worker.pid, "STATUS=") == "STATUS=" + says
