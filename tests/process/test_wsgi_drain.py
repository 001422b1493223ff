"""The stop of a WSGI worker: what test_asgi_drain.py says of ASGI, word for word, and what threads add."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.process.test_asgi_drain import (  # noqa: F401  collected here once more, for the other server
    test_accepted_and_silent_connection_is_answered,
    test_answer_without_reading_the_upload_is_not_reset,
    test_draining_worker_sleeps,
    test_draining_worker_takes_nothing_new,
    test_idle_connection_has_its_keep_alive_time,
    test_pipelined_requests_are_all_answered,
    test_request_and_stop_at_the_same_moment,
    test_request_in_work_is_finished,
    test_request_that_arrives_in_pieces,
    test_sigint_drains_too,
    test_stream_goes_on,
)
from tests.support import interpreters, stacks
from tests.support.harness import let_go
from tests.support.http import Client
from tests.support.interpreters import DEBIAN
from tests.support.workers import RunningWorker, Stage

Stack = tuple[Path, dict[str, str]]


class _WsgiStage(Stage):
    """Starts plainwsgi.py where the ASGI tests ask for plain.py."""

    def start(
        self,
        python: str | Path,
        target: str,
        *,
        server: str = "wsgi",
        environment: Mapping[str, str] | None = None,
        **options: Any,
    ) -> RunningWorker:
        assert target == "plain:app"
        return super().start(python, "plainwsgi:app", server=server, environment=environment, **options)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Stage]:
    made = _WsgiStage(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(params=["debian", "newest"])
def stack(request: pytest.FixtureRequest) -> Stack:
    """Debian's uvicorn with uvloop and httptools, the newest with asyncio and h11."""
    if request.param == "debian":
        return DEBIAN, dict(zip(stacks.KEYS, ("uvloop", "httptools"), strict=True))
    python = interpreters.newest()
    if python is None:
        pytest.skip("the newest uvicorn cannot be installed here")
    return python, dict(zip(stacks.KEYS, ("asyncio", "h11"), strict=True))


def test_close_comes_before_the_end(stack: Stack, here: Stage) -> None:
    """The answer is out, and the app still at work on its end, when the worker is told to stop."""
    python, environment = stack
    worker = here.start(python, "plain:app", environment=environment).ready()
    with Client(here.target) as client:
        assert client.get("/ending?s=0.5").body == b"ok"
    worker.stop()
    assert worker.wait() == 0
    here.hear(worker.pid, "STATUS=closed")


def test_requests_that_wait_for_a_thread_are_answered(stack: Stack, here: Stage, fifo: Path) -> None:
    python, environment = stack
    environment = {**environment, "MEMUNIT_THREADS": "1", "UVICORN_TIMEOUT_KEEP_ALIVE": "600"}
    worker = here.start(python, "plain:app", environment=environment).ready()
    clients = [Client(here.target) for _ in range(5)]
    for client in clients:
        assert client.get().status == 200
    clients[0].ask(f"/held?on={fifo}")
    here.hear(worker.pid, "STATUS=held")
    for client in clients[1:]:
        client.ask()
    worker.stop()
    let_go(fifo)
    for client in clients:
        with client:
            response = client.read()
            assert response.body == b"ok %d" % worker.pid
            assert response.closes
            assert client.at_end()
    assert worker.wait() == 0


def test_pings_while_it_drains(here: Stage, fifo: Path) -> None:
    worker = here.start(DEBIAN, "plain:app", watchdog_usec=100_000).ready()
    with Client(here.target) as client:
        client.ask(f"/held?on={fifo}")
        here.hear(worker.pid, "STATUS=held")
        worker.stop()
        here.said(worker.pid).clear()
        for _ in range(3):
            here.hear(worker.pid, "WATCHDOG=1")
        let_go(fifo)
        assert client.read().closes
    assert worker.wait() == 0
