"""A Flask app for server = "wsgi": small, with a route that leaks, so that you can watch a recycle.

/              "ok PID"
/leak?kb=N     keeps N KiB for ever (default 64), then answers "ok PID"
/large?size=N  N bytes, in blocks
/lines?n=N     N lines, sent one by one, without a length
/echo          the body of a POST
/form          "NAME BYTES" of an uploaded file
/visits        how often this browser was here, by a signed cookie
/broken        an exception that nobody catches
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from flask import Flask, Response, request, session, stream_with_context

_BLOCK = 65536

app = Flask(__name__)
app.secret_key = os.environ["SHOP_SECRET"]
_kept: list[bytes] = []


@app.get("/")
def index() -> str:
    """The pid of the worker that answers."""
    return f"ok {os.getpid()}"


@app.get("/leak")
def leak() -> str:
    """The mistake that memunit helps against."""
    _kept.append(b"\xa5" * (1024 * request.args.get("kb", 64, type=int)))
    return index()


@app.get("/large")
def large() -> Response:
    """A download."""
    size = request.args.get("size", 1 << 20, type=int)
    blocks = (b"x" * min(_BLOCK, size - start) for start in range(0, size, _BLOCK))
    return Response(blocks, mimetype="application/octet-stream", headers={"Content-Length": str(size)})


@app.get("/lines")
def lines() -> Response:
    """An answer of unknown length."""

    def generate() -> Iterator[str]:
        for number in range(request.args.get("n", 10, type=int)):
            yield f"{number}\n"

    # Without stream_with_context() the generator would run after the end of the request's context.
    return Response(stream_with_context(generate()), mimetype="text/plain")


@app.post("/echo")
def echo() -> bytes:
    """The body of the request."""
    return request.get_data()


@app.post("/form")
def form() -> str:
    """A file that a form uploads."""
    upload = request.files["file"]
    return f"{upload.filename} {len(upload.read())}"


@app.get("/visits")
def visits() -> str:
    """The browser keeps this state, so every worker knows it."""
    session["visits"] = session.get("visits", 0) + 1
    return str(session["visits"])


@app.get("/broken")
def broken() -> str:
    """Raise."""
    raise LookupError("nothing to sell")
