"""Workers that serve by themselves: by exec (`--server callable`), and as the library's forked child."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memunit.master.child import Launch
from memunit.master.held import Child
from memunit.master.spawn import fork_call
from memunit.worker import callable as plain
from tests.support import interpreters
from tests.support.http import Client
from tests.support.interpreters import DEBIAN
from tests.support.wait import wait_end
from tests.support.workers import APPS, LoadProcess, Stage

pytest_plugins = ["tests.support.stacks"]


def test_serves_and_stops(here: Stage) -> None:
    worker = here.start(DEBIAN, "served:serve", server="callable").ready()
    with Client(here.target) as client:
        assert client.get().body == b"ok %d" % worker.pid
    worker.stop()
    here.hear(worker.pid, "STATUS=served to the end")
    assert worker.wait() == 0
    assert worker.output == ""


def test_replacements_under_load_lose_nothing(here: Stage, tmp_path: Path) -> None:
    """One worker at a time accepts with a blocking accept() here: what it has taken it answers."""
    old = here.start(DEBIAN, "served:serve", server="callable").ready()
    load = LoadProcess(tmp_path, here.target, "--clients", "4")
    load.answered()
    for _ in range(5):
        old.stop()
        with Client(here.target) as client:  # wakes the accept() that a faster sibling could leave waiting
            successor = here.start(DEBIAN, "served:serve", server="callable").ready()
            client.get()
        assert old.wait() == 0
        old = successor
    report = load.finish()
    assert (report["lost"], report["examples"]) == (0, [])
    assert report["ok"] > 0


def test_it_is_heard_with_no_descriptor_left(here: Stage, tmp_path: Path) -> None:
    """A server with as many connections as its process may have gets on, and says so."""
    (tmp_path / "full.py").write_text(
        "import contextlib, os, resource\n"
        "def run(worker):\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))\n"
        "    with contextlib.suppress(OSError):\n"
        "        while True:\n"
        "            os.dup(0)\n"
        "    worker.ready()\n"
        "    worker.ping()\n"
        "    worker.stopping.wait()\n"
    )
    worker = here.start(
        DEBIAN, "full:run", server="callable", directory=tmp_path, watchdog_usec=1_000_000
    ).ready()
    here.hear(worker.pid, "WATCHDOG=1")
    worker.stop()
    assert worker.wait() == 0


def test_run_speaks_for_itself(here: Stage) -> None:
    """One parameter: the library's run(worker). The watchdog hears what run pings, and nothing else."""
    worker = here.start(DEBIAN, "served:run", server="callable", watchdog_usec=1_000_000)
    here.hear(worker.pid, "STATUS=slot 0 on 1 sockets")
    worker.ready()
    here.hear(worker.pid, "WATCHDOG=1")
    here.hear(worker.pid, "WATCHDOG=1")
    worker.stop()
    assert worker.wait() == 0


@pytest.mark.parametrize("name", ["served:deep", "served:run"])
def test_signals_reach_a_program_with_its_own_loop(here: Stage, name: str) -> None:
    worker = here.start(DEBIAN, name, server="callable").ready()
    worker.stop()
    assert worker.wait() == 0
    assert worker.output == ""


@pytest.mark.parametrize(
    ("name", "status", "says"),
    [
        ("served:crash", 1, "RuntimeError: cannot serve"),
        ("served:leave", 7, ""),
        ("served:leave_with_word", 1, "no more"),
        ("served:returns", 0, ""),
        (
            "served:three",
            78,
            "served:three can be called neither as serve(sockets, stopping) nor as run(worker)",
        ),
        ("served:nothing", 78, "served has no attribute 'nothing'"),
    ],
)
def test_ends(here: Stage, name: str, status: int, says: str) -> None:
    worker = here.start(DEBIAN, name, server="callable")
    assert worker.wait() == status
    assert says in worker.output


def test_oldest_python(here: Stage) -> None:
    """3.9, where there is one."""
    candidates = [shutil.which("python3.9"), *Path.home().glob(".pyenv/versions/3.9.*/bin/python3.9")]
    python = next((each for each in candidates if each and interpreters.can_import(Path(each), "sys")), None)
    if python is None:
        pytest.skip("no Python 3.9 here")
    worker = here.start(python, "served:serve", server="callable").ready()
    worker.stop()
    assert worker.wait() == 0


@pytest.mark.parametrize("clean", ["clean", "bad_clean", None])
def test_library_child(here: Stage, tmp_path: Path, clean: str | None) -> None:
    """clean() runs before `stopping` is set, in a thread; whatever it does, the worker stops."""
    child = _fork(here, tmp_path, "locked", clean)
    try:
        here.hear(child.pid, "READY=1")
        child.signal(signal.SIGTERM)
        here.hear(child.pid, "STOPPING=1")
        if clean == "clean":
            here.hear(child.pid, "STATUS=cleaning")
        here.hear(child.pid, f"STATUS=cleaned {clean == 'clean'}")
        end = wait_end(child)
        assert (end.code, end.status) == ("exited", 0)
    finally:
        child.kill_tree()
        child.close()
    assert ("RuntimeError: cannot clean" in (tmp_path / "output").read_text()) == (clean == "bad_clean")


def test_clean_may_take_a_lock_that_the_main_thread_holds(here: Stage, tmp_path: Path) -> None:
    """A handler would wait for ever for what it interrupted; the thread waits until the lock is let go."""
    child = _fork(here, tmp_path, "holding", "clean")
    try:
        here.hear(child.pid, "READY=1")
        child.signal(signal.SIGTERM)
        here.hear(child.pid, "STATUS=cleaning")
        child.signal(signal.SIGUSR1)
        here.hear(child.pid, "STATUS=cleaned True")
        assert wait_end(child).status == 0
    finally:
        child.kill_tree()
        child.close()


def _fork(here: Stage, tmp_path: Path, run: str, clean: str | None) -> Child:
    def serve() -> int:
        output = os.open(tmp_path / "output", os.O_CREAT | os.O_WRONLY, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        sys.path.insert(0, str(APPS))
        import served  # type: ignore[import-not-found, unused-ignore]

        clean_up: Callable[[], Any] | None = getattr(served, clean) if clean else None
        return plain.serve(getattr(served, run), clean_up, slot=3, generation=5)

    sockets = tuple(("app.socket", each.fileno()) for each in here.sockets)
    return fork_call(
        serve, Launch(argv=(), environment=dict(os.environ), sockets=sockets, notify_path=here.notify.path)
    )
