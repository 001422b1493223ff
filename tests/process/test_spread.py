"""How connections spread over the workers of a master, by the page that these share."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from memunit.core import scoreboard
from tests.support.harness import Service, Unit
from tests.support.http import Client

pytest_plugins = ["tests.support.units"]

# What is counted are connections that stay, however long the machine takes to open others or to start a worker.
KEPT = {"UVICORN_TIMEOUT_KEEP_ALIVE": "3600"}


def pages(service: Service) -> list[Path]:
    """The master's descriptors of a page; others come and go while they are listed."""
    found = []
    for entry in Path(f"/proc/{service.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if "memunit-scoreboard" in str(entry.readlink()):
                found.append(entry)
    return found


class Page:
    """The page of a running master, through its own descriptor."""

    def __init__(self, service: Service) -> None:
        (self._path,) = pages(service)

    def lines(self) -> list[scoreboard.Line]:
        """Those that are not free."""
        whole = self._path.read_bytes()
        each = (whole[at : at + 64] for at in range(64, len(whole), 64))
        return [scoreboard.parse(line) for line in each if line != scoreboard.FREE]


@contextlib.contextmanager
def closing() -> Iterator[list[Client]]:
    """A list of connections, which are closed at the end."""
    opened: list[Client] = []
    try:
        yield opened
    finally:
        for each in opened:
            each.close()


def burst(target: str, count: int) -> list[Client]:
    """So many connections, opened at once and then each with a request."""
    opened = [Client(target) for _ in range(count)]
    for each in opened:
        each.ask("/")
    return opened


def pids(clients: list[Client]) -> Counter[int]:
    """Whose answers come."""
    return Counter(int(each.read().body.split()[1]) for each in clients)


@pytest.mark.parametrize(
    ("workers", "unix", "server", "loop", "preload"),
    [
        (2, False, "asgi", "uvloop", True),
        (2, True, "asgi", "uvloop", False),
        (4, False, "asgi", "asyncio", True),
        (4, True, "wsgi", "uvloop", False),
        (2, False, "wsgi", "asyncio", True),
    ],
    ids=str,
)
def test_no_worker_takes_more_than_its_part(
    unit: Unit, workers: int, unix: bool, server: str, loop: str, preload: bool
) -> None:
    """Of connections that are opened at once and kept, 16 and 64 and 256 in all; exactly, however they race.

    Of 16, it is 9 with two workers and 5 with four.
    """
    target, sockets = unit.target, unit.sockets
    if unix:
        target = str(unit.directory / "app.sock")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(target)
        listener.listen(1024)
        sockets = (("memunit@app.socket", listener),)
    app = {
        "run": f"patient:{'wsgi' if server == 'wsgi' else 'app'}",
        "server": server,
        "preload": preload,
        "environment": {"UVICORN_LOOP": loop, **KEPT},
    }
    if server == "wsgi":
        app["threads"] = 100  # a worker whose threads are busy leaves all to its siblings
    unit.write(app=app, workers={"count": workers})
    service = unit.serve(sockets=sockets)
    service.entry("ready", count=workers)
    shares: Counter[int] = Counter()
    with closing() as opened:
        for total in (16, 64, 256) if server == "asgi" else (16, 64):
            new = burst(target, total - len(opened))
            opened.extend(new)
            shares += pids(new)
            even = -(-total // workers)
            assert max(shares.values()) <= even + max(1, even // 8), (total, shares)
            assert max(shares.values()) / total <= {2: 0.60, 4: 0.35}[workers]
            assert sorted(line.connections for line in Page(service).lines()) == sorted(shares.values())
    assert service.stop() == 0


def test_a_worker_that_is_stopped_holds_nothing_up(unit: Unit) -> None:
    """Nor does one that was killed: its line is free again, and its successor's is counted from nothing."""
    unit.write(app={"run": "plain:app", "environment": KEPT}, workers={"count": 2, "watchdog": "600s"})
    service = unit.serve()
    service.entry("ready", count=2)
    one, other = service.serving().values()
    os.kill(one, signal.SIGSTOP)
    with closing() as opened:
        opened.extend(burst(unit.target, 64))
        assert pids(opened) == {other: 64}
        # The one that is stopped holds none that it would have to answer.
        assert sorted(line.connections for line in Page(service).lines()) == [0, 64]
        os.kill(one, signal.SIGKILL)
        heir = service.entry("ready", count=3)
        assert sorted(line.connections for line in Page(service).lines()) == [0, 64]
        new = burst(unit.target, 16)
        opened.extend(new)
        assert set(pids(new)) <= {heir.pid, other}
        assert sum(line.connections for line in Page(service).lines()) == 80


def test_who_drains_is_no_sibling_to_leave_connections_to(unit: Unit) -> None:
    app = {"run": "patient:app", "environment": KEPT}
    unit.write(app=app, workers={"count": 2}, stop={"grace": "600s"})
    service = unit.serve()
    service.entry("ready", count=2)
    with closing() as opened:
        kept = Client(unit.target)
        opened.append(kept)
        draining = int(kept.get().body.split()[1])
        kept.ask("/slow?s=600")  # for which it waits
        slot = next(slot for slot, pid in service.serving().items() if pid == draining)
        os.kill(draining, signal.SIGTERM)
        heir = service.entry("ready", slot=slot, count=2)
        assert sorted(line.accepting for line in Page(service).lines()) == [False, True, True]
        new = burst(unit.target, 40)
        opened.extend(new)
        shares = pids(new)
        assert set(shares) == set(service.serving().values())
        assert heir.pid in shares
        assert max(shares.values()) <= 22


def test_rubbish_in_the_page_costs_no_request(unit: Unit) -> None:
    """An app can write what it likes there; it can't take the page away from the others."""
    unit.write(app={"run": "scribbling:app"}, workers={"count": 2})
    service = unit.serve()
    service.entry("ready", count=2)
    with closing() as opened:
        opened.extend(burst(unit.target, 32))
        assert pids(opened).total() == 32
        for _ in range(3):
            more = burst(unit.target, 32)
            opened.extend(more)
            assert pids(more).total() == 32
        said = {unit.get("/kept") for _ in range(4)}
        assert said == {"refused refused"}
        victim = min(service.serving().values())
        os.kill(victim, signal.SIGKILL)
        service.entry("ready", count=3)
        assert unit.get().startswith("ok ")
    assert service.running
    assert service.stop() == 0


def test_the_app_and_its_children_see_nothing_of_the_page(unit: Unit, tmp_path: Path) -> None:
    """No variable, and no descriptor that survives an exec; a command gets neither."""
    (tmp_path / "looking.py").write_text(
        "import os, subprocess, sys\n"
        'LOOK = \'import os; print(sorted(os.listdir("/proc/self/fd")), [v for v in os.environ if "SCORE" in v])\'\n'
        "AT_IMPORT = subprocess.run([sys.executable, '-c', LOOK], capture_output=True, text=True, close_fds=False)\n"
        "def app(environ, start_response):\n"
        "    now = subprocess.run([sys.executable, '-c', LOOK], capture_output=True, text=True, close_fds=False)\n"
        "    body = (AT_IMPORT.stdout + now.stdout).encode()\n"
        "    start_response('200 OK', [('Content-Length', str(len(body)))])\n"
        "    return [body]\n"
    )
    for preload in (True, False):
        app = {"run": "looking:app", "server": "wsgi", "directory": str(tmp_path), "preload": preload}
        unit.write(app=app, workers={"count": 1})
        service = unit.serve().ready()
        # Its own standard streams, and the one with which it lists them.
        assert set(unit.get().splitlines()) == {"['0', '1', '2', '3'] []"}
        assert service.stop() == 0
    unit.write(
        app={"command": ["sh", "-c", "ls /proc/$$/fd; env; exec sleep infinity"], "ready": "exec"},
        workers={"count": 1},
    )
    service = unit.serve().ready()
    service.expect(r"^MEMUNIT_SLOT=0|^MEMUNIT_SLOT=1", source="output")
    assert not service.find("SCOREBOARD")
    assert not pages(service)
    assert service.stop() == 0
