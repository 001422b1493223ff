"""A listening socket, and what is known of the connections that wait there."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Optional

from memunit.worker import addresses
from memunit.worker.addresses import Local
from memunit.worker.siblings import Marks

# Not all at once: siblings wait at the same socket, and what this process takes it must also answer. One by one
# would cost a pass of the loop each.
BATCH = 4
OF_TCP = (socket.AF_INET, socket.AF_INET6)
_TCP_INFO = struct.Struct("=24xI")
"""tcp(7): of a listening socket, tcpi_unacked is the number of connections that wait to be accepted."""


class PlainSocket(socket.socket):
    """A socket whose family and type are plain numbers.

    Each look at them makes an Enum else, and accept() and the loops look seven times: a tenth of what a new
    connection costs.
    """

    __slots__ = ()
    family = socket.SocketType.family  # type: ignore[assignment]
    type = socket.SocketType.type  # type: ignore[assignment]


class Door:
    """A listening socket, with what is known of who waits there."""

    def __init__(self, listener: socket.socket) -> None:
        listener.__class__ = PlainSocket
        self.listener = listener
        self.local = _of_all(listener)
        """This end of each connection that is accepted here; None if it differs."""
        self.timer: Optional[asyncio.TimerHandle] = None
        """Runs while connections are left to the siblings, or while there is no room for them."""
        self.leaving = False
        self.looks = 0
        self.opened = 0.0
        self.marks: Marks = {}
        self._tells = listener.family in OF_TCP
        self._has_told = False
        self._guess = 1

    def waiting(self) -> Optional[int]:
        """How many wait, None if it is not known.

        An accept(2) that finds no connection costs five times as much as this question. Most would find none, because
        each connection wakes all workers.
        """
        if not self._tells:
            return None
        try:
            info = self.listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
            (count,) = _TCP_INFO.unpack(info)
        except (OSError, struct.error):
            self._tells = False
            return None
        # A kernel that does not tell (there are others than Linux's own) says 0 always.
        self._has_told = self._has_told or count > 0
        return int(count) if self._has_told else None

    def expected(self) -> int:
        """How many may wait, where that is not known: twice as many as last time, if they all came."""
        return self._guess

    def came(self, count: int, *, all_came: bool) -> None:
        """So many have been accepted, of as many as were expected or of fewer."""
        self._guess = max(1, min(2 * count, BATCH) if all_came else count)


def _of_all(listener: socket.socket) -> Optional[Local]:
    local = addresses.end(listener.getsockname())
    return None if local[0] in ("0.0.0.0", "::") else local  # noqa: S104
