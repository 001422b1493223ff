"""The control socket, with a real client at the other end: good ones, slow ones, vanished ones."""

import contextlib
import errno
import os
import resource
import select
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from memunit.master.control import MAX_CLIENTS, ControlServer, request
from memunit.master.spawn import open_descriptors
from tests.support.isolated import isolated
from tests.support.wait import DEADLINE, read_line, wait_readable


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ControlServer]:
    before = open_descriptors()
    made = ControlServer(str(tmp_path / "private" / "control"))
    yield made
    made.close()
    made.close()
    assert not Path(made.path).exists()
    assert open_descriptors() == before


class Asking:
    """A client in a thread of its own; the server under test stays in the main one."""

    def __init__(self, path: str, command: str = "reload", timeout: float = DEADLINE) -> None:
        self.result: tuple[int, str] | OSError | None = None
        self._thread = threading.Thread(target=self._ask, args=(path, command, timeout))
        self._thread.start()

    def _ask(self, path: str, command: str, timeout: float) -> None:
        try:
            self.result = request(path, command, timeout)
        except OSError as error:
            self.result = error

    def answer(self) -> tuple[int, str] | OSError | None:
        self._thread.join(DEADLINE)
        return self.result


def requests(server: ControlServer, count: int = 1) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    while len(found) < count:
        wait_readable(server.fileno())
        found += server.requests()
    return found


def raw(server: ControlServer) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(DEADLINE)
    made.connect(server.path)
    return made


def quiet(server: ControlServer) -> bool:
    """Nothing to do: an epoll with the server in it sleeps."""
    try:
        wait_readable(server.fileno(), 0)
    except TimeoutError:
        return True
    return False


def test_a_request_and_its_answer(server: ControlServer) -> None:
    client = Asking(server.path)
    ((token, command),) = requests(server)
    assert command == "reload"
    assert quiet(server)
    server.reply(token, 78, "shop.toml: limit: 10 is nonsense\nsecond line: ä\n")
    assert client.answer() == (78, "shop.toml: limit: 10 is nonsense\nsecond line: ä\n")
    assert quiet(server)


def test_several_at_once_are_told_apart(server: ControlServer) -> None:
    clients = {f"command {number}": Asking(server.path, f"command {number}") for number in range(5)}
    for token, command in reversed(requests(server, 5)):
        server.reply(token, 0, f"done: {command}")
    for command, client in clients.items():
        assert client.answer() == (0, f"done: {command}")


def test_the_socket_is_private(server: ControlServer) -> None:
    path = Path(server.path)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_others_are_turned_away(server: ControlServer) -> None:
    if os.getuid() != 0:
        pytest.skip("to become another user takes root")
    Path(server.path).parent.chmod(0o711)
    Path(server.path).chmod(0o666)
    for directory in Path(server.path).parents[1:-1]:
        if directory.stat().st_uid == os.getuid() and "pytest" in str(directory):
            directory.chmod(0o755)
    reader, writer = os.pipe()

    def body() -> None:
        os.setgroups([])
        os.setresuid(65534, 65534, 65534)
        code, text = request(server.path, "reload", DEADLINE)
        os.write(writer, f"{code} {text}\n".encode())

    thread = threading.Thread(target=isolated, args=(body,))
    thread.start()
    poll = select.poll()
    poll.register(server.fileno(), select.POLLIN)
    poll.register(reader, select.POLLIN)
    while (reader, select.POLLIN) not in (events := poll.poll(DEADLINE * 1000)):
        assert events
        assert server.requests() == []
    assert read_line(reader) == "77 only root and the service's own user may ask"
    thread.join(DEADLINE)
    os.close(reader)
    os.close(writer)
    while not quiet(server):
        assert server.requests() == []


def test_a_request_in_pieces(server: ControlServer) -> None:
    with raw(server) as client:
        client.send(b"rel")
        wait_readable(server.fileno())
        assert server.requests() == []
        while not quiet(server):
            assert server.requests() == []
        client.send(b"oad\n")
        ((token, command),) = requests(server)
        assert command == "reload"
        server.reply(token, 0, "done")
        assert client.recv(100) == b"0\ndone"
        assert client.recv(100) == b""


def test_a_client_that_says_no_more_still_gets_its_answer(server: ControlServer) -> None:
    with raw(server) as client:
        client.send(b"reload\nand more that nobody reads\n")
        client.shutdown(socket.SHUT_WR)
        ((token, command),) = requests(server)
        assert command == "reload"
        assert quiet(server)
        server.reply(token, 0, "done")
        assert client.recv(100) == b"0\ndone"


def test_a_client_that_vanishes_before_its_answer(server: ControlServer) -> None:
    before = open_descriptors()
    client = raw(server)
    client.send(b"reload\n")
    ((token, _),) = requests(server)
    client.close()
    wait_readable(server.fileno())
    assert server.requests() == []
    server.reply(token, 0, "done")
    assert quiet(server)
    assert open_descriptors() == before


