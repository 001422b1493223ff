"""The worker's sd_notify client against a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from memunit.worker.notify import Notify
from memunit.worker.pinging import begin, pause
from memunit.worker.serving import Threaded


def _server(address: str) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(address)
    server.settimeout(5)
    return server


def test_file_and_abstract_addresses(tmp_path: Path) -> None:
    name = f"memunit-test-{os.getpid()}"
    for shown, real in ((str(tmp_path / "n"), str(tmp_path / "n")), (f"@{name}", f"\0{name}")):
        with _server(real) as server:
            assert Notify({"NOTIFY_SOCKET": shown}).send("READY=1", "STATUS=up")
            assert server.recv(4096) == b"READY=1\nSTATUS=up"


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("two\nREADY=1", b"STATUS=two READY=1"),
        ("no d\u00e4tabase \u2603", rb"STATUS=no d\xe4tabase \u2603"),
        ("\udcff", rb"STATUS=\udcff"),
        ("x" * 9000, b"STATUS=" + b"x" * 1993),
        ("\u2603" * 9000, None),
    ],
)
def test_status_is_one_short_ascii_line(tmp_path: Path, text: str, sent: bytes | None) -> None:
    with _server(str(tmp_path / "n")) as server:
        assert Notify({"NOTIFY_SOCKET": str(tmp_path / "n")}).status(text)
        received = server.recv(8192)
    assert received.isascii()
    assert len(received) <= 4096
    assert sent is None or received == sent


@pytest.mark.parametrize(
    "address", ["", "/nonexistent/n", "@memunit-nobody", "relative", "/" + "x" * 200, "\0bad"]
)
def test_nobody_there(address: str) -> None:
    assert not Notify({"NOTIFY_SOCKET": address}).send("READY=1")
    assert not Notify({}).ping()


def test_full_queue_costs_a_ping_and_no_time(tmp_path: Path) -> None:
    """A master that does not read: pings are dropped at once, and send() gives up after its time."""
    with _server(str(tmp_path / "n")) as server:
        notify = Notify({"NOTIFY_SOCKET": str(tmp_path / "n")})
        sent = 0
        while notify.ping():
            sent += 1
            assert sent < 10_000
        # So often that waiting by mistake, five seconds each time, can't be taken for a slow machine.
        began = time.monotonic()
        for _ in range(50):
            assert not notify.ping()
        for _ in range(20):
            assert not notify.send("STOPPING=1", wait=0.01)
        assert 0.2 <= time.monotonic() - began < 90
        server.recv(16)
        assert notify.send("READY=1")


@contextlib.contextmanager
def _no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull) as free:  # noqa: PTH123  the lowest number that is free
        resource.setrlimit(resource.RLIMIT_NOFILE, (free.fileno(), hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            socket.socket()
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_with_no_descriptor_left_it_is_heard(tmp_path: Path) -> None:
    """As many clients as a worker may have are no reason for the master to take it for one that hangs."""
    with _server(str(tmp_path / "n")) as server:
        notify = Notify({"NOTIFY_SOCKET": str(tmp_path / "n")})
        notify.keep()
        with _no_descriptor_left():
            assert notify.ping()
            assert notify.send("STOPPING=1", "STATUS=finishing")
        assert [server.recv(4096), server.recv(4096)] == [b"WATCHDOG=1", b"STOPPING=1\nSTATUS=finishing"]


def _sockets() -> set[int]:
    found = set()
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the folder's own
            if each.readlink().name.startswith("socket:"):
                found.add(int(each.name))
    return found


def test_what_an_app_has_put_in_the_place_of_the_reserve_is_left_alone(tmp_path: Path) -> None:
    """An app that closes all descriptors has others under their numbers, and not a byte of ours is for these."""
    before = _sockets()
    notify = Notify({"NOTIFY_SOCKET": str(tmp_path / "n")})
    notify.keep()
    (number,) = _sockets() - before
    with _server(str(tmp_path / "n")), _server(str(tmp_path / "apps")) as apps:
        own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        own.connect(str(tmp_path / "apps"))
        os.dup2(own.fileno(), number)
        own.close()
        with _no_descriptor_left():
            assert not notify.ping()
        del notify
        with socket.socket(fileno=number) as still:
            still.send(b"the app's")
        assert apps.recv(4096) == b"the app's"


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "\u0663"}, None),
    ],
)
def test_watchdog(environment: dict[str, str], seconds: float | None) -> None:
    assert Notify(environment).watchdog == seconds


def test_the_first_ping_waits_for_no_thread(tmp_path: Path) -> None:
    """It arms the master's watchdog: a request that takes the GIL for ever right after READY=1 is found by that."""

    class Hung:
        def ping(self, ping: Callable[[], Any]) -> None:
            """Its threads never get on."""

    async def serve() -> None:
        begin(notify, cast("Threaded", Hung()), lambda: None)

    with _server(str(tmp_path / "n")) as server:
        notify = Notify({"NOTIFY_SOCKET": str(tmp_path / "n"), "WATCHDOG_USEC": "30000000"})
        asyncio.run(serve())
        assert server.recv(4096) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    ("interval", "now", "seconds"),
    [
        (10.0, 3.25, 9.75),
        (10.0, 3.0, 10.0),
        (10.0, 3.999, 9.001),
        (2.5, 0.25, 1.75),
        (2.0, 0.5, 1.5),
        (1.5, 0.5, 1.5),
    ],
)
def test_pings_fall_on_a_whole_second(interval: float, now: float, seconds: float) -> None:
    """Those of many workers wake the master once. Short intervals stay as they are."""
    assert pause(interval, now) == pytest.approx(seconds)
