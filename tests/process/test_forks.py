"""Helper processes of the app: what is sent to them reaches them, and never the worker."""

from __future__ import annotations

import pytest

from tests.support import stacks
from tests.support.http import Client
from tests.support.interpreters import DEBIAN
from tests.support.workers import RunningWorker, Stage

pytest_plugins = ["tests.support.stacks"]

WAYS = ("pool", "process", "interrupted", "fork", "thread", "double", "command")
EXECUTED = ("spawn", "forkserver")  # a new interpreter each: slow, and the same by whatever loop
EXPECTED = {"pool": b"[1, 4, 9]"}


def _started(here: Stage, server: str, loop: str) -> RunningWorker:
    attribute = {"asgi": "app", "wsgi": "wsgi", "callable": "serve"}[server]
    environment = {stacks.KEYS[0]: loop, "PYTHONPATH": "."}
    return here.start(DEBIAN, f"forking:{attribute}", server=server, environment=environment).ready()


@pytest.mark.parametrize(
    ("server", "loop"),
    [
        ("asgi", "asyncio"),
        ("asgi", "uvloop"),
        ("wsgi", "asyncio"),
        ("wsgi", "uvloop"),
        ("callable", "asyncio"),
    ],
)
def test_helpers_end_and_the_worker_serves(here: Stage, server: str, loop: str) -> None:
    worker = _started(here, server, loop)
    for way in WAYS + EXECUTED * (loop == "uvloop"):
        with Client(here.target) as client:
            assert client.get("/" + way).body == EXPECTED.get(way, b"True"), (way, worker.output)
    with Client(here.target) as client:
        assert client.get("/pid").body == b"%d" % worker.pid
    assert "STOPPING=1" not in here.said(worker.pid)
    worker.stop()
    assert worker.wait() == 0
    assert "Traceback" not in worker.output, worker.output


@pytest.mark.parametrize("server", ["asgi", "wsgi"])
def test_sys_exit_in_a_fork_ends_that_process(here: Stage, server: str) -> None:
    worker = _started(here, server, "uvloop")
    with Client(here.target) as client:
        assert client.get("/exits").body == b"True"
        assert client.get("/pid").body == b"%d" % worker.pid
    worker.stop()
    assert worker.wait() == 0
    assert worker.output == ""


@pytest.mark.parametrize(("server", "loop"), [("asgi", "asyncio"), ("asgi", "uvloop"), ("wsgi", "uvloop")])
def test_a_fork_that_comes_back_from_the_app_answers_nobody(here: Stage, server: str, loop: str) -> None:
    worker = _started(here, server, loop)
    with Client(here.target) as client:
        assert client.get("/returning").body == b"True"
        assert client.get("/pid").body == b"%d" % worker.pid
    worker.stop()
    assert worker.wait() == 0
    assert "which the app has forked, has left the app's code" in worker.output
