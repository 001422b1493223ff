from __future__ import annotations

import time
from collections.abc import Iterator

import work  # type: ignore[import-not-found]
from flask import Flask, Response, request

app = Flask(__name__)


@app.get("/cookie")
def cookie() -> Response:
    answer = Response("cookie")
    answer.set_cookie("a", "1")
    answer.set_cookie("b", request.cookies.get("a", "2"), httponly=True)
    return answer


@app.get("/stream")
def stream() -> Response:
    def lines() -> Iterator[str]:
        for number in range(work.LINES):
            yield f"{number}\n"
            time.sleep(0.02)

    return Response(lines(), mimetype="text/plain")


@app.post("/upload")
def upload() -> str:
    return str(sum(len(block) for block in iter(lambda: request.stream.read(65536), b"")))


@app.get("/helpers")
def helpers() -> str:
    return str(work.helpers())
