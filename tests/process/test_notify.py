"""Both ends of sd_notify over real sockets."""

import gc
import os
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from memunit.master.notify import Datagram, NotifyListener, Systemd
from memunit.master.spawn import open_descriptors
from tests.support.isolated import isolated
from tests.support.wait import DEADLINE, read_all, wait_readable


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[NotifyListener]:
    made = NotifyListener(str(tmp_path / "private" / "notify"))
    yield made
    made.close()


def sender(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.connect(path)
    return made


def test_what_a_process_says_comes_with_its_pid(listener: NotifyListener) -> None:
    program = subprocess.Popen(
        ["systemd-notify", "--ready", "--status=up"], env={**os.environ, "NOTIFY_SOCKET": listener.path}
    )
    heard: list[Datagram] = []
    while len(heard) < 2:
        wait_readable(listener.fileno())
        heard += listener.receive()
    datagram, barrier = heard
    assert (datagram.uid, datagram.gid) == (os.getuid(), os.getgid())
    assert set(datagram.payload.decode().split()) == {"READY=1", "STATUS=up"}
    # As root, systemd-notify speaks in the name of its parent.
    assert datagram.pid in (program.pid, os.getpid())
    assert barrier.payload == b"BARRIER=1"
    assert program.wait(DEADLINE) == 0


def test_the_pid_is_the_kernels_word(listener: NotifyListener) -> None:
    def body() -> None:
        with sender(listener.path) as worker:
            worker.send(f"pid {os.getpid()}".encode())

    isolated(body)
    (datagram,) = listener.receive()
    assert datagram.payload == f"pid {datagram.pid}".encode()
    assert datagram.pid != os.getpid()


def test_the_socket_is_private(listener: NotifyListener) -> None:
    path = Path(listener.path)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not os.get_inheritable(listener.fileno())


def test_a_path_that_a_dead_master_left_is_taken_over_and_given_back(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    first = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    first.bind(str(path))
    first.close()
    listener = NotifyListener(str(path))
    with sender(str(path)) as worker:
        worker.send(b"READY=1")
    assert len(listener.receive()) == 1
    listener.close()
    listener.close()
    assert not path.exists()


def test_a_path_that_is_too_long_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="107 bytes"):
        NotifyListener(str(tmp_path / ("x" * 108)))


def test_nothing_there_is_nothing(listener: NotifyListener) -> None:
    assert listener.receive() == []


def test_every_descriptor_is_closed_at_once(listener: NotifyListener) -> None:
    gc.collect()  # what a test before has left in a cycle is closed before it is counted
    before = open_descriptors()
    reader, writer = os.pipe()
    with sender(listener.path) as worker:
        socket.send_fds(worker, [b"BARRIER=1"], [writer])
        socket.send_fds(worker, [b"FDSTORE=1"], [writer] * 253)
        os.close(writer)
        assert [datagram.payload for datagram in listener.receive()] == [b"BARRIER=1", b"FDSTORE=1"]
    # The end of the pipe is what a sender with a barrier waits for.
    assert read_all(reader) == ""
    os.close(reader)
    assert open_descriptors() == before


def test_descriptors_for_which_there_is_no_room_are_not_kept_either(listener: NotifyListener) -> None:
    """With the limit reached in the middle the kernel installs some and sets MSG_CTRUNC."""

    def body() -> None:
        import resource

        with sender(listener.path) as worker:
            socket.send_fds(worker, [b"READY=1"], [0] * 100)
        before = open_descriptors()
        most = max(before) + 20
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        (datagram,) = listener.receive()
        assert datagram.payload == b"READY=1"
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        assert open_descriptors() == before

    isolated(body)


def test_an_oversized_datagram_is_dropped_and_its_descriptors_closed(listener: NotifyListener) -> None:
    gc.collect()
    before = open_descriptors()
    with sender(listener.path) as worker:
        socket.send_fds(worker, [b"STATUS=" + b"x" * 5000], [0, 1])
        worker.send(b"STATUS=" + b"x" * 4089)
        worker.send(b"READY=1")
        assert [len(datagram.payload) for datagram in listener.receive()] == [4096, 7]
    assert open_descriptors() == before


def test_a_flood_comes_in_portions(listener: NotifyListener) -> None:
    with sender(listener.path) as worker:
        worker.setblocking(False)
        sent = 0
        while sent < 9:
            worker.send(b"WATCHDOG=1")
            sent += 1
    assert len(listener.receive(4)) == 4
    wait_readable(listener.fileno(), 0)
    assert len(listener.receive(4)) == 4
    assert len(listener.receive(4)) == 1


class Manager:
    """Plays systemd: a datagram socket."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.path = path
        self.socket.bind("\0" + path[1:] if path.startswith("@") else path)

    def received(self) -> str:
        wait_readable(self.socket.fileno())
        return self.socket.recv(8192).decode("utf-8")


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "systemd") if request.param == "path" else f"@memunit-test-{os.getpid()}")
    yield made
    made.socket.close()


def test_systemd_hears_us_and_nobody_inherits_the_way(manager: Manager) -> None:
    environment = {
        "NOTIFY_SOCKET": manager.path,
        "WATCHDOG_USEC": "3000000",
        "WATCHDOG_PID": str(os.getpid()),
        "OTHER": "stays",
    }
    systemd = Systemd(environment)
    assert environment == {"OTHER": "stays"}
    assert systemd.watchdog_usec == 3_000_000
    assert systemd.send("READY=1", "STATUS=2/2 workers")
    assert manager.received() == "READY=1\nSTATUS=2/2 workers"
    systemd.close()
    assert not systemd.enabled
    assert not systemd.send("READY=1")


def test_the_process_environment_is_cleaned(manager: Manager) -> None:
    def body() -> None:
        os.environ["NOTIFY_SOCKET"] = manager.path
        os.environ["WATCHDOG_USEC"] = "5"
        systemd = Systemd()
        assert systemd.send("READY=1")
        assert systemd.watchdog_usec == 5
        assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(os.environ)

    isolated(body)
    assert manager.received() == "READY=1"


def test_the_status_is_ascii_on_one_line_and_fits(manager: Manager) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": manager.path})
    assert systemd.send("STATUS=cannot import café: \u4f60\nREADY=1\x00", "X=" + "y" * 5000)
    first, second = manager.received().split("\n")
    assert first == "STATUS=cannot import caf?: ? READY=1 "
    assert second.startswith("X=yyy")
    assert len(first) + len(second) < 4096


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"NOTIFY_SOCKET": ""},
        {"NOTIFY_SOCKET": "/nonexistent/socket"},
        {"NOTIFY_SOCKET": "vsock:2:1"},
        {"NOTIFY_SOCKET": "relative"},
    ],
)
def test_without_a_service_manager(environment: dict[str, str]) -> None:
    before = dict(os.environ)
    systemd = Systemd(environment)
    assert not systemd.enabled
    assert systemd.watchdog_usec == 0
    assert not systemd.send("READY=1")
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("usec", "pid", "expected"),
    [
        ("1000", None, 1000),
        ("1000", "1", 0),
        ("x", None, 0),
        ("", None, 0),
        ("-5", None, 0),
        ("\u0663", None, 0),
    ],
)
def test_whose_watchdog_it_is(usec: str, pid: str | None, expected: int) -> None:
    environment = {"WATCHDOG_USEC": usec} | ({"WATCHDOG_PID": pid} if pid else {})
    assert Systemd(environment).watchdog_usec == expected


def test_a_manager_that_does_not_read_costs_little(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "systemd"))
    systemd = Systemd({"NOTIFY_SOCKET": manager.path})
    most = 100_000
    count = 0
    started = time.monotonic()
    while count < most and systemd.send("STATUS=" + "x" * 1000):
        count += 1
        started = time.monotonic()
    assert count < most
    assert time.monotonic() - started < DEADLINE
    assert manager.received()
    assert systemd.send("STATUS=again")
    manager.socket.close()
    systemd.close()


def test_a_manager_that_was_started_anew_is_found_again(tmp_path: Path) -> None:
    first = Manager(str(tmp_path / "systemd"))
    systemd = Systemd({"NOTIFY_SOCKET": first.path})
    first.socket.close()
    assert not systemd.send("READY=1")
    Path(first.path).unlink()
    second = Manager(first.path)
    assert systemd.send("READY=1")
    assert second.received() == "READY=1"
    second.socket.close()


def test_sigpipe_is_no_matter(tmp_path: Path) -> None:
    def body() -> None:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        manager = Manager(str(tmp_path / "systemd"))
        systemd = Systemd({"NOTIFY_SOCKET": manager.path})
        manager.socket.close()
        assert not systemd.send("READY=1")

    isolated(body)
