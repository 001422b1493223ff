"""A zygote: what its workers are, what becomes of requests, and what it says of an app that can't be forked."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memunit.master import cradle
from memunit.master.held import End, adopt
from memunit.master.nursery import ZygoteId
from tests.support import interpreters
from tests.support.harness import let_go
from tests.support.http import Client
from tests.support.interpreters import DEBIAN
from tests.support.nest import Nest, nest
from tests.support.workers import APPS, WORKER

FIRST = ZygoteId(1, 0)
SHELL = {"PWD", "OLDPWD", "SHLVL", "_"}  # what the shell in between adds
PYTHONS = [
    DEBIAN,
    *(
        found
        for found in sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3"))
        if int(found.parents[1].name.split(".")[1]) >= 9
    ),
]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Nest]:
    with nest(tmp_path) as one:
        yield one


def ready(made: Nest, name: str) -> int:
    """Wait until the worker serves; its pid."""
    pid = made.child(name).child.pid
    made.stage.hear(pid, "READY=1")
    return pid


def told(made: Nest) -> dict[str, Any]:
    """facts() of whoever answers."""
    with Client(made.stage.target) as client:
        found: dict[str, Any] = json.loads(client.get().body)
    return found


def stopped(made: Nest) -> None:
    """Stop the zygote, and return when it is so indeed."""
    pid = made.zygotes[0].child.pid
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)


def has_ended(made: Nest, name: str) -> End:
    made.forked[name].child.signal(signal.SIGTERM)
    return made.end(name)


def test_a_worker_is_our_child_with_all_that_an_executed_one_has(made: Nest) -> None:
    made.ask("0", watchdog_usec=7_000_000)
    pid = ready(made, "0")
    facts = told(made)
    assert facts["pid"] == facts["group"] == pid
    assert facts["parent"] == os.getpid()
    assert facts["imported_by"] == made.zygotes[0].child.pid != pid
    environment = facts["environment"]
    assert environment["MEMUNIT_SLOT"] == "0"
    assert (environment["WATCHDOG_USEC"], environment["WATCHDOG_PID"]) == ("7000000", str(pid))
    assert not {"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} & set(environment)
    assert facts["blocked"] == 0
    assert facts["fds"]["0"] == "/dev/null"
    assert has_ended(made, "0") == End(pid, "exited", 0)
    assert made.said == ""


@pytest.mark.parametrize(("target", "server"), [("preloaded:serve", "callable"), ("preloaded:app", "asgi")])
def test_it_has_the_descriptors_of_an_executed_one_and_no_more(made: Nest, target: str, server: str) -> None:
    made.ask("0", target, server=server)
    ready(made, "0")
    forked = told(made)
    has_ended(made, "0")
    executed_worker = made.stage.start(DEBIAN, target, server=server).ready()
    executed = told(made)

    def kinds(facts: dict[str, Any]) -> list[str]:
        # The connection under way counts on both sides. The numbers differ: libuv has made its pipe at a rehearsal.
        # With its first stream, libuv opens /dev/null, to have one to give up; an executed one has had a trial.
        links = [link for number, link in facts["fds"].items() if int(number) > 2 and link != "/dev/null"]
        return sorted(link.split(":")[0] for link in links)

    assert kinds(forked) == kinds(executed)
    assert (forked["ignored"], forked["blocked"]) == (executed["ignored"], executed["blocked"])
    assert set(forked["environment"]) - {"MEMUNIT_SLOT"} == set(executed["environment"]) - SHELL
    executed_worker.stop()
    assert executed_worker.wait() == 0


def test_a_hundred_forks(made: Nest) -> None:
    """Each pid is told when the worker is our child already: adopting one that is not would be ChildProcessError."""
    for number in range(100):
        made.ask(str(number))
    pids = {made.child(str(number)).child.pid for number in range(100)}
    assert len(pids) == 100
    assert made.refused == {}
    assert len(made.zygotes) == 1
    for number in range(100):
        made.forked[str(number)].child.signal(signal.SIGTERM)
    assert {made.end(str(number)).code for number in range(100)} <= {"exited", "killed"}
    children = Path(f"/proc/{made.zygotes[0].child.pid}/task/{made.zygotes[0].child.pid}/children")
    assert children.read_text() == ""
    assert len(list(Path(f"/proc/{made.zygotes[0].child.pid}/fd").iterdir())) <= 6


def test_random_numbers_differ(made: Nest) -> None:
    found = []
    for name in ("0", "1", "2"):
        made.ask(name)
        ready(made, name)
        found.append(told(made))
        has_ended(made, name)
    assert len({each["random"] for each in found}) == 3
    assert len({each["chosen"] for each in found}) == 1


@pytest.mark.parametrize("python", PYTHONS, ids=lambda path: str(path.parents[1].name))
def test_every_interpreter(made: Nest, python: Path) -> None:
    """Without memunit in its environment."""
    made.ask("0", "preloaded:serve", "--after-fork", "preloaded:after_fork", python=python)
    pid = ready(made, "0")
    assert told(made)["calls"] == [f"after_fork {pid} slot 0"]
    assert has_ended(made, "0").status == 0
    assert made.warned == []


def test_a_virtual_environment_with_no_package_at_all(made: Nest, tmp_path: Path) -> None:
    python = interpreters.bare(tmp_path / "venv")
    assert (
        subprocess.run([python, "-I", "-c", "import memunit"], check=False, capture_output=True).returncode
        == 1
    )
    made.ask("0", python=python)
    ready(made, "0")
    assert has_ended(made, "0").status == 0


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_event_loops_work_after_the_fork(made: Nest, loop: str) -> None:
    python = interpreters.newest()
    if python is None:
        pytest.skip("the newest uvicorn cannot be installed here")
    for name in ("0", "1"):
        made.ask(name, "preloaded:app", server="asgi", python=python, environment={"UVICORN_LOOP": loop})
    pids = {ready(made, name) for name in ("0", "1")}
    assert told(made)["pid"] in pids
    for name in ("0", "1"):
        assert has_ended(made, name).status == 0
    assert made.warned == []
    assert made.said == ""


def test_the_death_of_the_zygote_leaves_its_workers_and_brings_a_new_one(made: Nest) -> None:
    made.ask("0")
    pid = ready(made, "0")
    made.zygotes[0].child.signal(signal.SIGKILL)
    made.settle(lambda: made.lost or None, "the loss")
    assert (made.lost[0].pid, made.lost[0].how) == (
        made.zygotes[0].child.pid,
        "the zygote was killed by SIGKILL",
    )
    made.settle(lambda: len(made.zygotes) == 2 or None, "another zygote")
    assert told(made)["pid"] == pid
    assert has_ended(made, "0") == End(pid, "exited", 0)
    made.ask("1")
    ready(made, "1")
    assert told(made)["imported_by"] == made.zygotes[1].child.pid


def test_losses_in_a_row_are_held_back(made: Nest) -> None:
    made.ask("0")
    ready(made, "0")
    for number in range(3):
        made.zygotes[number].child.signal(signal.SIGKILL)
        made.settle(lambda: len(made.zygotes) == number + 2 or None, "another zygote")  # noqa: B023
        made.ask(f"after {number}")
        made.child(f"after {number}")
    assert [lost.retry for lost in made.lost] == [0.0, 0.05, 0.1]


def test_imports_that_take_long_and_fail_are_held_back_too(
    made: Nest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How long one has lived says nothing of one that never got ready."""
    monkeypatch.setattr(cradle, "STABLE", 0.0)
    (tmp_path / "sometimes.py").write_text(
        "import os, pathlib\nassert not pathlib.Path(os.environ['BROKEN']).exists()\nfrom preloaded import serve\n"
    )
    broken = tmp_path / "broken"
    environment = {"PYTHONPATH": str(APPS), "BROKEN": str(broken)}
    made.ask("0", "sometimes:serve", directory=tmp_path, environment=environment)
    ready(made, "0")
    broken.touch()
    made.zygotes[0].child.signal(signal.SIGKILL)
    made.settle(lambda: len(made.lost) == 4 or None, "losses")
    assert [lost.retry for lost in made.lost] == [0.0, 0.05, 0.1, 0.05 * 3]


