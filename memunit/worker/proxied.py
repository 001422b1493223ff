"""Who the client is, when the peer is a reverse proxy at the other end of a Unix socket.

Such a peer has no address that FORWARDED_ALLOW_IPS could name, so uvicorn takes X-Forwarded-* from none of
them, or from everybody. Who may connect is decided by the permissions of the socket's file: whoever does is
the proxy.
"""

from __future__ import annotations

from typing import Any, Awaitable, Callable, Container, Dict, Iterable, Tuple

Scope = Dict[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]


def from_unix_sockets(app: App, trusted: Any) -> App:
    """`app`, told of the client by X-Forwarded-For and X-Forwarded-Proto of peers on Unix sockets.

    `trusted` are addresses of further proxies on the way, as uvicorn's forwarded_allow_ips: a list, or a text
    with commas. The client is the last address that is not one of them, since what stands before it can have
    been sent by anybody.
    """
    words = trusted.split(",") if isinstance(trusted, str) else trusted or ()
    hops = frozenset(word.strip() for word in words)

    def proxied(scope: Scope, receive: Any, send: Any) -> Awaitable[None]:
        if scope["type"] in ("http", "websocket") and not scope.get("client"):
            _apply(scope, hops)
        return app(scope, receive, send)

    return proxied


def _apply(scope: Scope, hops: Container[str]) -> None:
    addresses = []
    for name, value in scope["headers"]:
        if name == b"x-forwarded-proto":
            scheme = value.decode("latin-1").strip().lower()
            if scheme in ("http", "https", "ws", "wss"):
                secure = scheme in ("https", "wss")
                plain = "ws" if scope["type"] == "websocket" else "http"
                scope["scheme"] = plain + "s" if secure else plain
        elif name == b"x-forwarded-for":
            addresses += [part.strip() for part in value.decode("latin-1").split(",")]
    client = _client(addresses, hops)
    if client[0]:
        scope["client"] = client


def _client(addresses: Iterable[str], hops: Container[str]) -> Tuple[str, int]:
    found = ""
    for address in reversed(list(addresses)):
        found = address
        if address not in hops:
            break
    return _address_and_port(found)


def _address_and_port(text: str) -> Tuple[str, int]:
    """ "192.0.2.1", "192.0.2.1:4711", "2001:db8::1" and "[2001:db8::1]:4711" are all written."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, ""
    return host, int(port) if port.isascii() and port.isdigit() else 0
