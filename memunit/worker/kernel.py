"""What the kernel holds of a connection."""

from __future__ import annotations

import fcntl
import struct
import termios
from typing import Any


def unread(sock: Any) -> bool:
    """Whether the kernel holds bytes of a connection that the process has not read yet. False for None."""
    return _held(sock, termios.FIONREAD) > 0


def unsent(sock: Any) -> int:
    """How many bytes of a connection the kernel holds that the peer has not acknowledged (tcp(7), SIOCOUTQ).

    A peer that reads slowly acknowledges more often than the kernel makes room for more.
    """
    return _held(sock, termios.TIOCOUTQ)


def _held(sock: Any, request: int) -> int:
    if sock is None or sock.fileno() < 0:
        return 0
    try:
        return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), request, b"\0\0\0\0"))[0])
    except OSError:
        return 0
