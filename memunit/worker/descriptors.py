"""The open descriptors of this process that a fork would make common to all workers, and what each is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from typing import Collection, Dict, List, NamedTuple, Optional

CONNECTION = "connections"
SOCKET = "sockets"
LISTENER = "listeners"
PIPE = "pipes"
EVENTS = "events"
DATABASE = "databases"
FILE = "files"
LOCK = "locks"
DEVICE = "devices"

_SQLITE = b"SQLite format 3\0"
_DATABASES = (".db", ".db3", ".sqlite", ".sqlite3", ".mdb", "-wal", "-shm", "-journal")
# Of the devices, those that keep nothing for who has opened them.
_PLAIN_DEVICES = (
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/pts/",
)
_EVENTS = {
    "eventpoll": "epoll(7)",
    "inotify": "inotify(7)",
    "fanotify": "fanotify(7)",
    "[timerfd]": "timerfd_create(2)",
    "[eventfd]": "eventfd(2)",
    "[signalfd]": "signalfd(2)",
    "[io_uring]": "io_uring(7)",
    "[userfaultfd]": "userfaultfd(2)",
}

# Of the others, as netlink(7) and packet(7), each receives what nobody has addressed to it.
_WITH_PEERS = {
    getattr(socket, name, None)
    for name in ("AF_INET", "AF_INET6", "AF_UNIX", "AF_VSOCK", "AF_BLUETOOTH", "AF_TIPC")
}


class Open(NamedTuple):
    """A descriptor that is of one of the kinds above."""

    fd: int
    kind: str
    text: str


def shared(besides: Collection[int], files: Collection[int], archives: Collection[int]) -> List[Open]:
    """What is open `besides` these descriptors.

    `files` are those that a Python file object reads and writes, `archives` those that are read here and there.
    """
    found = []
    for name in sorted(os.listdir("/proc/self/fd"), key=int):
        if int(name) not in besides:
            with contextlib.suppress(OSError):  # that of the listing itself is gone
                each = _look(int(name), int(name) in files, int(name) in archives)
                if each is not None:
                    found.append(each)
    return found


def _look(fd: int, is_file: bool, is_archive: bool) -> Optional[Open]:
    status = os.fstat(fd)
    link = os.readlink(f"/proc/self/fd/{fd}")
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    if flags & os.O_PATH:
        return None
    lock = _lock(fd)
    if lock:
        return Open(fd, LOCK, f"{link} ({lock})")
    if stat.S_ISSOCK(status.st_mode):
        return _socket(fd)
    if stat.S_ISFIFO(status.st_mode):
        return Open(fd, PIPE, "pipe(7)")
    if stat.S_ISCHR(status.st_mode) and not link.startswith(_PLAIN_DEVICES):
        return Open(fd, DEVICE, link)
    if link.startswith("anon_inode:"):
        kind = _EVENTS.get(link.partition(":")[2].strip("[]")) or _EVENTS.get(link.partition(":")[2])
        return Open(fd, EVENTS, kind) if kind else None
    if stat.S_ISREG(status.st_mode):
        return _regular(fd, flags, link, status.st_size, is_file, is_archive)
    return None


def _regular(fd: int, flags: int, link: str, size: int, is_file: bool, is_archive: bool) -> Optional[Open]:
    mode = flags & os.O_ACCMODE
    appends = bool(flags & os.O_APPEND)
    if mode != os.O_WRONLY and size >= len(_SQLITE) and os.pread(fd, len(_SQLITE), 0) == _SQLITE:
        return Open(fd, DATABASE, link)
    if mode == os.O_RDWR and not appends and not is_file:
        # By name, for it may be empty yet. That of a file which is mapped into memory and no more is nobody's database.
        return Open(fd, DATABASE, link) if link.endswith(_DATABASES) else None
    if not is_file or mode == os.O_WRONLY or appends:
        return None  # who writes, writes behind what the others have written
    position = os.lseek(fd, 0, os.SEEK_CUR)
    if mode == os.O_RDONLY and position >= size and not is_archive:
        return None  # read to the end, or into a buffer, which each worker then has; and merely not closed
    return Open(fd, FILE, link)


def _lock(fd: int) -> str:
    """The kind of lock that this process holds on the file: FLOCK, POSIX or OFDLCK (proc_pid_fdinfo(5))."""
    with contextlib.suppress(OSError, IndexError), open(f"/proc/self/fdinfo/{fd}", "rb") as file:
        for line in file:
            if line.startswith(b"lock:"):
                return line.split()[2].decode("ascii", "replace")
    return ""


def _socket(fd: int) -> Optional[Open]:
    copy = socket.socket(fileno=os.dup(fd))
    with copy:
        if copy.family == getattr(socket, "AF_ALG", None):
            return None
        if copy.family not in _WITH_PEERS:
            return Open(
                fd, SOCKET, "netlink(7)" if copy.family == socket.AF_NETLINK else f"family {copy.family}"
            )
        peer, own = _peer(copy), _own(copy)
        if peer is None:
            return _unconnected(fd, copy, own)
        if copy.type == socket.SOCK_DGRAM and copy.family == socket.AF_UNIX and not own:
            # As that to /dev/log: nobody can answer who has no name, and each datagram goes as a whole.
            return None
        return Open(fd, CONNECTION, peer or "socketpair(2)")


def _unconnected(fd: int, copy: socket.socket, own: str) -> Optional[Open]:
    if copy.type in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        listens = copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        return Open(fd, LISTENER, own) if listens else None
    # Of those that receive datagrams, each worker would get what is another's. One without a port only sends yet.
    return Open(fd, SOCKET, f"{own}, datagrams") if own else None


def _peer(copy: socket.socket) -> Optional[str]:
    """Whom it leads to, "" for one without a name; None if it is not connected."""
    try:
        return _address(copy.getpeername())
    except OSError:
        return None


def _own(copy: socket.socket) -> str:
    try:
        name = copy.getsockname()
    except OSError:
        return ""
    if isinstance(name, tuple) and len(name) > 1 and name[1] == 0:
        return ""
    return _address(name)


def _address(name: object) -> str:
    if isinstance(name, tuple):
        return f"{name[0]} port {name[1]}" if len(name) > 1 else str(name)
    return os.fsdecode(name) if isinstance(name, (str, bytes)) else str(name)


def counted(texts: List[str]) -> List[str]:
    """Each text once, with how often it comes."""
    counts: Dict[str, int] = {}
    for text in texts:
        counts[text] = counts.get(text, 0) + 1
    return [f"{count} x {text}" if count > 1 else text for text, count in counts.items()]
