"""Frameworks, with and without httptools and uvloop, preloaded and not, reloaded, restarted and stopped under load.

By default four apps have one of the four ways each. MEMUNIT_MATRIX=full tests/run process -- -k matrix takes all apps
in all ways, and uploads of 200 MB in 8 threads.
"""

from __future__ import annotations

import itertools
import os
import select
import threading
from collections import Counter
from pathlib import Path

import pytest

from tests.support import interpreters
from tests.support.harness import Service, Unit, finished
from tests.support.http import Client
from tests.support.workers import APPS

pytest_plugins = ["tests.support.units"]

FULL = os.environ.get("MEMUNIT_MATRIX") == "full"
# Eight uploads of 200 MB in work are read to their end before a worker stops.
GRACE = 300 if FULL else 60
STOP = GRACE + 60.0
UPLOADS, SIZE = (8, 200_000_000) if FULL else (2, 2_000_000)
APPLICATIONS = [
    ("django_app:wsgi", "wsgi", "4.2"),
    ("django_app:asgi", "asgi", "4.2"),
    ("django_app:wsgi", "wsgi", "5.2"),
    ("django_app:asgi", "asgi", "5.2"),
    ("flask_app:app", "wsgi", ""),
    ("fastapi_app:app", "asgi", ""),
    ("starlette_app:app", "asgi", ""),
]
WAYS = list(itertools.product((True, False), (True, False)))
CASES = [(*app, *way) for app in APPLICATIONS for way in WAYS]
if not FULL:
    CASES = [CASES[0], CASES[4 * 3 + 3], CASES[4 * 5 + 1], CASES[4 * 6 + 2]]


class _Clients:
    """One thread a kind, until stop(): what each did, and what went wrong."""

    def __init__(self, target: str, *, events: bool) -> None:
        self.done: Counter[str] = Counter()
        self.lost: list[str] = []
        self.news = os.eventfd(0, os.EFD_CLOEXEC)
        """Readable once there is more in one of these."""
        self._target = target
        self._stop = threading.Event()
        kinds = [self._cookie, self._stream, self._helpers, *[self._upload] * UPLOADS]
        kinds += [self._events] if events else []
        self._threads = [threading.Thread(target=self._run, args=(kind,)) for kind in kinds]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(STOP)
            assert not thread.is_alive()
        os.close(self.news)

    def _run(self, kind: object) -> None:
        name = kind.__name__.strip("_")  # type: ignore[attr-defined]
        while not self._stop.is_set():
            try:
                with Client(self._target) as client:
                    client.socket.settimeout(120)
                    kind(client)  # type: ignore[operator]
                self.done[name] += 1
            except Exception as error:
                self.lost.append(f"{name}: {type(error).__name__}: {error}")
            os.eventfd_write(self.news, 1)

    def _cookie(self, client: Client) -> None:
        """A connection that is kept until it is told to go."""
        for _ in range(50):
            client.ask("/cookie", "Cookie: a=7")
            answer = client.read()
            assert (answer.status, answer.body) == (200, b"cookie")
            assert "b=7; httponly" in answer.headers["set-cookie"], answer
            if answer.closes or self._stop.is_set():
                return

    def _stream(self, client: Client) -> None:
        assert client.get("/stream").body == b"".join(b"%d\n" % number for number in range(20))

    def _helpers(self, client: Client) -> None:
        assert client.get("/helpers").body == b"42 -15"

    def _upload(self, client: Client) -> None:
        client.send(f"POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: {SIZE}\r\n\r\n")
        block = bytes(100_000)
        for _ in range(SIZE // len(block)):
            client.send(block)
        assert client.read().body == b"%d" % SIZE

    def _events(self, client: Client) -> None:
        """Server-sent events until the worker ends them, in an orderly way."""
        client.ask("/events", "Accept: text/event-stream")
        last = b""
        while not self._stop.is_set():
            if not select.select([client.socket], [], [], 0.2)[0]:
                continue
            block = client.socket.recv(65536)
            if not block:
                assert last.endswith(b"data: tick\r\n\r\n\r\n0\r\n\r\n"), last
                return
            last = (last + block)[-200:]


@pytest.mark.parametrize(
    ("run", "server", "django", "preload", "httptools"),
    CASES,
    ids=[
        f"{run.partition('_')[0]}{v}-{s}-{'preload' if p else 'import'}-{'httptools' if h else 'plain'}"
        for run, s, v, p, h in CASES
    ],
)
def test_loses_nothing(
    unit: Unit, run: str, server: str, django: str, preload: bool, httptools: bool
) -> None:
    python = interpreters.frameworks() if httptools else interpreters.plain_frameworks()
    path = interpreters.older_django() if django == "4.2" else Path("/nonexistent")
    if python is None or path is None:
        pytest.skip("the frameworks cannot be installed here")
    unit.write(
        app={
            "run": run,
            "server": server,
            "python": str(python),
            "directory": str(APPS / "matrix"),
            "preload": preload,
            "environment": {"PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"},
        },
        workers={"count": 2, "min_lifetime": 0},
        stop={"grace": f"{GRACE}s"},
    )
    service = unit.serve().ready()
    events = run.startswith("starlette")
    clients = _Clients(unit.target, events=events)
    try:
        _work(service, clients)
        code, text = finished(unit.reload(), service, timeout=STOP)
        assert code == 0, text
        _work(service, clients)
        ended = [service]
        assert service.stop(timeout=STOP) == 0
        service = unit.serve().ready()
        _work(service, clients)
    finally:
        clients.stop()
    assert service.stop(timeout=STOP) == 0
    assert clients.lost == [], "\n".join(map(str, [*clients.lost, *ended, service]))
    ended.append(service)
    for each in ended:
        entries = each.entries("ended")
        assert {entry.cause for entry in entries} <= {"reload", "stop"}, str(each)
        if "lifespan" in (APPS / "matrix" / f"{run.partition(':')[0]}.py").read_text():
            for entry in entries:
                assert each.find(rf"^shut down {entry.pid}$") is not None, str(each)
        if events:
            begun = [said.text.split()[-1] for said in each.said if said.text.startswith("stream begins")]
            finally_ = [said.text.split()[-1] for said in each.said if said.text.startswith("finally")]
            assert sorted(begun) == sorted(finally_)


def _work(service: Service, clients: _Clients) -> None:
    """Until each kind of client has been served some more."""
    before = clients.done.copy()
    wanted = {"cookie", "stream", "helpers", "upload"}
    while not clients.lost and any(clients.done[name] <= before[name] for name in wanted):
        what = f"clients of all kinds served, besides {dict(before)}"
        service.listen_until(clients.news, what, timeout=STOP)
        os.eventfd_read(clients.news)
