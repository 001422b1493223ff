"""`memunit run`: in the foreground, under systemd-socket-activate, as PID 1, and when its master is killed."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from memunit.master.proctree import descendants
from tests.support.harness import AS_NOBODY, MEMUNIT, Service, Unit, let_go
from tests.support.http import Client
from tests.support.namespaces import OWN_MOUNTS, need_mount_namespace
from tests.support.wait import wait_gone
from tests.support.workers import APPS

pytest_plugins = ["tests.support.units"]

ASKED = ("--app", "asked:run", "--server", "callable")
FOREGROUND = {"RUNTIME_DIRECTORY": "", "CONFIGURATION_DIRECTORY": "", "NOTIFY_SOCKET": ""}


def run(unit: Unit, *words: str, **options: object) -> Service:
    """`memunit run` with nothing from systemd but what `options` say."""
    environment = {**FOREGROUND, "TMPDIR": str(unit.directory)}
    return unit.start(*MEMUNIT, "run", *words, environment=environment, sockets=(), **options)  # type: ignore[arg-type]


def test_in_the_foreground(unit: Unit, tmp_path: Path) -> None:
    """Its own socket, its own temporary directory, both gone at the end; every word on stderr."""
    path = tmp_path / "app.sock"
    service = run(unit, "--listen", str(path), "--listen", "127.0.0.1:0", "--workers", "2", *ASKED)
    service.entry("ready", slot=0)
    service.entry("ready", slot=1)
    assert service.find(f"^memunit: Listening on {path}$") is not None
    place = service.find(r"^memunit: Listening on 127\.0\.0\.1:(\d+)$")
    assert place is not None
    for target in (str(path), place.text.split()[-1]):
        with Client(target) as client:
            assert int(client.get().body.split()[1]) in service.serving().values()
    (directory,) = tmp_path.glob("memunit-*")
    assert sorted(each.name for each in directory.iterdir()) == [
        "control",
        "io.memunit.Instance",
        "notify",
        "pressure",
    ]
    assert service.stop(signal.SIGINT) == 0
    assert list(tmp_path.glob("memunit-*")) == []
    assert not path.exists()
    assert [each for each in service.said if each.source == "notify"] == []


def test_a_command(unit: Unit, tmp_path: Path) -> None:
    """With ready = "exec" nothing has to speak the protocol; the socket is called memunit."""
    script = 'echo "worker has $LISTEN_FDS called $LISTEN_FDNAMES"; exec sleep infinity'
    service = run(
        unit, "--listen", str(tmp_path / "s"), "--workers", "1", "--ready", "exec", "--", "sh", "-c", script
    )
    service.entry("ready")
    service.expect("^worker has 1 called memunit$")
    assert service.stop() == 0


def test_with_its_standard_streams_closed(unit: Unit, tmp_path: Path) -> None:
    """No socket of ours takes the number of one that is missing: what is written there would go to a client."""
    words = 'exec 0<&- 1>&- 2>&-; exec "$@"'
    path = tmp_path / "app.sock"
    command = (*MEMUNIT, "run", "--listen", str(path), "--workers", "1", *ASKED)
    service = unit.start("sh", "-c", words, "sh", *command, sockets=()).ready()
    with Client(str(path)) as client:
        pid = int(client.get().body.split()[1])
    open_at = {str(Path(f"/proc/{pid}/fd/{number}").readlink()) for number in (0, 1, 2)}
    assert open_at == {"/dev/null"}
    assert service.stop() == 0


def test_with_its_standard_streams_closed_a_mistake_has_its_exit_code(unit: Unit) -> None:
    service = unit.start(
        "sh", "-c", 'exec 1>&- 2>&-; exec "$@"', "sh", *MEMUNIT, "run", "--bogus", sockets=()
    )
    assert service.exit_code() == 64


def test_inherited_sockets_count(unit: Unit, tmp_path: Path) -> None:
    path = tmp_path / "unused"
    service = unit.start(*MEMUNIT, "run", "--listen", str(path), "--workers", "1", *ASKED).ready()
    assert service.find(
        rf"^memunit: warning: --listen is not used: the inherited sockets are used \({unit.target}\)$"
    )
    assert not path.exists()
    assert unit.get() == f"ok {service.serving()[0]}"
    assert service.stop() == 0


def test_systemd_socket_activate(unit: Unit, tmp_path: Path) -> None:
    """The real one: it starts the program at the first connection, which is answered."""
    path = tmp_path / "activated"
    activate = ("systemd-socket-activate", f"--listen={path}", "--fdname=web")
    passed = [
        f"--setenv={name}={value}" for name, value in unit.environment.items() if name.startswith("PYTHON")
    ]
    service = unit.start(*activate, *passed, *MEMUNIT, "run", "--workers", "2", *ASKED, sockets=())
    service.expect("Listening on ")
    with Client(str(path)) as client:
        pid = int(client.get().body.split()[1])
    # The program has taken the place of systemd-socket-activate, with its pid.
    service.until(lambda: len(service.serving()) == 2 or None, "two workers")
    assert pid in service.serving().values()
    assert Path(f"/proc/{service.pid}/cmdline").read_bytes().split(b"\0")[2] == b"memunit.cli.main"
    assert service.stop() == 0
    assert path.exists()  # it is not ours


def test_memory_flags(unit: Unit, tmp_path: Path) -> None:
    path = tmp_path / "s"
    words = (
        "--limit",
        "40M",
        "--interval",
        "0.05s",
        "--patience",
        "0",
        "--min-lifetime",
        "0",
        "--grace",
        "99s",
    )
    service = run(unit, "--listen", str(path), "--workers", "1", *words, *ASKED)
    pid = service.entry("ready").pid
    with Client(str(path)) as client:
        client.get("/leak?kb=50000")
    ended = service.entry("ended")
    assert (ended.pid, ended.cause) == (pid, "memory-limit")
    service.entry("ready", count=2)
    assert service.stop() == 0


# -- bad input -----------------------------------------------------------------------------------------------


def test_a_port_in_use(unit: Unit) -> None:
    service = run(unit, "--listen", unit.target, *ASKED)
    assert service.exit_code() == 71
    remedy = "stop the other server, or listen elsewhere"
    assert [each.text for each in service.said] == [
        f"memunit: command line: --listen: can't listen on {unit.target}: address already in use; {remedy}"
    ]


def test_sockets_that_were_not_passed(unit: Unit) -> None:
    words = 'exec env LISTEN_PID=$$ LISTEN_FDS=1 "$@" 3</dev/null'
    service = unit.start("sh", "-c", words, "sh", *MEMUNIT, "run", *ASKED, environment=FOREGROUND, sockets=())
    assert service.exit_code() == 78
    assert [each.text for each in service.said] == [
        "memunit: environment: LISTEN_FDS: Socket operation on non-socket (descriptor 3) (unknown); "
        "pass listening sockets as sd_listen_fds(3) describes, or pass none and say --listen"
    ]


def test_a_directory_for_the_socket_that_is_not_there(unit: Unit) -> None:
    service = run(unit, "--listen", "/no/such/folder/app.sock", *ASKED)
    assert service.exit_code() == 71
    assert service.find("can't listen on /no/such/folder/app.sock: .*; make the directory first$") is not None


def test_a_privileged_port(open_unit: Unit) -> None:
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 81:
        pytest.skip("no port is privileged here")
    service = run(open_unit, "--listen", "127.0.0.1:81", *ASKED, prefix=AS_NOBODY)
    assert service.exit_code() == 77
    remedy = "use a port over 1023, or let systemd open it in a .socket unit"
    assert [each.text for each in service.said] == [
        f"memunit: command line: --listen: can't listen on 127.0.0.1:81: permission denied; {remedy}"
    ]


@pytest.mark.parametrize(
    ("words", "code", "lines"),
    [
        (ASKED, 78, ['--listen: there is no socket to serve on; say where to listen, as in "--listen ']),
        (("--listen", "8000"), 78, ["nothing to run; say --app MODULE:ATTR, or a program after --"]),
        (
            ("--listen", "1:2:3", "--limit", "5x", "--workers", "0", *ASKED),
            78,
            ["--listen: ", "--limit: ", "--workers: "],
        ),
        (
            ("--listen", "8000", "--grace", "5x", "--directory", "/no/such/folder", *ASKED),
            78,
            ["--grace: ", "--directory: /no/such/folder does not exist"],
        ),
        (("--limt", "5M", *ASKED), 64, ["unknown option --limt, did you mean --limit?"]),
        (
            ("--listen", "@memunit-test", "--app", "no_such_module:app"),
            78,
            ["--app: there is no module no_such_module"],
        ),
        (
            ("--listen", "@memunit-test", "--workers", "3", "--limit", "900G", *ASKED),
            78,
            ["--limit: 3 workers x 900G + 25M for memunit = "],
        ),
    ],
    ids=[
        "no socket",
        "nothing to run",
        "all at once",
        "all that is seen",
        "unknown flag",
        "no module",
        "more than there is",
    ],
)
def test_bad_flags(unit: Unit, words: tuple[str, ...], code: int, lines: list[str]) -> None:
    service = run(unit, *words)
    assert service.exit_code() == code
    said = [each.text for each in service.said]
    assert len(said) == len(lines), service
    for text, begins in zip(sorted(said), sorted(lines), strict=True):
        assert re.sub(r"^memunit( run: |: command line: )", "", text).startswith(begins)


@pytest.mark.parametrize(
    ("preload", "told"),
    [
        ((), "Worker 0 can't be started: cannot import broken.web: "),
        (("--no-preload",), "ended: start-failed; .*last status: cannot import broken.web: "),
    ],
    ids=["preload", "exec"],
)
def test_an_app_that_fails_at_import(unit: Unit, tmp_path: Path, preload: tuple[str, ...], told: str) -> None:
    words = (
        "--listen",
        str(tmp_path / "s"),
        "--workers",
        "1",
        "--start-timeout",
        "10s",
        "--server",
        "callable",
    )
    service = run(unit, *words, *preload, "--app", "broken.web:app")
    assert service.exit_code() == 69
    assert service.find(told) is not None
    assert service.find("^Traceback") is not None


# -- the master is killed, and the master as PID 1 -----------------------------------------------------------


def test_workers_drain_when_the_master_is_killed(unit: Unit, tmp_path: Path) -> None:
    """The kernel tells them by SIGTERM: what is in work is finished, and none is left."""
    path, hold = tmp_path / "s", tmp_path / "hold"
    os.mkfifo(hold)
    service = run(unit, "--listen", str(path), "--workers", "2", *ASKED)
    service.entry("ready", slot=0)
    service.entry("ready", slot=1)
    workers = service.serving()
    with Client(str(path)) as client:
        client.ask(f"/wait?on={hold}")
        busy = int(service.expect("^waiting ").text.split()[1])
        service.send(signal.SIGKILL)
        (idle,) = set(workers.values()) - {busy}
        wait_gone(idle)
        let_go(hold)
        assert client.read().body == f"ok {busy}".encode()
    wait_gone(busy)
    assert service.exit_code() == -signal.SIGKILL


@pytest.mark.skipif(os.geteuid() != 0, reason="a pid namespace is root's to make")
def test_as_pid_1_it_reaps_what_is_left_to_it(unit: Unit, tmp_path: Path) -> None:
    need_mount_namespace()
    path, hold = tmp_path / "s", tmp_path / "hold"
    os.mkfifo(hold)
    namespace = (*OWN_MOUNTS, "unshare", "--pid", "--fork", "--mount-proc", "--kill-child=KILL")
    # Its parent ends at once, so that it becomes a child of PID 1; it reads until somebody writes.
    script = f"(cat {hold} >/dev/null &) ; systemd-notify --ready; exec sleep infinity"
    words = ("--listen", str(path), "--workers", "1", "--", "/bin/sh", "-c", script)
    service = run(unit, *words, prefix=namespace)
    ready = service.entry("ready")
    assert ready.pid < 20  # counted in its own namespace
    (master,) = [pid for pid in descendants(service.pid) if _status(pid).get("NSpid", "0").split()[-1] == "1"]
    with hold.open("w"):  # once the stray has opened it too, and so is what it is
        (stray,) = [pid for pid in descendants(master) if _status(pid).get("Name", "").strip() == "cat"]
        service.until(lambda: int(_status(stray)["PPid"]) == master or None, "an orphan")
    wait_gone(stray)
    mark = service.mark
    os.kill(master, signal.SIGUSR1)
    service.expect("^memunit: 1/1 workers", after=mark)
    assert not Path(f"/proc/{stray}").exists()
    assert service.entries("ended") == []
    os.kill(master, signal.SIGTERM)
    assert service.exit_code() == 0
    assert service.entry("ended").cause == "stop"


def _status(pid: int) -> dict[str, str]:
    """proc_pid_status(5); empty when the process has gone meanwhile."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return dict(line.split(":", 1) for line in lines)


