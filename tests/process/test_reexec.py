"""A master that fails executes itself anew, in its own process: no worker ends, and no request is lost."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from tests.support.harness import Service, Unit, finished, let_go
from tests.support.http import Client
from tests.support.interpreters import DEBIAN
from tests.support.load import Load
from tests.support.namespaces import OWN_MOUNTS, need_mount_namespace
from tests.support.wait import wait_gone
from tests.support.workers import APPS

pytest_plugins = ["tests.support.units"]

# Every function that the loop calls, and the signal that brings it about; None for SIGUSR1, as any pass.
PLACES = {
    "master.gathering:Gathering.wait": None,
    "master.doors:Doors.lost": None,
    "master.doors:Doors.requests": None,
    "master.signals:Signals.received": None,
    "master.gathering:Gathering._hear_workers": None,
    "master.processes:Processes.speaker": None,
    "master.processes:Processes.forks": None,
    "master.processes:Processes.executed": None,
    "master.processes:Processes.ends": None,
    "master.sensors:Sensors.look": signal.SIGHUP,
    "core.policy:step": None,
    "master.processes:Processes.spawn": signal.SIGTTIN,
    "master.processes:Processes.signal": signal.SIGTTOU,
    "master.report:Reporter.entry": signal.SIGUSR1,
    "master.recovery:Recovery.save": signal.SIGTTIN,
    "master.processes:Processes.end_pass": None,
    "master.report:Reporter.finished_pass": None,
}


def planted(unit: Unit, place: str, **options: object) -> Service:
    """Two workers that ping ten times a second, and a master in which an exception is to be planted."""
    unit.write(
        app={"run": "plain:app", "server": "asgi"},
        workers={"count": 2, "start_timeout": "120s"},
    )
    command = (
        str(DEBIAN),
        "-m",
        "tests.support.planted",
        place,
        str(unit.directory / "raises"),
        "serve",
        unit.name,
    )
    return unit.start(*command, **options)  # type: ignore[arg-type]


def raises(unit: Unit, times: int) -> None:
    """Have it raised so often from now on."""
    (unit.directory / "raises").write_text(str(times))


def held_client(unit: Unit, command: str) -> socket.socket:
    """A client of the control socket that has sent a command: before those that ask after it."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect(str(unit.runtime / "control"))
    client.sendall(f"{command}\n".encode())
    return client


def answer_of(client: socket.socket) -> bytes:
    """All that it gets."""
    answer = b""
    while block := client.recv(65536):
        answer += block
    return answer


def anew(service: Service, after: int) -> int:
    """Wait until the master has executed itself anew; the place of that."""
    return service.expect("The master has executed itself anew", source="output", after=after).place


# MEMUNIT_PLACES=all is the long form.
FEW = (
    *(
        "master.signals:Signals.received",
        "master.gathering:Gathering._hear_workers",
        "master.processes:Processes.ends",
    ),
    *("core.policy:step", "master.processes:Processes.spawn", "master.processes:Processes.signal"),
    *("master.report:Reporter.entry", "master.recovery:Recovery.save"),
)


@pytest.mark.parametrize("place", PLACES if os.environ.get("MEMUNIT_PLACES") == "all" else FEW)
def test_an_exception_ends_nobody(unit: Unit, place: str) -> None:
    service = planted(unit, place).ready()
    pids = service.serving()
    load = Load(unit.target, clients=2, path="/", expect_prefix="ok ", rate=100, seconds=120).start()
    mark = service.mark
    raises(unit, 1)
    service.send(PLACES[place] or signal.SIGUSR1)
    service.expect(
        r"memunit itself has failed: Planted: .* executes itself anew, and (2 workers go|1 worker goes) on",
        after=mark,
    )
    anew(service, mark)
    service.expect("Traceback", after=mark)
    # It hears, does and tells as before.
    service.pass_by()
    service.expect(r"^STATUS=\d/\d workers", source="notify", after=mark)
    if PLACES[place] is None:
        assert service.serving() == pids
        os.kill(pids[0], signal.SIGKILL)
        service.entry("ended", pid=pids[0])
        service.entry("ready", slot=0, count=2)
        assert len(service.entries("ended", pid=pids[0])) == 1
    load.stop()
    report = load.join()
    assert service.stop() == 0
    lost_by_the_kill = 2 if PLACES[place] is None else 0
    assert report.lost <= lost_by_the_kill, report
    assert report.ok


