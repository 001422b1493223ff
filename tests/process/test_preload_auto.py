"""Whole masters with `preload = "auto"`, and with a person's word for it, whatever the import has done."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.process.test_preload import SERVING, app, zygotes
from tests.support.harness import Unit, finished
from tests.support.wait import wait_gone

pytest_plugins = ["tests.support.units"]

POOLED = """
import asyncio
from concurrent.futures import ProcessPoolExecutor
pool = ProcessPoolExecutor(2)
def double(text): return text * 2
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = await asyncio.get_running_loop().run_in_executor(pool, double, scope["path"])
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})
"""

MESSY = """
import os, tempfile
folder = tempfile.TemporaryDirectory(prefix="kept-")
open(os.path.join(folder.name, "page"), "w").write("page of " + folder.name)
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = open(os.path.join(folder.name, "page"), "rb").read()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The folder of an app that is served by itself, and can be changed on disk."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "shop.py").write_text(SERVING)
    return folder


def test_an_import_that_a_fork_breaks_is_each_workers_own_until_a_reload_finds_it_mended(
    unit: Unit, shop: Path
) -> None:
    mended = (shop / "shop.py").read_text()
    (shop / "shop.py").write_text("import multiprocessing\nqueue = multiprocessing.Queue()\n" + mended)
    unit.write(app=app(shop), workers={"count": 2})
    service = unit.serve()
    told = service.expect("The app is not preloaded: the app's import has made semaphores").text
    assert f"(shop.queue, a Queue, {shop}/shop.py line 2)" in told
    assert "Each worker imports the app itself, after this first import, which was the check" in told
    service.ready()
    assert zygotes(service) == []
    _, pid, _, imported_by = unit.get().split()
    assert pid == imported_by
    # Nobody tries again for a replacement.
    before = service.serving()
    os.kill(before[0], signal.SIGTERM)
    service.entry("ready", slot=0, count=2)
    service.entry("ended", pid=before[0])
    assert len(service.entries("ended")) == 1
    (shop / "shop.py").write_text(mended)
    finished(unit.reload(), service)
    service.until(lambda: len(zygotes(service)) == 1 or None, "one zygote, and nobody of before")
    _, pid, _, imported_by = unit.get().split()
    assert pid != imported_by
    assert len([line for line in str(service).splitlines() if "is not preloaded" in line]) == 1
    assert service.stop() == 0


def test_a_pool_of_processes_that_the_import_makes(unit: Unit, shop: Path) -> None:
    """Preloaded, workers shared its pipes: some answers never came, and one was another client's."""
    (shop / "shop.py").write_text(POOLED)
    unit.write(app={"run": "shop:app", "directory": str(shop)}, workers={"count": 2})
    service = unit.serve().ready()

    def ask(number: int) -> None:
        assert unit.get(f"/{number}") == f"/{number}/{number}"

    with ThreadPoolExecutor(8) as clients:
        list(clients.map(ask, range(40)))
    assert service.stop() == 0


def folders(tmp_path: Path) -> set[str]:
    return {str(path) for path in tmp_path.glob("kept-*")}


@pytest.mark.parametrize("preload", [True, "auto"])
def test_a_temporary_directory_that_the_import_makes(
    unit: Unit, shop: Path, tmp_path: Path, preload: object
) -> None:
    """Preloaded, the first worker to end removed it, and every later answer was an error."""
    (shop / "shop.py").write_text(MESSY)
    environment = {"TMPDIR": str(tmp_path)}
    unit.write(
        app={"run": "shop:app", "directory": str(shop), "preload": preload, "environment": environment},
        workers={"count": 2},
    )
    service = unit.serve().ready()
    # The one import to find out has one too, until its process has ended.
    wanted = 1 if preload is True else 2
    service.until(lambda: len(folders(tmp_path)) == wanted or None, f"{wanted} folders")
    os.kill(service.serving()[0], signal.SIGTERM)
    service.entry("ready", slot=0, count=2)
    for _ in range(6):
        assert unit.get().startswith(f"page of {tmp_path}/kept-")
    first = folders(tmp_path)
    finished(unit.reload(), service)
    # A lingering zygote ends after its last worker.
    service.until(lambda: not first & folders(tmp_path) or None, "the end of what the old version has made")
    assert unit.get().startswith(f"page of {tmp_path}/kept-")
    assert service.stop() == 0
    assert folders(tmp_path) == set()


