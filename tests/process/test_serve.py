"""`memunit serve` as its unit starts it: when it is ready, what workers find, any program as a worker."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from memunit.master.startlog import Record, StartLog
from tests.support.harness import AS_NOBODY, MEMUNIT, NOBODY, Service, Unit, let_go

pytest_plugins = ["tests.support.units"]

# A program that nobody wrote for memunit, and that any service manager could start.
PROGRAM = "systemd-notify --ready; exec sleep infinity"


def shell(script: str) -> dict[str, object]:
    """[app] of a shell script."""
    return {"command": ["/bin/sh", "-c", script]}


# -- readiness -----------------------------------------------------------------------------------------------


def test_ready_when_all_workers_are(unit: Unit) -> None:
    """One ready worker of two is not READY=1; with the second it is, and the status says so."""
    for slot in (0, 1):
        os.mkfifo(unit.directory / f"hold{slot}")
    workers = {"count": 2, "start_timeout": "600s"}
    unit.write(app=shell(f"cat {unit.directory}/hold$MEMUNIT_SLOT; {PROGRAM}"), workers=workers)
    service = unit.serve()
    service.hear(r"^STATUS=0/2 workers$")
    let_go(unit.directory / "hold1")
    service.entry("ready", slot=1)
    service.hear(r"^STATUS=1/2 workers")
    assert service.find("READY=1", source="notify") is None
    let_go(unit.directory / "hold0")
    service.entry("ready", slot=0)
    assert re.fullmatch(r"READY=1\nSTATUS=2/2 workers.*", service.hear("^READY=1").text)
    assert service.stop() == 0
    told = [each.text for each in service.said if each.source == "notify"]
    assert told[0].startswith("EXTEND_TIMEOUT_USEC=")
    assert int(told[0].partition("=")[2]) >= 30_000_000
    assert [text for text in told if text.startswith("READY=1")] == [service.hear("^READY=1").text]
    stopping = told.index("STOPPING=1")
    assert any(text.startswith("EXTEND_TIMEOUT_USEC=") for text in told[stopping:])
    assert told[-1] == "STATUS=stopping"


def test_the_watchdog_of_the_unit_is_pinged(unit: Unit) -> None:
    unit.write(app={**shell("exec sleep infinity"), "ready": "exec"}, workers={"count": 1})
    service = unit.serve(watchdog_usec=600_000)
    service.ready()
    first = service.hear("^WATCHDOG=1").place
    second = service.hear("^WATCHDOG=1", after=first + 1).place
    service.hear("^WATCHDOG=1", after=second + 1)
    assert service.stop() == 0


# -- what a worker finds -------------------------------------------------------------------------------------


def test_a_worker_finds_its_own_protocol_and_nothing_of_the_masters(unit: Unit, tmp_path: Path) -> None:
    """Looked at by a program that opens nothing itself: stdin, stdout, stderr, and the sockets from 3 on."""
    folder = tmp_path / "folder"
    folder.mkdir()
    script = f"env -0 >variables.$MEMUNIT_SLOT; ls -l /proc/self/fd >descriptors.$MEMUNIT_SLOT; {PROGRAM}"
    unit.write(
        app={**shell(script), "environment": {"COLOUR": "blue"}, "directory": str(folder)},
        workers={"count": 2, "watchdog": "7s"},
    )
    foreign = {
        "MAINPID": "1",
        "FDSTORE": "3",
        "LISTEN_PIDFDID": "7",
        "SYSTEMD_EXEC_PID": "1",
        "INVOCATION_ID": "0123456789abcdef0123456789abcdef",
        "MINE": "too",
    }
    with socket.create_server(("127.0.0.1", 0)) as other:
        unit.sockets = (("web", unit.listener), ("admin", other))
        service = unit.serve(environment=foreign, watchdog_usec=60_000_000, directory=Path("/"))
        service.ready()
        inodes = [f"socket:[{os.fstat(each.fileno()).st_ino}]" for each in (unit.listener, other)]
    for slot, pid in service.serving().items():
        text = (folder / f"variables.{slot}").read_text()
        variables = dict(line.split("=", 1) for line in text.split("\0") if line)
        assert variables["LISTEN_FDS"] == "2"
        assert variables["LISTEN_FDNAMES"] == "web:admin"
        assert variables["LISTEN_PID"] == variables["WATCHDOG_PID"] == str(pid)
        assert variables["WATCHDOG_USEC"] == "7000000"
        assert variables["NOTIFY_SOCKET"] == str(unit.runtime / "notify")
        assert variables["MEMUNIT_INSTANCE"] == "app"
        assert variables["MEMUNIT_SLOT"] == str(slot)
        assert variables["MEMUNIT_GENERATION"] == "1"
        assert (variables["COLOUR"], variables["MINE"]) == ("blue", "too")
        assert not {"MAINPID", "FDSTORE", "LISTEN_PIDFDID", "SYSTEMD_EXEC_PID"} & variables.keys()
        lines = (folder / f"descriptors.{slot}").read_text().splitlines()[1:]
        seen = {int(line.split()[-3]): line.split()[-1] for line in lines}
        assert (seen[0], seen[3], seen[4]) == ("/dev/null", *inodes)
        assert seen[1].endswith(f"/descriptors.{slot}")
        assert seen[2].endswith("/output0")
        # The last one is the directory that ls itself reads.
        assert sorted(seen) == [0, 1, 2, 3, 4, 5]
        assert re.fullmatch(r"/proc/\d+/fd", seen[5])
    assert len(service.serving()) == 2
    service.stop()


# -- any program ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nobody", [False, True], ids=["root", "nobody"])
def test_systemd_notify_in_a_shell_script_speaks_for_its_worker(open_unit: Unit, nobody: bool) -> None:
    """For root it says its parent's pid; for everybody else its own, which is a child's of the worker."""
    if not nobody and os.geteuid() != 0:
        pytest.skip("not root")
    unit = open_unit
    unit.write(
        app=shell('systemd-notify --ready --status="slot $MEMUNIT_SLOT is up"; exec sleep infinity'),
        workers={"count": 4},
    )
    service = unit.serve(prefix=AS_NOBODY if nobody else ())
    service.ready()
    service.pass_by()
    for slot in range(4):
        assert service.find(f"status: slot {slot} is up", source="output") is not None
    assert service.stop() == 0


def test_a_program_that_says_nothing_is_ready_once_it_is_executed(unit: Unit) -> None:
    unit.write(app={"command": ["sleep", "infinity"], "ready": "exec"}, workers={"count": 3})
    service = unit.serve()
    service.ready()
    assert len(service.serving()) == 3
    assert service.stop() == 0
    assert [entry.cause for entry in service.entries("ended")] == ["stop"] * 3


def test_a_program_that_the_kernel_refuses(unit: Unit, tmp_path: Path) -> None:
    """Its file looks fine, but nothing can execute it: one entry a try, and 69 in the end."""
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF but not really")
    program.chmod(0o755)
    unit.write(app={"command": [str(program)]}, workers={"count": 2, "start_timeout": "10s"})
    service = unit.serve()
    assert service.exit_code() == 69
    refusals = [
        each.text for each in service.said if "can't be started" in each.text and "Worker" in each.text
    ]
    reason = re.escape(f"can't be started: {program}: Exec format error")
    assert re.fullmatch(rf"memunit: error: Worker [01] {reason}", refusals[0])
    # One that is under way when the master gives up is no error any more.
    others = [
        text for text in refusals if not re.fullmatch(rf"memunit: (error: )?Worker [01] {reason}", text)
    ]
    assert others == []
    assert service.entries("ended") == []
    assert service.find(f"STATUS=.*{program}: Exec format error", source="notify") is not None
    assert service.find("READY=1", source="notify") is None


def test_a_program_that_can_not_start_another(unit: Unit) -> None:
    """203 is what a shell, or systemd, calls a failed exec: the entry says what it means."""
    unit.write(app=shell("exit 203"), workers={"count": 1})
    service = unit.serve()
    ended = service.entry("ended")
    assert ended.cause == "start-failed"
    assert "exited with status 203 (EXEC: the program can't be executed)" in ended.rest
    service.stop()


def test_a_directory_that_vanishes_costs_only_what_starts_in_it(unit: Unit, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    unit.write(app={**shell(PROGRAM), "directory": str(folder)}, workers={"count": 2})
    service = unit.serve()
    service.ready()
    healthy, victim = service.serving()[0], service.serving()[1]
    folder.rmdir()
    os.kill(victim, signal.SIGKILL)
    said = service.expect(r"Worker 1 can't be started", source="output")
    assert said.text.endswith(f"{folder}: No such file or directory")
    service.hear(rf"^STATUS=1/2 workers.*worker 1 can't be started: {folder}: No such file or directory")
    folder.mkdir()
    service.entry("ready", slot=1, count=2)
    assert service.serving()[0] == healthy
    service.hear(r"^STATUS=2/2 workers[^;]*$", after=said.place)
    assert service.stop() == 0


# -- nothing is ever ready -----------------------------------------------------------------------------------

BROKEN = {"run": "broken.web:app", "server": "callable"}


@pytest.mark.parametrize("preload", [True, False], ids=["preload", "exec"])
def test_an_app_that_fails_at_import_ends_in_bounded_time(unit: Unit, preload: bool) -> None:
    """By exec each try is a worker that starts and ends; preloaded, none comes to be, and each try says why."""
    unit.write(app={**BROKEN, "preload": preload}, workers={"count": 2, "start_timeout": "10s"})
    service = unit.serve()
    reason = "cannot import broken.web: ModuleNotFoundError"
    assert service.exit_code() == 69
    trouble = rf"worker \d (can't be started|failed to start): {reason}"
    service.hear(rf"^STATUS=0/2 workers.*{trouble}")
    service.hear(rf"^STATUS=giving up, no worker became ready.*; {trouble}")
    assert service.find("READY=1", source="notify") is None
    traceback = service.find("^Traceback", source="output")
    assert traceback is not None
    assert service.find(r"broken/web.py", source="output", after=traceback.place) is not None
    last = service.find("Giving up with exit code 69", source="output")
    assert last is not None
    assert reason in last.text
    # Workers that were started together count as one try, and then it is one at a time.
    started, ends = service.entries("started"), service.entries("ended")
    if preload:
        assert (started, ends) == ([], [])
        tries = [each for each in service.said if re.search(f"^memunit: error: W{trouble[1:]}", each.text)]
        assert {each.text[len("memunit: error: Worker ")] for each in tries[:2]} == {"0", "1"}
        imports = [each for each in service.said if each.text.startswith("Traceback")]
        # The first two share one, if the second is asked for before that one has failed; the last may be cut short.
        assert len(tries) - 1 <= len(imports) <= len(tries)
    else:
        assert {entry.slot for entry in started[:2]} == {0, 1}
        for place in (each.place for each in started[2:]):
            assert sum(e.place < place for e in ends) >= sum(e.place < place for e in started)
    record = json.loads((unit.runtime / "starts.json").read_text())
    assert record["failures"] >= 1
    assert record["exited_at"] > 0


def test_a_successor_waits_for_its_turn_and_tries_one_at_a_time(unit: Unit) -> None:
    """What the master before has left holds back the next start, all slots together, until the time has come."""
    unit.write(app=shell("exit 1"), workers={"count": 3, "start_timeout": "8s"})
    now = time.monotonic()
    StartLog(str(unit.runtime)).save(Record(failures=3, retry_at=now + 1.5, exited_at=now - 2.0))
    service = unit.serve()
    first = service.entry("started")
    assert first.at >= now + 1.5
    service.exit_code()
    for started in service.entries("started"):
        running = [e for e in service.entries("started") if e.place < started.place]
        ended = [e for e in service.entries("ended") if e.place < started.place]
        assert len(running) == len(ended)
    record = json.loads((unit.runtime / "starts.json").read_text())
    assert record["failures"] >= 4


def test_what_fails_before_the_loop_is_a_failed_start(unit: Unit, tmp_path: Path) -> None:
    """As where LimitNOFILE= is a little too low: systemd started it once a second, for ever."""
    code = (
        "import errno\n"
        "import memunit.master.doors as d\n"
        "def armed(self):\n"
        "    raise OSError(errno.EMFILE, 'Too many open files', 'a file')\n"
        "d.Doors.arm = armed\n"
    )
    unit.write(app={"run": "plain:app"}, workers={"count": 1})
    now = time.monotonic()
    StartLog(str(unit.runtime)).save(Record(failures=3, retry_at=now + 1.5, exited_at=now - 2.0))
    service = unit.serve(environment=unit.begun_with(tmp_path, code))
    assert service.exit_code() == 71
    service.hear("^STATUS=.*Too many open files; raise LimitNOFILE= of the unit$")
    assert json.loads((unit.runtime / "starts.json").read_text())["failures"] == 4
    assert time.monotonic() >= now + 1.5


@pytest.mark.parametrize("limit", range(8, 17))
def test_too_few_descriptors_are_a_failed_start(unit: Unit, limit: int) -> None:
    """With 8 the record of it was not usable, and systemd started one a second. Others named a wrong remedy."""
    unit.write(app={"run": "plain:app"}, workers={"count": 1})
    service = unit.serve(prefix=("prlimit", f"--nofile={limit}:{limit}"))
    told = service.hear("^STATUS=").text
    assert re.search(rf"LimitNOFILE={limit} is too low: .*; raise LimitNOFILE= of the unit$", told), told
    ended = service.until(
        lambda: service.find("EXTEND_TIMEOUT_USEC=", source="notify") or not service.running,
        "a pause or its end",
    )
    if ended is True:
        assert service.exit_code() == 71
        record = StartLog(str(unit.runtime)).load()
        assert record is not None
        assert record.failures == 1
    # A start that could write no record waits before it ends.
    assert len([each for each in service.said if each.source == "output"]) == 1, str(service)


def test_a_defect_before_the_loop_is_a_failed_start(unit: Unit, tmp_path: Path) -> None:
    code = "import memunit.master.doors as d\nd.Doors.arm = lambda _: 1 / 0\n"
    unit.write(app={"run": "plain:app"}, workers={"count": 1})
    now = time.monotonic()
    StartLog(str(unit.runtime)).save(Record(failures=3, retry_at=now, exited_at=now - 2.0))
    service = unit.serve(environment=unit.begun_with(tmp_path, code))
    assert service.exit_code() == 70
    service.expect("^ZeroDivisionError", source="output")
    assert json.loads((unit.runtime / "starts.json").read_text())["failures"] == 4


def test_a_path_that_the_locale_can_not_name(unit: Unit, tmp_path: Path) -> None:
    """It was told as a defect of memunit."""
    folder = tmp_path / "apps\u2603"
    folder.mkdir()
    unit.write(app={"run": "plain:app", "directory": str(folder)}, workers={"count": 1})
    ascii_alone = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    service = unit.serve(environment=ascii_alone)
    assert service.exit_code() == 78
    service.expect(
        "app.directory: .* has letters that the encoding of this locale .*LC_ALL=C.UTF-8", source="output"
    )
    assert not service.find("Traceback")


def test_who_can_leave_no_record_waits_itself(unit: Unit) -> None:
    """Else systemd would start it once a second, for as long as a client waits."""
    unit.write(worker={"count": 2})
    (unit.runtime / "starts.json").mkdir()
    service = unit.serve()
    service.hear("^STATUS=.*unknown table")
    assert int(service.hear("^EXTEND_TIMEOUT_USEC=").text.split("=")[1]) >= 80_000_000
    assert service.running
    assert service.stop() == 0


def test_what_asks_something_of_a_master_ends_none_that_waits(unit: Unit) -> None:
    unit.write(worker={"count": 2})
    now = time.monotonic()
    StartLog(str(unit.runtime)).save(Record(failures=9, retry_at=now + 60.0, exited_at=now - 2.0))
    service = unit.serve()
    service.hear("^EXTEND_TIMEOUT_USEC=")
    for number in (signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU):
        service.send(number)
    assert service.stop() == 0


def test_a_held_start_says_so(unit: Unit) -> None:
    unit.write(app=shell(PROGRAM), workers={"count": 1})
    now = time.monotonic()
    StartLog(str(unit.runtime)).save(Record(failures=9, retry_at=now + 30.0, exited_at=now - 2.0))
    service = unit.serve()
    service.expect(
        r"Starting 1 worker: .*; the first starts in \d+ s, because the last 9 tries have failed; "
        "a restart tries at once"
    )
    assert service.stop() == 0


def test_a_connection_is_no_socket_to_listen_on(unit: Unit) -> None:
    """As with Accept=yes."""
    unit.write(app=shell(PROGRAM))
    host, port = unit.listener.getsockname()
    with socket.create_connection((host, port)), unit.listener.accept()[0] as accepted:
        service = unit.serve(sockets=[("connection", accepted)])
        service.expect(
            "a connection was passed, and not a socket that listens; say Accept=no in the .socket unit"
        )
        assert service.exit_code() == 78


def test_a_person_who_restarts_gets_a_try_at_once(unit: Unit) -> None:
    """systemd waits for a second, so who comes sooner is a person; and a success forgets the failures."""
    unit.write(app=shell(PROGRAM), workers={"count": 1, "start_timeout": "30s"})
    for _ in range(50):
        now = time.monotonic()
        StartLog(str(unit.runtime)).save(Record(failures=9, retry_at=now + 600.0, exited_at=now))
        service = unit.serve()
        # The master goes by the time of the fork. What it needs until its first word is no part of a person's haste.
        if time.monotonic() < now + 0.9:
            break
        service.stop()
    else:
        pytest.fail("no fork within a second")
    service.ready()
    assert not (unit.runtime / "starts.json").exists()
    assert service.stop() == 0


# -- a file that can't be used -------------------------------------------------------------------------------


def test_a_file_that_can_not_be_used_ends_at_once_and_its_successor_waits_for_a_better_one(
    unit: Unit,
) -> None:
    unit.write(app={"rum": "asked:run"})
    service = unit.serve()
    assert service.exit_code() == 78
    problem = f'{unit.file}: app.rum: unknown key; did you mean "run"?'
    assert service.find(f"^memunit: error: {re.escape(problem)}$", source="output") is not None
    service.hear(f"^STATUS={re.escape(problem)}$")

    mended = _after_a_failure(unit)
    mended.hear(r"^STATUS=.*; waiting until the file is mended$")
    mended.hear("^EXTEND_TIMEOUT_USEC=")
    unit.write(app=shell(PROGRAM), workers={"count": 1})
    mended.send(signal.SIGHUP)
    mended.ready()
    assert mended.stop() == 0


def test_a_waiting_successor_tries_when_the_time_has_come(unit: Unit) -> None:
    unit.write(app={"rum": "asked:run"})
    began = time.monotonic()
    service = _after_a_failure(unit, wait=12.0)
    service.hear("waiting until the file is mended$")
    assert service.exit_code() == 78
    assert time.monotonic() >= began + 12.0
    record = json.loads((unit.runtime / "starts.json").read_text())
    assert record["failures"] == 4


def test_a_waiting_successor_stops_when_it_is_told_to(unit: Unit) -> None:
    unit.write(app={"rum": "asked:run"})
    service = _after_a_failure(unit)
    service.hear("^EXTEND_TIMEOUT_USEC=")
    assert service.stop() == 0
    assert not (unit.runtime / "starts.json").exists()


def _after_a_failure(unit: Unit, wait: float = 600.0) -> Service:
    """The successor of a master that failed for the third time, a while ago."""
    now = time.monotonic()
    StartLog(str(unit.runtime)).save(Record(failures=3, retry_at=now + wait, exited_at=now - 2.0))
    return unit.serve()


# -- bad input: the whole program, from the file to the exit code ---------------------------------------------

GOOD = shell(PROGRAM)


@pytest.mark.parametrize(
    ("tables", "problems"),
    [
        pytest.param(
            {"app": GOOD, "worker": {"count": 2}},
            ["[worker]: unknown table; did you mean [workers]?"],
            id="unknown table",
        ),
        pytest.param(
            {"app": GOOD, "workers": {"count": "two"}, "memory": {"limit": "4", "cieling": "5M"}},
            ["workers.count: ", "memory.limit: ", 'memory.cieling: unknown key; did you mean "ceiling"?'],
            id="all at once",
        ),
        pytest.param(
            {"app": GOOD, "memory": {"limit": "600M", "ceiling": "400M"}},
            [
                "memory.limit: 600M is over the memory.ceiling of 400M: a worker would be killed before it is "
                "replaced; "
            ],
            id="limit over ceiling",
        ),
        pytest.param(
            {"app": GOOD, "workers": {"count": 3}, "memory": {"limit": "900G"}},
            ["memory.limit: 3 workers x 900G + 25M for memunit = "],
            id="more than there is",
        ),
        pytest.param(
            {"app": {"run": "no_such_module:app"}},
            ["app.run: there is no module no_such_module in "],
            id="no module",
        ),
        pytest.param(
            {"app": {"command": ["/no/such/program"]}},
            ["app.command: /no/such/program does not exist; "],
            id="no program",
        ),
        pytest.param(
            {"app": {**GOOD, "directory": "/no/such/folder"}},
            ["app.directory: /no/such/folder does not exist; "],
            id="no folder",
        ),
        pytest.param(
            {
                "app": {**GOOD, "directory": "/no/such/folder"},
                "workers": {"count": 3},
                "memory": {"limit": "900G"},
                "stop": {"grcae": "1s"},
            },
            [
                "stop.grcae: unknown key; ",
                "app.directory: /no/such/folder does not exist; ",
                "memory.limit: 3 workers x 900G + 25M for memunit = ",
            ],
            id="a mistyped key hides nothing",
        ),
    ],
)
def test_a_bad_file(unit: Unit, tables: dict[str, dict[str, object]], problems: list[str]) -> None:
    unit.write(**tables)
    _refused(unit, [f"{unit.file}: {problem}" for problem in problems])


def test_no_file(unit: Unit) -> None:
    _refused(unit, [f"{unit.file}: there is no such file; create {unit.file}, see memunit.toml(5)"])


def test_no_socket(unit: Unit) -> None:
    unit.write(app=GOOD)
    remedy = "systemctl restart memunit@app.socket, and do not start the program by hand"
    _refused(unit, [f"memunit@app.service: there is no socket to serve on; {remedy}"], sockets=())


def test_no_socket_and_no_file(unit: Unit) -> None:
    socket_problem = "memunit@app.service: there is no socket to serve on; "
    _refused(unit, [socket_problem, f"{unit.file}: there is no such file; "], sockets=())


def test_a_colon_in_the_name_is_what_is_told_of(tmp_path: Path) -> None:
    """systemd separates the names of descriptors by it: "do not fit what was passed" came first in the status."""
    made = Unit(tmp_path, name="a:b")
    try:
        service = made.start(*MEMUNIT, "serve", "--", "a:b", sockets=())
        service.hear(r'^STATUS="a:b" can.t be the name of an instance')
        assert service.exit_code() == 78
        assert service.find("no socket to serve on") is None
    finally:
        made.close()


def test_a_datagram_socket(unit: Unit) -> None:
    unit.write(app=GOOD)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{datagrams.getsockname()[1]}"
        problem = f"socket.listen: {where} is not a stream socket; use ListenStream= in the .socket unit"
        _refused(unit, [f"{unit.file}: {problem}"], sockets=(("d", datagrams),))


def test_a_descriptor_that_is_no_socket(unit: Unit, tmp_path: Path) -> None:
    """As of ListenFIFO=: one line, and the next start waits."""
    unit.write(app=GOOD)
    with (tmp_path / "file").open("w+b") as file:
        problem = "memunit@app.service: there is no socket to serve on: "
        _refused(unit, [problem], sockets=(("fifo", file),))
    assert json.loads((unit.runtime / "starts.json").read_text())["failures"] == 1


def test_a_folder_that_may_not_be_read(open_unit: Unit) -> None:
    folder = open_unit.directory / "private"
    folder.mkdir(mode=0o700 if AS_NOBODY else 0)
    open_unit.write(app={"run": "shop:app", "directory": str(folder)})
    uid = NOBODY if AS_NOBODY else os.geteuid()
    problem = f"app.directory: {folder} may not be read by uid {uid}; chmod o+rx {folder}"
    _refused(open_unit, [f"{open_unit.file}: {problem}"], prefix=AS_NOBODY)


def test_a_name_that_no_instance_has(unit: Unit) -> None:
    service = unit.start(*MEMUNIT, "serve", "../shadow")
    assert service.exit_code() == 78
    assert service.find(r'"\.\./shadow" can\'t be the name of an instance', source="output") is not None


def test_a_listen_that_the_socket_unit_does_not_know(unit: Unit) -> None:
    """The socket counts; the file is only warned of."""
    unit.write(app=GOOD, socket={"listen": ["127.0.0.1:1"]}, workers={"count": 1})
    service = unit.serve()
    service.ready()
    said = service.expect("socket.listen: says 127.0.0.1:1, but the socket unit listens on", source="output")
    assert f"{unit.target}, and only there; " in said.text
    assert "systemctl daemon-reload and systemctl restart memunit@app.socket" in said.text
    assert said.text.startswith("memunit: warning: ")
    assert service.stop() == 0


def _refused(unit: Unit, problems: list[str], **options: Any) -> None:
    """Exit code 78 at once, each problem one line that begins so, the first in the status, and nothing started."""
    service = unit.serve(**options)
    assert service.exit_code() == 78
    lines = [each.text for each in service.said if each.source == "output"]
    assert len(lines) == len(problems), service
    for line, problem in zip(
        sorted(lines), sorted(f"memunit: error: {each}" for each in problems), strict=True
    ):
        assert line.startswith(problem)
    assert service.status.startswith(lines[0].removeprefix("memunit: error: "))
    assert service.status.endswith(f" (and {len(problems) - 1} more, see the journal)") == (len(problems) > 1)
    assert service.entries() == []