def test_a_third_failure_in_a_minute_ends_the_master_alone(unit: Unit) -> None:
    """A successor goes on with its workers; nobody is asked twice, and no request is lost."""
    service = planted(unit, "master.report:Reporter.finished_pass").ready()
    before = service.serving()
    with Load(unit.target, clients=2, path="/", expect_prefix="ok ", rate=50, seconds=120) as load:
        raises(unit, 3)
        assert service.exit_code() == 70
        service.expect(
            r"memunit itself has failed: .*, 3 times within a minute\. The master ends with exit status 70; "
            "2 workers go on serving, and a successor takes them over",
            source="output",
        )
        service.hear("^STATUS=memunit itself has failed, see the journal; 2 workers go on serving")
        second = unit.serve()
        second.expect("2 of its workers are taken over")
        for pid in before.values():
            assert second.entry("ended", pid=pid).cause == "adopted"
    assert load.report().lost == 0, load.report()
    assert second.stop() == 0


def test_a_version_that_can_not_go_on_leaves_no_client_waiting(unit: Unit, tmp_path: Path) -> None:
    """The new version passes on another form. A client at a socket that the old version had kept waited for ever.

    Later the command ended with 69, and an entry called the end of the old version unexpected.
    """
    code = (
        "import memunit.master.continuity as c\n"
        "class Other:\n"
        "    def __init__(self, codec):\n"
        "        self.dumps = codec.dumps\n"
        "    def loads(self, text):\n"
        "        raise c.CodecError('another version')\n"
        "own = c.passed_codec\n"
        "c.passed_codec = lambda: Other(own())\n"
    )
    unit.write(app={"run": "plain:app", "server": "asgi"}, workers={"count": 1})
    service = unit.serve(environment=unit.begun_with(tmp_path, code)).ready()
    (before,) = service.serving().values()
    with socket.socket(socket.AF_UNIX) as other:
        other.settimeout(60)
        other.connect(str(unit.runtime / "control"))
        other.sendall(b"relo")
        status, text = finished(unit.asked("reexec"), service)
        told = (
            "can't read what the master before it has passed on. "
            "1 of its workers is taken over; it is replaced in its turn"
        )
        assert (status, told in text) == (0, True), text
        assert answer_of(other).startswith(b"70\nThe new master can't read what the old one has passed on")
    service.expect(f"memunit: warning: The master has executed itself anew.*{told}", source="output")
    assert service.find("ended unexpectedly") is None
    assert service.entry("ended", pid=before).cause == "adopted"
    assert unit.get() == f"ok {service.serving()[0]}"
    assert service.stop() == 0


def test_a_version_that_knows_no_worker_says_so(unit: Unit, tmp_path: Path) -> None:
    """The workers of before, which are its own children, were not found, and served on for ever."""
    code = (
        "import memunit.master.continuity as c\n"
        "def read(text, boot):\n"
        "    raise c.Unusable('another version')\n"
        "c.handover.read = read\n"
    )
    # A zygote, and what it forks for a moment, would or would not have ended by then.
    unit.write(app={"run": "plain:app", "server": "asgi", "preload": False}, workers={"count": 1})
    service = unit.serve(environment=unit.begun_with(tmp_path, code)).ready()
    (before,) = service.serving().values()
    status, text = finished(unit.asked("reexec"), service)
    told = "passed on. Started clean: 1 of its processes is told to stop when new workers serve"
    assert (status, told in text) == (0, True), text
    service.expect("can't be used: another version. Started clean: 1 of its processes is", source="output")
    new = service.entry("ready", slot=0, count=2).pid
    service.until(lambda: not Path(f"/proc/{before}").exists() or None, "the end of the old worker")
    assert unit.get() == f"ok {new}"
    assert service.stop() == 0


