"""A FastAPI app for server = "asgi": small, with a route that leaks, so that you can watch a recycle.

/              "ok PID"
/leak?kb=N     keeps N KiB for ever (default 64), then answers "ok PID"
/large?size=N  N bytes, in blocks
/lines?n=N     N lines, sent one by one, without a length
/echo          the body of a POST
/order         JSON that is checked: {"what": ..., "count": ...}
/broken        an exception that nobody catches
/chat          a WebSocket that says "ok WORD" for each word
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import BaseModel

_BLOCK = 65536

_kept: list[bytes] = []
_open: list[str] = []


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Open resources before the worker is ready, and close them after its last answer."""
    _open.append("database")
    yield
    _open.clear()
    print("closed", flush=True)


app = FastAPI(lifespan=lifespan)


class Order(BaseModel):
    """The JSON that a customer sends."""

    what: str
    count: int


@app.get("/", response_class=PlainTextResponse)
async def index() -> str:
    """The pid of the worker that answers."""
    return f"ok {os.getpid()}" if _open else "not open"


@app.get("/leak", response_class=PlainTextResponse)
async def leak(kb: int = 64) -> str:
    """The mistake that memunit helps against."""
    _kept.append(b"\xa5" * (1024 * kb))
    return await index()


@app.get("/large")
def large(size: int = 1 << 20) -> StreamingResponse:
    """A download that a thread makes."""
    blocks = (b"x" * min(_BLOCK, size - start) for start in range(0, size, _BLOCK))
    return StreamingResponse(blocks, headers={"Content-Length": str(size)})


@app.get("/lines")
def lines(n: int = 10) -> StreamingResponse:
    """An answer of unknown length."""

    def generate() -> Iterator[str]:
        for number in range(n):
            yield f"{number}\n"

    return StreamingResponse(generate(), media_type="text/plain")


@app.post("/echo")
async def echo(request: Request) -> Response:
    """The body of the request."""
    return Response(await request.body())


@app.post("/order", response_class=PlainTextResponse)
def order(wanted: Order) -> str:
    """JSON that pydantic has checked."""
    return f"{wanted.what} {wanted.count}"


@app.get("/broken")
def broken() -> None:
    """Raise."""
    raise LookupError("nothing to sell")


@app.websocket("/chat")
async def chat(socket: WebSocket) -> None:
    """Answer each message until the client closes."""
    await socket.accept()
    try:
        while True:
            await socket.send_text(f"ok {await socket.receive_text()}")
    except WebSocketDisconnect:
        return
