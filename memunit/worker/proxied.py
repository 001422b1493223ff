"""Who the client is, when the peer is a reverse proxy: X-Forwarded-For and X-Forwarded-Proto of those who are trusted.

uvicorn's own middleware, which is not used, differs from version to version (networks came with 0.31), takes the last
of several header lines alone, and knows nothing of two kinds of peers. One is at the other end of a Unix socket and has
no address: the permissions of the socket's file decide who may connect, so each such peer is trusted. The other has an
IPv4 address that a dual-stack socket shows as ::ffff:192.0.2.1 (RFC 4291, 2.5.5.2).
"""

from __future__ import annotations

from typing import Any, Awaitable, Callable, Dict, Iterable, List, Optional, Tuple, Union

Scope = Dict[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]

_MAPPED = "::ffff:"
_KEPT_PEERS = 1024


def unmapped(host: str) -> str:
    """An IPv4 address in IPv6 notation as the IPv4 address that it is; anything else unchanged."""
    if host[:7].lower() == _MAPPED and "." in host:
        return host[7:]
    return host


class Trusted:
    """The proxies that are believed, as uvicorn's forwarded_allow_ips: addresses, networks, or "*" for everybody."""

    def __init__(self, words: Union[str, Iterable[str], None]) -> None:
        listed = words.split(",") if isinstance(words, str) else words or ()
        said = frozenset(each.strip() for each in listed)
        self._all = "*" in said
        self._literal = frozenset(unmapped(word) for word in said if "/" not in word)
        self._networks = [each for each in map(_network, said) if each is not None]
        self._known: Dict[str, bool] = {}

    def __contains__(self, host: str) -> bool:
        if self._all or host in self._literal:
            return True
        if not self._networks:
            return False
        found = self._known.get(host)
        if found is None:
            found = any(_lies_in(host, network) for network in self._networks)
            if len(self._known) < _KEPT_PEERS:
                self._known[host] = found
        return found


def _network(word: str) -> Any:
    """None for what is no network, a file's path for instance."""
    if "/" not in word:
        return None
    import ipaddress  # noqa: PLC0415  only who names networks pays for it

    try:
        return ipaddress.ip_network(word, strict=False)
    except ValueError:
        return None


def _lies_in(host: str, network: Any) -> bool:
    import ipaddress  # noqa: PLC0415  as above

    try:
        return ipaddress.ip_address(host) in network
    except ValueError:
        return False


def from_proxies(app: App, trusted: Trusted) -> App:
    """`app`, told of the client by the proxies that are trusted, and by each peer on a Unix socket.

    The client is the last address of X-Forwarded-For that is not a trusted one, since what stands before it can have
    been sent by anybody; the first, if all are.
    """

    def proxied(scope: Scope, receive: Any, send: Any) -> Awaitable[None]:
        if scope["type"] in ("http", "websocket"):
            client = scope.get("client")
            if not client or not client[0] or client[0] in trusted:
                _apply(scope, trusted)
        return app(scope, receive, send)

    return proxied


def _apply(scope: Scope, trusted: Trusted) -> None:
    scheme, client = told(scope["headers"], trusted)
    if scheme is not None:
        secure = scheme in ("https", "wss")
        plain = "ws" if scope["type"] == "websocket" else "http"
        scope["scheme"] = plain + "s" if secure else plain
    if client is not None:
        scope["client"] = client


def told(
    headers: Iterable[Tuple[bytes, bytes]], trusted: Trusted
) -> Tuple[Optional[str], Optional[Tuple[str, int]]]:
    """The scheme and the client of which a proxy that is trusted tells in `headers`; None where it does not."""
    scheme: Optional[str] = None
    addresses: List[str] = []
    for name, value in headers:
        if name == b"x-forwarded-proto":
            said = value.decode("latin-1").strip().lower()
            if said in ("http", "https", "ws", "wss"):
                scheme = said
        elif name == b"x-forwarded-for":
            addresses += [part.strip() for part in value.decode("latin-1").split(",")]
    client = _client(addresses, trusted) if addresses else ("", 0)
    return scheme, client if client[0] else None


def _client(addresses: List[str], trusted: Trusted) -> Tuple[str, int]:
    found = ("", 0)
    for address in reversed(addresses):
        found = _address_and_port(address)
        if found[0] not in trusted:
            break
    return found


def _address_and_port(text: str) -> Tuple[str, int]:
    """ "192.0.2.1", "192.0.2.1:4711", "2001:db8::1" and "[2001:db8::1]:4711" are all written."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, ""
    return unmapped(host), int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