def test_without_a_place_for_its_sockets_it_says_so(unit: Unit, tmp_path: Path) -> None:
    """As in a container with a read-only root: nothing is a temporary directory."""
    need_mount_namespace()
    # The same folders, read-only: the checkout may be below one of them.
    words = (
        "for each in /tmp /var/tmp /usr/tmp; do [ ! -d $each ] ||"
        ' { mount --bind $each $each && mount -o remount,bind,ro $each; }; done; exec "$@"'
    )
    prefix = (*OWN_MOUNTS, "sh", "-c", words, "sh", "env", "TMPDIR=/nonexistent")
    service = run(
        unit, "--listen", "127.0.0.1:0", "--directory", str(APPS), *ASKED, prefix=prefix, directory="/proc"
    )
    assert service.exit_code() == 71
    service.expect(
        "RUNTIME_DIRECTORY: is not set, and no directory can be made: .*; set it to a directory that may be"
    )


@pytest.mark.parametrize(
    ("more", "code"), [(("--app", "not_there:app"), 78), (("--listen", "127.0.0.1:1.5", *ASKED), 78)]
)
def test_a_refused_start_leaves_no_socket(
    unit: Unit, tmp_path: Path, more: tuple[str, ...], code: int
) -> None:
    service = run(unit, "--listen", str(tmp_path / "s"), *more)
    assert service.exit_code() == code
    assert not (tmp_path / "s").exists()


