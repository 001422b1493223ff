"""What a worker takes from strangers: frames that come in pieces, and headers of proxies."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import pytest

from memunit.worker.farewell import wait_for_answer
from memunit.worker.httpanswer import Unsendable, head_of_text
from memunit.worker.proxied import Trusted, from_proxies
from memunit.worker.threads import Threads


class _Transport:
    def __init__(self) -> None:
        self.closed = False
        self.protocol: Any = None

    def is_closing(self) -> bool:
        return self.closed

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


class _Server:
    conn = None

    def __init__(self) -> None:
        self.transport: Any = _Transport()

    async def send(self, message: object) -> None:
        """ASGI's."""


def _frame(opcode: int, size: int) -> bytes:
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([0x80 | opcode]) + length + b"mask" + bytes([0x88]) * size


@pytest.mark.parametrize("step", [1, 2, 7, 10_000])
def test_the_closing_frame_is_found_behind_others(step: int) -> None:
    """Whatever they hold, and however they are cut."""

    async def main() -> None:
        server = _Server()
        transport = server.transport
        wait_for_answer(server.send)
        server.transport.close()
        assert server.transport.is_closing()
        assert not transport.closed
        sent = _frame(1, 5) + _frame(2, 700) + _frame(9, 0)
        for start in range(0, len(sent), step):
            transport.protocol.data_received(sent[start : start + step])
        assert not transport.closed
        transport.protocol.data_received(_frame(8, 2))
        assert transport.closed

    asyncio.run(main())


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (b"198.51.100.7", ("198.51.100.7", 0)),
        (b"203.0.113.66, 198.51.100.7", ("198.51.100.7", 0)),
        (b"203.0.113.66, 198.51.100.7, 192.0.2.9", ("198.51.100.7", 0)),
        (b"192.0.2.9", ("192.0.2.9", 0)),
        (b"[2001:db8::1]:4711", ("2001:db8::1", 4711)),
        (b"2001:db8::1", ("2001:db8::1", 0)),
        (b"198.51.100.7:80", ("198.51.100.7", 80)),
        (b"", None),
    ],
)
def test_the_client_of_a_proxy(forwarded: bytes, client: tuple[str, int] | None) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    headers = [(b"x-forwarded-for", forwarded), (b"x-forwarded-proto", b"https")]
    for peer in (None, ("127.0.0.1", 1)):
        scope = {"type": "websocket", "client": peer, "scheme": "ws", "headers": headers}
        asyncio.run(from_proxies(app, Trusted("192.0.2.9, 192.0.2.8"))(scope, None, None))  # type: ignore[arg-type]
    assert (seen[0]["client"], seen[0]["scheme"]) == (client, "wss")
    assert (seen[1]["client"], seen[1]["scheme"]) == (("127.0.0.1", 1), "ws")


def _wait(event: threading.Event) -> None:
    event.wait(240)


def test_threads_are_made_when_they_are_needed() -> None:
    """One job after the other needs one; what finds none free waits in order, and is done before the end."""
    threads = Threads(2)
    done: list[str] = []
    free = threading.Event()
    for _ in range(3):
        free.clear()
        threads.submit(lambda: done.append(threading.current_thread().name))
        threads.submit(free.set)
        assert free.wait(240)
    assert len(set(done)) <= 2
    held = [threading.Event(), threading.Event()]
    for each in held:
        threads.submit(partial(_wait, each))
    assert threads.exhausted
    told = threading.Event()
    threads.when_free(told.set)
    order: list[int] = []
    for number in range(3):
        threads.submit(partial(order.append, number))
    assert order == []
    assert not told.is_set()
    held[0].set()
    assert told.wait(240)
    assert order == [0, 1, 2]
    held[1].set()
    threads.finish()


def test_jobs_that_come_at_once_wait_for_none_of_each_other() -> None:
    """One thread is woken for many jobs, but none of them stays behind one that waits."""
    for most in (2, 4, 8):
        threads = Threads(most)
        for _ in range(3):  # threads that are new, and threads that are idle
            together = threading.Barrier(most + 1)
            for _ in range(most):
                threads.submit(lambda meet=together: meet.wait(240))  # type: ignore[misc]
            together.wait(240)
        threads.finish()
        assert not together.broken


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("Content-Length", "9" * 5000, f"the header content-length is b'{'9' * 40}', which is no length"),
        ("Content-Length", 5, "the header 'Content-Length' has 5 in it, which is not a str"),
        ("X-Shop", None, "the header 'X-Shop' has None in it, which is not a str"),
        ("X-Shop", b"a", "the header 'X-Shop' has b'a' in it, which is not a str"),
        (b"X-Shop", "a", "the header b'X-Shop' has b'X-Shop' in it, which is not a str"),
        ("X-Shop", "5 \u20ac", "the header 'X-Shop' has '5 \u20ac' in it, which is not of Latin-1"),
        ("X-\u20ac", "5", "the header 'X-\u20ac' has 'X-\u20ac' in it, which is not of Latin-1"),
    ],
)
def test_a_header_of_wsgi_that_is_no_text_is_named(name: Any, value: Any, says: str) -> None:
    """A number for a length, and what is not Latin-1, are mistakes of a first hour: PEP 3333 wants native strings."""
    with pytest.raises(Unsendable) as raised:
        head_of_text(200, [(name, value)])
    assert str(raised.value) == says