FORKS = "import os\nif os.fork() == 0:\n    forked = True\n"
CLOSES = "import os\nos.closerange(3, 64)\n"
CLOSES_OURS = "import os\nos.close(3)\n"


@pytest.mark.parametrize("preload", [True, "auto", False])
@pytest.mark.parametrize(
    ("text", "told"),
    [
        (CLOSES, r"last status: the app's import has closed descriptor 3 \("),
        (CLOSES_OURS, r"the app's import has closed descriptor 3 \("),
        ("raise LookupError('as asked')\n", "cannot import shop: LookupError: as asked"),
        ("import os\nos._exit(3)\n", "exited with status 3"),
        ("raise KeyboardInterrupt\n", "cannot import shop: KeyboardInterrupt"),
    ],
    ids=["closes all", "closes ours", "raises", "exits", "interrupts"],
)
def test_one_entry_names_what_an_import_does_to_its_worker(
    unit: Unit, shop: Path, preload: object, text: str, told: str
) -> None:
    (shop / "shop.py").write_text(text + SERVING)
    unit.write(app=app(shop, preload=preload), workers={"count": 1})
    service = unit.serve()
    entry = service.expect(rf"^memunit: (error|warning): Worker 0(\.1)? .*({told})").text
    assert "Traceback" not in entry
    service.send(signal.SIGTERM)
    service.exit_code()


@pytest.mark.parametrize("preload", [True, "auto", False])
def test_an_import_that_forks(unit: Unit, shop: Path, preload: object) -> None:
    """Both processes come back from it, and only one of them is a worker, or forks some."""
    (shop / "shop.py").write_text(FORKS + SERVING)
    unit.write(app=app(shop, preload=preload), workers={"count": 1})
    service = unit.serve()
    told = service.expect(
        "the app's import has forked process [0-9]+ and went on in both; process [0-9]+, the"
    ).text
    service.ready()
    wait_gone(int(told.split("process ")[2].split(",")[0]))
    assert len(service.serving()) == 1
    assert unit.get().startswith("ok ")
    assert service.stop() == 0


@pytest.mark.parametrize("preload", [True, "auto", False])
def test_an_import_that_blocks(unit: Unit, shop: Path, preload: object) -> None:
    """Its stacks are written, too, if it has come so far by then: test_zygote.py."""
    (shop / "shop.py").write_text("import threading\nthreading.Event().wait()\n")
    unit.write(app=app(shop, preload=preload), workers={"count": 1, "start_timeout": "1s"})
    service = unit.serve()
    if preload is False:
        service.expect(r"Worker 0\.1 \(pid \d+\) ended: start-timeout")
    else:
        service.expect(r"Worker 0 can't be started: the app was not imported in time")
    service.send(signal.SIGTERM)
    service.exit_code()


@pytest.mark.parametrize("preload", [True, "auto", False])
def test_an_import_that_installs_handlers(unit: Unit, shop: Path, preload: object) -> None:
    """Worker and zygote end when they are told to."""
    handlers = "".join(
        f"signal.signal(signal.{name}, lambda *_: None)\n"
        for name in ("SIGTERM", "SIGINT", "SIGCHLD", "SIGHUP")
    )
    (shop / "shop.py").write_text(f"import signal\n{handlers}" + SERVING)
    unit.write(app=app(shop, preload=preload), workers={"count": 1}, stop={"grace": "90s"})
    service = unit.serve().ready()
    assert unit.get().startswith("ok ")
    assert service.stop() == 0
    assert [entry.cause for entry in service.entries("ended")] == ["stop"]
