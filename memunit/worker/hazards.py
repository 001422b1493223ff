"""What an import has left behind that a fork does not carry over, or carries over to all workers at once."""

from __future__ import annotations

import gc
import os
import socket
import stat
import sys
import threading
from typing import Any, Collection, List, Optional

_REMEDY = "do it in a function that app.after_fork names, or say preload = false"
_MOST = 8
_LONGEST = 80  # characters of a name: the app may have given it any
_STANDARD = (0, 1, 2)


def found(control: int, listeners: Collection[int]) -> List[str]:
    """A warning for each kind of hazard in this process; empty where a fork is safe."""
    threads, native = _threads()
    said = []
    if threads:
        said.append(
            f"the app's import has started threads, which no worker will have, while locks that they hold stay "
            f"locked there: {_named(threads)}; {_REMEDY}"
        )
    if native:
        said.append(
            f"the app's import has loaded libraries with {native} thread{'s' * (native > 1)} of their own "
            "(harmless if the library is made for fork(2)); if workers hang, say preload = false"
        )
    loops = _loops()
    if loops:
        said.append(
            f"the app's import has left an event loop open, whose epoll(7) all workers would share: "
            f"{_named(loops)}; {_REMEDY}"
        )
    connections = _connections({*_STANDARD, control, *listeners})
    if connections:
        said.append(
            f"the app's import has opened connections, which all workers would share: {_named(connections)}; "
            f"{_REMEDY}"
        )
    return said


def _threads() -> "tuple[List[str], int]":
    """The names of the Python threads besides this one, and how many there are that Python knows nothing of."""
    others = [each for each in threading.enumerate() if each is not threading.current_thread()]
    known = {each.native_id for each in others} | {threading.get_native_id()}
    native = [each for each in os.listdir("/proc/self/task") if int(each) not in known]
    return [each.name for each in others], len(native)


def _loops() -> List[str]:
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is None:
        return []
    # By type(), because isinstance() asks the objects themselves, and those of lazy kinds would wake up.
    loops = [each for each in gc.get_objects() if issubclass(type(each), asyncio.AbstractEventLoop)]
    return [type(each).__name__ for each in loops if _is_open(each)]


def _is_open(loop: Any) -> bool:
    """An app's own kind of loop need not have all that the base class only names."""
    try:
        return not loop.is_closed()
    except Exception:
        return False


def _connections(besides: Collection[int]) -> List[str]:
    peers = []
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in besides:
            peer = _peer(int(name))
            if peer is not None:
                peers.append(peer)
    return peers


def _peer(descriptor: int) -> Optional[str]:
    """Whom a connected stream socket leads to; None for anything else, and for a socketpair(2)."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return None
        copy = socket.socket(fileno=os.dup(descriptor))
    except OSError:
        return None  # that of the listing itself is gone
    with copy:
        try:
            if copy.type != socket.SOCK_STREAM:
                return None
            peer = copy.getpeername()
        except OSError:
            return None
    if isinstance(peer, tuple):
        return f"{peer[0]} port {peer[1]}"
    return os.fsdecode(peer) or None


def _named(names: List[str]) -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(name[:_LONGEST] for name in names[:_MOST]) + more
