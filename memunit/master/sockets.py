"""The listening sockets: those that systemd has opened, or our own."""

import contextlib
import errno
import json
import os
import socket
import stat
from collections.abc import Iterable

from memunit.records import dataclass

BACKLOG = 4096
_LISTEN_VARIABLES = ("LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES")


@dataclass(frozen=True, slots=True)
class Access:
    """The mode and the owner of a Unix socket's file; None for what the umask and the process make them."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


class NotGiven(PermissionError):
    """A socket's file may not be given to its user or group."""


class Listener(socket.socket):
    """A socket that we have bound ourselves. close() takes a Unix socket's path away, if it is still this
    one's.
    """

    _owner: tuple[int, str, int, int] | None = None

    def owns(self, path: str) -> None:
        """From now on `path` goes with the socket."""
        found = os.stat(path)
        self._owner = (os.getpid(), path, found.st_dev, found.st_ino)

    @classmethod
    def again(cls, descriptor: int) -> "socket.socket":
        """One that this process has bound before it has executed itself anew."""
        made = cls(fileno=descriptor)
        name = made.getsockname()
        if made.family == socket.AF_UNIX and isinstance(name, str) and name:
            with contextlib.suppress(OSError):
                made.owns(name)
        return made

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


def passed_to_another() -> str:
    """Why the sockets of LISTEN_FDS are not meant for this process (sd_listen_fds(3)); "" if they are, or none are.

    To be asked before inherited(), which takes the variables away.
    """
    said = os.environ.get("LISTEN_PID", "")
    if "LISTEN_FDS" not in os.environ or said == str(os.getpid()):
        return ""
    if not said:
        return "LISTEN_FDS is set, and LISTEN_PID is not"
    return f"LISTEN_PID is {said}, so the sockets are for that process, and this process is {os.getpid()}"


def inherited(*, used: bool = False) -> list[tuple[str, socket.socket]]:
    """(name, socket) of each socket that was passed to this process, in the order of descriptors
    (sd_listen_fds(3)).

    Empty when there are none, or when they are meant for another process. Takes LISTEN_* out of the
    environment. The sockets are close-on-exec, and those of TCP have TCP_NODELAY (see bind). They are blocking, as
    a plain program expects it, unless they are `used` by workers already: O_NONBLOCK belongs to the open file
    description, and a worker whose loop relies on it would wait in accept(2) for a connection that a sibling has
    taken, with all that it serves. Raises OSError for a descriptor that is no socket, and
    for variables that do not fit together.
    """
    if "LISTEN_FDS" not in os.environ:
        return []
    try:
        passed = _passed()
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None) or errno.EINVAL
        if number == errno.EMFILE:
            # Of the import of systemd-python: what was passed is not looked at yet.
            raise
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
        if not used:
            taken.setblocking(True)
        if taken.family in (socket.AF_INET, socket.AF_INET6) and taken.type == socket.SOCK_STREAM:
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found.append((name, taken))
    return found


def unblock(sockets: Iterable[socket.socket]) -> None:
    """Have accept(2) wait on none of them, for workers whose loops want it so.

    When systemd starts a successor, it sets what it passes to blocking (NonBlocking= in systemd.service(5)), under
    the workers that serve.
    """
    for each in sockets:
        os.set_blocking(each.fileno(), False)


def _passed() -> dict[int, str]:
    """The name of each descriptor, by sd_listen_fds_with_names(3)."""
    try:
        from systemd import daemon  # noqa: PLC0415  not needed, nor need be installed, where nothing is passed
    except ImportError:
        return _passed_by_hand()
    passed: dict[int, str] = daemon.listen_fds_with_names(unset_environment=True)
    return passed