def test_a_second_address_in_use_takes_the_first_back(unit: Unit, tmp_path: Path) -> None:
    service = run(unit, "--listen", str(tmp_path / "s"), "--listen", unit.target, *ASKED)
    assert service.exit_code() == 71
    assert not (tmp_path / "s").exists()


def test_a_second_memunit_leaves_the_first_ones_sockets_alone(unit: Unit, tmp_path: Path) -> None:
    """It may be a worker of the first, with RUNTIME_DIRECTORY in its environment."""
    given = {"RUNTIME_DIRECTORY": str(unit.runtime), "TMPDIR": str(tmp_path), "NOTIFY_SOCKET": ""}
    words = (*MEMUNIT, "run", "--workers", "1", *ASKED, "--listen")
    first = unit.start(*words, str(tmp_path / "a"), environment=given, sockets=())
    first.entry("ready")
    before = {each.name: each.stat().st_ino for each in unit.runtime.iterdir()}
    second = unit.start(*words, str(tmp_path / "b"), environment=given, sockets=())
    second.entry("ready")
    assert second.stop() == 0
    assert {each.name: each.stat().st_ino for each in unit.runtime.iterdir()} == before
    assert first.stop() == 0


def test_signals_at_the_very_end_change_nothing(unit: Unit, tmp_path: Path) -> None:
    service = run(unit, "--listen", str(tmp_path / "s"), "--workers", "1", *ASKED)
    service.entry("ready")
    service.send(signal.SIGTERM)
    while service.running:
        service.send(signal.SIGTERM)
    assert service.exit_code() == 0


