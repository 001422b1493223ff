"""What the master does at each signal, whatever else is going on."""

from __future__ import annotations

import os
import signal
import subprocess
import tomllib
from pathlib import Path

import pytest

from memunit.worker import stacks
from tests.support.harness import Service, Unit, let_go
from tests.support.interpreters import DEBIAN
from tests.support.workers import ROOT

pytest_plugins = ["tests.support.units"]

ASKED = {"run": "asked:run", "server": "callable"}


def serving(unit: Unit, count: int, **more: dict[str, object]) -> Service:
    """So many workers."""
    unit.write(app=ASKED, workers={"count": count, "min_lifetime": 0}, stop={"grace": "600s"}, **more)
    return unit.serve().ready()


def test_ttin_and_ttou_change_the_number_of_workers(unit: Unit) -> None:
    service = serving(unit, 1)
    first = service.serving()[0]
    service.send(signal.SIGTTIN)
    service.entry("ready", slot=1)
    service.send(signal.SIGTTIN)
    service.entry("ready", slot=2)
    service.hear(r"^STATUS=3/3 workers")
    assert service.find("^memunit: Scaled to 3 workers$", source="output")
    last = service.serving()[2]
    mark = service.mark
    service.send(signal.SIGTTOU)
    ended = service.entry("ended", after=mark)
    assert (ended.pid, ended.cause) == (last, "scale-down")
    service.hear(r"^STATUS=2/2 workers[^;(]*$", after=mark)
    service.send(signal.SIGTTOU)
    service.entry("ended", after=mark, count=2)
    service.send(signal.SIGTTOU)
    service.expect("^memunit: warning: Not scaled down: one worker is the least$", source="output")
    assert service.serving() == {0: first}
    assert unit.get() == f"ok {first}"
    assert service.stop() == 0


def test_who_serves_alone_is_not_scaled_away(unit: Unit) -> None:
    """Slot 0 fails again and again: the worker of slot 1 is all that serves."""
    mended = unit.directory / "mended"
    script = (
        f"[ $MEMUNIT_SLOT != 0 ] || [ -e {mended} ] || exit 1; systemd-notify --ready; exec sleep infinity"
    )
    unit.write(app={"command": ["/bin/sh", "-c", script]}, workers={"count": 2})
    service = unit.serve()
    alone = service.entry("ready", slot=1).pid
    failed = service.entry("ended", slot=0)
    service.send(signal.SIGTTOU)
    service.expect(
        "Scaled to 1 worker; worker 1.1 serves on until a worker of a remaining slot serves$", source="output"
    )
    # The slot fails once more, and the worker that serves is not told to stop.
    assert service.entry("ended", slot=0, after=service.mark).cause == failed.cause == "start-failed"
    assert service.serving() == {1: alone}
    mended.touch()
    first = service.entry("ready", slot=0)
    ended = service.entry("ended", slot=1)
    assert (ended.pid, ended.cause) == (alone, "scale-down")
    assert service.serving() == {0: first.pid}
    assert service.stop() == 0


