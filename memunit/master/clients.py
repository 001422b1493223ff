"""A listening Unix socket and its clients: whole messages from each, in order, and messages to each.

Never blocks, and never grows: a client that does too much or too little costs bounded memory, and loses its connection.
"""

import contextlib
import math
import os
import select
import socket
import time
from collections.abc import Callable
from typing import Protocol

from memunit.master.rights import Right, right_of
from memunit.master.threshold import Peer, Threshold, groups_of, peer_of
from memunit.records import dataclass, field

# Connections in all, and how many may be of peers with a right or a lesser one: who runs the workers must not keep root
# out, and who may only read must not keep out either of them.
MOST = 128
MOST_OF_OTHERS = 96
MOST_OF_READERS = 64
_MOST = {Right.READ: MOST_OF_READERS, Right.ALL: MOST_OF_OTHERS, Right.ROOT: MOST}
# Bytes that are read of one client at a time, and how many clients and messages are served in one pass.
BLOCK = 4096
CLIENTS_A_PASS = 16
MESSAGES_A_PASS = 64
# Seconds after which a client that takes none of what waits for it is hung up on.
PATIENCE = 30.0
_BACKLOG = 128
# The runtime directories of dynamic users. systemd lets root in, and the services that a part of it is bound for.
_PRIVATE = "/run/private/"


class Reader(Protocol):
    """Takes bytes apart into messages. Raises ValueError when nothing good can come any more."""

    @property
    def pending(self) -> bool: ...

    def feed(self, block: bytes) -> None: ...

    def take(self) -> bytes | None: ...


@dataclass(slots=True, eq=False)
class Client:
    """A connection. It is `busy` from a message that was handed over to `Clients.ready`: its next one waits so long."""

    connection: socket.socket
    peer: Peer
    right: Right
    reader: Reader
    token: int
    asked: bool = False
    busy: bool = False
    ends: bool = False
    to_send: bytearray = field(default_factory=bytearray)
    stuck_since: float = math.inf
    events: int = select.EPOLLIN