def test_what_can_not_be_taken_over_fails_one_master_and_not_each_after_it(unit: Unit) -> None:
    """The file was there again for each successor, and systemd started one a second, for ever."""
    first = planted(unit, "master.inheritance:Inheritance.take").ready()
    before = first.serving()
    with Load(unit.target, clients=2, path="/", expect_prefix="ok ", rate=50, seconds=120) as load:
        first.send(signal.SIGKILL)
        first.exit_code()
        raises(unit, 1)
        second = planted(unit, "master.inheritance:Inheritance.take")
        assert second.exit_code() == 70
        second.expect(
            "has failed while it took workers over: Planted: .*the next one starts clean", source="output"
        )
        third = unit.serve()
        third.expect(
            r"workers.json can't be used: .*Started clean: \d of its processes are told to stop",
            source="output",
        )
        third.ready()
        for pid in before.values():
            wait_gone(pid)
    assert load.report().lost == 0, load.report()
    assert third.stop() == 0


def test_a_second_failure_begins_with_a_policy_of_its_own(unit: Unit) -> None:
    """What it has failed of may be its state: the workers are kept, and who has waited for it is told."""
    service = planted(unit, "master.report:Reporter.finished_pass").ready()
    before = service.serving()
    raises(unit, 2)
    anew(service, anew(service, 0) + 1)
    service.pass_by()
    assert service.serving() == before
    reload = unit.reload()
    assert finished(reload, service)[0] == 0
    assert {entry.cause for entry in service.entries("ended")} == {"reload"}
    assert service.stop() == 0


def test_the_command_executes_it_anew_and_keeps_all(unit: Unit) -> None:
    """As an upgrade does it; a reload that is under way comes to its end, and its client hears of that."""
    os.mkfifo(unit.directory / "go")
    script = (
        f"[ $MEMUNIT_GENERATION = 1 ] || cat {unit.directory}/go; systemd-notify --ready; exec sleep infinity"
    )
    workers = {"count": 1, "start_timeout": "600s"}
    unit.write(app={"command": ["/bin/sh", "-c", script]}, workers=workers)
    service = unit.serve().ready()
    before = service.serving()
    reload = unit.reload()
    starting = service.entry("started", slot=0, count=2).pid
    for _ in range(4):
        # As often as somebody likes: it is no failure.
        command = unit.asked("reexec")
        assert finished(command, service)[0] == 0
    assert service.serving() == before
    let_go(unit.directory / "go")
    assert finished(reload, service)[0] == 0
    assert service.entry("ready", slot=0, count=2).pid == starting
    assert service.entry("ended", pid=before[0]).cause == "reload"
    assert len(service.entries("started")) == 2
    assert service.stop() == 0


SLEEPS = ["/bin/sh", "-c", "systemd-notify --ready; exec sleep infinity"]


def test_all_who_ask_for_it_at_once_are_answered(unit: Unit) -> None:
    """Only the last had an answer: the others waited for their whole minute."""
    unit.write(app={"run": "plain:app", "server": "asgi"}, workers={"count": 1})
    service = unit.serve().ready()
    with service.stopped():
        clients = [held_client(unit, "reexec") for _ in range(3)]
    for client in clients:
        service.listen_until(client.fileno(), "the answer")
        with client:
            assert answer_of(client).startswith(b"0\n")
    assert len([each for each in service.said if "has executed itself anew" in each.text]) == 1
    assert service.stop() == 0


