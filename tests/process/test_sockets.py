"""Sockets that systemd passes, and those that we bind."""

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from memunit.master import sockets
from memunit.master.child import Launch
from memunit.master.sockets import bind, describe, inherited, is_stream
from memunit.master.spawn import fork_call, launch
from tests.support.isolated import isolated
from tests.support.wait import DEADLINE, wait_end

TELL = """
import os
from memunit.master.sockets import describe, inherited, is_stream
for name, sock in inherited():
    flags = sock.getblocking(), os.get_inheritable(sock.fileno())
    print(name, sock.fileno(), describe(sock), is_stream(sock), *flags)
print(sorted(key for key in os.environ if key.startswith("LISTEN_")), inherited())
"""


def tell(what: Launch) -> None:
    child = launch(what)
    assert wait_end(child).status == 0
    child.close()


def test_what_is_passed_is_taken_by_name(tmp_path: Path) -> None:
    def body() -> None:
        out = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
        os.dup2(out, 1)
        with (
            bind(("tcp", "127.0.0.1", 0)) as web,
            bind(("unix", str(tmp_path / "s"))) as admin,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        ):
            web.setblocking(False)
            datagrams.bind(("127.0.0.1", 0))
            tell(
                Launch(
                    argv=(sys.executable, "-c", TELL),
                    environment={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])},
                    sockets=(("web", web.fileno()), ("admin", admin.fileno()), ("d", datagrams.fileno())),
                )
            )
            assert (tmp_path / "out").read_text().splitlines() == [
                f"web 3 {describe(web)} True True False",
                f"admin 4 {tmp_path}/s True True False",
                f"d 5 {describe(datagrams)} False True False",
                "[] []",
            ]

    isolated(body)