def begins_with(unit: Unit, folder: Path, code: str) -> Service:
    """`memunit run`, whose interpreter executes `code` first. Its socket and its temporary files are in the folder."""
    environment = {**FOREGROUND, **unit.begun_with(folder, code), "TMPDIR": str(folder)}
    command = (*MEMUNIT, "run", "--listen", str(folder / "s"), *ASKED)
    return unit.start(*command, environment=environment, sockets=())


def signalled_at_the_import(module: str, signum: signal.Signals) -> str:
    """Code that has its interpreter send itself a signal as it begins to import a module."""
    return (
        "import importlib, os\n"
        "begin = importlib.import_module\n"
        "def signalled(name, package=None):\n"
        f"    if name == {module!r}:\n"
        f"        os.kill(os.getpid(), {int(signum)})\n"
        "    return begin(name, package)\n"
        "importlib.import_module = signalled\n"
    )


def test_interrupted_before_it_serves_it_ends_without_a_traceback(unit: Unit, tmp_path: Path) -> None:
    """Ctrl-C while the modules are imported, and while the app's interpreter is started ahead."""
    service = begins_with(unit, tmp_path, signalled_at_the_import("memunit.cli.run", signal.SIGINT))
    assert service.exit_code() == 130
    assert service.said == []
    assert list(tmp_path.glob("memunit-*")) == []