def test_a_zygote_that_hangs_fails_what_was_asked_for(made: Nest) -> None:
    made.ask("0")
    ready(made, "0")
    stopped(made)
    made.ask("1")
    made.ask("2")
    assert made.nursery.signal("2", signal.SIGTERM)
    assert made.refusal("2") == "it was told to stop before it was forked"
    assert made.nursery.signal("1", signal.SIGKILL)
    assert made.refusal("1") == "the zygote does not answer"
    assert made.end(FIRST).code == "killed"
    assert not made.nursery.signal("1", signal.SIGTERM)


def test_a_worker_told_to_stop_while_it_is_forked_stops(made: Nest) -> None:
    made.ask("0")
    ready(made, "0")
    stopped(made)
    made.ask("1")
    assert made.nursery.signal("1", signal.SIGTERM)
    made.zygotes[0].child.signal(signal.SIGCONT)
    assert made.child("1").signum == signal.SIGTERM
    assert made.end("1").code in ("exited", "killed")
    assert "1" not in made.refused


def test_an_import_that_takes_too_long_is_ended_with_its_stacks(made: Nest, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    os.mkfifo(hold)
    for name in ("0", "1"):
        made.ask(name, environment={"PRELOADED_HOLD": str(hold)})
    reached = os.open(hold, os.O_WRONLY)  # once somebody reads
    try:
        assert made.nursery.signal("0", signal.SIGABRT)
        assert made.refusal("0") == "the app was not imported in time"
        assert made.refusal("1") == "the app was not imported in time"
    finally:
        os.close(reached)
    assert made.end(FIRST).status == signal.SIGABRT
    assert "preloaded.py" in made.said
    assert made.lost == []


@pytest.mark.parametrize(
    ("target", "variable", "why", "status"),
    [
        ("preloaded:serve", "PRELOADED_FAIL", "cannot import preloaded: LookupError: as asked", 78),
        ("preloaded:nothing", "", "preloaded has no attribute 'nothing'", 78),
        ("nowhere:app", "", "cannot import nowhere: ModuleNotFoundError: No module named 'nowhere'", 78),
        (
            "preloaded:serve",
            "PRELOADED_CRASH",
            "the zygote was killed by SIGSEGV while it imported the app",
            signal.SIGSEGV,
        ),
    ],
)
def test_an_app_that_cannot_be_imported(
    made: Nest, target: str, variable: str, why: str, status: int
) -> None:
    for name in ("0", "1"):
        made.ask(name, target, environment={variable: "1"} if variable else None)
    for name in ("0", "1"):
        assert made.refusal(name).startswith(why)
    assert made.end(FIRST).status == status
    assert made.lost == []
    assert len(made.zygotes) == 1
    # Policy decides when to try again; then it is done at once.
    made.ask("2", target)
    made.settle(lambda: len(made.zygotes) == 2 or None, "another try")


def test_an_interpreter_that_is_not_there(made: Nest) -> None:
    made.ask("0", python="/nonexistent/python")
    assert made.refusal("0") == "/nonexistent/python: No such file or directory"


def test_a_zygote_by_hand() -> None:
    done = subprocess.run(
        [DEBIAN, WORKER, "--zygote", "--server", "callable", "preloaded:serve"],
        check=False,
        capture_output=True,
        text=True,
        cwd=APPS,
    )
    assert done.returncode == 78
    assert "--zygote is for memunit's master" in done.stderr


def test_no_process_for_a_worker(made: Nest) -> None:
    """fork(2) fails in the zygote: that request fails, and the next one does not."""
    made.ask("0")
    ready(made, "0")
    zygote = made.zygotes[0].child.pid
    soft, hard = resource.prlimit(zygote, resource.RLIMIT_NOFILE)
    open_now = len(list(Path(f"/proc/{zygote}/fd").iterdir()))
    resource.prlimit(zygote, resource.RLIMIT_NOFILE, (open_now, hard))
    made.ask("1")
    assert made.refusal("1").endswith("Too many open files")
    resource.prlimit(zygote, resource.RLIMIT_NOFILE, (soft, hard))
    made.ask("2")
    made.child("2")
    assert made.lost == []


def test_a_revision_that_is_not_kept_ends_and_its_workers_do_not(made: Nest) -> None:
    made.ask("0")
    pid = ready(made, "0")
    made.ask("1", revision=2)
    made.child("1")
    made.nursery.keep({2})
    assert made.end(FIRST).code in ("exited", "killed")
    assert made.lost == []
    assert made.ends.keys() == {FIRST}
    assert os.getpgid(pid) == pid
    assert has_ended(made, "0").status == 0


def test_what_was_being_forked_when_its_revision_was_dropped_still_comes(made: Nest) -> None:
    made.ask("0")
    ready(made, "0")
    stopped(made)
    made.ask("1")
    made.nursery.keep(())
    made.zygotes[0].child.signal(signal.SIGCONT)
    ready(made, "1")
    assert made.end(FIRST) == End(made.zygotes[0].child.pid, "exited", 0)
    assert has_ended(made, "1").status == 0


def test_adopting_what_is_no_child() -> None:
    with pytest.raises(ChildProcessError):
        adopt(1)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        (
            "PRELOADED_THREAD",
            "threads: a forked worker has none of them, .*: left-by-import",
        ),
        ("PRELOADED_LOOP", "left an event loop open, .*: _UnixSelectorEventLoop"),
    ],
)
def test_hazards_are_named(made: Nest, variable: str, text: str) -> None:
    made.ask("0", environment={variable: "1"})
    ready(made, "0")
    assert len(made.warned) == 1
    assert re.search(text, made.warned[0]), made.warned
    assert made.said == ""
    assert told(made)["threads"] == 2  # its own, and the one that waits for SIGTERM


