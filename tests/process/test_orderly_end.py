"""Answers that do not end by themselves have an orderly end, shortly before grace is over."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import interpreters, stacks
from tests.support.http import Client
from tests.support.interpreters import DEBIAN
from tests.support.workers import RunningWorker, Stage

pytest_plugins = ["tests.support.stacks"]

GRACE = {"MEMUNIT_GRACE_USEC": "9000000"}


def _blocks(client: Client) -> bool:
    """Read a chunked answer, each chunk whole: whether it has its last chunk."""
    assert client.read(head_only=True).headers["transfer-encoding"] == "chunked"
    while True:
        if not client.more():
            return False  # between two chunks
        size = int(client._line(), 16)
        client._exactly(size + 2)
        if not size:
            return client.at_end()


def _stopped(here: Stage, worker: RunningWorker, path: str) -> None:
    assert worker.wait() == 0
    said = here.said(worker.pid)
    assert f"STATUS=finally {path}" in said
    assert (
        f"memunit worker: grace is nearly over: ending what does not end by itself: GET {path} (for "
        in worker.output
    )
    assert "Traceback" not in worker.output
    assert "ERROR" not in worker.output


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(
    ("path", "whole"), [("/events", True), ("/silent", True), ("/stream", False), ("/listens", True)]
)
def test_streams(here: Stage, loop: str, path: str, whole: bool) -> None:
    """A stream of events has a clean end; another one only if the app ends it, for it would seem complete."""
    worker = here.start(DEBIAN, "endless:app", environment={stacks.KEYS[0]: loop, **GRACE}).ready()
    with Client(here.target) as client:
        client.ask(path)
        assert client.socket.recv(1, 2) == b"H"
        worker.stop()
        assert _blocks(client) == whole
    assert here.hear(worker.pid, "STATUS=ending what does not end").startswith(
        f"STATUS=ending what does not end by itself: GET {path} (for "
    )
    _stopped(here, worker, path)
    here.hear(worker.pid, "STATUS=shut down")


@pytest.mark.parametrize(
    ("path", "status", "body"), [("/polls", 200, b"nothing"), ("/waits", 503, b"Service Unavailable")]
)
def test_long_polls(here: Stage, path: str, status: int, body: bytes) -> None:
    worker = here.start(DEBIAN, "endless:app", environment=GRACE).ready()
    with Client(here.target) as client:
        client.ask("/idle")
        assert client.read().status == 200
        client.ask(path)
        worker.stop()
        answer = client.read()
        assert (answer.status, answer.body) == (status, body)
        assert client.at_end()
    _stopped(here, worker, path)
    here.hear(worker.pid, "STATUS=shut down")


def test_a_task_that_is_not_to_be_cancelled(here: Stage) -> None:
    """It does not keep lifespan.shutdown from its turn."""
    worker = here.start(DEBIAN, "endless:app", environment=GRACE).ready()
    with Client(here.target) as client:
        client.ask("/stubborn")
        here.hear(worker.pid, "STATUS=stubborn")
        worker.stop()
        here.hear(worker.pid, "STATUS=cancelled")
        here.hear(worker.pid, "STATUS=shut down")


def test_an_idle_connection_that_is_kept_longer_than_grace(here: Stage) -> None:
    environment = {"UVICORN_TIMEOUT_KEEP_ALIVE": "600", **GRACE}
    worker = here.start(DEBIAN, "endless:app", environment=environment).ready()
    with Client(here.target) as client, Client(here.target) as silent:
        client.get("/idle")
        with Client(here.target) as later:  # they are accepted in order
            later.get("/idle")
        worker.stop()
        assert client.at_end()
        assert silent.at_end()
    assert worker.wait() == 0
    assert worker.output == ""


@pytest.mark.parametrize(("path", "whole"), [("/events", True), ("/stream", False)])
def test_wsgi(here: Stage, path: str, whole: bool) -> None:
    """close() of the iterator runs: its `finally`, by GeneratorExit."""
    worker = here.start(DEBIAN, "endless:wsgi", server="wsgi", environment=GRACE).ready()
    with Client(here.target) as client:
        client.ask(path)
        assert client.socket.recv(1, 2) == b"H"
        worker.stop()
        assert _blocks(client) == whole
    _stopped(here, worker, path)


_SSE = """
import asyncio
from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.routing import Route
from telling import tell

async def events():
    try:
        while True:
            yield {"data": "x"}
            await asyncio.sleep(0.05)
    finally:
        tell("finally events")

async def stream(request):
    return EventSourceResponse(events())

app = Starlette(routes=[Route("/events", stream)])
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_sse_starlette_ends_at_once(here: Stage, tmp_path: Path, loop: str) -> None:
    """By what it looks for itself: grace is endless here."""
    python = interpreters.frameworks()
    if python is None:
        pytest.skip("the frameworks cannot be installed here")
    (tmp_path / "sse.py").write_text(_SSE)
    apps = str(Path(__file__).parents[1] / "support" / "apps")
    environment = {stacks.KEYS[0]: loop, "PYTHONPATH": apps}
    worker = here.start(python, "sse:app", environment=environment, directory=tmp_path).ready()
    with Client(here.target) as client:
        client.ask("/events")
        assert client.socket.recv(1, 2) == b"H"
        worker.stop()
        assert _blocks(client)
    assert worker.wait() == 0
    here.hear(worker.pid, "STATUS=finally events")
    assert worker.output == ""
