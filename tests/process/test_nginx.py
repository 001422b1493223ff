"""ASGI and WSGI workers on a Unix socket, behind a real nginx that keeps its connections to them.

MEMUNIT_RECYCLES=50 MEMUNIT_RELOADS=10 tests/run process -- -k nginx is the long form.
"""

from __future__ import annotations

import json
import os
import re
import socket
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import Service, Unit, finished
from tests.support.http import Client
from tests.support.mixed import MixedProcess
from tests.support.nginx import Nginx, program
from tests.support.workers import ROOT, LoadProcess

pytest_plugins = ["tests.support.units"]

RECYCLES = int(os.environ.get("MEMUNIT_RECYCLES", "2"))
RELOADS = int(os.environ.get("MEMUNIT_RELOADS", "1"))
MOUNTED = {"UVICORN_ROOT_PATH": "/shop", "UVICORN_WS": "wsproto"}


@pytest.fixture
def proxy(unit: Unit, tmp_path: Path) -> Iterator[Nginx]:
    """In front of the unit's socket, which is a Unix socket here."""
    if program() is None:
        pytest.skip("no nginx")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "app.sock"))
    listener.listen(1024)
    unit.listener.close()
    unit.sockets = (("memunit@app.socket", listener),)
    made = Nginx(tmp_path / "nginx", str(tmp_path / "app.sock"))
    try:
        yield made
    finally:
        made.close()


def _serve(
    unit: Unit, server: str, environment: dict[str, str] | None = None, **tables: dict[str, Any]
) -> Service:
    app = {"run": "plain:app" if server == "asgi" else "plainwsgi:app", "server": server}
    unit.write(app={**app, "environment": {**MOUNTED, **(environment or {})}}, **tables)
    return unit.serve().ready()


@pytest.mark.parametrize(("path", "scheme"), [("/shop/environ", "http"), ("/cut/environ", "https")])
def test_wsgi_is_told_of_the_client_and_of_its_place(
    unit: Unit, proxy: Nginx, path: str, scheme: str
) -> None:
    """Whether nginx leaves the prefix on the path or not."""
    service = _serve(unit, "wsgi", workers={"count": 1})
    with Client(proxy.target, source="127.0.0.2") as client:
        client.ask(path + "?a=b", "X-Forwarded-For: 192.0.2.9")
        seen = json.loads(client.read().body)
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"], seen["QUERY_STRING"]) == ("/shop", "/environ", "a=b")
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"], seen["HTTP_HOST"]) == ("127.0.0.2", scheme, "test")
    assert (seen["SERVER_NAME"], seen["SERVER_PORT"]) == ("test", "443" if scheme == "https" else "80")
    assert service.stop() == 0


@pytest.mark.parametrize(("prefix", "scheme"), [("", "http"), ("/cut", "https")])
def test_asgi_is_told_of_the_client_and_of_its_place(
    unit: Unit, proxy: Nginx, prefix: str, scheme: str
) -> None:
    """127.0.0.1 is a proxy by uvicorn's default, and what comes from one names the client; 127.0.0.2 is none."""
    service = _serve(unit, "asgi", workers={"count": 1})
    for source, address in (("127.0.0.2", "127.0.0.2"), ("127.0.0.1", "192.0.2.9")):
        with Client(proxy.target, source=source) as client:
            client.ask(f"{prefix}/scope?a=b", "X-Forwarded-For: 192.0.2.9")
            seen = json.loads(client.read().body)
            assert (seen["root_path"], seen["path"], seen["query_string"]) == ("/shop", "/scope", "a=b")
            assert (seen["client"][0], seen["scheme"]) == (address, scheme)
    with Client(proxy.target, source="127.0.0.2") as client:
        assert client.upgrade(f"{prefix}/scope").status == 101
        client.send_frame(1, b"x")
        seen = json.loads(client.read_frame()[1])
    assert (seen["client"][0], seen["scheme"]) == ("127.0.0.2", "wss" if scheme == "https" else "ws")
    assert service.stop() == 0


def _blocks(document: str) -> list[str]:
    """The indented texts of a document, in which nginx is told to pass something on."""
    found = re.findall(r"(?:^    .*\n|^\n(?=    ))+", (ROOT / document).read_text(), re.MULTILINE)
    return [textwrap.dedent(block).strip() for block in found if "proxy_pass" in block]


BLOCKS = [(document, block) for document in ("README.md", "docs/nginx.md") for block in _blocks(document)]
BARE = "location / { proxy_pass http://unix:/run/memunit/shop.sock; }"


