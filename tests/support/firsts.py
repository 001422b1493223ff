"""First requests that have come by the time of the accept, from clients that do what clients do.

`python -m tests.support.firsts LOOP READER` prints what went wrong, in an interpreter that has both.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import socket
import struct
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from memunit.worker import httpparse
from memunit.worker.bounds import Bounds
from memunit.worker.connection import Connection
from memunit.worker.httpserver import Connections, HttpServer
from memunit.worker.listening import Acceptor

LONG = 60.0  # seconds, for what has to happen
BIG = b"0123456789abcdef" * 65536  # more than a socket takes at once
SMALL = 65536  # bytes of a socket's buffers: left to itself, the kernel would take the largest answer whole
PIECE, PIECES = b"x" * 16384, 200


class UnreadableError(Exception):
    """What a library makes of a handshake."""


class Stage:
    """A server in `loop`, and the clients of its listening socket."""

    def __init__(self, loop: Any, family: socket.AddressFamily, reader: str) -> None:
        self.loop = loop
        self.listener = socket.socket(family)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)  # what it accepts inherits that
        if family == socket.AF_UNIX:
            self.listener.bind("")  # unix(7): the kernel chooses an abstract name
        else:
            self.listener.bind(("127.0.0.1", 0))
        self.listener.listen()
        self.server = HttpServer(self.app, httpparse.reader(reader), Bounds(), connections=Connections())
        self.acceptor = Acceptor(
            [self.listener.dup()],
            lambda *of_the_socket: Connection(self.server, *of_the_socket),
            changed=lambda: None,
            served=self.server.connections.__len__,
            made=lambda: self.server.made,
        )
        self.server.connections.on_loss = self.acceptor.lost
        self.go = asyncio.Event()
        self.told = asyncio.Event()
        self.paths: list[str] = []

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer by the path."""
        path = scope["path"]
        self.paths.append(path)
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        if path == "/wait":
            assert (await receive())["type"] == "http.disconnect"
            self.told.set()
            return
        if path == "/late":
            await self.go.wait()
        if path == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(PIECES):
                await send({"type": "http.response.body", "body": PIECE, "more_body": True})
            await send({"type": "http.response.body"})
            return
        answer = {"/big": BIG, "/echo": body}.get(path, b"ok")
        headers = [(b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def connect(self, *first: bytes) -> list[socket.socket]:
        """Clients that have connected, and sent, before anybody accepts."""
        clients = []
        for data in first:
            client = socket.socket(self.listener.family)
            client.setblocking(False)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
            await self.loop.sock_connect(client, self.listener.getsockname())
            await self.loop.sock_sendall(client, data)
            clients.append(client)
        return clients

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for it."""

        async def look() -> None:
            while not true():  # noqa: ASYNC110  the end of what others do
                await asyncio.sleep(0)

        await asyncio.wait_for(look(), LONG)

    async def read(self, client: socket.socket, ends: bytes = b"") -> bytes:
        """All that comes until it ends so; to the end of the connection if `ends` is empty."""

        async def blocks() -> bytes:
            answer = bytearray()
            while block := await self.loop.sock_recv(client, 65536):
                answer += block
                if ends and answer.endswith(ends):
                    break
            return bytes(answer)

        return await asyncio.wait_for(blocks(), LONG)


def head(path: str, *lines: str, method: str = "GET") -> bytes:
    """The head of a request."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: a", *lines, "", ""]).encode()


CLOSE = "Connection: close"


async def needs_no_transport(stage: Stage) -> None:
    """Twenty that end with their answer."""
    stage.acceptor.patience = LONG
    clients = await stage.connect(*[head("/", CLOSE)] * 20)
    stage.acceptor.start()
    for client in clients:
        assert (await stage.read(client)).endswith(b"connection: close\r\n\r\nok")
    await stage.until(lambda: not stage.server.connections)
    assert stage.loop.opened == 0, stage.loop.opened


async def goes_on(stage: Stage) -> None:
    """A connection that is kept, and one with requests in one piece."""
    kept, pipelined = await stage.connect(head("/"), head("/1") + head("/2") + head("/3", CLOSE))
    stage.acceptor.start()
    for _ in range(3):
        assert (await stage.read(kept, b"ok")).count(b"HTTP/1.1 200 ") == 1
        await stage.loop.sock_sendall(kept, head("/"))
    assert (await stage.read(pipelined)).count(b"HTTP/1.1 200 ") == 3
    assert [path for path in stage.paths if path != "/"] == ["/1", "/2", "/3"]


