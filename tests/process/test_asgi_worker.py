"""ASGI workers: start, serving, errors. Their stop is in test_asgi_drain.py."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from pathlib import Path

import pytest

from tests.support import interpreters
from tests.support.http import Client
from tests.support.interpreters import DEBIAN, newest
from tests.support.workers import APPS, ROOT, Stage, stage

pytest_plugins = ["tests.support.stacks"]


@pytest.mark.parametrize(("server", "target"), [("asgi", "plain:app"), ("wsgi", "plainwsgi:app")])
@pytest.mark.parametrize("variable", ["MEMUNIT_ACCESS_LOG", "UVICORN_ACCESS_LOG"])
def test_the_access_log(here: Stage, server: str, target: str, variable: str) -> None:
    """Its lines appear, without a log level beside it. Variables without an effect are named."""
    environment = {variable: "true", "UVICORN_WORKERS": "4", "UVICORN_RELOAD_DIRS": "x", "UVICORN_FROBS": "1"}
    worker = here.start(DEBIAN, target, server=server, environment=environment).ready()
    with Client(here.target) as client:
        client.get("/a?b=c")
        port = client.socket.getsockname()[1]
    worker.stop()
    assert worker.wait() == 0
    assert f'127.0.0.1:{port} - "GET /a?b=c HTTP/1.1" 200' in worker.output
    for line in (
        "UVICORN_WORKERS has no effect: use workers.count",
        "UVICORN_RELOAD_DIRS has no effect: use memunit reload",
        "UVICORN_FROBS has no effect",
    ):
        assert f"memunit worker: {line}\n" in worker.output


def test_an_ipv4_client_of_a_dual_stack_socket(tmp_path: Path) -> None:
    """ListenStream=8005: it is 127.0.0.1, and trusted as a proxy by that name. So are the hops that it names."""
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as both:
        both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        both.bind(("::ffff:127.0.0.1", 0))
        both.listen()
        target = f"127.0.0.1:{both.getsockname()[1]}"
        with stage(tmp_path, sockets=(both,)) as here:
            worker = here.start(DEBIAN, "plain:app", environment={"UVICORN_WS": "wsproto"}).ready()
            with Client(target) as client:
                seen = json.loads(client.get("/scope").body)
                assert seen["client"] == list(client.socket.getsockname())
                client.ask(
                    "/scope", "X-Forwarded-For: 192.0.2.7, ::ffff:127.0.0.1", "X-Forwarded-Proto: https"
                )
                seen = json.loads(client.read().body)
                assert (seen["client"], seen["scheme"]) == (["192.0.2.7", 0], "https")
            with Client(target) as client:
                assert client.upgrade("/scope").status == 101
                client.send_frame(1, b"?")
                assert json.loads(client.read_frame()[1])["client"] == list(client.socket.getsockname())
            worker.kill()
            here.start(DEBIAN, "plainwsgi:app", server="wsgi").ready()
            with Client(target) as client:
                seen = json.loads(client.get("/environ").body)
                assert (seen["REMOTE_ADDR"], seen["SERVER_NAME"]) == ("127.0.0.1", "127.0.0.1")
                client.ask("/environ", "X-Forwarded-For: ::ffff:192.0.2.7")
                assert json.loads(client.read().body)["REMOTE_ADDR"] == "192.0.2.7"


def test_serves_what_it_inherits(stack: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """TCP and Unix sockets at once, with TCP_NODELAY on what it accepts."""
    python, environment = stack
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    tcp = socket.socket()
    with unix, tcp:
        unix.bind(str(tmp_path / "app.sock"))
        tcp.bind(("127.0.0.1", 0))
        for each in (unix, tcp):
            each.listen()
        with stage(tmp_path, sockets=(unix, tcp)) as here:
            worker = here.start(python, "plain:app", environment=environment).ready()
            for target in (str(tmp_path / "app.sock"), f"127.0.0.1:{tcp.getsockname()[1]}"):
                with Client(target) as client:
                    response = client.get()
                    assert (response.status, response.body) == (200, b"ok %d" % worker.pid)
                    assert not response.closes
                    assert "date" in response.headers
                    if "/" not in target:
                        assert client.get("/nodelay").body == b"1"
            worker.stop()
            assert worker.wait() == 0
            said = [
                line
                for line in here.said(worker.pid)
                if not line.startswith("STATUS=finishing open connections")
            ]
            assert said == ["STATUS=finishing open requests", "STATUS=shut down"]
            assert worker.output == ""  # nothing to fill a journal with


def test_it_waits_in_no_accept_though_somebody_has_made_its_socket_blocking(here: Stage) -> None:
    """As systemd does, when it starts a successor of the master with the same socket."""
    here.start(DEBIAN, "plain:app").ready()
    os.set_blocking(here.sockets[0].fileno(), True)
    with Client(here.target) as client:
        assert client.get().status == 200
    assert os.get_blocking(here.sockets[0].fileno()) is False


def test_app_sees_its_own_world(here: Stage) -> None:
    """The working directory comes first, nothing of ours is on the path, no variable is left to mislead."""
    here.start(DEBIAN, "notify:app").ready()
    with Client(here.target) as client:
        seen = json.loads(client.get().body)
    assert seen["path"][0] == str(ROOT / "tests" / "support" / "apps")
    assert not any(entry.startswith(str(ROOT / "memunit")) or entry == str(ROOT) for entry in seen["path"])
    assert not seen["start"]
    assert not seen["units"]
    assert seen["version"]
    assert not {"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} & set(seen["variables"])
    assert seen["inheritable"] == []


def test_factory(here: Stage) -> None:
    here.start(DEBIAN, "failing:create_app()").ready()
    with Client(here.target) as client:
        assert client.get().body == b"made"


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (
            "broken.web:app",
            "cannot import broken.web: ModuleNotFoundError: No module named 'no_such_dependency'",
        ),
        (
            "nowhere.web:app",
            "cannot import nowhere.web: ModuleNotFoundError: No module named 'nowhere' (looked in ",
        ),
        ("failing:nothing", "failing has no attribute 'nothing'"),
        ("failing:number", "failing:number is not callable: it is an int, not an app"),
        (
            "failing:create_app",
            "failing:create_app takes no arguments, so it is not an app but makes one; write ",
        ),
        ("failing:broken_factory()", "failing:broken_factory() failed: LookupError: no settings"),
        ("failing", "'failing' does not name an app; write module:attribute"),
        ("failing:app:more", "'failing:app:more' does not name an app"),
    ],
)
def test_no_app(here: Stage, target: str, says: str) -> None:
    """One line in STATUS, the same on stderr, a traceback where the app raised, status 78 and no READY."""
    worker = here.start(DEBIAN, target)
    assert worker.wait() == 78
    status = here.hear(worker.pid, "STATUS=")
    assert status.startswith("STATUS=" + says)
    assert status.removeprefix("STATUS=") in worker.output
    assert here.said(worker.pid) == []
    assert ("Traceback" in worker.output) == ("no_such_dependency" in says or "LookupError" in says)
    assert "worker/target.py" not in worker.output  # the app's frames, not ours


def test_traceback_names_the_line(here: Stage) -> None:
    worker = here.start(DEBIAN, "broken.web:app")
    worker.wait()
    assert "import no_such_dependency" in worker.output
    assert "broken/web.py" in worker.output


def test_syntax_error(here: Stage, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def app(:\n")
    worker = here.start(DEBIAN, "bad:app", directory=tmp_path)
    assert worker.wait() == 78
    assert here.hear(worker.pid, "STATUS=").startswith("STATUS=cannot import bad: SyntaxError: ")
    assert "def app(:" in worker.output


def test_no_uvicorn(here: Stage, tmp_path: Path) -> None:
    python = interpreters.bare(tmp_path / "bare")
    worker = here.start(python, "plain:app")
    assert worker.wait() == 78
    assert f"{python} -m pip install uvicorn" in here.hear(worker.pid, "STATUS=")


def test_start_up_fails(here: Stage) -> None:
    worker = here.start(DEBIAN, "failing:no_start")
    assert worker.wait() == 70
    assert here.hear(worker.pid, "STATUS=") == r"STATUS=the app's start-up failed: OSError: no d\xe4tabase"
    assert here.said(worker.pid) == []
    assert "Application startup failed" in worker.output


def test_stop_during_start_up(here: Stage) -> None:
    """An app that hangs in its start-up is cancelled, and gets to clean up."""
    worker = here.start(DEBIAN, "failing:slow_start")
    here.hear(worker.pid, "STATUS=starting")
    worker.stop()
    assert worker.wait() == 0
    assert "cleaned up" in worker.output
    assert not any(line.startswith("READY") for line in here.said(worker.pid))


def test_shutdown_fails(here: Stage) -> None:
    worker = here.start(DEBIAN, "failing:bad_end").ready()
    worker.stop()
    assert worker.wait() == 70
    assert "disk full" in worker.output


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("datagram", "descriptor 3 (s0.socket) is a datagram socket"),
        ("idle", "descriptor 3 (s0.socket) does not listen"),
        ("none", "no listening socket was passed"),
    ],
)
def test_unfit_sockets(tmp_path: Path, kind: str, says: str) -> None:
    with socket.socket(type=socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM) as unfit:
        unfit.bind(("127.0.0.1", 0))
        with stage(tmp_path, sockets=(unfit,)) as here:
            if kind == "none":
                here.sockets = ()
            worker = here.start(DEBIAN, "plain:app")
            assert worker.wait() == 78
            assert here.hear(worker.pid, "STATUS=").startswith("STATUS=" + says)


def test_what_the_newest_uvicorn_refuses(here: Stage) -> None:
    python = newest()
    if python is None:
        pytest.skip("the newest uvicorn is not to be had")
    worker = here.start(python, "plain:app", environment={"UVICORN_WS": "nope", "UVICORN_SSL_KEYFILE": "x"})
    assert worker.wait() == 78
    assert here.hear(worker.pid, "STATUS=").startswith("STATUS=uvicorn refuses UVICORN_WS=nope: ")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("UVICORN_TIMEOUT_KEEP_ALIVE", "soon", "UVICORN_TIMEOUT_KEEP_ALIVE=soon: a whole number is needed"),
        ("UVICORN_HTTP", "nope", "UVICORN_HTTP=nope: auto, httptools or h11 is needed"),
        ("UVICORN_HTTP", "zttp", "UVICORN_HTTP=zttp: auto, httptools or h11 is needed"),
        ("UVICORN_WS", "nope", "uvicorn refuses UVICORN_WS=nope: "),
        ("UVICORN_LOG_LEVEL", "nope", "uvicorn refuses UVICORN_LOG_LEVEL=nope: "),
    ],
)
def test_settings_of_uvicorn(here: Stage, name: str, value: str, told: str) -> None:
    worker = here.start(DEBIAN, "plain:app", environment={"UVICORN_WS": "auto", name: value})
    assert worker.wait() == 78
    assert here.hear(worker.pid, "STATUS=").startswith(f"STATUS={told}")


def test_errors_are_logged(here: Stage) -> None:
    worker = here.start(DEBIAN, "plain:app").ready()
    with Client(here.target) as client:
        assert client.get("/error").status == 500
    worker.stop()
    worker.wait()
    assert "RuntimeError: asked for" in worker.output


def test_pings_until_the_end(stack: tuple[Path, dict[str, str]], here: Stage) -> None:
    """From READY on, and while it drains too."""
    python, environment = stack
    worker = here.start(python, "plain:app", environment=environment, watchdog_usec=100_000).ready()
    for _ in range(3):
        here.hear(worker.pid, "WATCHDOG=1")
    with Client(here.target) as client:
        # An upload that ends when we say, and not when a starved machine comes to it.
        client.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\no")
        with Client(here.target) as second:  # accepted in order: the first one has been, too
            assert second.get().status == 200
        worker.stop()
        here.hear(worker.pid, "STATUS=finishing")
        here.said(worker.pid).clear()
        for _ in range(3):
            here.hear(worker.pid, "WATCHDOG=1")
        client.send("k")
        assert client.read().closes
    assert worker.wait() == 0


@pytest.mark.parametrize(("server", "target"), [("asgi", "plain:app"), ("wsgi", "plainwsgi:app")])
def test_it_pings_and_stops_with_as_many_clients_as_it_may_have(
    here: Stage, tmp_path: Path, server: str, target: str
) -> None:
    """Out of descriptors it can't make a socket; it is no worker that hangs, and its clients lose nothing."""
    module = target.partition(":")[0]
    (tmp_path / "few.py").write_text(
        f"import resource, sys\nsys.path.insert(0, {str(APPS)!r})\nfrom {module} import app\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))\n"
    )
    worker = here.start(DEBIAN, "few:app", server=server, directory=tmp_path, watchdog_usec=100_000).ready()
    with contextlib.ExitStack() as clients:
        first = clients.enter_context(Client(here.target))
        assert first.get().status == 200
        for _ in range(40):
            clients.enter_context(Client(here.target))
        while "Too many open files" not in worker.output:
            here.hear(worker.pid, "WATCHDOG=1")
        here.said(worker.pid).clear()
        for _ in range(3):
            here.hear(worker.pid, "WATCHDOG=1")
        assert first.get().status == 200
        worker.stop()
    assert worker.wait() == 0


