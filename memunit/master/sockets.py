"""The listening sockets: those that systemd has opened, or our own."""

import contextlib
import errno
import os
import socket
import stat

BACKLOG = 4096
_LISTEN_VARIABLES = ("LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES")


class Listener(socket.socket):
    """A socket that we have bound ourselves. close() takes a Unix socket's path away, if it is still this
    one's.
    """

    _owner: tuple[int, str, int, int] | None = None

    def owns(self, path: str) -> None:
        """From now on `path` goes with the socket."""
        found = os.stat(path)
        self._owner = (os.getpid(), path, found.st_dev, found.st_ino)

    def close(self) -> None:
        """Close it. In a forked child the path stays: it is the parent's."""
        if self._owner is not None and self._owner[0] == os.getpid():
            _, path, device, inode = self._owner
            self._owner = None
            with contextlib.suppress(OSError):
                found = os.stat(path)
                if (found.st_dev, found.st_ino) == (device, inode):
                    os.unlink(path)
        super().close()


def inherited() -> list[tuple[str, socket.socket]]:
    """(name, socket) of each socket that was passed to this process, in the order of descriptors
    (sd_listen_fds(3)).

    Empty when there are none, or when they are meant for another process. Takes LISTEN_* out of the
    environment. The sockets are close-on-exec and blocking, and those of TCP have TCP_NODELAY (see bind); that is
    set here, once, and at no later time (see spawn.launch). Raises OSError for a descriptor that is no socket, and
    for variables that do not fit together.
    """
    if "LISTEN_FDS" not in os.environ:
        return []
    from systemd import daemon  # noqa: PLC0415  not needed, nor need be installed, where nothing is passed

    try:
        passed = daemon.listen_fds_with_names(unset_environment=True)
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None) or errno.EINVAL
        raise OSError(number, f"LISTEN_FDS and LISTEN_FDNAMES do not fit what was passed: {error}") from None
    finally:
        for variable in _LISTEN_VARIABLES:
            os.environ.pop(variable, None)
    found = []
    for descriptor, name in sorted(passed.items()):
        try:
            taken = socket.socket(fileno=descriptor)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror} (descriptor {descriptor})", name) from None
        taken.setblocking(True)
        if taken.family in (socket.AF_INET, socket.AF_INET6) and taken.type == socket.SOCK_STREAM:
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found.append((name, taken))
    return found


def bind(address: tuple[str, str, int] | tuple[str, str]) -> Listener:
    """A listening stream socket at ("tcp", host, port) or ("unix", path); a path with "@" in front is
    abstract.

    The host "::", or none, is every address of both families, as a bare port is to systemd. A name is
    resolved and its first address taken. TCP sockets have TCP_NODELAY, which accepted connections inherit:
    without it a keep-alive request may cost 40 ms. A stale Unix socket, on which nobody listens any more, is
    replaced. Raises OSError with the address as its filename; EADDRINUSE also when a live server or another
    kind of file is at the path.
    """
    text = address[1] if len(address) == 2 else _host_port(address[1], address[2])
    try:
        return _bind_unix(address[1]) if len(address) == 2 else _bind_tcp(address[1], address[2])
    except socket.gaierror as error:
        raise OSError(errno.EADDRNOTAVAIL, f"cannot resolve the name ({error.strerror})", text) from None
    except OSError as error:
        number = error.errno or errno.EINVAL
        known = error.strerror if error.errno and error.strerror else str(error)
        raise OSError(number, known, text) from None


def _bind_tcp(host: str, port: int) -> Listener:
    if not 0 <= port <= 65535:
        raise OSError(errno.EINVAL, "a port is a number from 0 to 65535")
    if host in ("", "::"):
        try:
            return _listen(socket.AF_INET6, ("::", port), dual_stack=True)
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
            return _listen(socket.AF_INET, ("0.0.0.0", port))  # noqa: S104  what a bare port means
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, where = found[0]
    return _listen(family, where)


def _bind_unix(path: str) -> Listener:
    if path.startswith("@"):
        return _listen(socket.AF_UNIX, "\0" + path[1:])
    if len(os.fsencode(path)) > 107:
        raise OSError(errno.ENAMETOOLONG, "a socket's path may be 107 bytes long at most")
    _remove_stale(path)
    made = _listen(socket.AF_UNIX, path)
    made.owns(path)
    return made


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OSError(errno.EADDRINUSE, "there is a file at this path that is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # Its backlog is full, so somebody listens.
        except OSError as error:
            if error.errno != errno.EPROTOTYPE:
                raise
    raise OSError(errno.EADDRINUSE, "another server listens at this path")


def _listen(family: int, where: object, *, dual_stack: bool = False) -> Listener:
    made = Listener(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        if family != socket.AF_UNIX:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if dual_stack:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(where)  # type: ignore[arg-type]
        made.listen(BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host or not host else f"{host}:{port}"


def describe(sock: socket.socket) -> str:
    """Where it listens, as a person writes it: "127.0.0.1:8010", "[::1]:80", "/run/x.sock", "@abstract"."""
    name = sock.getsockname()
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        return _host_port(name[0], name[1])
    if isinstance(name, bytes):
        return "@" + os.fsdecode(name[1:]) if name[:1] == b"\0" else os.fsdecode(name)
    return str(name) or "an unnamed socket"


def is_stream(sock: socket.socket) -> bool:
    """Whether connections are accepted on it: HTTP needs SOCK_STREAM."""
    return sock.type == socket.SOCK_STREAM


def is_connection(sock: socket.socket) -> bool:
    """Whether it was accepted by systemd already, as with Accept=yes."""
    return is_stream(sock) and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