async def sends_all(stage: Stage) -> None:
    """More than the kernel takes, to clients that read late: of a length, in chunks, and both on kept connections."""
    paths = ["/big", "/stream"]
    clients = await stage.connect(
        *[head(path, CLOSE) for path in paths], *[head(path) + head("/") for path in paths]
    )
    stage.acceptor.start()
    await stage.until(lambda: len(stage.paths) >= 4)
    big, stream, kept_big, kept_stream = [
        await stage.read(client, ends) for client, ends in zip(clients, [b"", b"", b"ok", b"ok"], strict=True)
    ]
    chunk = b"%x\r\n%b\r\n" % (len(PIECE), PIECE)
    assert big.endswith(b"\r\n\r\n" + BIG)
    assert stream.endswith(b"\r\n\r\n" + chunk * PIECES + b"0\r\n\r\n")
    assert BIG + b"HTTP/1.1 200 " in kept_big
    assert chunk * PIECES + b"0\r\n\r\nHTTP/1.1 200 " in kept_stream


async def waits_for_the_client(stage: Stage) -> None:
    """An app that sends without an end of its own is held up where the client takes nothing."""
    (client,) = await stage.connect(head("/stream", CLOSE))
    stage.acceptor.start()
    await stage.until(lambda: any(each.unwritable is not None for each in stage.server.connections))
    (connection,) = stage.server.connections
    assert connection.transport.get_write_buffer_size() < 20 * len(PIECE)
    assert (await stage.read(client)).count(b"x") == PIECES * len(PIECE)


async def bounds_what_waits(stage: Stage) -> None:
    """What comes behind a request whose answer is under way is left in the kernel when it is too much."""
    (client,) = await stage.connect(head("/stream"))
    stage.acceptor.start()
    await stage.until(lambda: any(each.unwritable is not None for each in stage.server.connections))
    (connection,) = stage.server.connections
    await stage.until(lambda: not stage.acceptor.busy)
    sending = stage.loop.create_task(stage.loop.sock_sendall(client, BIG))
    await stage.until(lambda: not connection.transport.is_reading())
    sending.cancel()


async def reads_on(stage: Stage) -> None:
    """Heads and bodies of which more comes later, and a body that has come with its head."""
    whole = head("/echo", "Content-Length: 5", CLOSE, method="POST") + b"hello"
    pieces = [whole[:9], whole[:-5], whole[:-2], b"\r\n"]
    clients = await stage.connect(whole, *pieces)
    stage.acceptor.patience = LONG
    stage.acceptor.start()
    await stage.until(lambda: stage.server.made == len(clients))
    for client, piece in zip(clients[1:], pieces, strict=True):
        await stage.loop.sock_sendall(client, whole[len(piece) if piece != b"\r\n" else 0 :])
    for client in clients:
        assert (await stage.read(client)).endswith(b"\r\n\r\nhello")


async def reads_large_ones(stage: Stage) -> None:
    """A head and a body beyond what is read at the accept."""
    body = BIG[:200_000]
    large = head("/echo", "X: " + "y" * 20_000, f"Content-Length: {len(body)}", CLOSE, method="POST")
    (client,) = await stage.connect(large)
    stage.acceptor.start()
    sending = stage.loop.create_task(stage.loop.sock_sendall(client, body))
    assert (await stage.read(client)).endswith(b"\r\n\r\n" + body)
    await sending


async def refuses(stage: Stage) -> None:
    """The answer arrives, though more comes from the client than is read."""
    stage.server.linger_time = 2 * LONG  # so the end comes with the answer, or too late
    clients = await stage.connect(b"GET / HTTP/1.1\r\n\r\n", b"what is this\r\n\r\n" + BIG[:100_000])
    stage.acceptor.start()
    for client in clients:
        assert (await stage.read(client)).startswith(b"HTTP/1.1 400 ")
        client.close()
    await stage.until(lambda: not stage.server.connections)


async def hears_of_the_end(stage: Stage) -> None:
    """An app that waits is told that its client has gone: who has closed a Unix socket, or has reset a connection."""
    (client,) = await stage.connect(head("/wait"))
    stage.acceptor.start()
    await stage.until(lambda: bool(stage.paths))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    await asyncio.wait_for(stage.told.wait(), LONG)
    await stage.until(lambda: not stage.server.connections)


async def loses_who_has_gone(stage: Stage) -> None:
    """Connections that were closed or reset before the accept, or before the answer."""
    gone, empty = await stage.connect(head("/late", CLOSE), b"")
    empty.close()
    stage.acceptor.start()
    await stage.until(lambda: bool(stage.paths))
    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    gone.close()
    stage.go.set()
    await stage.until(lambda: not (stage.server.connections or stage.server.cycles or stage.acceptor.busy))


async def answers_a_closed_half(stage: Stage) -> None:
    """A client that has closed its own half gets its answer, also one that takes longer."""
    if stage.listener.family == socket.AF_UNIX:
        return
    clients = await stage.connect(head("/"), head("/late"))
    for client in clients:
        client.shutdown(socket.SHUT_WR)
    stage.acceptor.start()
    assert (await stage.read(clients[0])).endswith(b"ok")
    # Until it has a transport, which reads the end.
    await stage.until(lambda: stage.loop.opened == 2 and not stage.acceptor.busy)
    stage.go.set()
    assert (await stage.read(clients[1])).endswith(b"ok")


