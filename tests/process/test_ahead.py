"""An interpreter that is started ahead becomes the zygote of a launch that it fits, and of no other."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memunit.cli import early
from memunit.cli.early import PROGRAM
from memunit.master import spawn
from memunit.master.afresh import FOR_THE_MASTER
from memunit.master.ahead import Ahead
from memunit.master.child import Launch
from memunit.master.held import Child
from memunit.master.nursery import ZygoteId
from memunit.master.zygote import CONTROL
from memunit.master.zygotes import label
from memunit.records import replace
from tests.support.wait import read_line, wait_end, wait_gone

RECORDER = """
import json, os, signal, sys, threading
status = dict(line.split(":\\t") for line in open("/proc/self/status") if ":\\t" in line)
facts = {
    "argv": sys.argv[1:], "path": sys.path[0], "cwd": os.getcwd(), "leads": os.getpgid(0) == os.getpid(),
    "environment": {k: v for k, v in os.environ.items() if k not in ("LISTEN_PID", "WATCHDOG_PID")},
    "pids": {os.environ.get(k, str(os.getpid())) for k in ("LISTEN_PID", "WATCHDOG_PID")} == {str(os.getpid())},
    "ignored": status["SigIgn"].strip(), "blocked": status["SigBlk"].strip(), "caught": status["SigCgt"].strip(),
    "fds": {int(n): os.readlink(f"/proc/self/fd/{n}").split(":")[0] for n in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{n}")},
    "threads": threading.active_count(),
}
facts["fds"] = {n: link for n, link in facts["fds"].items() if not link.startswith("/proc")}
with open(os.environ["SAY"], "w") as said:
    said.write(json.dumps(facts) + "\\n")
def app(scope, receive, send): ...
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "recorder.py").write_text(RECORDER)
    return tmp_path


@pytest.fixture
def sockets() -> Iterator[tuple[tuple[str, int], ...]]:
    """A listener, and the zygote's end of its control socket, which nobody holds the other end of."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with socket.create_server(("127.0.0.1", 0)) as listener, ours, theirs:
        yield (("web", listener.fileno()), (CONTROL, theirs.fileno()))


@pytest.fixture
def launch(folder: Path, sockets: tuple[tuple[str, int], ...]) -> Launch:
    return Launch(
        argv=(sys.executable, PROGRAM, "--zygote", "--server", "asgi", "recorder:app"),
        environment={"PATH": os.environ["PATH"], "SAY": str(folder / "said"), "MEMUNIT_THREADS": "3"},
        directory=str(folder),
        sockets=sockets,
        notify_path=str(folder / "notify"),
        watchdog_usec=7_000_000,
    )


Begin = Callable[..., Ahead]


@pytest.fixture
def begin(launch: Launch) -> Iterator[Begin]:
    """Start an interpreter ahead, as for `launch` unless it is said otherwise."""
    begun = []

    def make(**others: Any) -> Ahead:
        known = {name: value for name, value in launch.environment.items() if not name.startswith("MEMUNIT_")}
        program = [launch.argv[0], PROGRAM, "--ahead", "asgi"]
        fitting = {"program": program, "environment": known, "directory": launch.directory}
        # As early.py has them while the master imports.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_THE_MASTER)
        try:
            begun.append(Ahead(**{**fitting, **others}))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return begun[-1]

    yield make
    for each in begun:
        each.drop()


def facts(launch: Launch, start: Callable[[Launch], Child]) -> tuple[Child, dict[str, Any]]:
    """What the app's import finds in its process."""
    said = launch.environment["SAY"]
    os.mkfifo(said)
    reader = os.open(said, os.O_RDONLY | os.O_NONBLOCK)
    child = start(launch)
    try:
        return child, json.loads(read_line(reader))
    finally:
        os.close(reader)
        Path(said).unlink()
        child.signal(9)
        wait_end(child)


def test_the_app_finds_the_process_that_it_would_have_been_executed_in(launch: Launch, begin: Begin) -> None:
    _, executed = facts(launch, spawn.launch)
    ahead = begin()
    pid = ahead.pid
    child, found = facts(launch, ahead.start)
    assert child.pid == pid
    assert child.executed()
    assert found == executed
    assert found["argv"] == ["--zygote", "--server", "asgi", "recorder:app"]
    assert found["environment"]["MEMUNIT_THREADS"] == "3"


def test_what_is_told_of_its_place_in_the_runtime_directory_is_there_from_the_beginning(
    launch: Launch, begin: Begin
) -> None:
    """By this, who starts after a dead master finds what it has left: master/leftovers.py reads /proc/PID/environ."""
    ahead = begin(notify_path=launch.notify_path)
    wanted = b"NOTIFY_SOCKET=" + os.fsencode(launch.notify_path or "")
    _, found = facts(launch, ahead.start)
    assert found["environment"]["NOTIFY_SOCKET"] == launch.notify_path
    other = begin(notify_path="/run/elsewhere/notify")
    assert wanted not in Path(f"/proc/{other.pid}/environ").read_bytes()
    _, found = facts(launch, other.start)
    assert found["environment"]["NOTIFY_SOCKET"] == launch.notify_path


@pytest.mark.parametrize(
    "others",
    [
        {"environment": {"PATH": "/nowhere"}},
        {"environment": {"PATH": os.environ["PATH"], "PYTHONHASHSEED": "7"}},
        {"directory": "/"},
        {"program": ["/usr/bin/env", PROGRAM, "--ahead", "asgi"]},
        {"program": ["/no/such/python", PROGRAM, "--ahead", "asgi"]},
        {"program": [sys.executable, "/no/such/folder", "--ahead", "asgi"]},
    ],
    ids=["variable", "more", "folder", "interpreter", "no-interpreter", "no-program"],
)
def test_what_does_not_fit_is_not_used_and_ends(launch: Launch, begin: Begin, others: dict[str, Any]) -> None:
    ahead = begin(**others)
    pid = ahead.pid
    child, found = facts(launch, ahead.start)
    assert child.pid != pid
    assert found["cwd"] == launch.directory
    assert found["environment"]["SAY"] == launch.environment["SAY"]
    wait_gone(pid)


def test_a_worker_that_is_no_zygote_is_executed(launch: Launch, begin: Begin) -> None:
    """What it touched by then would be charged to another group."""
    ahead = begin()
    pid = ahead.pid
    child = ahead.start(replace(launch, argv=("/bin/true",)))
    assert child.pid != pid
    assert wait_end(child).status == 0
    wait_gone(pid)


def test_it_is_used_once(launch: Launch, begin: Begin) -> None:
    ahead = begin()
    first, _ = facts(launch, ahead.start)
    second, _ = facts(launch, ahead.start)
    assert first.pid != second.pid


def test_it_ends_with_its_master(launch: Launch) -> None:
    code = (
        "import os, sys\n"
        "from memunit.cli.early import PROGRAM\n"
        "from memunit.master.ahead import Ahead\n"
        "ahead = Ahead([sys.executable, PROGRAM, '--ahead', 'asgi'], dict(os.environ), None)\n"
        "print(ahead.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False)
    # Its end closes standard output, which run() waits for.
    wait_gone(int(done.stdout))


def test_the_group_is_that_of_the_first_zygote() -> None:
    assert label(ZygoteId(1, 0)) == early._FIRST
