"""Connections are counted from the moment at which they are the server's, and no sooner."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from memunit.worker import httpparse
from memunit.worker.bounds import Bounds
from memunit.worker.connection import Connection
from memunit.worker.httpserver import Connections, HttpServer
from memunit.worker.listening import Acceptor


async def _nobody(*_: Any) -> None:
    raise AssertionError


@pytest.mark.parametrize("sent", [b"", b"GET / HTT"], ids=["silent", "early"])
def test_what_the_loop_does_not_take_is_no_connection(sent: bytes) -> None:
    """A loop refuses sockets that are no streams: nothing of it counts afterwards."""
    wrong: list[BaseException] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        refused = asyncio.Event()

        def note(_: Any, context: dict[str, Any]) -> None:
            wrong.append(context["exception"])
            refused.set()

        loop.set_exception_handler(note)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind("")  # unix(7): the kernel chooses an abstract name
        listener.listen()
        server = HttpServer(_nobody, httpparse.reader("h11"), Bounds(), connections=Connections())
        acceptor = Acceptor(
            [listener],
            lambda *of_the_socket: Connection(server, *of_the_socket),
            changed=lambda: None,
            served=server.connections.__len__,
            made=lambda: server.made,
        )
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.connect(listener.getsockname())
            if sent:
                client.send(sent)
            acceptor.start()
            await asyncio.wait_for(refused.wait(), 60.0)
            assert acceptor._connections() == 0
            assert not acceptor.busy
            acceptor.stop()

    asyncio.run(main())
    assert [type(each) for each in wrong] == [ValueError]
