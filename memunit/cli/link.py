"""A client of a master's interface (docs/interface.md), with nothing but the standard library."""

from __future__ import annotations

import errno
import socket
import struct
import time

from memunit.core.interfaces import INSTANCE
from memunit.core.varlink import Malformed, answer, call
from memunit.master.filenames import directory_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Any

_LARGEST = 64 << 20
_BLOCK = 1 << 18


def path_of(instance: str) -> str:
    """Where the interface of this instance's master is."""
    return f"{directory_of(instance)}/{INSTANCE}"


class Link:
    """A connection to a master. What it can't do raises OSError, whose text says what to look at."""

    def __init__(self, path: str, timeout: float = 5.0) -> None:
        """Connect, within `timeout` seconds, which each answer then has as well."""
        self.path, self.timeout = path, timeout
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._rest = bytearray()
        # By this option, for with a timeout of Python's a queue of connections that is full is an error at once.
        whole, part = divmod(timeout, 1.0)
        self._socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(whole), int(part * 1e6))
        )
        try:
            self._socket.connect(path)
        except BlockingIOError:
            self._socket.close()
            raise TimeoutError(errno.ETIMEDOUT, f"no answer within {timeout:g} s", path) from None
        except OSError as error:
            self._socket.close()
            raise OSError(error.errno, error.strerror or str(error), path) from None

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def fileno(self) -> int:
        """The descriptor, readable when something has come."""
        return self._socket.fileno()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def call(
        self, method: str, parameters: Mapping[str, Any] | None = None, *, timeout: float | None = None
    ) -> dict[str, Any]:
        """The reply to a call. Raises Refused for an error of the interface, OSError when none comes in time."""
        self._send(call(_whole(method), parameters))
        return self._reply(self.timeout if timeout is None else timeout)[0]

    def follow(self, method: str) -> None:
        """Ask for replies without end: `received` gives them."""
        self._send(call(_whole(method), more=True))

    def received(self) -> list[dict[str, Any]]:
        """The replies that have come, without waiting. Raises OSError when the master has hung up."""
        try:
            block = self._socket.recv(_BLOCK, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        if not block:
            raise self._gone()
        self._rest += block
        return [parameters for parameters, _ in self._whole()]

    def replies(self, timeout: float) -> Iterator[dict[str, Any]]:
        """Those to `follow`, each within `timeout` seconds."""
        while True:
            parameters, continues = self._reply(timeout)
            yield parameters
            if not continues:
                return

    def _send(self, message: bytes) -> None:
        try:
            self._socket.settimeout(self.timeout)
            self._socket.sendall(message)
        except TimeoutError:
            raise TimeoutError(errno.ETIMEDOUT, f"no answer within {self.timeout:g} s", self.path) from None
        except (BrokenPipeError, ConnectionResetError):
            # Before it has hung up, it may have said why.
            return
        except OSError:
            raise self._gone() from None

    def _reply(self, timeout: float) -> tuple[dict[str, Any], bool]:
        deadline = time.monotonic() + timeout
        while True:
            for found in self._whole():
                return found
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                block = self._socket.recv(_BLOCK)
            except TimeoutError:
                raise TimeoutError(errno.ETIMEDOUT, f"no answer within {timeout:g} s", self.path) from None
            except OSError:
                block = b""
            if not block:
                raise self._gone()
            self._rest += block

    def _whole(self) -> Iterator[tuple[dict[str, Any], bool]]:
        while (end := self._rest.find(b"\0")) >= 0:
            message = bytes(self._rest[:end])
            del self._rest[: end + 1]
            try:
                yield answer(message)
            except Malformed as error:
                raise OSError(errno.EPROTO, str(error), self.path) from None
        if len(self._rest) > _LARGEST:
            raise OSError(errno.EPROTO, "the reply is too large", self.path)

    def _gone(self) -> OSError:
        return ConnectionResetError(errno.ECONNRESET, "the master has closed the connection", self.path)


def _whole(method: str) -> str:
    return method if "." in method else f"{INSTANCE}.{method}"
