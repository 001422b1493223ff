"""Apps that do to their zygote what nobody would think of."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from memunit.master import zygote
from memunit.master.nursery import ZygoteId
from memunit.master.zygote_course import RUBBISH
from tests.process.test_zygote import stopped
from tests.support.nest import Nest, nest
from tests.support.wait import wait_readable
from tests.support.workers import APPS

FIRST = ZygoteId(1, 0)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Nest]:
    with nest(tmp_path) as one:
        yield one


def imported(made: Nest, folder: Path, text: str) -> None:
    """Ask for a worker of an app with this at its beginning."""
    (folder / "strange.py").write_text(f"{text}\nfrom preloaded import serve\n")
    made.ask("0", "strange:serve", directory=folder, environment={"PYTHONPATH": str(APPS)})


def for_each_socket(deed: str) -> str:
    """What an app says to do this to each of its sockets, `name` its number in text."""
    return (
        "import os, socket\n"
        "for name in sorted(os.listdir('/proc/self/fd'), key=int):\n"
        "    try:\n"
        "        if int(name) > 2 and os.readlink('/proc/self/fd/' + name).startswith('socket:'):\n"
        f"            {deed}\n"
        "    except OSError:\n"
        "        pass\n"
    )


def test_a_name_without_end(made: Nest, tmp_path: Path) -> None:
    """A message of the zygote has to fit into a packet, whatever the app has called its thread."""
    thread = "threading.Thread(target=threading.Event().wait, name='x' * 70000, daemon=True).start()"
    imported(made, tmp_path, f"import threading\n{thread}")
    made.settle(lambda: made.forked.get("0"), "a worker")
    assert "x" * 80 in made.warned[0]
    assert len(made.warned[0]) < 400


def test_a_loop_that_cannot_be_asked(made: Nest, tmp_path: Path) -> None:
    imported(made, tmp_path, "import asyncio\nclass Mine(asyncio.AbstractEventLoop): pass\nkept = Mine()")
    made.settle(lambda: made.forked.get("0"), "a worker")
    assert made.warned == []


@pytest.mark.parametrize(
    "packet",
    [
        b"garbage",
        b"[]",
        b"1",
        b'{"ready": true}',
        b'{"pid": 1}',
        b"\xff",
        b"{" * 9000,
        b"[" * 60000,
        b'{"a":' * 12000,
        b"9" * 60000,
        b'{"unusable": 5}',
        b'{"ready": true, "hazards": [7], "notes": [], "lingers": false}',
    ],
    ids=range(12),
)
def test_what_is_no_message_ends_the_zygote_and_nothing_else(
    made: Nest, tmp_path: Path, packet: bytes
) -> None:
    """The socket to the master is in the app's process: it can be found, and written to."""
    imported(made, tmp_path, for_each_socket(f"os.write(int(name), {packet!r})"))
    assert made.refusal("0") == "the zygote has sent a message that no zygote sends"
    assert made.forked == {}


# Instead of a fork: what app code can find by looking up the stack, said in the zygote's name.
FORGED = """
import json, os, signal, sys
def forge():
    if os.path.exists({flag!r}):
        frame = sys._getframe()
        while not {{"control", "request"}} <= frame.f_locals.keys():
            frame = frame.f_back
        number = frame.f_locals["request"]["id"]
        frame.f_locals["control"].send(json.dumps(eval({message!r})).encode())
        signal.pause()
os.register_at_fork(before=forge)
"""


