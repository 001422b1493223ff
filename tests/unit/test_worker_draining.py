"""What the drain does to answers and WebSockets, on the bare ASGI interface."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from memunit.worker.draining import Application, Connections, closing, may_close

START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"connection", b"keep-alive"), (b"x", b"1")],
}


def _answers(drain: str) -> list[dict[str, Any]]:
    """What the server gets of an app that answers once, with drain() "before", "within" or "never"."""
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if drain == "within":
            wrapped.drain()
        await send(START)
        await send({"type": "http.response.body", "body": b"ok"})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def main() -> None:
        if drain == "before":
            wrapped.drain()
        await wrapped({"type": "http"}, None, send)  # type: ignore[arg-type]

    wrapped = Application(app)
    asyncio.run(main())
    return sent


@pytest.mark.parametrize("drain", ["before", "within"])
def test_each_answer_announces_the_end(drain: str) -> None:
    start, body = _answers(drain)
    assert start["headers"] == [(b"x", b"1"), (b"connection", b"close")]
    assert start["status"] == 200
    assert body["body"] == b"ok"
    assert START["headers"] == [
        (b"connection", b"keep-alive"),
        (b"x", b"1"),
    ]  # the app's own message is untouched


def test_no_word_before_the_drain() -> None:
    assert _answers("never")[0] is START


def test_closing_replaces_every_spelling() -> None:
    assert closing([(b"Connection", b"Keep-Alive"), (b"CONNECTION", b"x")]) == [(b"connection", b"close")]


class _Transport:
    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol

    def get_extra_info(self, _name: str) -> None:
        return None

    def get_protocol(self) -> Any:
        return self._protocol


class _Cycle:
    more_body = False

    def __init__(self, **protocol: Any) -> None:
        self.transport = _Transport(type("Protocol", (), protocol)())

    async def send(self, message: Any) -> None:
        """Of the server."""


def test_not_over_what_is_still_coming() -> None:
    """A body, parsed pipelined requests (httptools) or unparsed ones (h11); HTTP/2 has no such header."""
    assert may_close({}, _Cycle().send)
    uploading = _Cycle()
    uploading.more_body = True
    assert not may_close({}, uploading.send)
    assert not may_close({}, _Cycle(pipeline=[1]).send)
    for trailing, last in ((b"", True), (b"GET", False)):
        connection = type("H11", (), {"trailing_data": (trailing, False)})()
        assert may_close({}, _Cycle(conn=connection).send) is last
    assert not may_close({"http_version": "2"}, _Cycle().send)


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