def test_a_connection_left_by_the_import_is_named(made: Nest, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as database:
        port = database.getsockname()[1]
        (tmp_path / "connected.py").write_text(
            f"import socket\nkept = socket.create_connection(('127.0.0.1', {port}))\n"
            "from preloaded import serve\n"
        )
        made.ask("0", "connected:serve", directory=tmp_path, environment={"PYTHONPATH": str(APPS)})
        ready(made, "0")
        where = f"connected.kept, a socket, {tmp_path}/connected.py line 2"
        assert f": 127.0.0.1 port {port} ({where})" in made.warned[0]


def test_signal_handlers_of_the_app(made: Nest) -> None:
    """They stay in its workers, and keep the zygote neither from waiting for its children nor from ending."""
    made.ask("0", environment={"PRELOADED_HANDLERS": "1"})
    pid = ready(made, "0")
    os.kill(pid, signal.SIGUSR2)
    facts = told(made)
    assert facts["calls"] == ["usr2"]
    assert facts["ignored"] >> (signal.SIGCHLD - 1) & 1
    made.zygotes[0].child.signal(signal.SIGTERM)
    assert made.end(FIRST).status == signal.SIGTERM
    assert has_ended(made, "0").status == 0


@pytest.mark.parametrize("server", ["callable", "asgi"])
def test_hooks(made: Nest, server: str) -> None:
    target = {"callable": "preloaded:serve", "asgi": "preloaded:app"}[server]
    hooks = ("--after-fork", "preloaded:after_fork", "--before-stop", "preloaded:before_stop")
    made.ask("4", target, *hooks, server=server)
    pid = ready(made, "4")
    assert told(made)["calls"] == [f"after_fork {pid} slot 4"]
    assert has_ended(made, "4").status == 0
    made.stage.hear(pid, "STOPPING=1")
    assert "MainThread" not in made.stage.hear(pid, "STATUS=before_stop in ")
    if server == "callable":
        made.stage.hear(pid, f"STATUS=served to the end after after_fork {pid} slot 4,before_stop")


def test_after_fork_that_fails(made: Nest) -> None:
    made.ask("0", "preloaded:serve", "--after-fork", "preloaded:bad_after_fork")
    pid = made.child("0").child.pid
    assert made.end("0") == End(pid, "exited", 70)
    made.stage.hear(pid, "STATUS=after_fork preloaded:bad_after_fork failed: ConnectionError: no database")
    assert "ConnectionError: no database" in made.said
    assert FIRST not in made.ends


def test_after_fork_is_no_coroutine(made: Nest) -> None:
    made.ask("0", "preloaded:serve", "--after-fork", "preloaded:async_after_fork")
    assert "is a coroutine function" in made.refusal("0")


def test_the_hold_of_a_test_is_let_go(made: Nest, tmp_path: Path) -> None:
    """An import that takes its time holds up nobody but those who wait for it."""
    hold = tmp_path / "hold"
    os.mkfifo(hold)
    made.ask("0", environment={"PRELOADED_HOLD": str(hold)})
    made.ask("other", revision=2)
    made.child("other")
    assert "0" not in made.forked
    let_go(hold)
    made.child("0")


def test_a_replacement_that_fails_while_nobody_waits_is_told_and_tried_again(
    made: Nest, tmp_path: Path
) -> None:
    module = tmp_path / "changing.py"
    module.write_text("from preloaded import serve\n")
    made.ask("0", "changing:serve", directory=tmp_path, environment={"PYTHONPATH": str(APPS)})
    ready(made, "0")
    module.write_text("raise LookupError('half written')\n")
    made.zygotes[0].child.signal(signal.SIGKILL)
    made.settle(lambda: len(made.lost) >= 2 or None, "the second loss")
    assert made.lost[1].how == "the zygote has failed: cannot import changing: LookupError: half written"
    assert [lost.retry for lost in made.lost[:2]] == [0.0, 0.05]
    module.write_text("from preloaded import serve\n")
    made.ask("1", "changing:serve")
    made.settle(lambda: "1" in made.forked or "1" in made.refused or None, "an answer")
    made.ask("2", "changing:serve")
    ready(made, "2")