@pytest.mark.parametrize(
    "message",
    [
        '{"id": number, "pid": 10**30}',
        '{"id": number, "pid": 2**31}',
        '{"id": number, "pid": 2.5}',
        '{"id": number, "pid": "7"}',
        '{"id": number, "pid": True}',
        '{"id": number + 1, "pid": 7}',
        '{"id": number, "pid": os.getppid()}',
        '{"id": number, "pid": os.getpid()}',
        '{"id": number, "pid": int(open(__file__ + ".sibling").read())}',
        '{"id": number, "error": "fork", "errno": 10**30}',
        '{"id": number, "error": ["fork"], "errno": 0}',
        "[number] * 2000",
    ],
    ids=range(12),
)
def test_a_forged_answer_ends_the_zygote_and_nobody_else(made: Nest, tmp_path: Path, message: str) -> None:
    """The pid may be that of anybody: of a sibling, of the master, of nobody."""
    flag = tmp_path / "flag"
    imported(made, tmp_path, FORGED.format(flag=str(flag), message=message))
    worker = made.child("0").child
    made.stage.hear(worker.pid, "READY=1")
    (tmp_path / "strange.py.sibling").write_text(str(worker.pid))
    flag.touch()
    made.ask("1", "strange:serve", directory=tmp_path, environment={"PYTHONPATH": str(APPS)})
    assert made.refusal("1") == RUBBISH
    assert made.end(FIRST).status == signal.SIGKILL
    made.settle(lambda: made.lost or None, "its loss")
    assert made.lost[0].how.startswith(RUBBISH)
    flag.unlink()
    made.ask("2", "strange:serve", directory=tmp_path, environment={"PYTHONPATH": str(APPS)})
    made.child("2")
    assert worker.signal(0)


def test_an_answer_about_a_process_that_is_not_ours(made: Nest, tmp_path: Path) -> None:
    """Nobody is adopted, and nobody killed."""
    with subprocess.Popen(
        ["sh", "-c", "sleep 100 & echo $!; wait"], stdout=subprocess.PIPE, text=True
    ) as shell:
        assert shell.stdout is not None
        stranger = int(shell.stdout.readline())
        flag = tmp_path / "flag"
        flag.touch()
        imported(
            made, tmp_path, FORGED.format(flag=str(flag), message=f'{{"id": number, "pid": {stranger}}}')
        )
        assert "was killed before it began" in made.refusal("0")
        os.kill(stranger, signal.SIGTERM)  # it is there
        made.zygotes[0].child.signal(signal.SIGKILL)