def test_systemds_own_activation(tmp_path: Path) -> None:
    """systemd-socket-activate starts its program at the first connection."""
    path = tmp_path / "activated"
    activate = subprocess.Popen(
        ["systemd-socket-activate", f"--listen={path}", "--fdname=front", sys.executable, "-c", TELL],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert activate.stderr is not None
    for line in activate.stderr:
        if "Listening on" in line:
            break
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        out, _ = activate.communicate(timeout=DEADLINE)
    assert out.splitlines()[0] == f"front 3 {path} True True False"


def test_what_is_meant_for_another_process_is_left_alone() -> None:
    def body() -> None:
        with bind(("tcp", "127.0.0.1", 0)):
            os.environ.update(LISTEN_FDS="1", LISTEN_PID="1", LISTEN_FDNAMES="web")
            assert inherited() == []
            assert "LISTEN_FDS" not in os.environ
            assert "LISTEN_FDNAMES" not in os.environ

    isolated(body)


def test_passed_tcp_sockets_send_at_once() -> None:
    """In a .socket unit NoDelay=yes would be a warning for each Unix socket."""

    def body() -> int:
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="web")
        ((_, web),) = inherited()
        return int(not web.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    with socket.create_server(("127.0.0.1", 0)) as plain:
        assert plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
        child = fork_call(body, Launch(argv=(), environment={}, sockets=(("web", plain.fileno()),)))
        assert wait_end(child).status == 0
        child.close()


def test_nothing_passed_is_nothing() -> None:
    assert "LISTEN_FDS" not in os.environ
    assert inherited() == []


def test_a_descriptor_that_is_no_socket_is_named() -> None:
    def body() -> int:
        os.environ["LISTEN_PID"] = str(os.getpid())
        with pytest.raises(OSError, match=r"descriptor 3.*'log'") as caught:
            inherited()
        return int(caught.value.errno != errno.ENOTSOCK)

    null = os.open("/dev/null", os.O_RDONLY)
    child = fork_call(body, Launch(argv=(), environment={}, sockets=(("log", null),)))
    os.close(null)
    assert wait_end(child).status == 0
    child.close()


def test_variables_that_do_not_fit_say_so() -> None:
    def body() -> None:
        os.environ.update(LISTEN_FDS="nonsense", LISTEN_PID=str(os.getpid()))
        with pytest.raises(OSError, match="LISTEN_FDS"):
            inherited()
        assert "LISTEN_FDS" not in os.environ

    isolated(body)


def answers(bound: socket.socket, to: object, family: int = socket.AF_INET) -> None:
    with socket.socket(family) as client:
        client.connect(to)  # type: ignore[arg-type]
        connection, _ = bound.accept()
        with connection:
            if family != socket.AF_UNIX:
                assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            connection.send(b"x")
            assert client.recv(1) == b"x"


def test_tcp() -> None:
    with bind(("tcp", "127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
        assert describe(bound) == f"127.0.0.1:{port}"
        assert is_stream(bound)
        assert bound.getblocking()
        assert not os.get_inheritable(bound.fileno())
        assert bound.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        answers(bound, ("127.0.0.1", port))


def test_tcp_v6() -> None:
    with bind(("tcp", "::1", 0)) as bound:
        port = bound.getsockname()[1]
        assert describe(bound) == f"[::1]:{port}"
        answers(bound, ("::1", port), socket.AF_INET6)


@pytest.mark.parametrize("host", ["::", ""])
def test_a_bare_port_is_both_families(host: str) -> None:
    with bind(("tcp", host, 0)) as bound:
        port = bound.getsockname()[1]
        assert describe(bound) == f"[::]:{port}"
        answers(bound, ("::1", port), socket.AF_INET6)
        answers(bound, ("127.0.0.1", port))


def test_a_port_in_use_is_named() -> None:
    with bind(("tcp", "127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(OSError, match="Address already in use") as caught:
            bind(("tcp", "127.0.0.1", port))
        assert caught.value.errno == errno.EADDRINUSE
        assert caught.value.filename == f"127.0.0.1:{port}"


def test_a_port_can_be_bound_again_while_old_connections_linger() -> None:
    # Of an address that nobody else uses: the port of any other may be somebody's meanwhile.
    host = "127.77.0.1"
    with bind(("tcp", host, 0)) as first:
        port = first.getsockname()[1]
        with socket.create_connection((host, port)) as client:
            connection, _ = first.accept()
            connection.close()
            assert client.recv(1) == b""
    with bind(("tcp", host, port)) as second:
        answers(second, (host, port))


@pytest.mark.parametrize(
    ("address", "number", "shown"),
    [
        (("tcp", "192.0.2.1", 80), errno.EADDRNOTAVAIL, "192.0.2.1:80"),
        (("tcp", "2001:db8::1", 80), errno.EADDRNOTAVAIL, "[2001:db8::1]:80"),
        (("tcp", "127.0.0.1", 65536), errno.EINVAL, "127.0.0.1:65536"),
        (("tcp", "127.0.0.1", -1), errno.EINVAL, "127.0.0.1:-1"),
        (("unix", "/nonexistent/x.sock"), errno.ENOENT, "/nonexistent/x.sock"),
        (("unix", "/etc/passwd"), errno.EADDRINUSE, "/etc/passwd"),
        (("unix", "/tmp/" + "x" * 200), errno.ENAMETOOLONG, "/tmp/" + "x" * 200),
        (("unix", "@" + "x" * 200), errno.EINVAL, "@" + "x" * 200),
    ],
)
def test_what_cannot_be_bound(address: tuple[str, str], number: int, shown: str) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011  the number is looked at below
        bind(address)
    assert (caught.value.errno, caught.value.filename) == (number, shown)
    assert caught.value.strerror


def test_a_privileged_port_without_the_right() -> None:
    def body() -> None:
        if Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text().strip() == "0":
            return
        if os.getuid() == 0:
            os.setuid(65534)
        with pytest.raises(PermissionError) as caught:
            bind(("tcp", "127.0.0.1", 81))
        assert caught.value.filename == "127.0.0.1:81"

    isolated(body)


def test_unix(tmp_path: Path) -> None:
    path = str(tmp_path / "x.sock")
    bound = bind(("unix", path))
    assert describe(bound) == path
    answers(bound, path, socket.AF_UNIX)
    bound.close()
    assert not Path(path).exists()
    bound.close()


def test_abstract() -> None:
    name = f"@memunit-test-{os.getpid()}"
    with bind(("unix", name)) as bound:
        assert describe(bound) == name
        answers(bound, "\0" + name[1:], socket.AF_UNIX)


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "x.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with bind(("unix", path)) as bound:
        answers(bound, path, socket.AF_UNIX)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM])
def test_a_live_socket_is_left_alone(tmp_path: Path, kind: socket.SocketKind) -> None:
    path = str(tmp_path / "x.sock")
    with socket.socket(socket.AF_UNIX, kind) as live:
        live.bind(path)
        if kind != socket.SOCK_DGRAM:
            live.listen(8)
        with pytest.raises(OSError, match="another server listens") as caught:
            bind(("unix", path))
        assert caught.value.errno == errno.EADDRINUSE
        with socket.socket(socket.AF_UNIX, kind) as client:
            client.connect(path)


def test_a_live_socket_with_a_full_backlog_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "x.sock")
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(path)
        live.listen(0)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            with pytest.raises(OSError, match="another server listens"):
                bind(("unix", path))


def test_a_path_that_became_somebody_elses_is_not_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    bound = bind(("unix", str(path)))
    path.unlink()
    with bind(("unix", str(path))) as theirs:
        bound.close()
        answers(theirs, str(path), socket.AF_UNIX)


def test_a_forked_child_leaves_the_path(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with bind(("unix", str(path))) as bound:
        isolated(bound.close)
        assert path.exists()
    assert not path.exists()


def test_the_backlog_holds_a_burst() -> None:
    limit = int(Path("/proc/sys/net/core/somaxconn").read_text())
    assert sockets.BACKLOG == 4096
    with bind(("tcp", "127.0.0.1", 0)) as bound:
        listening = subprocess.run(
            ["ss", "-Hltn", f"src 127.0.0.1:{bound.getsockname()[1]}"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
    assert int(listening[2]) == min(limit, sockets.BACKLOG)