class Clients:
    """Has one descriptor for all, which is readable whenever `messages` has something to do."""

    def __init__(
        self, path: str, reader: Callable[[], Reader], kept: int | None = None, refusal: bytes = b""
    ) -> None:
        """Listen at `path`, or go on with the listening descriptor that is `kept` of a predecessor. Raises OSError.

        `refusal` is sent to a peer that has no right, before its connection is closed.
        """
        self._reader, self._refusal = reader, refusal
        self._read_group: int | None = None
        self._threshold = Threshold(path, _BACKLOG, kept, mode=_mode(path))
        self._epoll = self._threshold.epoll
        self._clients: dict[int, Client] = {}
        self._by_token: dict[int, Client] = {}
        self._last_token = 0
        self._pending: set[int] = set()

    def __len__(self) -> int:
        return len(self._clients)

    def fileno(self) -> int:
        """The one descriptor."""
        return self._threshold.fileno()

    @property
    def path(self) -> str:
        """Where it listens."""
        return self._threshold.path

    def kept(self) -> int:
        """The descriptor that a successor in this process goes on with. The connections end with this program."""
        return self._threshold.kept()

    def admit(self, read_group: int | None) -> None:
        """From now on members of this group may read; None for nobody. Clients of the former group are hung up on."""
        if read_group != self._read_group:
            for client in [each for each in self._clients.values() if each.right is Right.READ]:
                self._drop(client)
        self._read_group = read_group
        # The file has the service's own group, and the master may not give it another.
        self._threshold.set_mode(_mode(self.path) if read_group is None else 0o666)

    @property
    def due(self) -> float:
        """When `messages` has something to do of itself, in seconds of CLOCK_MONOTONIC."""
        if self._pending:
            return -math.inf
        stuck = [client.stuck_since for client in self._clients.values() if client.to_send]
        return min(stuck, default=math.inf) + PATIENCE

    def reachable(self) -> bool:
        """Whether the path still leads here."""
        return self._threshold.reachable()

    def renew(self) -> None:
        """Listen anew at the path, whose directory is made too. Raises OSError, also if another listens there."""
        self._threshold.renew()

    # -- in ------------------------------------------------------------------------------------------------------

    def messages(self) -> list[tuple[int, bytes]]:
        """What has come, as (token, message), of as many clients as a pass has time for. Each wants one `ready`."""
        found: list[tuple[int, bytes]] = []
        told, arrived = self._threshold.poll(CLIENTS_A_PASS)
        for descriptor, events in told:
            client = self._clients[descriptor]
            if events & select.EPOLLIN and not client.busy:
                # Also of one that has hung up: a call that wants no reply is made so.
                self._receive(client)
                self._pending.add(client.token)
            elif events & (select.EPOLLHUP | select.EPOLLERR):
                self._drop(client)
            elif events & select.EPOLLOUT:
                self._flush(client)
        for token in sorted(self._pending):
            if len(found) >= MESSAGES_A_PASS:
                break
            message = self._take(token)
            if message is not None:
                found.append((token, message))
        now = time.monotonic()
        for client in [each for each in self._clients.values() if each.to_send]:
            if now - client.stuck_since >= PATIENCE:
                self._drop(client)
        if arrived:
            self._accept()
        return found

    def _receive(self, client: Client) -> None:
        try:
            block = client.connection.recv(BLOCK)
        except BlockingIOError:
            return
        except OSError:
            block = b""
        if not block:
            self._drop(client)
            return
        try:
            client.reader.feed(block)
        except ValueError:
            self._drop(client)

    def _take(self, token: int) -> bytes | None:
        """The next message of this client, if it is its turn."""
        self._pending.discard(token)
        client = self._by_token.get(token)
        if client is None or client.busy or client.ends or client.to_send:
            return None
        try:
            message = client.reader.take()
        except ValueError:
            self._drop(client)
            return None
        if message is not None:
            client.asked = client.busy = True
            self._attend(client)
        return message

    # -- out -----------------------------------------------------------------------------------------------------

    def peer(self, token: int) -> Peer | None:
        """Who it is; None for one that is gone."""
        client = self._by_token.get(token)
        return None if client is None else client.peer

    def right(self, token: int) -> Right:
        """What it may do; NONE for one that is gone."""
        client = self._by_token.get(token)
        return Right.NONE if client is None else client.right

    def backlog(self, token: int) -> int:
        """How many bytes wait until this client reads."""
        client = self._by_token.get(token)
        return 0 if client is None else len(client.to_send)

    def send(self, token: int, message: bytes) -> None:
        """Send a message, now or when the client reads. One that is gone misses it."""
        client = self._by_token.get(token)
        if client is not None and message:
            if not client.to_send:
                client.stuck_since = time.monotonic()
            client.to_send += message
            self._flush(client)

    def ready(self, token: int) -> None:
        """Its message is answered: the next one may come."""
        client = self._by_token.get(token)
        if client is not None:
            client.busy = False
            self._attend(client)

    def hang_up(self, token: int) -> None:
        """End the connection, once what waits for the client is sent."""
        client = self._by_token.get(token)
        if client is not None:
            client.ends = True
            self._flush(client)

    def _flush(self, client: Client) -> None:
        try:
            while client.to_send:
                sent = client.connection.send(client.to_send)
                del client.to_send[:sent]
                client.stuck_since = time.monotonic()
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)
            return
        if client.ends and not client.to_send:
            self._drop(client)
        else:
            self._attend(client)

    def _attend(self, client: Client) -> None:
        """Wait until it reads what waits for it, or else until it sends more."""
        if client.reader.pending and not (client.to_send or client.busy or client.ends):
            self._pending.add(client.token)
        events = select.EPOLLOUT if client.to_send else 0 if client.busy or client.ends else select.EPOLLIN
        if events != client.events:
            client.events = events
            self._epoll.modify(client.connection.fileno(), events)

    # -- come and go -------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Hang up on everybody and take the path away."""
        for client in list(self._clients.values()):
            self._drop(client)
        self._threshold.close()

    def _accept(self) -> None:
        for connection in self._threshold.accepted(CLIENTS_A_PASS):
            peer = peer_of(connection)
            right = self._right(connection, peer)
            if right is Right.NONE:
                with contextlib.suppress(OSError):
                    connection.send(self._refusal)
            if right is Right.NONE or not self._has_room(right):
                connection.close()
                continue
            self._last_token += 1
            client = Client(connection, peer, right, self._reader(), self._last_token)
            self._clients[connection.fileno()] = self._by_token[client.token] = client
            self._epoll.register(connection.fileno(), client.events)

    def _right(self, connection: socket.socket, peer: Peer) -> Right:
        own, group = os.geteuid(), self._read_group
        groups: frozenset[int] = frozenset() if group is None else groups_of(connection) | {peer.gid}
        return right_of(peer.uid, groups, own=own, read_group=group)

    def _has_room(self, right: Right) -> bool:
        """Whether there is a place for it. If not, the longest silent client with no greater right makes room."""
        alike = [client for client in self._clients.values() if client.right <= right]
        if len(self._clients) < MOST and len(alike) < _MOST[right]:
            return True
        silent = next((client for client in alike if not client.asked), None)
        if silent is None:
            return False
        self._drop(silent)
        return True

    def _drop(self, client: Client) -> None:
        descriptor = client.connection.fileno()
        if self._by_token.pop(client.token, None) is None:
            return
        del self._clients[descriptor]
        self._pending.discard(client.token)
        # By hand: a child that is between fork and exec may hold the connection a moment longer.
        self._epoll.unregister(descriptor)
        client.connection.close()


def _mode(path: str) -> int:
    """The mode of the socket. Who connects is asked for in any case (SO_PEERCRED); the mode keeps others off the queue.

    Since systemd 257 the files of a dynamic user belong to nobody, and a mount with other ids (mount_setattr(2)) makes
    them its own in its service alone: to another service of the same user the socket is a stranger's. There the
    directory above keeps others off.
    """
    return 0o666 if os.path.realpath(path).startswith(_PRIVATE) else 0o600
