"""Where to listen, in the notation of ListenStream= (systemd.socket(5))."""

import ipaddress
from typing import Literal

from memunit.records import dataclass

LOCALHOST = "localhost"
_LONGEST_PATH = 107  # sockaddr_un's 108 bytes less the NUL, unix(7)
_LONGEST_TEXT = 250
_ANY = 0xFFFFFFFF  # VMADDR_CID_ANY and VMADDR_PORT_ANY, vsock(7)


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
    IPv6 and IPv4, and "localhost" the loopback address of each (RFC 6761, 6.3). "unix" has `path`, absolute, or with a
    leading "@" a name in the abstract namespace. "vsock" (vsock(7)) has `host`, the context identifier in digits or ""
    for any, and `port`.
    """

    kind: Literal["tcp", "unix", "vsock"]
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def places(self) -> "tuple[Address, ...]":
        """What to bind, in systemd's notation: localhost is 127.0.0.1 and ::1, each other address itself."""
        if self.host != LOCALHOST:
            return (self,)
        return tuple(Address(kind="tcp", host=host, port=self.port) for host in ("127.0.0.1", "::1"))

    @property
    def has_file(self) -> bool:
        """Whether it is a Unix socket with a file, which has a mode and an owner."""
        return self.path.startswith("/")

    def meets(self, other: "Address") -> bool:
        """Whether the kernel refuses to bind both: one is every address of the machine, and has the other in it."""
        if self.kind != "tcp" or other.kind != "tcp" or self.port != other.port:
            return False
        hosts = {self.host, other.host}
        return "::" in hosts or ("0.0.0.0" in hosts and not any(":" in host for host in hosts))  # noqa: S104

    def __str__(self) -> str:
        """The notation that it is parsed from: "127.0.0.1:8010", "[::1]:80", "/run/x.sock", "vsock:2:80"."""
        if self.kind == "unix":
            return self.path
        if self.kind == "vsock":
            return f"vsock:{self.host}:{self.port}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read "host:port", "[v6]:port", "port" (every address of the machine), "/path.sock", "@abstract" or
    "vsock:cid:port".

    "unix:/path.sock" is the path too, as in nginx. Raises AddressError. A host is an IP address or localhost: neither
    systemd nor memunit asks a name server for a socket.
    """
    if len(text) > _LONGEST_TEXT:
        raise AddressError(f"{text[:40]!r}... has {len(text)} characters", 'say one such as "127.0.0.1:8000"')
    plain = text.removeprefix("unix:")
    if plain != text and plain.startswith(("/", "@")) and not plain.startswith("//"):
        path, mark, query = plain.partition("?")
        if mark and "=" in query:
            raise AddressError(
                f"{text!r}: the mode and the owner of a socket are settings of their own",
                f'say "{path}", and --socket-mode, --socket-user and --socket-group ([socket] mode, user and group)',
            )
        return _unix(plain)
    if text.startswith(("/", "@")):
        return _unix(text)
    if text.startswith("vsock:"):
        return _vsock(text)
    if "://" in text:
        rest = text.split("://", 1)[1].rstrip("/")
        raise AddressError(
            f"{text!r} is a URL", f'say only where to listen, as in "{rest or "127.0.0.1:8000"}"'
        )
    if text.startswith("unix:") or "/" in text:
        raise AddressError(
            f"{text!r} is not an absolute path",
            f'say "/{text.removeprefix("unix:").lstrip("./")}", the whole path',
        )
    host, colon, port = text.rpartition(":")
    if not colon:
        return Address(kind="tcp", host="::", port=_port(text, text))
    if host in ("*", ""):
        raise AddressError(
            f"{text!r}: the host is missing",
            f'for every address of the machine say "{port or 8000}", for this machine alone "127.0.0.1:{port or 8000}"',
        )
    if host.lower().rstrip(".") == LOCALHOST:
        return Address(kind="tcp", host=LOCALHOST, port=_port(port, text))
    if host.startswith("[") and host.endswith("]"):
        return Address(kind="tcp", host=_v6(host[1:-1], text), port=_port(port, text))
    if ":" in host:
        raise AddressError(
            f"{text!r} is ambiguous", f'an IPv6 address stands in brackets, as in "[{host}]:{port}"'
        )
    try:
        return Address(kind="tcp", host=str(ipaddress.IPv4Address(host)), port=_port(port, text))
    except ipaddress.AddressValueError:
        raise AddressError(
            f"{text!r}: {host!r} is not an IP address, and no name but localhost is looked up",
            f'say the address itself, as in "192.0.2.1:{port or 8000}"',
        ) from None


def _vsock(text: str) -> Address:
    cid, colon, port = text.removeprefix("vsock:").rpartition(":")
    numbers = (cid or "0", port)
    if not colon or not all(n.isascii() and n.isdigit() and len(n) < 11 and int(n) < _ANY for n in numbers):
        raise AddressError(
            f"{text[:60]!r} is not vsock:CID:PORT",
            'say it in numbers, as "vsock:2:8000", or "vsock::8000" for any CID of this machine',
        )
    return Address(kind="vsock", host=str(int(cid)) if cid else "", port=int(port))


def _unix(text: str) -> Address:
    if not text.isprintable():
        raise AddressError(f"{text!r} has unprintable characters", "say a path that can be typed")
    if len(text.encode()) > _LONGEST_PATH:
        raise AddressError(
            f"{text[:40]!r}... has {len(text.encode())} bytes; a socket's path has {_LONGEST_PATH} at most",
            "say a shorter one, as under /run",
        )
    if text[-1] in "\\ ":
        what = "a space" if text[-1] == " " else "a backslash"
        raise AddressError(
            f"{text!r} ends with {what}, which a .socket unit can't express", "choose another name"
        )
    if text.startswith("/") and not {".", ".."}.isdisjoint(text.split("/")):
        raise AddressError(
            f"{text!r} has . or .. in it, which no .socket unit takes", "write the path without"
        )
    if text == "@" or text.endswith("/"):
        raise AddressError(f"{text!r} has no name at its end", f'say "{text}app.sock"')
    return Address(kind="unix", path=text)


def _v6(host: str, text: str) -> str:
    if "%" in host:
        raise AddressError(
            f"{text!r} names a network interface, which memunit does not support",
            "leave it out, or use a .socket unit",
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
