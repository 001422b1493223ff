"""Each worker has a page of its own, however it is started, as long as it is there and no longer."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from memunit.core import board as layout
from tests.support import interpreters, nodes
from tests.support.harness import MEMUNIT, Service, Unit, finished
from tests.support.workers import APPS

pytest_plugins = ["tests.support.units"]


PAGE = "memfd:memunit-worker"


def boards(service: Service) -> list[layout.Board]:
    """What stands on each page that the master has."""
    found = []
    for each in Path(f"/proc/{service.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if PAGE not in str(each.readlink()):
                continue
            with open(each, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as page:
                # The master may have closed it since, and have another one open by the same number.
                if PAGE in str(Path(f"/proc/self/fd/{page.fileno()}").readlink()):
                    board = layout.parse(page.read())
                    assert board is not None
                    found.append(board)
    return found


def stages(service: Service) -> list[str]:
    return [board.stage.name for board in boards(service)]


@pytest.mark.parametrize("preload", [True, False])
@pytest.mark.parametrize(
    ("server", "run"), [("asgi", "plain:app"), ("wsgi", "plainwsgi:app"), ("callable", "called:serve")]
)
def test_each_worker_has_a_page_as_long_as_it_is_there(
    unit: Unit, server: str, run: str, *, preload: bool
) -> None:
    (unit.directory / "called.py").write_text("def serve(sockets, stopping):\n    stopping.wait()\n")
    unit.write(
        app={
            "run": run,
            "server": server,
            "preload": preload,
            "environment": {"PYTHONPATH": str(unit.directory)},
        },
        workers={"count": 2},
    )
    service = unit.serve().ready()
    service.until(lambda: stages(service) == ["SERVING"] * 2 or None, "two pages")
    command = subprocess.Popen(
        [*MEMUNIT, "reexec", unit.name],
        env=unit.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert finished(command, service)[0] == 0
    service.until(lambda: stages(service) == ["SERVING"] * 2 or None, "two pages as before")
    first = service.serving()[0]
    os.kill(first, signal.SIGKILL)
    service.entry("ended", pid=first)
    service.entry("ready", slot=0, count=2)
    service.until(lambda: stages(service) == ["SERVING"] * 2 or None, "two pages again")
    assert service.stop() == 0


def test_a_command_has_none(unit: Unit) -> None:
    script = "env | grep MEMUNIT_BOARD && exit 1; systemd-notify --ready; exec sleep infinity"
    unit.write(app={"command": ["/bin/sh", "-c", script]}, workers={"count": 1})
    service = unit.serve().ready()
    assert boards(service) == []
    assert service.stop() == 0


def test_an_app_finds_no_variable_and_no_descriptor_of_it(unit: Unit) -> None:
    (unit.directory / "looks.py").write_text(
        "import os\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] != 'http': return\n"
        "    said = 'MEMUNIT_BOARD' in os.environ\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': str(said).encode()})\n"
    )
    unit.write(
        app={"run": "looks:app", "server": "asgi", "environment": {"PYTHONPATH": str(unit.directory)}},
        workers={"count": 1},
    )
    service = unit.serve().ready()
    assert unit.get() == "False"
    assert service.stop() == 0


def test_a_worker_is_told_why_it_stops(unit: Unit) -> None:
    """Before the signal: its handler finds the reason there."""
    (unit.directory / "tells.py").write_text(
        "import signal, struct, sys\n"
        "def run(worker):\n"
        "    from memunit.worker import board\n"
        "    worker.ready()\n"
        "    worker.stopping.wait()\n"
        "    print('reason', board.own().order().reason, flush=True)\n"
    )
    unit.write(
        app={
            "run": "tells:run",
            "server": "callable",
            "environment": {"PYTHONPATH": str(unit.directory)},
        },
        workers={"count": 1},
    )
    service = unit.serve().ready()
    pid = service.serving()[0]
    assert finished(unit.reload(), service)[0] == 0
    service.expect(f"reason {layout.Reason.OTHER.value}", source="output")
    service.entry("ended", pid=pid)
    assert service.stop() == 0


def routes(service: Service) -> dict[str, int]:
    """The requests of each route, of all workers together."""
    found: Counter[str] = Counter()
    for board in boards(service):
        found.update(dict(board.routes))
    return dict(found)


@pytest.mark.parametrize(
    ("run", "server", "named"),
    [
        ("fastapi_routes:app", "asgi", "/shop/product/{name}"),
        ("starlette_routes:app", "asgi", "/shop/product/{name}"),
        ("django_routes:asgi", "asgi", "/shop/product/<str:name>"),
        ("django_routes:wsgi", "wsgi", "/shop/product/<str:name>"),
        ("flask_routes:app", "wsgi", "/shop/product/<name>"),
    ],
)
def test_a_framework_names_its_routes(unit: Unit, run: str, server: str, named: str) -> None:
    python = interpreters.frameworks()
    if python is None:
        pytest.skip("the frameworks can't be had here")
    app = {"run": run, "server": server, "python": str(python)}
    unit.write(app=app, workers={"count": 1, "start_timeout": "60s"})
    service = unit.serve(directory=APPS / "routed").ready()
    for name in ("red", "green", "red", "7"):
        unit.get(f"/shop/product/{name}?secret={name}")
    with unit.client() as client:
        assert client.get("/shop/nothing").status == 404
    service.until(lambda: sum(board.served for board in boards(service)) >= 5 or None, "five requests")
    assert routes(service) == {f"GET {named}": 4}
    assert service.stop() == 0


@pytest.mark.parametrize("run", ["fastapi_routes:app", "starlette_routes:app"])
def test_a_mounted_app_names_its_routes_from_the_top(unit: Unit, run: str) -> None:
    python = interpreters.frameworks()
    if python is None:
        pytest.skip("the frameworks can't be had here")
    app = {"run": run, "server": "asgi", "python": str(python)}
    unit.write(app=app, workers={"count": 1, "start_timeout": "60s"})
    service = unit.serve(directory=APPS / "routed").ready()
    unit.get("/inner/shop/product/red")
    service.until(lambda: routes(service) or None, "a route")
    assert routes(service) == {"GET /inner/shop/product/{name}": 1}
    assert service.stop() == 0


@pytest.mark.parametrize(("server", "run"), [("asgi", "plain:app"), ("wsgi", "plainwsgi:app")])
def test_a_killed_worker_had_these_in_work(unit: Unit, server: str, run: str) -> None:
    """Also of a SIGKILL, which no worker hears of."""
    unit.write(app={"run": run, "server": server}, workers={"count": 1})
    service = unit.serve().ready()
    pid = service.serving()[0]
    with contextlib.ExitStack() as stack:
        for number in range(5):
            client = stack.enter_context(unit.client())
            client.ask(f"/slow?s=600&secret={number}")
        service.until(
            lambda: [len(board.in_work) for board in boards(service)] == [5] or None, "five in work"
        )
        os.kill(pid, signal.SIGKILL)
        ended = service.entry("ended", pid=pid)
    assert ended.cause == "crash-signal"
    age = r"[\d.]+ s"
    slow = f"GET /slow for {age}"
    assert re.search(rf"; with {slow}, {slow}, {slow} and 2 more in work", ended.rest), ended.rest
    assert "secret" not in ended.rest
    assert service.stop() == 0


def test_the_master_tells_what_is_in_work(unit: Unit) -> None:
    unit.write(app={"run": "plain:app"}, workers={"count": 2}, stop={"grace": "1s"})
    service = unit.serve().ready()
    with unit.client() as client:
        client.ask("/slow?s=600&secret=1")
        service.until(lambda: sum(len(each.in_work) for each in boards(service)) or None, "one in work")
        words = [*MEMUNIT, "status", unit.name]
        told = subprocess.run(
            words, env=unit.environment, capture_output=True, text=True, timeout=120, check=True
        )
    assert "IN WORK" in told.stdout
    assert re.search(r" 1 +GET /slow for ", told.stdout), told.stdout
    assert "secret" not in told.stdout
    assert service.stop() == 0


def test_a_worker_that_hangs_had_that_in_work(unit: Unit) -> None:
    unit.write(app={"run": "plain:app"}, workers={"count": 1, "watchdog": "5s"})
    service = unit.serve().ready()
    pid = service.serving()[0]
    with unit.client() as client:
        client.ask("/stuck")
        ended = service.entry("ended", pid=pid)
    assert ended.cause == "watchdog"
    assert "; with GET /stuck for " in ended.rest
    assert service.stop() == 0


def test_one_that_does_not_come_to_its_end_had_that_in_work(unit: Unit) -> None:
    unit.write(app={"run": "plain:app"}, workers={"count": 1}, stop={"grace": "1s"})
    service = unit.serve().ready()
    pid = service.serving()[0]
    with unit.client() as client:
        client.ask("/stuck")
        service.until(lambda: [each for board in boards(service) for each in board.in_work] or None, "one")
        assert finished(unit.reload(), service)[0] == 0
        ended = service.entry("ended", pid=pid)
    assert ended.cause == "grace-expired", ended
    assert "in work" in ended.rest
    assert service.stop() == 0


# -- Node ------------------------------------------------------------------------------------------------------------

NODE = """
const http = require('http');
http.createServer((request, response) => {
  if (request.url.startsWith('/hang')) return;
  if (request.url.startsWith('/block')) { for (;;) {} }
  if (request.url.startsWith('/nothing')) response.statusCode = 404;
  response.end('ok ' + process.pid + ' ' + ('MEMUNIT_BOARD' in process.env));
}).listen();
"""


@pytest.fixture
def node(unit: Unit) -> Callable[..., Service]:
    """Starts one worker of a Node program."""
    found = nodes.system()
    if found is None:
        pytest.skip("no Node here")

    def start(text: str = NODE, **workers: object) -> Service:
        (unit.directory / "app.js").write_text(text)
        unit.write(
            app={"run": "app.js", "server": "node", "node": str(found), "directory": str(unit.directory)},
            workers={"count": 1, **workers},
        )
        return unit.serve().ready()

    return start


def test_a_node_worker_has_a_page(unit: Unit, node: Callable[..., Service]) -> None:
    service = node()
    service.until(lambda: stages(service) == ["SERVING"] or None, "a page")
    with unit.client() as client:
        for path in ("/a/1?secret=1", "/a/22", "/v1/b", "/v2/b", "/"):
            assert b" false" in client.get(path).body
        assert client.get("/nothing/1").status == 404
    service.until(lambda: sum(board.served for board in boards(service)) >= 6 or None, "six requests")
    assert routes(service) == {"GET /a/{}": 2, "GET /v1/b": 1, "GET /v2/b": 1, "GET /": 1}
    service.until(lambda: [board.in_work for board in boards(service)] == [()] or None, "none in work")
    assert service.stop() == 0


def test_a_node_worker_that_blocks_had_that_in_work(unit: Unit, node: Callable[..., Service]) -> None:
    service = node(watchdog="5s")
    pid = service.serving()[0]
    with unit.client() as gone:
        # Whose client goes away is in work no more.
        gone.ask("/hang/7")
        service.until(lambda: [len(each.in_work) for each in boards(service)] == [1] or None, "one in work")
    service.until(lambda: [len(each.in_work) for each in boards(service)] == [0] or None, "none in work")
    with unit.client() as client:
        client.ask("/block/7?secret=1")
        ended = service.entry("ended", pid=pid)
    assert ended.cause == "watchdog"
    assert "; with GET /block/{} for " in ended.rest
    assert "secret" not in ended.rest
    assert service.stop() == 0


def test_express_names_its_routes(unit: Unit, node: Callable[..., Service]) -> None:
    modules = nodes.modules()
    if modules is None:
        pytest.skip("npm's packages can't be installed here")
    (unit.directory / "node_modules").symlink_to(modules)
    service = node(
        "const express = require('express');\n"
        "const shop = express.Router();\n"
        "shop.get('/product/:name', (request, response) => response.send(request.params.name));\n"
        "express().use('/shop', shop).listen();\n"
    )
    for name in ("red", "green", "red"):
        unit.get(f"/shop/product/{name}")
    service.until(lambda: sum(board.served for board in boards(service)) >= 3 or None, "three requests")
    assert routes(service) == {"GET /shop/product/:name": 3}
    assert service.stop() == 0
