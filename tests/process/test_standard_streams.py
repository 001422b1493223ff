"""Apps that close standard input, output and error, as a daemon does: no other descriptor gets their numbers."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.support.harness import Unit
from tests.support.http import Client

pytest_plugins = ["tests.support.units"]

# What it closes where "when" says, and what it writes there in each request.
ASGI = """
import os

def close():
    os.closerange(0, 3)

def hook():
    {hook}

{imported}

def write():
    for number in range(3):
        try:
            os.write(number, b"for nobody\\n")
        except OSError:
            pass

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        {startup}
        await send({{"type": "lifespan.startup.complete"}})
        await receive()
        await send({{"type": "lifespan.shutdown.complete"}})
        return
    write()
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}})
    await send({{"type": "http.response.body", "body": b"ok"}})

def wsgi(environ, start_response):
    write()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


@pytest.mark.parametrize("preload", [True, "auto", False])
@pytest.mark.parametrize(
    ("server", "when"),
    [("asgi", "imported"), ("asgi", "startup"), ("asgi", "hook"), ("wsgi", "imported"), ("wsgi", "hook")],
)
def test_no_connection_stands_in_their_place(
    unit: Unit, tmp_path: Path, server: str, when: str, preload: object
) -> None:
    """A client got what was written to standard error. libuv aborted the zygote, and each worker at its stop."""
    places = {"imported": "pass", "startup": "pass", "hook": "pass", when: "close()"}
    (tmp_path / "closing.py").write_text(ASGI.format(**places))
    unit.write(
        app={
            "run": "closing:app" if server == "asgi" else "closing:wsgi",
            "server": server,
            "directory": str(tmp_path),
            "preload": preload,
            "after_fork": "closing:hook",
        },
        workers={"count": 1},
    )
    service = unit.serve().ready()
    with contextlib.ExitStack() as opened:
        clients = [opened.enter_context(Client(unit.target)) for _ in range(4)]
        for client in clients * 2:
            assert client.get().body == b"ok"
    assert service.stop() == 0
    (ended,) = service.entries("ended")
    assert (ended.cause, "exited with status 0" in ended.rest) == ("stop", True), ended