def test_no_more_workers_than_there_is_memory_for(unit: Unit) -> None:
    """The limit is most of the machine's memory: one more would be more than all."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    service = serving(unit, 1, memory={"limit": f"{total * 6 // 10 // 2**20}M", "interval": "0.05s"})
    service.hear(r"^STATUS=1/1 workers, .* at most$")
    service.send(signal.SIGTTIN)
    said = service.expect("Not scaled up: 2 x ", source="output")
    assert " is more than the " in said.text
    assert len(service.serving()) == 1
    assert service.stop() == 0


def test_usr1_writes_the_state_to_the_journal(unit: Unit) -> None:
    service = serving(unit, 2)
    service.send(signal.SIGUSR1)
    said = service.expect(r"^memunit: 2/2 workers", source="output")
    for slot, pid in service.serving().items():
        assert f" worker {slot}.1 pid {pid} running for " in said.text
    assert ", configuration 1" in said.text
    assert service.stop() == 0


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_stop_finishes_what_is_in_work(unit: Unit, tmp_path: Path, signum: int) -> None:
    service = serving(unit, 2)
    hold = tmp_path / "hold"
    os.mkfifo(hold)
    with unit.client() as client:
        client.ask(f"/wait?on={hold}")
        pid = int(service.expect("^waiting ").text.split()[1])
        service.send(signum)
        other = service.entry("ended")
        assert other.pid != pid
        service.hear("^STOPPING=1")
        service.hear(r"^STATUS=stopping, 1 worker left")
        let_go(hold)
        assert client.read().body == f"ok {pid}".encode()
    assert service.exit_code() == 0
    assert [entry.cause for entry in service.entries("ended")] == ["stop", "stop"]
    assert len(service.entries("started")) == 2


def test_a_second_sigint_does_not_wait(unit: Unit, tmp_path: Path) -> None:
    """Whoever presses Ctrl-C twice wants it to end."""
    service = serving(unit, 1)
    hold = tmp_path / "hold"
    os.mkfifo(hold)
    with unit.client() as client:
        client.ask(f"/wait?on={hold}")
        service.expect("^waiting ")
        service.send(signal.SIGINT)
        service.hear("^STOPPING=1")
        service.send(signal.SIGINT)
        ended = service.entry("ended")
        assert (ended.cause, ended.reason) == ("grace-expired", "stop")
    assert service.exit_code() == 0


def test_a_second_sigterm_waits_on(unit: Unit, tmp_path: Path) -> None:
    """It may come from a script that is merely thorough."""
    service = serving(unit, 1)
    hold = tmp_path / "hold"
    os.mkfifo(hold)
    with unit.client() as client:
        client.ask(f"/wait?on={hold}")
        service.expect("^waiting ")
        for _ in range(2):
            service.send(signal.SIGTERM)
            service.pass_by()
        let_go(hold)
        assert client.read().status == 200
    assert service.exit_code() == 0
    assert service.entries("ended")[0].cause == "stop"


def test_stop_during_a_recycle(unit: Unit, tmp_path: Path) -> None:
    """The replacement is not ready yet, and the old one still serves: both end, and nothing is started any more."""
    hold = tmp_path / "hold"
    hold.mkdir()
    unit.write(
        app={**ASKED, "environment": {"ASKED_HOLD": str(hold / "fifo")}},
        workers={"count": 2, "min_lifetime": 0, "start_timeout": "600s"},
        memory={"limit": "40M", "interval": "0.05s", "patience": 0},
    )
    service = unit.serve().ready()
    os.mkfifo(hold / "fifo")
    mark = service.mark
    old = int(unit.get("/leak?kb=50000").split()[1])
    service.expect("^held$", after=mark)
    assert service.entries("stopped", after=mark) == []
    assert service.stop() == 0
    assert len(service.entries("started", after=mark)) == 1
    ended = service.entries("ended", after=mark)
    assert len(ended) == 3
    assert {entry.cause for entry in ended} == {"stop"}
    assert old in {entry.pid for entry in ended}


def test_a_reload_during_a_recycle(unit: Unit, tmp_path: Path) -> None:
    """The replacement of the old configuration makes way for one of the new."""
    hold = tmp_path / "hold"
    hold.mkdir()
    app = {**ASKED, "environment": {"ASKED_HOLD": str(hold / "fifo")}}
    workers = {"count": 2, "min_lifetime": 0, "start_timeout": "600s"}
    memory = {"limit": "40M", "interval": "0.05s", "patience": 0}
    unit.write(app=app, workers=workers, memory=memory)
    service = unit.serve().ready()
    os.mkfifo(hold / "fifo")
    mark = service.mark
    unit.get("/leak?kb=50000")
    service.expect("^held$", after=mark)
    (hold / "fifo").unlink()
    service.send(signal.SIGHUP)
    service.expect("Reloaded: 2 workers", source="output", after=mark)
    service.entry("ended", after=mark, count=3)
    assert len(service.serving()) == 2
    assert service.stop() == 0


def test_signals_that_were_ignored_or_blocked_are_heard(unit: Unit) -> None:
    """Whoever started it may have left them so."""
    unit.write(app={"command": ["sleep", "infinity"], "ready": "exec"}, workers={"count": 1})
    service = unit.serve(prefix=("env", "--ignore-signal=TERM,CHLD,HUP", "--block-signal=TERM,CHLD,USR1"))
    service.ready()
    os.kill(service.serving()[0], signal.SIGKILL)
    service.entry("ready", slot=0, count=2)
    assert service.stop() == 0


# The first module that reads the file: at that moment nothing of the master listens, and what is in the file is fixed.
_WHILE_IT_READS = """\
import os, tomli_of_python
os.kill(os.getpid(), int(os.environ["ITS_SIGNAL"]))
load, loads = tomli_of_python.load, tomli_of_python.loads
TOMLDecodeError = tomli_of_python.TOMLDecodeError
"""


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (signal.SIGHUP, "Reloaded: 1 worker"),
        (signal.SIGTTIN, "Scaled to 2 workers"),
        (signal.SIGUSR1, "[01]/1 workers memory: "),
    ],
    ids=["reload", "scale", "dump"],
)
def test_what_is_asked_while_it_reads_its_file_is_done(
    unit: Unit, tmp_path: Path, number: signal.Signals, says: str
) -> None:
    """It was ignored until the master listened: a reload of a file that had been read too early was lost."""
    (tmp_path / "tomllib.py").write_text(_WHILE_IT_READS)
    (tmp_path / "tomli_of_python").symlink_to(Path(tomllib.__file__).parent)
    unit.write(app=ASKED, workers={"count": 1})
    path = os.pathsep.join((str(tmp_path), unit.environment["PYTHONPATH"]))
    service = unit.serve(environment={"PYTHONPATH": path, "ITS_SIGNAL": str(int(number))})
    service.ready()
    service.expect(says, source="output")
    assert service.stop() == 0


# By C after Python has finished: the status of the process is the signal's number, and that is raised.
_TOO_LATE = """\
import ctypes, sys
from memunit.worker import stacks
from memunit.worker.notify import Notify

stacks.arm()
stacks.offer(Notify({}))
libc = ctypes.CDLL(None)
libc.on_exit(libc["raise"], None)
sys.exit(int(sys.argv[1]))
"""


# As the thread that ends a worker whose grace is over (worker/leaving.py, endings.py).
_BY_A_THREAD = """\
import atexit, threading
from memunit.worker import stacks
from memunit.worker.notify import Notify

stacks.arm()
stacks.offer(Notify({}))
thread = threading.Thread(target=atexit._run_exitfuncs)
thread.start()
thread.join()
"""


def test_the_end_by_a_thread_says_nothing() -> None:
    """A traceback of memunit's own was the last that a worker wrote, and `memunit why` showed it as the cause."""
    done = subprocess.run([DEBIAN, "-c", _BY_A_THREAD], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "number", [stacks.ASKED, stacks.WHOLE, stacks.THREADS], ids=["stop", "whole", "threads"]
)
def test_a_worker_that_is_asked_for_stacks_at_its_very_end_ends_as_before(number: int) -> None:
    """The handlers are gone by then. The master can't know that, and the default would end the worker by the signal."""
    done = subprocess.run([DEBIAN, "-c", _TOO_LATE, str(int(number))], cwd=ROOT, check=False)
    assert done.returncode == number