def test_a_client_that_vanishes_unnoticed_before_its_answer(server: ControlServer) -> None:
    client = raw(server)
    client.send(b"reload\n")
    ((token, _),) = requests(server)
    client.close()
    server.reply(token, 0, "x" * 1_000_000)
    assert quiet(server)


def test_a_client_that_goes_without_a_word(server: ControlServer) -> None:
    raw(server).close()
    with raw(server) as client:
        client.send(b"relo")
        client.shutdown(socket.SHUT_WR)
        while not quiet(server):
            assert server.requests() == []
        assert client.recv(10) == b""


def test_an_endless_request_is_refused(server: ControlServer) -> None:
    with raw(server) as client:
        client.send(b"x" * 2000)
        while not quiet(server):
            assert server.requests() == []
        assert client.recv(1000).startswith(b"64\na request is one line")
        assert client.recv(1000) == b""


def test_a_slow_reader_gets_a_long_answer_and_stops_nobody(server: ControlServer) -> None:
    text = "long " * 500_000
    with raw(server) as slow:
        slow.send(b"status\n")
        ((token, _),) = requests(server)
        server.reply(token, 0, text)
        assert quiet(server)
        quick = Asking(server.path)
        ((other, _),) = requests(server)
        server.reply(other, 0, "quick")
        assert quick.answer() == (0, "quick")
        received = b""
        while True:
            while not quiet(server):
                assert server.requests() == []
            block = slow.recv(1 << 20)
            if not block:
                break
            received += block
    assert received == b"0\n" + text.encode()


def test_silent_clients_do_not_keep_others_out(server: ControlServer) -> None:
    silent = []
    for _ in range(MAX_CLIENTS + 10):
        silent.append(raw(server))
        while not quiet(server):
            assert server.requests() == []
    client = Asking(server.path)
    ((token, _),) = requests(server)
    server.reply(token, 0, "done")
    assert client.answer() == (0, "done")
    assert silent[0].recv(1) == b""
    for one in silent:
        one.close()
    while not quiet(server):
        assert server.requests() == []


def test_a_reply_to_nobody(server: ControlServer) -> None:
    server.reply(12345, 0, "done")
    assert quiet(server)


def test_a_path_that_a_dead_master_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(ConnectionRefusedError, match="is the service running"):
        request(str(path), "reload", DEADLINE)
    ControlServer(str(path)).close()
    with pytest.raises(FileNotFoundError, match="is the service running") as caught:
        request(str(path), "reload", DEADLINE)
    assert caught.value.filename == str(path)


def test_a_master_that_does_not_answer(server: ControlServer) -> None:
    with pytest.raises(TimeoutError, match=r"no answer to 'reload' within 0\.05 s"):
        request(server.path, "reload", 0.05)
    while not quiet(server):
        server.requests()


def test_a_master_that_ends_before_it_answers(tmp_path: Path) -> None:
    server = ControlServer(str(tmp_path / "control"))
    client = Asking(server.path)
    requests(server)
    server.close()
    answer = client.answer()
    assert isinstance(answer, ConnectionResetError)
    assert answer.errno == errno.ECONNRESET


def test_the_client_is_light() -> None:
    """`systemctl reload` starts it: it must not pay for psutil and the rest."""
    code = "import sys, memunit.master.control; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "memunit.master.control" in loaded
    assert not {
        "psutil",
        "systemd",
        "sdnotify",
        "memunit.master.spawn",
        "asyncio",
        "typing_extensions",
    } & set(loaded)


def test_a_client_that_makes_room_and_is_heard_of_in_the_same_reading(server: ControlServer) -> None:
    """The listener's event and that of the client which has to go come together: seen as a KeyError in the master."""
    silent = []
    for _ in range(MAX_CLIENTS):
        silent.append(raw(server))
        server.requests()
    late = raw(server)
    silent[0].close()
    late.sendall(b"reload\n")
    assert requests(server)[0][1] == "reload"
    for client in (*silent, late):
        client.close()


def test_out_of_descriptors_it_hangs_up_and_does_not_spin(tmp_path: Path) -> None:
    def body() -> None:
        made = ControlServer(str(tmp_path / "private" / "control"))
        clients = [socket.socket(socket.AF_UNIX) for _ in range(4)]
        used = max(open_descriptors())
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, used + 1))
        with contextlib.suppress(OSError):
            while True:
                os.dup(0)
        for client in clients:
            client.connect(made.path)
        while select.select([made.fileno()], [], [], 0)[0]:
            made.requests()
        for client in clients:
            client.settimeout(DEADLINE)
            assert client.recv(1) == b""

    isolated(body)
