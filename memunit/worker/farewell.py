"""The end of a WebSocket as RFC 6455 (7.1.1, 7.1.2) has it: after its closing frame the server waits for the
client's, and only then closes the connection.

The wsproto and websockets-sansio protocols of uvicorn before 0.53 close at once. A client that was just sending then
gets a reset, which can take the closing frame, with its 1001, away from it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Optional

from memunit.worker import uvicorns

_PATIENCE = 2.0  # seconds for a client that does not answer
_CLOSE = 8


def wait_for_answer(send: Any) -> None:
    """Let the WebSocket whose `send` is about to send a closing frame close its transport only after the answer."""
    uvicorns.close_late(send, _PATIENCE, _Transport)


class _Transport:
    """The transport, but for its close()."""

    def __init__(self, transport: Any, protocol: Any) -> None:
        self._transport = transport
        self._protocol = protocol
        self._closing = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._closing or bool(self._transport.is_closing())

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if not self._transport.is_closing():
            self._transport.set_protocol(_Farewell(self._transport, self._protocol))
            self._transport.resume_reading()


class _Farewell(asyncio.Protocol):
    """Reads on until the client's closing frame, its end, or the end of patience."""

    def __init__(self, transport: Any, protocol: Any) -> None:
        self._transport = transport
        self._protocol = protocol
        self._buffer = b""
        self._skip = 0
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_PATIENCE, transport.close)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._buffer:
            passed = min(self._skip, len(self._buffer))
            self._buffer, self._skip = self._buffer[passed:], self._skip - passed
            head = _head(self._buffer) if not self._skip else None
            if head is None:
                return
            opcode, size = head
            if opcode == _CLOSE:
                self._transport.close()
                return
            self._skip = size

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._timer.cancel()
        self._protocol.connection_lost(exc)


def _head(data: bytes) -> Optional[tuple[int, int]]:
    """Opcode and length, head included, of the client's frame (masked) that begins here; None if it is cut."""
    if len(data) < 2:
        return None
    size, more = data[1] & 0x7F, {126: 2, 127: 8}.get(data[1] & 0x7F, 0)
    if len(data) < 2 + more:
        return None
    if more:
        size = int.from_bytes(data[2 : 2 + more], "big")
    return data[0] & 0x0F, 2 + more + 4 + size