async def ends_by_the_drain(stage: Stage) -> None:
    """What is in work when the drain begins is answered, and says so."""
    (client,) = await stage.connect(head("/late"))
    stage.acceptor.start()
    await stage.until(lambda: bool(stage.paths))
    stage.acceptor.stop()
    stage.server.drain()
    stage.go.set()
    assert (await stage.read(client)).endswith(b"connection: close\r\n\r\nok")
    await stage.until(lambda: not stage.server.connections)


async def keeps_what_came_at_a_drain(stage: Stage) -> None:
    """A request behind the one in work, of which nobody has read anything, is answered before the end."""
    (client,) = await stage.connect(head("/late"))
    stage.acceptor.start()
    await stage.until(lambda: bool(stage.paths))
    await stage.loop.sock_sendall(client, head("/next"))
    stage.acceptor.stop()
    stage.server.drain()
    stage.go.set()
    answer = await stage.read(client)
    assert answer.count(b"HTTP/1.1 200 ") == 2
    assert answer.count(b"connection: close") == 1


async def gives_a_websocket_its_transport(stage: Stage) -> None:
    """A handshake that has come with its first frame goes to a protocol with a transport that reads."""

    class WebSocket(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

    stage.server.websocket = WebSocket
    handshake = head("/", "Upgrade: websocket", "Connection: Upgrade")
    (client,) = await stage.connect(handshake + b"frame")
    stage.acceptor.start()
    assert await stage.read(client, b"frame") == handshake + b"frame"
    await stage.loop.sock_sendall(client, b"another")
    assert await stage.read(client, b"another") == b"another"


async def ends_a_handshake_that_raises(stage: Stage) -> None:
    """What the library of a WebSocket can't read ends the connection, and the protocol hears of it."""

    class WebSocket(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            stage.server.connections.add(self)

        def data_received(self, data: bytes) -> None:
            raise UnreadableError

        def connection_lost(self, exc: BaseException | None) -> None:
            stage.server.connections.remove(self)

    stage.server.websocket = WebSocket
    wrong: list[Any] = []
    stage.loop.set_exception_handler(lambda _, context: wrong.append(context["exception"]))
    handshake = head("/", "Upgrade: websocket", "Connection: Upgrade")
    early, late = await stage.connect(handshake, b"")
    stage.acceptor.start()
    await stage.until(lambda: stage.server.made == 2)
    await stage.loop.sock_sendall(late, handshake)
    for client in (early, late):
        with contextlib.suppress(ConnectionResetError):
            assert await stage.read(client) == b""
    await stage.until(lambda: not stage.server.connections)
    assert [type(each) for each in wrong] == [UnreadableError] * 2, wrong


async def minds_no_default_timeout(stage: Stage) -> None:
    """An app that has set one: a client that has sent nothing yet keeps its connection, and the loop."""
    socket.setdefaulttimeout(1.0)
    try:
        idle, client = await stage.connect(b"", head("/", CLOSE))
        stage.acceptor.start()
        assert (await stage.read(client)).endswith(b"ok")
        await stage.loop.sock_sendall(idle, head("/", CLOSE))
        assert (await stage.read(idle)).endswith(b"ok")
    finally:
        socket.setdefaulttimeout(None)


SCENES: list[Callable[[Stage], Awaitable[None]]] = [
    needs_no_transport,
    goes_on,
    sends_all,
    waits_for_the_client,
    bounds_what_waits,
    reads_on,
    reads_large_ones,
    refuses,
    hears_of_the_end,
    loses_who_has_gone,
    answers_a_closed_half,
    ends_by_the_drain,
    keeps_what_came_at_a_drain,
    gives_a_websocket_its_transport,
    ends_a_handshake_that_raises,
    minds_no_default_timeout,
]


def play(which: str, reader: str, scene: Callable[[Stage], Awaitable[None]], family: Any) -> list[str]:
    """What went wrong in one scene; nothing if `which` loop and what the connections left behind are as they should."""
    base: Any = importlib.import_module("uvloop").Loop if which == "uvloop" else asyncio.SelectorEventLoop

    class Loop(base):  # type: ignore[misc]
        opened = 0

        def connect_accepted_socket(self, *args: Any, **options: Any) -> Any:
            self.opened += 1
            return super().connect_accepted_socket(*args, **options)

    wrong: list[str] = []
    loop = Loop()
    loop.set_exception_handler(lambda _, context: wrong.append(f"{scene.__name__}: {context}"))

    async def main() -> None:
        stage = Stage(loop, family, reader)
        try:
            await scene(stage)
        finally:
            stage.acceptor.stop()
            for connection in list(stage.server.connections):
                connection.transport.abort()
            await stage.until(lambda: not (stage.server.connections or stage.acceptor.busy))

    try:
        loop.run_until_complete(main())
    except Exception:
        wrong.append(f"{scene.__name__}, {family.name}: {traceback.format_exc()}")
    finally:
        loop.close()
    return wrong


if __name__ == "__main__":
    for each in SCENES:
        for kind in (socket.AF_INET, socket.AF_UNIX):
            for line in play(sys.argv[1], sys.argv[2], each, kind):
                print(line)
