"""The control socket: one line in, an exit code and a text out. Both ends; needs nothing but the standard
library.
"""

import contextlib
import errno
import os
import select
import socket
import time

from memunit.master.threshold import Threshold, peer_of
from memunit.records import dataclass

MAX_REQUEST = 1024
MAX_CLIENTS = 64
_MAX_REPLY = 16 * 1024 * 1024
_MOST_UNREAD = 256 * 1024
_EX_NOPERM = 77
_EX_USAGE = 64


@dataclass(slots=True)
class _Client:
    connection: socket.socket
    token: int
    received: bytes = b""
    asked: bool = False
    to_send: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptClient:
    """A client, as it outlives an execve(2) of the master: what it has sent, and what it was not sent yet."""

    descriptor: int
    token: int
    received: str
    asked: bool
    to_send: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptControl:
    """The control socket likewise."""

    listener: int
    clients: tuple[KeptClient, ...]
    last_token: int


class ControlServer:
    """Answers local clients of our own user and root. Never blocks, whatever a client does or fails to do."""

    def __init__(self, path: str, kept: KeptControl | None = None) -> None:
        """Listen at `path`, whose directory is made with mode 0700 if it is missing. Raises OSError.

        Or go on with what is `kept` of a predecessor in this process.
        """
        self._threshold = Threshold(path, MAX_CLIENTS, None if kept is None else kept.listener)
        self._epoll = self._threshold.epoll
        self._clients: dict[int, _Client] = {}
        self._last_token = 0
        if kept is not None:
            self._resume(kept)

    def _resume(self, kept: KeptControl) -> None:
        self._last_token = kept.last_token
        for each in kept.clients:
            connection = socket.socket(fileno=each.descriptor)
            client = _Client(
                connection,
                each.token,
                each.received.encode("latin-1", "replace"),
                each.asked,
                each.to_send.encode("latin-1", "replace"),
            )
            self._clients[each.descriptor] = client
            events = select.EPOLLOUT if client.to_send else 0 if client.asked else select.EPOLLIN
            self._epoll.register(each.descriptor, events)

    def kept(self) -> KeptControl:
        """What a successor in this process goes on with."""
        clients = [
            KeptClient(
                descriptor=descriptor,
                token=client.token,
                received=client.received.decode("latin-1"),
                asked=client.asked,
                to_send=client.to_send.decode("latin-1"),
            )
            for descriptor, client in self._clients.items()
        ]
        return KeptControl(
            listener=self._threshold.kept(), clients=tuple(clients), last_token=self._last_token
        )

    def fileno(self) -> int:
        """One descriptor for all: it is readable whenever requests() has something to do, also for a slow
        client.
        """
        return self._threshold.fileno()

    @property
    def path(self) -> str:
        """Where it listens."""
        return self._threshold.path

    def reachable(self) -> bool:
        """Whether the path still leads here."""
        return self._threshold.reachable()

    def renew(self) -> None:
        """Listen anew at the path, whose directory is made too. Raises OSError, also if another listens there."""
        self._threshold.renew()

    def requests(self) -> list[tuple[int, str]]:
        """Serve whoever is ready; the requests that are complete now, as (token, line). Each wants one
        reply().
        """
        complete: list[tuple[int, str]] = []
        told, arrived = self._threshold.poll()
        for descriptor, events in told:
            client = self._clients[descriptor]
            if events & (select.EPOLLHUP | select.EPOLLERR):
                self._drop(client)
            elif events & select.EPOLLOUT:
                self._flush(client)
            elif events & select.EPOLLIN and (line := self._receive(client)) is not None:
                complete.append((client.token, line))
        if arrived:
            self._accept()
        return complete

    def waiting(self) -> list[int]:
        """The tokens of the requests that have had no reply."""
        return [client.token for client in self._clients.values() if client.asked and not client.to_send]

    def reply(self, token: int, exit_code: int, text: str) -> None:
        """Answer a request and hang up. A client that is gone already misses it."""
        for client in self._clients.values():
            if client.token == token:
                client.to_send = _answer(exit_code, text)
                self._flush(client)
                return

    def close(self) -> None:
        """Hang up on everybody and take the path away. Replies that were not read yet are lost."""
        for client in list(self._clients.values()):
            self._drop(client)
        self._threshold.close()

    def _accept(self) -> None:
        for connection in self._threshold.accepted(MAX_CLIENTS):
            if len(self._clients) >= MAX_CLIENTS:
                # The one that has been silent the longest makes room; those that wait for a reply do not.
                silent = next((client for client in self._clients.values() if not client.asked), None)
                if silent is None:
                    connection.close()
                    continue
                self._drop(silent)
            self._last_token += 1
            client = _Client(connection, self._last_token)
            self._clients[connection.fileno()] = client
            self._epoll.register(connection.fileno(), select.EPOLLIN)

    def _receive(self, client: _Client) -> str | None:
        try:
            block = client.connection.recv(MAX_REQUEST)
        except BlockingIOError:
            return None
        except OSError:
            block = b""
        client.received += block
        line, end, _ = client.received.partition(b"\n")
        if end and len(line) < MAX_REQUEST:
            client.asked = True
            # From now on only its hanging up is of interest, and that is always reported.
            self._epoll.modify(client.connection.fileno(), 0)
            if peer_of(client.connection).uid not in (0, os.geteuid()):
                self.reply(client.token, _EX_NOPERM, "only root and the service's own user may ask")
                return None
            return line.decode("utf-8", "replace").strip()
        if len(client.received) >= MAX_REQUEST:
            client.asked = True
            self.reply(client.token, _EX_USAGE, f"a request is one line of at most {MAX_REQUEST} bytes")
        elif not block:
            self._drop(client)
        return None

    def _flush(self, client: _Client) -> None:
        try:
            while client.to_send:
                client.to_send = client.to_send[client.connection.send(client.to_send) :]
        except BlockingIOError:
            self._epoll.modify(client.connection.fileno(), select.EPOLLOUT)
            return
        except OSError:
            pass
        self._drop(client)

    def _drop(self, client: _Client) -> None:
        descriptor = client.connection.fileno()
        del self._clients[descriptor]
        # By hand: a child that is between fork and exec may hold the connection a moment longer, and with it
        # the event.
        self._epoll.unregister(descriptor)
        # Closing with something unread would reset the connection, and the client would lose the end of its
        # answer.
        with contextlib.suppress(OSError):
            client.connection.recv(_MOST_UNREAD)
        client.connection.close()