@pytest.mark.parametrize(
    ("app", "blocking"),
    [
        ({"run": "plain:app"}, False),
        ({"run": "plainwsgi:app", "server": "wsgi"}, False),
        ({"command": SLEEPS}, True),
    ],
    ids=["asgi", "wsgi", "command"],
)
def test_the_socket_is_left_as_its_workers_have_it(
    unit: Unit, app: dict[str, object], blocking: bool
) -> None:
    """O_NONBLOCK is one flag for all: a worker of a loop would wait in accept(2), with all that it serves."""
    unit.write(app=app, workers={"count": 2})
    service = unit.serve().ready()
    assert unit.listener.getblocking() is True  # Python's own word, which is of this object alone
    assert os.get_blocking(unit.listener.fileno()) is blocking
    # As a command's program may have it.
    os.set_blocking(unit.listener.fileno(), False)
    assert finished(unit.asked("reexec"), service)[0] == 0
    assert os.get_blocking(unit.listener.fileno()) is False
    assert service.stop() == 0


def test_it_goes_on_where_it_can_not_be_executed(unit: Unit) -> None:
    """The program is gone, as in the middle of an upgrade: whoever has asked hears of it, and nothing has changed."""
    place = unit.directory / "program"
    place.symlink_to(DEBIAN)
    unit.write(app={"run": "plain:app"}, workers={"count": 1})
    service = unit.start(str(place), "-m", "memunit.cli.main", "serve", unit.name).ready()
    before = service.serving()
    place.unlink()
    command = unit.asked("reexec")
    code, text = finished(command, service)
    assert code == 71
    assert "can't execute itself anew: FileNotFoundError" in text
    service.pass_by()
    assert service.serving() == before
    assert unit.get().startswith("ok ")
    assert service.stop() == 0


def test_what_a_zygote_was_asked_for_still_comes(unit: Unit) -> None:
    """It imports for as long as the FIFO holds it, and the master is another by then."""
    os.mkfifo(unit.directory / "go")
    module = unit.directory / "slowly.py"
    module.write_text(f"open({str(unit.directory / 'go')!r}).read()\nfrom plain import app\n")
    path = f"{unit.directory}:{APPS}"
    unit.write(
        app={"run": "slowly:app", "preload": True, "environment": {"PYTHONPATH": path}},
        workers={"count": 2, "start_timeout": "600s"},
    )
    service = unit.serve()
    service.hear("^STATUS=0/2 workers")
    assert finished(unit.asked("reexec"), service)[0] == 0
    let_go(unit.directory / "go")
    service.ready()
    assert len(service.entries("started")) == 2
    assert service.find("zygote") is None
    assert service.stop() == 0


# Holds the zygote between its fork and its word of that; by then the worker is the master's child.
HOLDING = """
import os, sys
zygote = os.getpid()
def hold():
    rehearses = sys._getframe(1).f_code.co_name != "_fork"
    if os.getpid() == zygote and os.path.exists({flag!r}) and not rehearses:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        open({forked!r}, "w").close()
        open({go!r}).read()
os.register_at_fork(after_in_parent=hold)
from plain import app
"""


def test_a_worker_that_its_zygote_has_not_told_of_is_no_stranger(unit: Unit) -> None:
    """It was told to stop as what a dead master has left, and the replacement counted as a failed start."""
    names = {name: str(unit.directory / name) for name in ("flag", "forked", "go")}
    os.mkfifo(names["forked"])
    os.mkfifo(names["go"])
    (unit.directory / "holding.py").write_text(HOLDING.format(**names))
    path = f"{unit.directory}:{APPS}"
    unit.write(
        app={"run": "holding:app", "preload": True, "environment": {"PYTHONPATH": path}},
        workers={"count": 1, "start_timeout": "600s"},
    )
    service = unit.serve().ready()
    Path(names["flag"]).touch()
    command = unit.asked("recycle", "0")
    Path(names["forked"]).read_text()
    assert finished(unit.asked("reexec"), service)[0] == 0
    let_go(Path(names["go"]))
    code, _ = finished(command, service)
    assert code == 0
    assert [entry.cause for entry in service.entries("ended")] == ["requested"]
    assert len(service.entries("started")) == 2
    assert service.stop() == 0


