"""Where to listen, in the notation of ListenStream= (systemd.socket(5))."""

import ipaddress
from dataclasses import dataclass
from typing import Literal

_LONGEST_PATH = 107  # sockaddr_un's 108 bytes less the NUL, unix(7)


class AddressError(ValueError):
    """An address that can't be listened on. `message` says what is wrong, `remedy` what to write instead."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}; {remedy}")
        self.message = message
        self.remedy = remedy


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One stream socket's address.

    "tcp" has `host`, an IP address without brackets, and `port` (0: the kernel chooses). Host "::" is both of
    IPv6 and IPv4. "unix" has `path`, absolute, or with a leading "@" a name in the abstract namespace.
    """

    kind: Literal["tcp", "unix"]
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        """The notation that it is parsed from: "127.0.0.1:8010", "[::1]:80", "/run/x.sock"."""
        if self.kind == "unix":
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read "host:port", "[v6]:port", "port" (every address of the machine), "/path.sock" or "@abstract".

    Raises AddressError. A host is an IP address: neither systemd nor memunit looks names up for a socket.
    """
    if text.startswith(("/", "@")):
        return _unix(text)
    if "://" in text:
        rest = text.split("://", 1)[1].rstrip("/")
        raise AddressError(
            f"{text!r} is a URL", f'say where to listen alone, as in "{rest or "127.0.0.1:8000"}"'
        )
    if text.startswith("unix:") or "/" in text:
        raise AddressError(
            f"{text!r} is not an absolute path",
            f'say "/{text.removeprefix("unix:").lstrip("./")}", the whole path',
        )
    host, colon, port = text.rpartition(":")
    if not colon:
        return Address(kind="tcp", host="::", port=_port(text, text))
    if host == "*":
        raise AddressError(f"{text!r}: the host is missing", f'for every address of the machine say "{port}"')
    if host.startswith("[") and host.endswith("]"):
        return Address(kind="tcp", host=_v6(host[1:-1], text), port=_port(port, text))
    if ":" in host:
        raise AddressError(
            f"{text!r} is ambiguous", f'an IPv6 address stands in brackets, as in "[{host}]:{port}"'
        )
    try:
        return Address(kind="tcp", host=str(ipaddress.IPv4Address(host)), port=_port(port, text))
    except ipaddress.AddressValueError:
        where = "127.0.0.1" if host in ("localhost", "") else "192.0.2.1"
        raise AddressError(
            f"{text!r}: {host!r} is not an IP address",
            f'say the address itself, as in "{where}:{port or 8000}"',
        ) from None


def _unix(text: str) -> Address:
    if not text.isprintable():
        raise AddressError(f"{text!r} has unprintable characters", "say a path that can be typed")
    if len(text.encode()) > _LONGEST_PATH:
        raise AddressError(
            f"{text[:40]!r}... has {len(text.encode())} bytes; a socket's path has {_LONGEST_PATH} at most",
            "say a shorter one, as under /run",
        )
    if text == "@" or text.endswith("/"):
        raise AddressError(f"{text!r} has no name at its end", f'say "{text}app.sock"')
    return Address(kind="unix", path=text)


def _v6(host: str, text: str) -> str:
    if "%" in host:
        raise AddressError(
            f"{text!r} names an interface, which is not known here", "leave it out, or use a .socket unit"
        )
    try:
        return str(ipaddress.IPv6Address(host))
    except ipaddress.AddressValueError:
        raise AddressError(
            f"{text!r}: {host!r} is not an IPv6 address", 'say the address itself, as in "[::1]:8000"'
        ) from None


def _port(port: str, text: str) -> int:
    if not (port.isascii() and port.isdigit()):
        what = "the port is missing" if not port else f"{port!r} is not a port"
        raise AddressError(f"{text!r}: {what}", 'say "127.0.0.1:8000", "[::1]:8000" or "/run/app.sock"')
    if len(port) > 5 or int(port) > 65535:
        raise AddressError(f"{text!r}: port {port[:12]} is over 65535", "say one from 1 to 65535")
    return int(port)