# Of Python 3.11, a class that has one as an attribute raises RuntimeError for all that is raised here.
WHILE_A_CLASS_IS_MADE = """
import os, signal
class Named:
    def __set_name__(self, owner, name):
        os.kill(os.getpid(), signal.{name})
def made(*_):
    class Made:
        attribute = Named()
import {module} as m
m.{function} = made
"""


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 0), ("SIGINT", 130), ("SIGQUIT", 0)])
def test_stopped_while_a_class_is_made_it_is_at_no_fault(
    unit: Unit, tmp_path: Path, name: str, code: int
) -> None:
    """As ipaddress does at its import. memunit told of a defect of its own, or SIGQUIT dumped core."""
    text = WHILE_A_CLASS_IS_MADE.format(name=name, module="memunit.master.master", function="Master")
    service = begins_with(unit, tmp_path, text)
    assert service.exit_code() == code
    service.expect("^memunit: Listening on")
    assert not service.find("Traceback|at fault")
    assert not (tmp_path / "s").exists()


def test_another_command_interrupted_while_a_class_is_made(unit: Unit, tmp_path: Path) -> None:
    code = WHILE_A_CLASS_IS_MADE.format(name="SIGINT", module="memunit.cli.check", function="main")
    service = unit.start(*MEMUNIT, "check", "app", environment=unit.begun_with(tmp_path, code))
    assert service.exit_code() == 130
    assert service.said == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGQUIT])
def test_kill_signal_of_the_unit_stops_a_start_in_order(
    unit: Unit, tmp_path: Path, signum: signal.Signals
) -> None:
    """KillSignal=SIGINT or SIGQUIT. The unit had failed: with 130, or with a core dump."""
    unit.write(app={"run": "plain:app"}, workers={"count": 1})
    service = unit.serve(
        environment=unit.begun_with(tmp_path, signalled_at_the_import("memunit.cli.serve", signum))
    )
    assert service.exit_code() == 0
    assert service.said == []


def test_stopped_before_it_serves_it_leaves_nothing(unit: Unit, tmp_path: Path) -> None:
    """SIGTERM between the bind and the master's own handlers."""
    service = begins_with(
        unit,
        tmp_path,
        "import os, signal\n"
        "import memunit.master.master as m\n"
        "m.Master = lambda *_: os.kill(os.getpid(), signal.SIGTERM)\n",
    )
    assert service.exit_code() == 0
    service.expect("^memunit: Listening on")
    assert list(tmp_path.glob("memunit-*")) == []
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("command", ["run", "serve"])
def test_a_stop_that_comes_in_a_finalizer_is_not_lost(unit: Unit, tmp_path: Path, command: str) -> None:
    """Python drops what is raised there: the service started, and systemd waited for all of TimeoutStopSec=."""
    code = (
        "import os, signal, sys\n"
        "import memunit.cli.start as s\n"
        "sys.unraisablehook = lambda _: None\n"
        "class Last:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "old = s.state_directory\n"
        "s.state_directory = lambda runtime: (Last(), old(runtime))[1]\n"
    )
    if command == "run":
        service = begins_with(unit, tmp_path, code)
    else:
        unit.write(app={"run": "plain:app"}, workers={"count": 1})
        service = unit.serve(environment=unit.begun_with(tmp_path, code))
    assert service.exit_code() == 0
    assert not service.entries("started")
    assert not (tmp_path / "s").exists()


def test_a_defect_has_its_exit_code(unit: Unit, tmp_path: Path) -> None:
    """Nothing that is known to be wrong can show it, so it is broken here."""
    service = begins_with(unit, tmp_path, "import memunit.core.policy as p\np.step = lambda *_: 1 / 0\n")
    assert service.exit_code() == 70
    service.expect("ZeroDivisionError")
    # It has executed itself anew twice.
    service.expect("^memunit: error: memunit itself has failed: ZeroDivisionError.*, 3 times within a minute")
    assert not (tmp_path / "s").exists()


def test_where_the_interface_has_no_room_the_rest_runs_without(unit: Unit, tmp_path: Path) -> None:
    """Its socket has the longest name of all: an instance whose name may be 80 characters long once had no master."""
    longest = 107 - len("/control~") - len(str(tmp_path)) - 1
    if longest <= 0:
        pytest.skip("the folder of the tests is too deep itself")
    runtime = tmp_path / ("r" * longest)
    environment = {**FOREGROUND, "RUNTIME_DIRECTORY": str(runtime)}
    words = ("--listen", "127.0.0.1:0", "--workers", "1", *ASKED)
    service = unit.start(*MEMUNIT, "run", *words, environment=environment, sockets=())
    service.entry("ready", slot=0)
    service.expect("There is no interface: .* has more than 107 bytes")
    assert sorted(each.name for each in runtime.iterdir() if each.is_socket()) == ["control", "notify"]
    assert service.stop(signal.SIGINT) == 0
