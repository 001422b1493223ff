"""Both ends of a connection, as ASGI's "client" and "server" have them."""

from __future__ import annotations

from typing import Any, Optional, Tuple

from memunit.worker.proxied import unmapped

Address = Tuple[str, int]
Local = Tuple[str, Optional[int]]


def remote(transport: Any) -> Optional[Address]:
    """The client's address; None for a Unix socket, whose client has none, and for a connection that is over."""
    return client(transport.get_extra_info("peername"))


def local(transport: Any) -> Local:
    """This end's address; the path and None for a Unix socket."""
    return end(transport.get_extra_info("sockname"))


def client(name: Any) -> Optional[Address]:
    """remote(), of what accept(2) or getpeername(2) has given."""
    if isinstance(name, (tuple, list)) and len(name) >= 2:
        return unmapped(str(name[0])), int(name[1])
    return None


def end(name: Any) -> Local:
    """local(), of what getsockname(2) has given."""
    if isinstance(name, (tuple, list)) and len(name) >= 2:
        return unmapped(str(name[0])), int(name[1])
    return (name if isinstance(name, str) else "", None)