def test_a_zygote_that_is_deaf_to_sigabrt_is_killed(
    made: Nest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one more would be left of each try."""
    monkeypatch.setattr(zygote, "PATIENCE", 0.1)
    hold = tmp_path / "hold"
    os.mkfifo(hold)
    imported(
        made,
        tmp_path,
        f"import signal\nsignal.signal(signal.SIGABRT, signal.SIG_IGN)\nopen({str(hold)!r}).read()",
    )
    reached = os.open(hold, os.O_WRONLY)  # once somebody reads
    assert made.nursery.signal("0", signal.SIGABRT)
    assert made.refusal("0") == "the app was not imported in time"
    assert made.end(FIRST).status == signal.SIGKILL
    os.close(reached)


def test_a_dropped_zygote_that_does_not_end_is_killed(
    made: Nest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zygote, "PATIENCE", 0.1)
    imported(made, tmp_path, "")
    worker = made.child("0").child
    made.stage.hear(worker.pid, "READY=1")
    stopped(made)
    made.nursery.keep(())
    assert made.end(FIRST).status == signal.SIGKILL
    assert "0" not in made.ends
    assert worker.signal(signal.SIGTERM)


def test_a_fork_that_hangs_is_not_waited_for_once_its_worker_is_not_wanted(
    made: Nest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zygote, "PATIENCE", 0.1)
    imported(made, tmp_path, "import os, signal\nos.register_at_fork(before=signal.pause)")
    made.settle(lambda: made.zygotes or None, "a zygote")
    assert made.nursery.signal("0", signal.SIGTERM)
    assert made.refusal("0") in (
        "it was told to stop before it was forked",  # there was no zygote yet that could fork
        "the zygote does not answer",
    )
    made.ask("1", "strange:serve", directory=tmp_path, environment={"PYTHONPATH": str(APPS)})
    made.settle(
        lambda: [each for each in made.nursery._zygotes.values() if each.requests.begun],
        "a request on its way",
    )
    assert made.nursery.signal("1", signal.SIGTERM)
    assert made.refusal("1") == "the zygote does not answer"
    made.settle(lambda: made.lost or None, "its loss")
    assert made.lost[0].how == "the zygote did not answer and was killed by SIGKILL"


@pytest.mark.parametrize("stderr", ["None", "type('Lines', (), {'write': print, 'flush': id})()"])
def test_an_import_that_puts_something_else_in_the_place_of_stderr(
    made: Nest, tmp_path: Path, stderr: str
) -> None:
    """As those do that send each line to a logger: there is no descriptor behind it."""
    imported(made, tmp_path, f"import sys\nsys.stderr = {stderr}")
    worker = made.child("0").child
    made.stage.hear(worker.pid, "READY=1")
    worker.signal(signal.SIGABRT)
    assert made.end("0").status == signal.SIGABRT
    assert "Fatal Python error: Aborted" in made.said


def test_a_helper_of_multiprocessing_outlives_the_first_worker_that_ends(made: Nest, tmp_path: Path) -> None:
    imported(
        made,
        tmp_path,
        "import multiprocessing, signal\n"
        "helper = multiprocessing.Process(target=signal.pause, daemon=True)\n"
        "helper.start()\n"
        "print('helper', helper.pid, flush=True)",
    )
    worker = made.child("0").child
    made.stage.hear(worker.pid, "READY=1")
    helper = os.pidfd_open(int(made.said.split("helper ")[1].split()[0]))
    worker.signal(signal.SIGTERM)
    assert made.end("0").status == 0, made.said
    assert "Traceback" not in made.said
    # A signal that it was sent would have come by now: the worker has been reaped.
    assert not select.select([helper], [], [], 0)[0]
    signal.pidfd_send_signal(helper, signal.SIGKILL)
    os.close(helper)


def test_an_import_that_makes_itself_a_subreaper(made: Nest, tmp_path: Path) -> None:
    """Its workers would be its own children, and nobody would hear of their end."""
    imported(made, tmp_path, "import ctypes\nctypes.CDLL(None).prctl(36, 1, 0, 0, 0)")
    assert "made its process a child subreaper (then say preload = false)" in made.refusal("0")
    made.zygotes[0].child.signal(signal.SIGKILL)
    made.end(FIRST)
    assert made.forked == {}


def test_a_fork_that_is_killed_halfway(made: Nest, tmp_path: Path) -> None:
    imported(made, tmp_path, "import os\nos.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), 9))")
    assert made.refusal("0") == "the process that forked the worker was killed before it had answered"


@pytest.mark.parametrize("deed", ["socket.socket(fileno=os.dup(int(name))).send(b'')", "os.close(int(name))"])
def test_an_import_that_makes_our_socket_useless(
    made: Nest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deed: str
) -> None:
    """An empty packet looks like the end of the stream."""
    monkeypatch.setattr(zygote, "PATIENCE", 0.1)
    imported(made, tmp_path, for_each_socket(deed))
    assert made.refusal("0") in (
        "the zygote has closed its socket",
        "the zygote exited with status 78 while it imported the app",  # its own word for a closed descriptor
    )
    assert made.forked == {}


@pytest.mark.parametrize("hangs", [False, True])
def test_a_helper_of_the_import_serves_the_workers_when_its_zygote_is_gone(
    made: Nest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    """As a manager of multiprocessing does. It is killed with the last of them (tests/booted/test_zygote.py)."""
    monkeypatch.setattr(zygote, "PATIENCE", 0.1)
    imported(
        made, tmp_path, "import subprocess\nprint(subprocess.Popen(['sleep', 'infinity']).pid, flush=True)"
    )
    made.child("0")
    helper = os.pidfd_open(int(made.said.split()[0]))
    if hangs:
        stopped(made)
        made.nursery.keep(())
    else:
        made.zygotes[0].child.signal(signal.SIGKILL)
    made.end(FIRST)
    signal.pidfd_send_signal(helper, 0)
    made.gone[FIRST].end_left()
    wait_readable(helper)
    os.close(helper)


def test_an_import_that_clears_the_environment(made: Nest, tmp_path: Path) -> None:
    imported(made, tmp_path, "import os\nos.environ.clear()")
    made.stage.hear(made.child("0").child.pid, "READY=1")


def test_an_import_that_closes_stderr(made: Nest, tmp_path: Path) -> None:
    thread = "threading.Thread(target=threading.Event().wait, daemon=True).start()"
    imported(made, tmp_path, f"import sys, threading\n{thread}\nsys.stderr.close()")
    made.child("0")
    assert "has started threads" in made.warned[0]
