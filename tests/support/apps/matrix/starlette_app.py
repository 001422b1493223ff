from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import work  # type: ignore[import-not-found]
from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    yield
    sys.stdout.write(f"shut down {os.getpid()}\n")


async def cookie(request: Request) -> Response:
    answer = PlainTextResponse("cookie")
    answer.set_cookie("a", "1")
    answer.set_cookie("b", request.cookies.get("a", "2"), httponly=True)
    return answer


async def stream(_: Request) -> Response:
    async def lines() -> AsyncIterator[str]:
        for number in range(work.LINES):
            yield f"{number}\n"
            await asyncio.sleep(0.02)

    return StreamingResponse(lines(), media_type="text/plain")


async def upload(request: Request) -> Response:
    size = 0
    async for block in request.stream():
        size += len(block)
    return PlainTextResponse(str(size))


async def helpers(_: Request) -> Response:
    return PlainTextResponse(await run_in_threadpool(work.helpers))


async def events(_: Request) -> Response:
    async def endless() -> AsyncIterator[dict[str, str]]:
        sys.stdout.write(f"stream begins {os.getpid()}\n")
        try:
            while True:
                yield {"data": "tick"}
                await asyncio.sleep(0.05)
        finally:
            sys.stdout.write(f"finally {os.getpid()}\n")

    return EventSourceResponse(endless())


app = Starlette(
    lifespan=lifespan,
    routes=[
        *(Route("/" + view.__name__, view) for view in (cookie, stream, helpers, events)),
        Route("/upload", upload, methods=["POST"]),
    ],
)
