"""Both ends of sd_notify(3): what workers tell the master, and what the master tells systemd."""

import array
import contextlib
import os
import re
import socket
import struct
from collections.abc import Iterator, MutableMapping, Sequence

from sdnotify import SystemdNotifier

from memunit.master.system import identity, prepare_socket_path
from memunit.records import dataclass

MAX_DATAGRAM = 4096
_MAX_DESCRIPTORS = 253  # SCM_MAX_FD of unix(7)
_CREDENTIALS = struct.Struct("3i")
_ANCILLARY = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(_MAX_DESCRIPTORS * 4)
_STATUS_MAX = 1024
# Sockets whose path was removed, and that a worker may still be connected to.
_MOST_FORMER = 8
_SEND_TIMEOUT = struct.pack("@ll", 0, 200_000)
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class Datagram:
    """What arrived, and from whom by the kernel's word (SCM_CREDENTIALS)."""

    pid: int
    uid: int
    gid: int
    payload: bytes


class NotifyListener:
    """The socket that workers find in NOTIFY_SOCKET. Raises OSError when it cannot be bound."""

    def __init__(self, path: str, kept: Sequence[int] = ()) -> None:
        """Bind at `path`, whose directory is made with mode 0700 if it is missing.

        Or go on with what is `kept` of a predecessor in this process: nothing that is in its queue is lost.
        """
        self.path = path
        if not kept:
            prepare_socket_path(path)
        taken = [socket.socket(fileno=each) for each in kept] or [_bound(path)]
        self._socket = taken.pop()
        self._former: list[socket.socket] = taken
        self._identity = identity(path)

    def kept(self) -> tuple[int, ...]:
        """The descriptors by which a successor in this process goes on."""
        return tuple(each.fileno() for each in (*self._former, self._socket))

    def fileno(self) -> int:
        """The descriptor to poll for reading."""
        return self._socket.fileno()

    def reachable(self) -> bool:
        """Whether the path still leads here."""
        return self._identity is not None and identity(self.path) == self._identity

    def renew(self) -> None:
        """Bind anew at the path, whose directory is made too. Raises OSError, also if another is bound there.

        The socket that was there before is read on: some keep it connected, as sdnotify does.
        """
        prepare_socket_path(self.path, taken=socket.SOCK_DGRAM)
        bound = _bound(self.path)
        self._former.append(self._socket)
        while len(self._former) > _MOST_FORMER:
            self._former.pop(0).close()
        self._socket = bound
        self._identity = identity(self.path)

    def receive(self, most: int = 512) -> list[Datagram]:
        """All that has arrived; see datagrams()."""
        return list(self.datagrams(most))

    def datagrams(self, most: int = 512) -> Iterator[Datagram]:
        """What has arrived, `most` datagrams at once, so that a flood cannot keep the loop; the rest stays
        readable.

        Every descriptor that comes along is closed at once, which is also the answer to BARRIER=1. Datagrams
        over 4096 bytes and those without credentials are dropped. Each is read when it is asked for: as long
        as systemd-notify has no answer to the BARRIER=1 behind its READY=1 it is there, and /proc can tell
        whose child it is.
        """
        for each in (*self._former, self._socket):
            yield from _datagrams(each, most)

    def close(self) -> None:
        """Close the socket and take its path away."""
        if self._socket.fileno() < 0:
            return
        ours = self.reachable()
        for each in (*self._former, self._socket):
            each.close()
        if ours:
            with contextlib.suppress(OSError):
                os.unlink(self.path)


def _bound(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        # Before bind: a datagram that arrives without the option carries no credentials.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        made.bind(path)
        os.chmod(path, 0o600)
    except BaseException:
        made.close()
        raise
    return made


def _datagrams(listener: socket.socket, most: int) -> Iterator[Datagram]:
    for _ in range(most):
        try:
            payload, ancillary, flags, _ = listener.recvmsg(
                MAX_DATAGRAM, _ANCILLARY, socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
            )
        except OSError:
            return
        sender = _open_ancillary(ancillary)
        if sender is not None and not flags & socket.MSG_TRUNC:
            yield Datagram(*sender, payload)


def _open_ancillary(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, int, int] | None:
    """The sender's (pid, uid, gid); closes what descriptors there are."""
    sender = None
    for level, kind, data in ancillary:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_RIGHTS:
            descriptors = array.array("i")
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
            for descriptor in descriptors:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        elif kind == socket.SCM_CREDENTIALS and len(data) == _CREDENTIALS.size:
            sender = _CREDENTIALS.unpack(data)
    return sender


class Systemd:
    """Our own service manager, if there is one."""

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        """Take NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of `environment`, so that nobody inherits
        them.
        """
        address = environment.pop("NOTIFY_SOCKET", "")
        self.watchdog_usec = _watchdog(
            environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", str(os.getpid()))
        )
        self.address = address
        """NOTIFY_SOCKET as it was given; "" for none."""
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._notifier = _connect(address) if address.startswith(("/", "@")) else None

    @property
    def enabled(self) -> bool:
        """Whether a service manager listens. `watchdog_usec` (microseconds, 0 for none) is what it expects of
        us.
        """
        return self._notifier is not None

    def send(self, *assignments: str) -> bool:
        """Send assignments ("READY=1", "STATUS=...") in one datagram; False when it did not arrive. Never
        raises.

        Other than ASCII becomes "?", for sdnotify sends Latin-1 and systemd refuses what is not UTF-8. A
        service manager that does not read costs 0.2 s at most. One that has bound its socket anew is found
        again.
        """
        if self._notifier is None:
            return False
        text = "\n".join(map(_clean, assignments))
        try:
            self._notifier.notify(text)
        except OSError as error:
            if isinstance(error, BlockingIOError):
                return False
        else:
            return True
        try:
            self._notifier.socket.connect(self._address)
            self._notifier.notify(text)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Say no more."""
        if self._notifier is not None:
            self._notifier.socket.close()
            self._notifier = None


def _connect(address: str) -> SystemdNotifier | None:
    """A notifier that gives up after a time and raises its errors. sdnotify looks for its address in
    os.environ alone.
    """
    before = os.environ.get("NOTIFY_SOCKET")
    os.environ["NOTIFY_SOCKET"] = address
    try:
        notifier = SystemdNotifier()
    finally:
        if before is None:
            del os.environ["NOTIFY_SOCKET"]
        else:
            os.environ["NOTIFY_SOCKET"] = before
    if notifier.socket is None:
        return None
    notifier.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT)
    notifier.debug = True
    return notifier


def _watchdog(usec: str, pid: str) -> int:
    if pid != str(os.getpid()) or not (usec.isascii() and usec.isdigit()):
        return 0
    return int(usec)


def _clean(assignment: str) -> str:
    text = _CONTROL_CHARACTERS.sub(" ", assignment).encode("ascii", "replace").decode("ascii")
    return text[:_STATUS_MAX]
