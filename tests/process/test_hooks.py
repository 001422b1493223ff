"""The hooks of workers that import the app themselves (test_zygote.py has those that are forked)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.harness import let_go
from tests.support.http import Client
from tests.support.interpreters import DEBIAN
from tests.support.workers import Stage

pytest_plugins = ["tests.support.stacks"]

APPS_BY_SERVER = {"callable": "preloaded:serve", "asgi": "preloaded:app"}


@pytest.mark.parametrize("server", ["callable", "asgi"])
@pytest.mark.parametrize("hook", ["before_stop", "async_before_stop"])
def test_both(here: Stage, server: str, hook: str) -> None:
    options = ("--after-fork", "preloaded:after_fork", "--before-stop", f"preloaded:{hook}")
    worker = here.start(DEBIAN, APPS_BY_SERVER[server], server=server, options=options).ready()
    with Client(here.target) as client:
        assert json.loads(client.get().body)["calls"] == [f"after_fork {worker.pid} slot -"]
    worker.stop()
    thread = here.hear(worker.pid, f"STATUS={hook} in ").split()[-1]
    assert (thread == "MainThread") == (server == "asgi" and hook.startswith("async"))
    assert worker.wait() == 0
    assert worker.output == ""


@pytest.mark.parametrize("server", ["callable", "asgi"])
def test_before_stop_runs_while_the_worker_serves(here: Stage, tmp_path: Path, server: str) -> None:
    """It accepts and answers until the hook has returned, and stops then; a second SIGTERM changes nothing."""
    hold = tmp_path / "hold"
    os.mkfifo(hold)
    worker = here.start(
        DEBIAN,
        APPS_BY_SERVER[server],
        server=server,
        options=("--before-stop", "preloaded:before_stop"),
        environment={"PRELOADED_STOP_HOLD": str(hold)},
    ).ready()
    worker.stop()
    here.hear(worker.pid, "STATUS=before_stop in ")
    worker.signal()
    for _ in range(3):
        with Client(here.target) as client:
            assert json.loads(client.get().body)["calls"] == ["before_stop"]
    let_go(hold)
    assert worker.wait() == 0
    assert not [line for line in here.said(worker.pid) if line.startswith("STATUS=before_stop")]


@pytest.mark.parametrize("server", ["callable", "asgi"])
def test_before_stop_that_fails_holds_up_nothing(here: Stage, server: str) -> None:
    worker = here.start(
        DEBIAN, APPS_BY_SERVER[server], server=server, options=("--before-stop", "preloaded:bad_before_stop")
    ).ready()
    worker.stop()
    assert worker.wait() == 0
    assert worker.output.endswith("ConnectionError: cannot clean\n")


@pytest.mark.parametrize(
    ("option", "name", "status", "says"),
    [
        (
            "--after-fork",
            "preloaded:bad_after_fork",
            70,
            "bad_after_fork failed: ConnectionError: no database",
        ),
        ("--after-fork", "preloaded:async_after_fork", 78, "is a coroutine function"),
        ("--before-stop", "preloaded:missing", 78, "preloaded has no attribute 'missing'"),
    ],
)
def test_hooks_that_cannot_be_had(here: Stage, option: str, name: str, status: int, says: str) -> None:
    worker = here.start(DEBIAN, "preloaded:app", options=(option, name))
    assert worker.wait() == status
    assert says in worker.output
    assert says in here.hear(worker.pid, "STATUS=")
