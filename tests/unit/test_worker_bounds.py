"""The bounds of a connection count the time in which its worker could read, and the drain reaches each connection."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from memunit.worker import httpparse
from memunit.worker.bounds import Bounds
from memunit.worker.connection import Connection
from memunit.worker.httpserver import Connections, HttpServer

GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhello"


class Loop(asyncio.SelectorEventLoop):
    """One that can be blocked for a long time in no time."""

    blocked = 0.0

    def time(self) -> float:
        """Of all that counts time in this loop."""
        return super().time() + self.blocked


class Side:
    """The client of one connection."""

    def __init__(self, loop: Loop, end: socket.socket) -> None:
        self._loop = loop
        self._socket = end

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        await self._loop.sock_sendall(self._socket, data)

    async def answer(self) -> bytes:
        """What comes next; b"" at the end of the connection."""
        return await self._loop.sock_recv(self._socket, 65536)


Scene = Callable[[Loop, HttpServer, Side], Awaitable[None]]


def play(scene: Scene) -> None:
    """Run it with a server whose app blocks the loop for a minute in each request, and with a connection to that."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        loop.blocked += 60.0
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    async def main() -> None:
        server = HttpServer(app, httpparse.reader("h11"), Bounds(), connections=Connections(), keep_alive=5.0)
        ours, theirs = socket.socketpair()
        with theirs:
            for end in (ours, theirs):
                end.setblocking(False)
            await loop.connect_accepted_socket(lambda: Connection(server), ours)
            await asyncio.wait_for(scene(loop, server, Side(loop, theirs)), 300.0)
        for connection in list(server.connections):
            connection.transport.abort()

    loop = Loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


async def passes(loop: Loop) -> None:
    """Let all be done that is due: what the server looks at twice a second has been for a minute."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("before", "after"),
    [(b"", GET), (GET[:9], GET[9:]), (POST[:-5], POST[-5:]), (POST, b"world")],
    ids=["idle", "within the head", "before the body", "within the body"],
)
def test_no_bound_is_passed_while_the_loop_was_blocked(before: bytes, after: bytes) -> None:
    """Neither by another's request, nor by the last one on this connection, to whose answer the next one comes."""
    if before.startswith(b"POST") and not before.endswith(b"hello"):
        after += b"world"

    async def scene(loop: Loop, server: HttpServer, client: Side) -> None:
        await client.send(GET)
        assert (await client.answer()).endswith(b"\r\n\r\nok")
        await passes(loop)
        await client.send(before)
        await passes(loop)
        loop.blocked += 60.0
        await passes(loop)
        await client.send(after)
        answer = await client.answer()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" not in answer

    play(scene)


@pytest.mark.parametrize(
    ("before", "status"), [(b"", b""), (GET[:9], b"HTTP/1.1 408 "), (POST, b"HTTP/1.1 408 ")], ids=str
)
def test_the_bounds_count_all_other_time(before: bytes, status: bytes) -> None:
    """Seconds pass, one by one: an idle connection ends without a word, a request that is not whole with 408."""

    async def scene(loop: Loop, server: HttpServer, client: Side) -> None:
        await client.send(GET)
        await client.answer()
        await client.send(before)
        for _ in range(100):
            loop.blocked += 0.5
            await passes(loop)
        assert (await client.answer())[: len(status) or None] == status
        assert await client.answer() == b""

    play(scene)


def test_a_stop_between_accept_and_protocol_is_heard() -> None:
    """The answer is the last, and says so."""

    async def scene(loop: Loop, server: HttpServer, client: Side) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.setblocking(False)
            ours.setblocking(False)
            opening = loop.create_task(loop.connect_accepted_socket(lambda: Connection(server), ours))
            await asyncio.sleep(0)  # its connection_made() is due in the next pass of the loop
            assert len(server.connections) == 1
            server.drain()
            await opening
            other = Side(loop, theirs)
            await other.send(GET)
            assert b"\r\nconnection: close\r\n" in await other.answer()
            assert await other.answer() == b""

    play(scene)
