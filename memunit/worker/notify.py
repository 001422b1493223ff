"""The worker's side of sd_notify(3), with nothing but the standard library."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Iterator, Mapping, Optional, Tuple

_PATIENCE = 5.0  # seconds to wait for room in the master's queue before a message that matters is given up
_NEVER = "3600000000"  # microseconds
_LONGEST = 2000  # characters of one assignment: a datagram of the protocol holds 4096 bytes in all


class Notify:
    """Sends state changes to the address in NOTIFY_SOCKET; without one, quietly does nothing.

    `environment` is read once, at construction. Nothing here raises: a worker serves on when nobody listens.
    """

    def __init__(self, environment: Optional[Mapping[str, str]] = None) -> None:
        env = os.environ if environment is None else environment
        address = env.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog = _watchdog_seconds(env)
        """Seconds within which the master wants to hear a ping, or None (sd_watchdog_enabled(3))."""
        self._reserve: Optional[_Reserve] = None

    def keep(self) -> None:
        """Hold a socket for the time when this process may open no further descriptor (RLIMIT_NOFILE).

        For a worker that serves. One with as many clients as it may have would be taken for one that hangs.
        """
        if self._address and self._reserve is None:
            with contextlib.suppress(OSError):
                self._reserve = _Reserve()

    def let_go(self) -> None:
        """Hold no socket any more."""
        held = None if self._reserve is None else self._reserve.whole()
        if held is not None:
            held.close()
        self._reserve = None

    def renewed(self) -> Notify:
        """One for this process, after a fork: of this address, whatever the app has made of the environment."""
        own = {name: os.environ.get(name, "") for name in ("WATCHDOG_USEC", "WATCHDOG_PID")}
        return Notify({**own, "NOTIFY_SOCKET": self._address.replace("\0", "@", 1)})

    def send(self, *assignments: str, wait: float = _PATIENCE) -> bool:
        """Send one datagram of `assignments` ("READY=1", "STATUS=importing"); whether it was delivered.

        Text is made ASCII and one line each. Blocks for `wait` seconds at most, while the master's queue is
        full.
        """
        if not self._address:
            return False
        payload = "\n".join(_plain(each) for each in assignments).encode("ascii")
        try:
            with self._client() as client:
                client.settimeout(max(wait, 0.0))
                client.sendto(payload, self._address)
        except (OSError, ValueError):
            return False
        return True

    @contextlib.contextmanager
    def _client(self) -> Iterator[socket.socket]:
        try:
            client = _socket()
        except OSError:
            held = None if self._reserve is None else self._reserve.whole()
            if held is None:
                raise
            yield held
            return
        with client:
            yield client

    def status(self, text: str) -> bool:
        """Send one line of STATUS=."""
        return self.send("STATUS=" + text)

    def ping(self, *, wait: float = 0.0) -> bool:
        """Send WATCHDOG=1, waiting for `wait` seconds at most; False if it is to be tried anew: the queue is full.

        A queue that another process floods is full nearly always, and the worker would be ended for its silence.
        """
        return self.send("WATCHDOG=1", wait=wait)


class _Reserve:
    """A socket that is held open. Raises OSError if there can be none.

    An app may close all descriptors, and then have something else under the same number: that is left alone.
    """

    def __init__(self) -> None:
        self._socket: Optional[socket.socket] = _socket()
        self._is = _identity(self._socket)

    def whole(self) -> Optional[socket.socket]:
        """The socket, if it is still the one that was opened."""
        if self._socket is not None and _identity(self._socket) != self._is:
            self._socket.detach()
            self._socket = None
        return self._socket


def _socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)


def _identity(opened: socket.socket) -> Optional[Tuple[int, int]]:
    try:
        found = os.fstat(opened.fileno())
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def notifying(*, pings: bool) -> Iterator[Notify]:
    """One for a rehearsal, whose messages reach nobody; with `pings`, one that asks for them. Raises OSError."""
    with _socket() as nobody:
        nobody.bind("")  # unix(7), autobind
        address = "@" + nobody.getsockname()[1:].decode("ascii")
        notify = Notify({"NOTIFY_SOCKET": address, **({"WATCHDOG_USEC": _NEVER} if pings else {})})
        try:
            yield notify
        finally:
            notify.let_go()


def _plain(text: str) -> str:
    return " ".join(text.split()).encode("ascii", "backslashreplace").decode("ascii")[:_LONGEST]


def _watchdog_seconds(env: Mapping[str, str]) -> Optional[float]:
    meant_for = env.get("WATCHDOG_PID", "")
    if meant_for and meant_for != str(os.getpid()):
        return None
    usec = env.get("WATCHDOG_USEC", "")
    return int(usec) / 1e6 if usec.isascii() and usec.isdigit() and int(usec) > 0 else None
