"""Accepting connections, so that at any moment each one is known by how far it has come.

A server library's own accept loop hides connections that it has accepted and not yet given a protocol; on shutdown
they are reset. Here they are counted, and then they are the server's, also before their first byte. And libuv's, at
the limit of open files, accepts all that wait at the socket and closes them, the siblings' with its own.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from typing import TYPE_CHECKING, Any, Callable, Coroutine, Dict, List, Optional, Tuple

from memunit.worker import addresses, early
from memunit.worker.addresses import Address, Local
from memunit.worker.doors import BATCH, OF_TCP, Door, PlainSocket
from memunit.worker.early import Early
from memunit.worker.siblings import Siblings

if TYPE_CHECKING:
    from memunit.worker.connection import Connection

_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_RETRY = 1.0  # seconds without accepting when descriptors or memory have run out
_LOOK = 0.001  # seconds for which connections are left to the siblings at a time
_LOOKS = 5  # so many times while none of them accepts
_MOST_LOOKS = 100  # so many times in all: that they accept is what they write themselves
_ALONE = 10.0  # seconds without regard to them after that


class Acceptor:
    """Takes connections from `listeners` and gives each to a protocol: `make_protocol(socket, client, local)`.

    `changed()` is called whenever a connection has left this object's care, or been lost there; `served()` tells how
    many the server has, and `made()` to how many protocols of this object a transport was ever given. Owns the
    sockets in `listeners`.
    """

    patience = 0.05
    """Seconds that a connection may wait for its first answer without a transport, and so hear of nothing."""

    def __init__(
        self,
        listeners: List[socket.socket],
        make_protocol: Callable[[socket.socket, Optional[Address], Optional[Local]], Any],
        *,
        changed: Callable[[], None],
        served: Callable[[], int],
        made: Callable[[], int],
        siblings: Optional[Siblings] = None,
    ) -> None:
        self.adopting: Dict["asyncio.Future[Any]", Tuple[Coroutine[Any, Any, Any], Any]] = {}
        self._make_protocol = make_protocol
        self._changed = changed
        self._served = served
        self._made = made
        self._given = 0
        self._siblings = siblings or Siblings(None)
        self._loop: asyncio.AbstractEventLoop
        self._doors = [Door(listener) for listener in listeners]
        self._alone_until = 0.0
        self._accepting = False
        self._held = False
        self._early: List[Connection] = []

    def start(self, siblings: Optional[Siblings] = None) -> None:
        """Begin to accept, in the loop that runs, beside these `siblings`."""
        self._loop = asyncio.get_running_loop()
        self._siblings = siblings or self._siblings
        self._accepting = True
        for door in self._doors:
            door.listener.setblocking(False)
            if door.listener.family in OF_TCP:
                # Accepted sockets inherit it. Without it, a keep-alive client waits 40 ms for each answer.
                door.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open(door)
        self._publish(accepting=True)

    def stop(self) -> None:
        """Accept no more, and let go of the listeners (they stay open in other processes)."""
        if not self._accepting:
            return
        self._accepting = False
        self._publish(accepting=False)
        for door in self._doors:
            if door.timer is not None:
                door.timer.cancel()
                door.leaving = False
            self._loop.remove_reader(door.listener.fileno())
            door.listener.close()

    def hold(self, held: bool) -> None:
        """Leave connections to the siblings while `held`: what is taken now would have to wait."""
        if held == self._held:
            return
        self._held = held
        if not self._accepting:
            return
        self._publish(accepting=not held)
        for door in self._doors:
            if door.timer is None:
                if held:
                    self._loop.remove_reader(door.listener.fileno())
                else:
                    self._open(door)

    def lost(self) -> None:
        """The server has one connection less."""
        connections = self._connections()
        self._siblings.count(connections, 0)
        for door in self._doors:
            if door.timer is None or not door.leaving:
                continue
            if self._siblings.share(self._siblings.look(), connections, 1) > 0:
                door.timer.cancel()
                self._reopen(door)

    @property
    def busy(self) -> bool:
        """Whether there are connections that have not reached the server yet."""
        return bool(self.adopting)

    def _connections(self) -> int:
        # One that is made already is among the others, and stays in `adopting` for another pass of the loop.
        return self._given - self._made() + self._served()

    def _publish(self, *, accepting: bool) -> None:
        self._siblings.publish(accepting=accepting, connections=self._connections())

    def _open(self, door: Door) -> None:
        self._loop.add_reader(door.listener.fileno(), self._accept, door)

    def _reopen(self, door: Door) -> None:
        door.timer = None
        door.opened = self._loop.time()
        if not self._held:
            self._open(door)
            if not door.leaving:
                self._publish(accepting=True)
        door.leaving = False

    def _close(self, door: Door, seconds: float, *, leaving: bool) -> None:
        self._loop.remove_reader(door.listener.fileno())
        door.leaving = leaving
        door.timer = self._loop.call_later(seconds, self._reopen, door)

    def _accept(self, door: Door) -> None:
        tally = self._siblings.look()
        waiting = door.waiting()
        if waiting == 0 or not self._accepting or self._held:
            return
        share = self._siblings.share(tally, self._connections(), waiting or 1)
        if share <= 0 and self._leave(door):
            return
        count = door.expected() if waiting is None else min(waiting, BATCH)
        if share > 0:
            door.looks = 0
            if tally[0]:
                count = min(count, share)
        taken = self._take(door, count)
        if waiting is None:
            door.came(taken, all_came=taken == count)
        if taken:
            self._siblings.count(self._connections(), taken)

    def _leave(self, door: Door) -> bool:
        """Leave what waits to the siblings for a moment; False if that has been done for long enough."""
        now = self._loop.time()
        if now < self._alone_until:
            return False
        if now - door.opened > _LOOKS * _LOOK:
            door.looks = 0  # nobody has waited since then
        if door.looks % _LOOKS == 0:
            if door.looks and not self._siblings.moved(door.marks):
                door.looks = 0
                self._siblings.pass_over(door.marks)
                return False
            door.marks = self._siblings.marks()
        door.looks += 1
        if door.looks > _MOST_LOOKS:
            door.looks = 0
            self._alone_until = now + _ALONE
            return False
        self._close(door, _LOOK, leaving=True)
        return True

    def _take(self, door: Door, count: int) -> int:
        """Accept so many, or fewer if no more wait."""
        begun: List[Tuple[Connection, Early, bytes]] = []
        # Siblings share O_NONBLOCK, and others may have reset it: systemd does when it starts a successor of a master.
        # In accept(2) this worker would wait with all that it serves, if a sibling has taken what was waiting.
        door.listener.setblocking(False)
        try:
            for number in range(count):
                try:
                    sock, address = door.listener.accept()
                except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                    return number
                except OSError as error:
                    if error.errno not in _OUT_OF_RESOURCES:
                        raise
                    print(
                        f"memunit worker: cannot accept: {error.strerror}; trying again in 1 s",
                        file=sys.stderr,
                    )
                    self._close(door, _RETRY, leaving=False)
                    self._publish(accepting=False)
                    return number
                self._adopt(sock, addresses.client(address), door.local, begun)
        finally:
            self._begin(begun)
        return count

    def _adopt(
        self,
        sock: socket.socket,
        client: Optional[Address],
        local: Optional[Local],
        begun: List[Tuple[Connection, Early, bytes]],
    ) -> None:
        """Make a connection of it, and note it in `begun` if something has come on it already."""
        sock.__class__ = PlainSocket
        # By socket.setdefaulttimeout() of the app. With one, recv() and send() wait, whatever their flags.
        if sock.gettimeout():
            sock.setblocking(False)
        data = early.read(sock)
        if data == b"":  # the client has gone already
            sock.close()
            return
        protocol = self._make_protocol(sock, client, local)
        if data is not None:
            begun.append((protocol, Early(sock, protocol, self._open_transport), data))
        elif not self._open_transport(sock, protocol):
            return
        self._given += 1

    def _begin(self, begun: List[Tuple[Connection, Early, bytes]]) -> None:
        """Answer requests that have come already, without a transport if possible.

        After all have been accepted: a thread that a request has woken takes the interpreter from this one at its next
        system call.
        """
        if begun and not self._early:
            self._loop.call_later(self.patience, self._settle)
        for connection, transport, data in begun:
            self._early.append(connection)
            try:
                connection.begin(transport, data)
            except Exception as error:
                transport.abort()
                self._loop.call_exception_handler(
                    {"message": "cannot begin with a connection", "exception": error, "protocol": connection}
                )

    def _settle(self) -> None:
        """A connection that still waits for its answer gets a transport, which tells when the client goes."""
        waiting, self._early = self._early, []
        for connection in waiting:
            connection.resume()

    def _open_transport(self, sock: socket.socket, protocol: Any) -> bool:
        """Make a transport of it: the first step of connect_accepted_socket(), by hand.

        A Task would take it one pass of the loop later, for a tenth of what a new connection costs.
        """
        opening = self._loop.connect_accepted_socket(lambda: protocol, sock)
        try:
            waiter = opening.send(None)
        except BaseException as error:
            sock.close()
            if not isinstance(error, OSError):  # else the client has gone already
                raise
            return False
        self.adopting[waiter] = opening, protocol
        waiter.add_done_callback(self._adopted)
        return True

    def _adopted(self, waiter: "asyncio.Future[Any]") -> None:
        """There is a transport, or there is none: then the coroutine has closed the socket."""
        opening, protocol = self.adopting.pop(waiter)
        try:
            opening.send(None)
        except StopIteration:
            pass
        except (OSError, RuntimeError) as error:
            if protocol.transport is None:
                if isinstance(protocol, Early):
                    protocol.connection_lost(error)
                else:
                    self._given -= 1
            self._siblings.count(self._connections(), 0)
        finally:
            self._changed()
