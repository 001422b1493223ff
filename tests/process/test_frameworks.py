"""The apps of examples/ as their files say, on the Flask, Django and FastAPI of a virtualenv without memunit.

MEMUNIT_RECYCLES=20 tests/run process -- -k frameworks is the long form.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import interpreters
from tests.support.harness import Service, Unit, finished
from tests.support.http import Client
from tests.support.mixed import MixedProcess
from tests.support.workers import ROOT, RunningWorker, Stage

pytest_plugins = ["tests.support.stacks", "tests.support.units"]

EXAMPLES = ROOT / "examples"
FILES = ("flask/shop.toml", "django/wsgi.toml", "django/asgi.toml", "fastapi/shop.toml")
RECYCLES = int(os.environ.get("MEMUNIT_RECYCLES", "1"))
_FORM = (
    b'--border\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n" + b"\0" * 100_000 + b"\r\n--border--\r\n"
)


@dataclass(frozen=True)
class Example:
    """One file of examples/, and the app beside it."""

    name: str
    python: Path
    directory: Path
    tables: dict[str, dict[str, Any]]

    @property
    def app(self) -> dict[str, Any]:
        return self.tables["app"]


@pytest.fixture(params=FILES)
def example(request: pytest.FixtureRequest) -> Example:
    python = interpreters.frameworks()
    if python is None:
        pytest.skip("the frameworks cannot be installed here")
    file = EXAMPLES / request.param
    return Example(request.param, python, file.parent, tomllib.loads(file.read_text()))


@pytest.fixture
def worker(here: Stage, example: Example) -> RunningWorker:
    """The example in one worker."""
    return here.start(
        example.python,
        example.app["run"],
        server=example.app["server"],
        environment={**example.app.get("environment", {}), "PYTHONUNBUFFERED": "1"},
        directory=example.directory,
    ).ready()


@pytest.fixture
def client(here: Stage, worker: RunningWorker) -> Iterator[Client]:
    with Client(here.target) as made:
        yield made


def test_speaks(example: Example, worker: RunningWorker, client: Client) -> None:
    """All on one connection: bodies in both directions, without a length, and an error between two answers."""
    assert client.get().body == b"ok %d" % worker.pid
    assert client.get("/lines?n=3").body == b"0\n1\n2\n"
    assert client.get("/large?size=200000").body == b"x" * 200_000
    assert client.get("/nowhere").status == 404
    if example.directory.name == "fastapi":
        assert _post(client, "/order", b'{"what": "tea", "count": 2}', "application/json") == (200, b"tea 2")
        assert _post(client, "/order", b'{"what": "tea"}', "application/json")[0] == 422
    else:
        assert _post(client, "/form", _FORM, "multipart/form-data; boundary=border") == (200, b"a.bin 100000")
        assert client.get("/visits").body == b"1"
    assert _post(client, "/echo", bytes(range(256)) * 1000) == (200, bytes(range(256)) * 1000)
    client.send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n")
    # FastAPI answers HEAD where it is told to, and its 405 has a length but no body.
    assert client.read(head_only=True).status == (405 if example.directory.name == "fastapi" else 200)
    client.ask("/broken", "Connection: close")
    assert client.read().status == 500
    worker.stop()
    assert worker.wait() == 0
    assert "LookupError: nothing to sell" in worker.output  # some say it after the answer


def test_a_stop_finishes_the_upload_under_way(
    here: Stage, example: Example, worker: RunningWorker, client: Client
) -> None:
    """The framework is reading it when SIGTERM comes; then the app is shut down, and exits clean."""
    body = b"y" * 100_000
    client.get()
    client.send(f"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n")
    client.send(body[:70_000])
    worker.stop()
    client.send(body[70_000:])
    answer = client.read()
    assert (answer.status, answer.body, answer.closes) == (200, body, True)
    assert client.at_end()
    assert worker.wait() == 0
    fastapi = example.directory.name == "fastapi"
    # Nothing on stderr or stdout but what the app itself says at its end.
    assert worker.output == ("closed\n" if fastapi else "")


def test_loses_nothing(unit: Unit, tmp_path: Path, example: Example) -> None:
    """Clients of every kind while the app leaks over its limit, is recycled, and reloaded."""
    service = _serve(unit, example)
    websockets = example.directory.name == "fastapi"
    clients = MixedProcess(tmp_path, unit.target, leak=512, websockets=websockets)
    service.until(
        lambda: _recycled(service) >= RECYCLES or None,
        f"{RECYCLES} recycles",
        timeout=120.0 + 20.0 * RECYCLES,
    )
    code, text = finished(unit.reload(), service)
    report = clients.finish()
    examples = report.pop("examples")
    print(json.dumps(report, indent=1))
    assert code == 0, text
    assert len(report) == 5 + websockets
    for kind, counts in report.items():
        assert counts["lost"] == 0, (kind, counts, examples)
        assert counts["ok"] == counts["sent"] > 0, (kind, counts)
    assert {entry.cause for entry in service.entries("ended")} <= {"memory-limit", "reload"}
    assert service.stop() == 0


def _serve(unit: Unit, example: Example) -> Service:
    """The example's own file, but for where it is and a limit that is soon reached."""
    tables = {**example.tables, "memory": {"limit": "110M", "interval": "0.05s", "patience": 0}}
    tables["app"] = {**example.app, "directory": str(example.directory), "python": str(example.python)}
    tables["app"]["environment"] = {**example.app.get("environment", {}), "UVICORN_WS": "wsproto"}
    tables["workers"] = {**example.tables["workers"], "min_lifetime": 0}
    unit.write(**tables)
    return unit.serve().ready()


def _recycled(service: Service) -> int:
    return sum(entry.cause == "memory-limit" for entry in service.entries("ended"))


def _post(client: Client, path: str, body: bytes, kind: str = "text/plain") -> tuple[int, bytes]:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    client.send(head.encode() + body)
    answer = client.read()
    return answer.status, answer.body