def _passed_by_hand() -> dict[int, str]:
    """The same where systemd-python is not installed, as in a container behind systemd-socket-activate(1)."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    count = int(os.environ["LISTEN_FDS"])
    said = os.environ.get("LISTEN_FDNAMES")
    names = ["unknown"] * count if said is None else said.split(":")
    if len(names) != count:
        raise ValueError(f"{count} descriptors and {len(names)} names")
    for descriptor in range(3, 3 + count):
        os.set_inheritable(descriptor, False)
    return dict(enumerate(names, 3))


def bind(address: tuple[str, str, int] | tuple[str, str], access: Access | None = None) -> Listener:
    """A listening stream socket at ("tcp", host, port), ("vsock", cid, port) or ("unix", path); a path with "@" in
    front is abstract, and a CID "" is any.

    The host "::", or none, is every address of both families, as a bare port is to systemd. A name is
    resolved and its first address taken. TCP sockets have TCP_NODELAY, which accepted connections inherit:
    without it a keep-alive request may cost 40 ms. A stale Unix socket, on which nobody listens any more, is
    replaced. A path has the mode and the owner of `access` before anybody can connect. Raises OSError with the
    address as its filename; EADDRINUSE also when a live server or another kind of file is at the path, and NotGiven
    when the file may not be given to its owner.
    """
    text = _named(address)
    try:
        return (
            _bind_unix(address[1], access or Access())
            if len(address) == 2
            else _bind_vsock(address[1], address[2])
            if address[0] == "vsock"
            else _bind_tcp(address[1], address[2])
        )
    except socket.gaierror as error:
        raise OSError(errno.EADDRNOTAVAIL, f"cannot resolve the name ({error.strerror})", text) from None
    except NotGiven as error:
        raise NotGiven(error.errno, error.strerror, text) from None
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


def _bind_vsock(cid: str, port: int) -> Listener:
    return _listen(socket.AF_VSOCK, (int(cid) if cid else socket.VMADDR_CID_ANY, port))


def _bind_unix(path: str, access: Access) -> Listener:
    if path.startswith("@"):
        return _listen(socket.AF_UNIX, "\0" + path[1:])
    if len(os.fsencode(path)) > 107:
        raise OSError(errno.ENAMETOOLONG, "a socket's path may be 107 bytes long at most")
    _remove_stale(path)
    made = Listener(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        _bind_file(made, path, access)
        made.listen(BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


def _bind_file(made: Listener, path: str, access: Access) -> None:
    """bind(2) makes the file with the mode that the umask leaves of 0777: at no moment may more connect than shall."""
    given = access.uid is not None or access.gid is not None
    before = os.umask(0)
    try:
        # Closed until it has its owner: the mode is not meant for the group that the process has.
        os.umask(before if access.mode is None else 0o777 if given else 0o777 & ~access.mode)
        made.bind(path)
    finally:
        os.umask(before)
    made.owns(path)
    if given:
        mode = 0o777 & ~before if access.mode is None else access.mode
        _give(path, -1 if access.uid is None else access.uid, -1 if access.gid is None else access.gid, mode)


def _give(path: str, uid: int, gid: int, mode: int) -> None:
    """By a descriptor of the file: in a folder of others, the path may be something else by now."""
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise OSError(errno.EADDRINUSE, "another file has taken the path")
        try:
            os.chown(f"/proc/self/fd/{descriptor}", uid, gid)
            os.chmod(f"/proc/self/fd/{descriptor}", mode)
        except PermissionError as error:
            raise NotGiven(error.errno, error.strerror) from None
    finally:
        os.close(descriptor)


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
        if family in (socket.AF_INET, socket.AF_INET6):
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


def _named(address: tuple[str, str, int] | tuple[str, str]) -> str:
    if len(address) == 2:
        return address[1]
    kind, host, port = address
    return f"vsock:{host}:{port}" if kind == "vsock" else _host_port(host, port)


def describe(sock: socket.socket) -> str:
    """Where it listens, as a person writes it: "127.0.0.1:8010", "[::1]:80", "/run/x.sock", "@name", "vsock:2:80"."""
    name = sock.getsockname()
    if sock.family == socket.AF_VSOCK:
        cid, port = name
        return f"vsock:{'' if cid == socket.VMADDR_CID_ANY else cid}:{port}"
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        return _host_port(name[0], name[1])
    if isinstance(name, bytes):
        return "@" + os.fsdecode(name[1:]) if name[:1] == b"\0" else os.fsdecode(name)
    return str(name) or "an unnamed socket"


def addresses(sockets: Iterable[tuple[str, int]]) -> str:
    """Each of these (name, descriptor) with where it listens, as JSON: [{"name", "address"}]."""
    found = []
    for name, descriptor in sockets:
        sock = socket.socket(fileno=descriptor)
        try:
            found.append({"name": name, "address": describe(sock)})
        finally:
            sock.detach()
    return json.dumps(found)


def is_stream(sock: socket.socket) -> bool:
    """Whether connections are accepted on it: HTTP needs SOCK_STREAM."""
    return sock.type == socket.SOCK_STREAM


def is_connection(sock: socket.socket) -> bool:
    """Whether it was accepted by systemd already, as with Accept=yes."""
    return is_stream(sock) and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