def test_who_waits_for_an_examination_is_answered(unit: Unit, tmp_path: Path) -> None:
    """`memunit examine` waited for a quarter of an hour, and who had asked for a witness got a plain worker."""
    os.mkfifo(unit.directory / "go")
    module = unit.directory / "slowly.py"
    held = f"if os.environ['MEMUNIT_GENERATION'] != '1':\n    open({str(unit.directory / 'go')!r}).read()\n"
    module.write_text(f"import os\n{held}from plain import app\n")
    path = f"{unit.directory}:{APPS}"
    unit.write(
        app={"run": "slowly:app", "preload": False, "environment": {"PYTHONPATH": path}},
        workers={"count": 2, "start_timeout": "600s", "min_lifetime": 0},
    )
    service = unit.serve(environment={"STATE_DIRECTORY": str(tmp_path / "state")}).ready()
    # One replacement at a time, each of which the FIFO holds.
    with held_client(unit, "examine 1") as other:
        service.entry("started", slot=1, count=2)
        with held_client(unit, "examine 0") as client:
            assert finished(unit.asked("witness", "0"), service)[0] == 0
            assert finished(unit.asked("reexec"), service)[0] == 0
            for slot, each in ((1, other), (0, client)):
                let_go(unit.directory / "go")
                assert service.entry("ended", slot=slot).cause == "requested"
                assert answer_of(each).startswith(b"0\nWorker ")
    service.expect("it can't be a witness: No module named 'memray'", source="output")
    assert service.stop() == 0


def test_who_waits_for_a_replacement_is_answered_by_the_master_that_comes_after(unit: Unit) -> None:
    """`memunit recycle` ended with 69 and "try again", though the worker was replaced."""
    os.mkfifo(unit.directory / "go")
    held = f"[ $MEMUNIT_GENERATION = 1 ] || cat {unit.directory}/go"
    script = f"{held}; systemd-notify --ready; exec sleep infinity"
    unit.write(app={"command": ["/bin/sh", "-c", script]}, workers={"count": 1, "start_timeout": "600s"})
    service = unit.serve().ready()
    before = service.serving()[0]
    command = unit.asked("recycle", "0")
    service.entry("started", slot=0, count=2)
    for _ in range(2):
        assert finished(unit.asked("reexec"), service)[0] == 0
    let_go(unit.directory / "go")
    code, output = finished(command, service)
    assert (code, output.splitlines()[-1]) == (0, f"0.1 (pid {before}) is replaced")
    assert service.stop() == 0


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_memunit_run_keeps_the_sockets_that_it_has_bound(unit: Unit, kind: str) -> None:
    path = unit.directory / "web.sock"
    listen = "127.0.0.1:0" if kind == "tcp" else str(path)
    words = ("run", "--app", "plain:app", "--workers", "1", "--listen", listen)
    command = (str(DEBIAN), "-m", "tests.support.planted", "master.report:Reporter.finished_pass")
    service = unit.start(
        *command, str(unit.directory / "raises"), *words, sockets=(), environment={"RUNTIME_DIRECTORY": ""}
    ).ready()
    said = service.expect("Listening on (.*)", source="output").text
    target = said.partition("Listening on ")[2]
    raises(unit, 1)
    service.send(signal.SIGUSR1)
    anew(service, 0)
    with Client(target) as client:
        assert client.get("/").body.startswith(b"ok ")
    assert service.stop() == 0
    assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="a namespace of pids takes root")
def test_pid_1_of_a_container_executes_itself_anew_each_time(unit: Unit) -> None:
    """Its end would be everybody's: a fourth failure in a minute as well, after a pause."""
    need_mount_namespace()
    words = ("run", "--app", "plain:app", "--workers", "1", "--listen", "127.0.0.1:0")
    command = (str(DEBIAN), "-m", "tests.support.planted", "master.report:Reporter.finished_pass")
    prefix = (*OWN_MOUNTS, "unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    service = unit.start(*command, str(unit.directory / "raises"), *words, sockets=(), prefix=prefix).ready()
    before = service.serving()
    raises(unit, 3)
    place = 0
    for _ in range(3):
        place = anew(service, place) + 1
    assert service.serving() == before