def test_a_ping_for_which_there_was_no_room_is_tried_again_at_once(here: Stage) -> None:
    """The next one of itself would come in five minutes: a queue that somebody floods has room for moments only."""
    fillers = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as flooder:
        flooder.connect(here.notify.path)
        with contextlib.suppress(BlockingIOError):
            while True:
                flooder.send(b"X=1")
                fillers += 1
        here.notify.receive()
        for _ in range(fillers - 1):
            flooder.send(b"X=1")
        # READY=1 takes the last room, and an answer says that the first ping has been tried.
        worker = here.start(DEBIAN, "plain:app", watchdog_usec=600_000_000)
        with Client(here.target) as client:
            assert client.get("/").status == 200
        with pytest.raises(BlockingIOError):
            flooder.send(b"X=1")
    worker.ready()
    here.hear(worker.pid, "WATCHDOG=1")


def test_blocked_loop_does_not_ping(here: Stage) -> None:
    """A worker that is stopped dead is not kept alive by any thread; SIGABRT writes every thread's stack."""
    worker = here.start(DEBIAN, "plain:app", watchdog_usec=100_000).ready()
    here.hear(worker.pid, "WATCHDOG=1")
    with Client(here.target) as client:
        client.ask("/stuck")
        here.hear(worker.pid, "STATUS=stuck")
        here.said(worker.pid).clear()
        with pytest.raises(TimeoutError):
            here.hear(worker.pid, "WATCHDOG=1", timeout=0.3)
        worker.signal(signal.SIGABRT)
        assert worker.wait() == -signal.SIGABRT
    assert "in _stuck" in worker.output
    assert "most recent call first" in worker.output
