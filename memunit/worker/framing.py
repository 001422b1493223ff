"""Answers to HTTP/1.0 clients, for which uvicorn's httptools protocol uses chunks that they can't read.

Without a Content-Length the end of such an answer is the end of the connection (RFC 9112, 6.3). h11 does it
right by itself.
"""

from __future__ import annotations

from typing import Any, Awaitable, Callable, Dict

Message = Dict[str, Any]
Send = Callable[[Message], Awaitable[None]]


def unchunked(send: Send) -> Send:
    """uvicorn's `send` for an HTTP/1.0 request, without chunks. Any other server's comes back as it is."""
    cycle: Any = getattr(send, "__self__", None)
    if not (hasattr(cycle, "chunked_encoding") and hasattr(cycle, "expected_content_length")):
        return send
    counted = True

    async def plain(message: Message) -> None:
        nonlocal counted
        if message["type"] == "http.response.start":
            counted = any(bytes(name).lower() == b"content-length" for name, _ in message.get("headers", ()))
            if not counted:
                message = {**message, "headers": _unframed(message.get("headers", ()))}
                cycle.chunked_encoding = False
        elif not counted and message["type"] == "http.response.body":
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    return plain


def _unframed(headers: Any) -> list[Any]:
    return [pair for pair in headers if bytes(pair[0]).lower() != b"transfer-encoding"]