@pytest.mark.parametrize("server", ["asgi", "wsgi"])
@pytest.mark.parametrize(
    ("document", "block"),
    [*BLOCKS, ("nowhere", BARE)],
    ids=[*(document for document, _ in BLOCKS), "proxy_pass alone"],
)
def test_what_the_documents_say_names_the_client_and_not_what_it_says_of_itself(
    unit: Unit, tmp_path: Path, server: str, document: str, block: str
) -> None:
    """proxy_pass alone believes the client, which is why the documents have more."""
    if program() is None:
        pytest.skip("no nginx")
    path = tmp_path / "app.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(64)
    unit.sockets = (("memunit@app.socket", listener),)
    text = block.replace("/run/memunit/shop.sock", str(path))
    if "server {" in text:
        inside = text.replace("server {", "server { listen ADDRESS;")
    else:
        inside = f"server {{ listen ADDRESS;\n{text}\n}}"
    service = _serve(unit, server, workers={"count": 1})
    proxy = Nginx(tmp_path / "nginx", str(path), inside=inside)
    bare = document == "nowhere"
    try:
        for source in ("127.0.0.2", "127.0.0.1"):
            with Client(proxy.target, source=source) as client:
                page = "/scope" if server == "asgi" else "/shop/environ"
                client.ask(page, "X-Forwarded-For: 192.0.2.66", "X-Forwarded-Proto: https")
                seen = json.loads(client.read().body)
                address = seen["client"][0] if server == "asgi" else seen["REMOTE_ADDR"]
                scheme = seen["scheme"] if server == "asgi" else seen["wsgi.url_scheme"]
                assert (address, scheme) == (("192.0.2.66", "https") if bare else (source, "http"))
    finally:
        proxy.close()
        listener.close()
    assert service.stop() == 0


def test_the_documents_were_found() -> None:
    assert [document for document, _ in BLOCKS] == ["docs/nginx.md", "docs/nginx.md"]


@pytest.mark.parametrize("server", ["asgi", "wsgi"])
def test_nothing_is_lost_behind_nginx(unit: Unit, proxy: Nginx, tmp_path: Path, server: str) -> None:
    """Nor does nginx have to try anything twice."""
    service = _serve(
        unit,
        server,
        # Much longer than that of nginx: on a busy machine, either may be late to find that its time is over.
        {"UVICORN_TIMEOUT_KEEP_ALIVE": "600"},
        workers={"count": 2, "min_lifetime": 0},
        memory={"interval": "0.05s", "patience": 0, "limit": "60M"},
        stop={"grace": "120s"},
    )
    clients = MixedProcess(tmp_path, proxy.target, leak=256, websockets=server == "asgi")
    for number in range(1, RELOADS + 1):
        _recycles(service, RECYCLES * number // RELOADS)
        before = set(service.serving().values())
        code, text = finished(unit.reload(), service)
        assert code == 0, text
        for pid in before:  # with the idle connections that nginx has to it
            service.entry("ended", pid=pid)
    report = clients.finish()
    examples = report.pop("examples")
    passed = proxy.passed()
    again = [each for each in passed if len(each.upstream) > 1]
    causes = Counter(entry.cause for entry in service.entries("ended"))
    print(json.dumps({**report, "passed": len(passed), "tried again": len(again), **causes}, indent=1))
    for kind, counts in report.items():
        assert counts["lost"] == 0, (kind, counts, examples, proxy.errors)
        assert counts["ok"] == counts["sent"] > 0, (kind, counts)
    assert {each.status for each in passed} <= {101, 200}
    assert again == [], proxy.errors
    assert set(causes) <= {"memory-limit", "reload"}
    assert service.stop() == 0


def test_nginx_tries_again_what_it_sent_on_a_connection_that_was_just_closed(
    unit: Unit, proxy: Nginx, tmp_path: Path
) -> None:
    """With no keep-alive time at all, which makes of the rare case the usual one. Never so a POST: docs/nginx.md."""
    service = _serve(unit, "asgi", {"UVICORN_TIMEOUT_KEEP_ALIVE": "0"})
    load = LoadProcess(tmp_path, proxy.target, "--clients", "8", "--keep-alive")
    load.answered(2000)
    while not any(len(each.upstream) > 1 for each in proxy.passed()):
        load.answered()
    report = load.finish()
    assert report["lost"] == 0, report
    assert report["ok"] == report["sent"]
    assert service.stop() == 0


def _recycles(service: Service, count: int) -> None:
    def enough() -> bool | None:
        return sum(entry.cause == "memory-limit" for entry in service.entries("ended")) >= count or None

    service.until(enough, f"{count} recycles", timeout=60.0 + 10.0 * count)
