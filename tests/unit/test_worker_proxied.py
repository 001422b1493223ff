"""Whom a worker believes X-Forwarded-*, and who the client is then."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from memunit.worker.proxied import Trusted, from_proxies, unmapped


def seen(
    trusted: str, client: Any, forwarded: list[str], *, proto: str = "", kind: str = "http"
) -> tuple[Any, str]:
    """What the app gets for client and scheme."""
    got: dict[str, Any] = {}

    async def app(scope: dict[str, Any], _receive: Any, _send: Any) -> None:
        got.update(scope)

    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    if proto:
        headers.append((b"x-forwarded-proto", proto.encode()))
    scope = {
        "type": kind,
        "client": client,
        "scheme": "ws" if kind == "websocket" else "http",
        "headers": headers,
    }

    async def call() -> None:
        await from_proxies(app, Trusted(trusted))(scope, None, None)

    asyncio.run(call())
    return got["client"], got["scheme"]


LOCAL = ("127.0.0.1", 4711)


@pytest.mark.parametrize(
    ("trusted", "client", "forwarded", "expected"),
    [
        ("127.0.0.1", LOCAL, [], LOCAL),
        ("127.0.0.1", LOCAL, ["192.0.2.1"], ("192.0.2.1", 0)),
        ("127.0.0.1", ("192.0.2.9", 1), ["192.0.2.1"], ("192.0.2.9", 1)),
        ("127.0.0.1", LOCAL, ["10.0.0.1, 192.0.2.1"], ("192.0.2.1", 0)),
        ("127.0.0.1", LOCAL, ["10.0.0.1", "192.0.2.1, 127.0.0.1"], ("192.0.2.1", 0)),
        ("127.0.0.1", LOCAL, ["192.0.2.1, ::ffff:127.0.0.1"], ("192.0.2.1", 0)),
        ("127.0.0.1", LOCAL, ["::ffff:192.0.2.1"], ("192.0.2.1", 0)),
        ("127.0.0.1", LOCAL, ["[::FFFF:192.0.2.1]:80"], ("192.0.2.1", 80)),
        ("::ffff:127.0.0.1", LOCAL, ["192.0.2.1"], ("192.0.2.1", 0)),
        ("127.0.0.1, 10.0.0.0/8", LOCAL, ["192.0.2.1, 10.1.2.3"], ("192.0.2.1", 0)),
        ("10.0.0.0/8", ("10.9.9.9", 5), ["192.0.2.1"], ("192.0.2.1", 0)),
        ("10.0.0.0/8", ("11.9.9.9", 5), ["192.0.2.1"], ("11.9.9.9", 5)),
        ("*", ("198.51.100.7", 5), ["203.0.113.1, 192.0.2.1"], ("203.0.113.1", 0)),
        ("", LOCAL, ["192.0.2.1"], LOCAL),
        ("", None, ["203.0.113.1, 192.0.2.1"], ("192.0.2.1", 0)),
        ("127.0.0.1", None, ["192.0.2.1, 127.0.0.1"], ("192.0.2.1", 0)),
        ("127.0.0.1", None, ["127.0.0.1"], ("127.0.0.1", 0)),
        ("127.0.0.1", None, ["192.0.2.66", "198.51.100.7"], ("198.51.100.7", 0)),
        ("fd00::/8", None, ["192.0.2.66, 198.51.100.7, fd00::1"], ("198.51.100.7", 0)),
        ("10.0.0.1/8", None, ["192.0.2.66, no address"], ("no address", 0)),
        ("not/one", None, ["192.0.2.66, 198.51.100.7"], ("198.51.100.7", 0)),
        ("*", None, ["192.0.2.66, 198.51.100.7"], ("192.0.2.66", 0)),
        ("127.0.0.1", None, [], None),
        ("127.0.0.1", LOCAL, ["unknown"], ("unknown", 0)),
        ("127.0.0.1", LOCAL, [" "], LOCAL),
        ("127.0.0.1", LOCAL, ["2001:db8::1"], ("2001:db8::1", 0)),
        # int() refuses so many digits, and a client can't have its request end with that.
        ("127.0.0.1", LOCAL, ["192.0.2.1:" + "9" * 5000], ("192.0.2.1", 0)),
        ("127.0.0.1", LOCAL, ["[2001:db8::1]:" + "9" * 5000], ("2001:db8::1", 0)),
    ],
)
def test_client(trusted: str, client: Any, forwarded: list[str], expected: Any) -> None:
    assert seen(trusted, client, forwarded)[0] == expected
    assert seen(trusted, client, forwarded, kind="websocket")[0] == expected


@pytest.mark.parametrize(
    ("client", "kind", "proto", "scheme"),
    [
        (LOCAL, "http", "https", "https"),
        (LOCAL, "http", "HTTP", "http"),
        (LOCAL, "websocket", "https", "wss"),
        (LOCAL, "websocket", "wss", "wss"),
        (LOCAL, "http", "gopher", "http"),
        (("192.0.2.9", 1), "http", "https", "http"),
        (None, "http", "https", "https"),
    ],
)
def test_scheme(client: Any, kind: str, proto: str, scheme: str) -> None:
    assert seen("127.0.0.1", client, [], proto=proto, kind=kind)[1] == scheme


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("::FFFF:192.0.2.1", "192.0.2.1"),
        ("::ffff:1:2", "::ffff:1:2"),
        ("::1", "::1"),
        ("127.0.0.1", "127.0.0.1"),
        ("", ""),
    ],
)
def test_unmapped(host: str, expected: str) -> None:
    assert unmapped(host) == expected
