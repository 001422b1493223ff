"""What the drain does to WebSockets, on the bare ASGI interface."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from memunit.worker.answer import came_of
from memunit.worker.httpserver import Connections
from memunit.worker.websockets import Application


def _websocket(app: Any, drain_after: int) -> tuple[list[dict[str, Any]], BaseException | None]:
    """What the server gets of a WebSocket app, drained after so many messages; and what the app raised."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if len(sent) == drain_after:
            wrapped.drain()
            (closing,) = asyncio.all_tasks() - {asyncio.current_task()}  # the drain's own
            await closing

    async def main() -> BaseException | None:
        try:
            await wrapped({"type": "websocket"}, None, send)  # type: ignore[arg-type]
        except Exception as error:
            return error
        return None

    wrapped = Application(app)
    if drain_after == 0:

        async def late() -> BaseException | None:
            wrapped.drain()
            return await main()

        return sent, asyncio.run(late())
    return sent, asyncio.run(main())


async def _talker(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})
    for number in range(100):
        await send({"type": "websocket.send", "text": str(number)})


async def _wrapping_talker(scope: Any, receive: Any, send: Any) -> None:
    try:
        await _talker(scope, receive, send)
    except OSError as error:
        raise RuntimeError("a framework's own word for it") from error


@pytest.mark.parametrize("app", [_talker, _wrapping_talker])
@pytest.mark.parametrize("drain_after", [0, 1, 5])
def test_websocket_is_closed_once_with_1001(app: Any, drain_after: int) -> None:
    """Also one whose handshake comes after the stop; what the app raises for it is no error of the app's."""
    sent, raised = _websocket(app, drain_after)
    kinds = [message["type"] for message in sent]
    assert kinds[0] == "websocket.accept"
    assert kinds[-1] == "websocket.close"
    assert kinds.count("websocket.close") == 1
    assert sent[-1]["code"] == 1001
    assert len(kinds) <= drain_after + 2
    assert raised is None


def test_the_server_waits_for_the_clients_closing_frame_but_not_for_long() -> None:
    """A connection that is closed at once may take the 1001 with it. A client that is silent would hold the stop up."""

    class Server:
        close_timeout, close_timer = 20.0, None

        async def send(self, message: dict[str, Any]) -> None:
            if message["type"] == "websocket.accept":
                wrapped.drain()
            else:
                waits.append(self.close_timeout)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})

    waits: list[float] = []
    wrapped = Application(app)
    asyncio.run(wrapped({"type": "websocket"}, None, Server().send))  # type: ignore[arg-type]
    assert waits == [2.0]


def test_websocket_errors_of_the_app_stay() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("its own")

    _, raised = _websocket(app, 9)
    assert isinstance(raised, ValueError)


def test_websocket_that_the_app_closed_is_left_alone() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4000})

    sent, raised = _websocket(app, 2)
    assert [message.get("code") for message in sent] == [None, 4000]
    assert raised is None


def test_connections_say_when_none_is_left() -> None:
    said: list[int] = []
    connections = Connections()
    connections.on_empty = lambda: said.append(len(connections))
    connections.add(1)
    connections.add(2)
    connections.discard(1)
    assert said == []
    connections.remove(2)
    assert said == [0]
    connections.discard(3)
    assert said == [0, 0]


@pytest.mark.parametrize("kind", ["websocket.send", "websocket.accept", "websocket.close"])
def test_what_an_app_sends_after_the_drain_has_closed_is_an_error_but_its_own_close(kind: str) -> None:
    met: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        try:
            await send({"type": kind})
        except OSError as error:
            met.append(error)

    sent, raised = _websocket(app, 1)
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
    assert raised is None
    assert bool(met) is (kind != "websocket.close")


def test_a_refused_handshake_is_not_closed_by_the_drain() -> None:
    """The app answers with HTTP: that response is its own, and goes on."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.http.response.start", "status": 403, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"no"})

    sent, raised = _websocket(app, 1)
    assert [message["type"] for message in sent] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
    ]
    assert raised is None


def test_errors_that_were_raised_for_each_other_come_to_an_end() -> None:
    """An app may set __cause__ to what it likes."""
    first, second = ValueError("one"), KeyError("other")
    first.__cause__, second.__cause__ = second, first
    assert not came_of(first, OSError)
    assert came_of(first, KeyError)
