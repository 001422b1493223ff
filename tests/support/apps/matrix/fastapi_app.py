from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import work  # type: ignore[import-not-found]
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield
    # In one write(2): two workers share the pipe, and print() writes word by word where nothing is buffered.
    sys.stdout.write(f"shut down {os.getpid()}\n")


app = FastAPI(lifespan=lifespan)


@app.get("/cookie", response_class=PlainTextResponse)
async def cookie(request: Request, response: Response) -> str:
    response.set_cookie("a", "1")
    response.set_cookie("b", request.cookies.get("a", "2"), httponly=True)
    return "cookie"


@app.get("/stream")
async def stream() -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        for number in range(work.LINES):
            yield f"{number}\n"
            await asyncio.sleep(0.02)

    return StreamingResponse(lines(), media_type="text/plain")


@app.post("/upload", response_class=PlainTextResponse)
async def upload(request: Request) -> str:
    size = 0
    async for block in request.stream():
        size += len(block)
    return str(size)


@app.get("/helpers", response_class=PlainTextResponse)
def helpers() -> str:
    return str(work.helpers())