def _answer(exit_code: int, text: str) -> bytes:
    return f"{exit_code}\n{text}".encode("utf-8", "replace")


def hang_up(descriptor: int, exit_code: int, text: str) -> None:
    """Close a socket of a server that is no more. If it is the connection of a client, the client is answered."""
    with contextlib.suppress(OSError), socket.socket(fileno=descriptor) as connection:
        if connection.type == socket.SOCK_STREAM:
            connection.send(_answer(exit_code, text), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            # As in ControlServer._drop().
            connection.recv(_MOST_UNREAD, socket.MSG_DONTWAIT)


def request(path: str, command: str, timeout: float) -> tuple[int, str]:
    """Send one line to the master at `path` and return its (exit code, text), within `timeout` seconds in
    all.

    Raises OSError that says what to look at: FileNotFoundError or ConnectionRefusedError when no master is
    there, PermissionError, TimeoutError, ConnectionResetError when it ended before it answered.
    """
    deadline = time.monotonic() + timeout
    answer = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.settimeout(timeout)
            connection.connect(path)
            connection.sendall(command.encode() + b"\n")
            while len(answer) < _MAX_REPLY:
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                block = connection.recv(65536)
                if not block:
                    break
                answer += block
        except TimeoutError:
            raise TimeoutError(
                errno.ETIMEDOUT, f"no answer to {command!r} within {timeout:g} s", path
            ) from None
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise OSError(error.errno, "no memunit listens here; is the service running?", path) from None
        except OSError as error:
            raise OSError(error.errno, error.strerror or str(error), path) from None
    code, end, text = answer.partition(b"\n")
    if not end or not code.isdigit():
        raise ConnectionResetError(errno.ECONNRESET, f"the master ended before it answered {command!r}", path)
    return int(code), text.decode("utf-8", "replace")
