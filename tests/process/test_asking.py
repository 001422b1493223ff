"""`memunit status`, top, recycle, scale, set and stacks against a real master: what a person sees, types and reads."""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from typing import Any

import pytest

from memunit.core.interfaces import INSTANCE
from tests.support.harness import AS_NOBODY, MEMUNIT, Service, Unit
from tests.support.wait import DEADLINE

pytest_plugins = ["tests.support.units"]

LONG = 4 * DEADLINE


def memunit(unit: Unit, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """One command, as a person types it."""
    return subprocess.run(
        [*MEMUNIT, *words],
        env={**unit.environment, **variables},
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )


@pytest.fixture
def service(unit: Unit) -> Iterator[Service]:
    """Two workers with a limit."""
    unit.write(app={"run": "plain:app"}, workers={"count": 2}, memory={"limit": "300M", "ceiling": "400M"})
    made = unit.serve().ready()
    made.until(lambda: len(made.serving()) == 2 or None, "both")
    yield made
    if made.running:
        made.stop()


def test_status_is_the_masters(unit: Unit, service: Service) -> None:
    done = memunit(unit, "status", "app")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(rf"app: 2 of 2 workers serve, master {service.pid} for .*", lines[0])
    for slot, pid in service.serving().items():
        assert any(re.match(rf"{slot}\.1 +{pid} +running ", line) for line in lines), done.stdout
    assert "ended in the last hour: none" in done.stdout
    assert "400M" in done.stdout
    narrow = memunit(unit, "status", "app", COLUMNS="20").stdout
    assert max(map(len, narrow.splitlines())) <= 20, narrow


def test_status_loads_nothing_that_takes_longer_than_the_answer(unit: Unit, service: Service) -> None:
    """Half of its time went into modules that it does not need to ask a master."""
    script = (
        "import gc, sys; before = set(sys.modules); from memunit.cli.main import main; code = main(['status', 'app'])\n"
        "loaded = sorted(set(sys.modules) - before)\n"
        "print(code, loaded, gc.isenabled(), gc.get_freeze_count() > 0, file=sys.stderr)"
    )
    done = subprocess.run(
        [MEMUNIT[0], "-S", "-c", script],
        env={**unit.environment, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=LONG,
        check=True,
    )
    assert "2 of 2 workers serve" in done.stdout
    code, _, loaded = done.stderr.partition(" ")
    assert (code, "'memunit.cli.link'" in loaded) == ("0", True), done.stderr
    # Nothing looks for garbage among them, and the interpreter does not at its end.
    assert loaded.endswith("] True True\n"), loaded
    for name in (
        "argparse",
        "contextlib",
        "dataclasses",
        "inspect",
        "rich",
        "subprocess",
        "textwrap",
        "typing",
    ):
        assert f"'{name}'" not in loaded, name


def test_a_master_that_hangs_or_is_absent_is_told_of(unit: Unit, service: Service) -> None:
    with service.stopped():
        done = memunit(unit, "scale", "app", "3")
        assert (done.returncode, done.stdout) == (69, "")
        assert "the master of app does not answer: no answer within 5 s; systemctl restart" in done.stderr
        assert done.stderr.count("\n") == 1
    assert service.stop() == 0
    for words in (["recycle"], ["scale", "3"], ["set"], ["stacks"], ["top"]):
        done = memunit(unit, words[0], "app", *words[1:])
        assert (done.returncode, done.stdout) == (69, ""), words
        assert "app is not running" in done.stderr
        assert done.stderr.count("\n") == 1


def test_recycle_waits_and_says_what_happened(unit: Unit, service: Service) -> None:
    before = service.serving()
    done = memunit(unit, "recycle", "app", "1")
    assert done.returncode == 0, done.stderr
    *_, last = done.stdout.splitlines()
    assert last == f"1.1 (pid {before[1]}) is replaced"
    assert f"Worker 1.1 (pid {before[1]}) ended: requested" in done.stdout
    told = json.loads(memunit(unit, "recycle", "--json", "memunit@app.service").stdout)
    assert [(each["slot"], each["generation"]) for each in told] == [(0, 1), (1, 2)]
    assert service.serving().keys() == {0, 1}
    assert not set(service.serving().values()) & set(before.values())
    done = memunit(unit, "recycle", "--no-wait", "app", "0")
    assert (done.returncode, done.stdout.endswith("is to be replaced\n")) == (0, True)
    done = memunit(unit, "recycle", "app", "9")
    assert (done.returncode, done.stdout) == (64, "")
    assert "no worker of slot 9 serves now" in done.stderr


def test_scale_and_set(unit: Unit, service: Service) -> None:
    assert memunit(unit, "scale", "app", "+1").stdout == "app: 3 workers, 2 before; until the next reload\n"
    assert memunit(unit, "scale", "app", "-1").stdout == "app: 2 workers, 3 before; as the file says\n"
    assert memunit(unit, "set", "app").stdout == "app: all is as the file says\n"
    done = memunit(unit, "set", "app", "memory.limit=350M", "memory.patience=1s")
    assert done.stdout == "app: until the next reload\n  memory.limit = 350M\n  memory.patience = 1s\n"
    assert json.loads(memunit(unit, "set", "--json", "app").stdout)["memory.limit"] == "350M"
    assert "until the next reload memory.limit = 350M" in memunit(unit, "status", "app").stdout
    for words, code, says in (
        (["scale", "app", "0"], 64, "app: one worker is the least"),
        (["scale", "app", "many"], 64, '"many" is no number of workers; say 8, +2 or -1'),
        (["set", "app", "memory.limit"], 64, "is no setting; say KEY=VALUE"),
        (["set", "app", "memory.limit=1T"], 64, "app: memory.limit: 1T is over the memory.ceiling of 400M"),
        (["set", "app", "memory.limt=1G"], 64, "did you mean memory.limit?"),
        (["stacks", "app", "x"], 64, "is neither a slot nor a pid"),
        (["top", "-d", "1ms", "app"], 64, "is not from 100ms to 1h"),
    ):
        done = memunit(unit, *words)
        assert (done.returncode, done.stdout) == (code, ""), (words, done.stdout)
        assert says in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1


def test_stacks(unit: Unit, service: Service) -> None:
    done = memunit(unit, "stacks", "app", "0")
    assert done.returncode == 0, done.stderr
    assert f"worker 0.1 (pid {service.serving()[0]})" in done.stdout
    assert "is MainThread" in done.stdout
    assert "Task" in done.stdout
    assert "worker 1.1" not in done.stdout


@pytest.mark.skipif(not AS_NOBODY, reason="to become another user takes root")
def test_another_user_may_not(unit: Unit, service: Service) -> None:
    for each in (unit.directory, *unit.directory.parents):
        if each.stat().st_uid == os.getuid() and "pytest" in str(each):
            each.chmod(0o755)
    done = subprocess.run(
        [*AS_NOBODY, "/usr/bin/python3", "-c", "print(open('/proc/self/status').read())"],
        capture_output=True, text=True, timeout=LONG, check=True,
    )  # fmt: skip
    assert "Uid:\t65534" in done.stdout
    script = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(unit.runtime / INSTANCE)!r})"
    refused = subprocess.run(
        [*AS_NOBODY, "/usr/bin/python3", "-c", script],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert "PermissionError" in refused.stderr


@pytest.mark.parametrize("command", ["top", "recycle", "scale", "set", "stacks"])
def test_the_help_has_examples_and_exit_codes(unit: Unit, command: str) -> None:
    done = memunit(unit, command, "--help")
    assert done.returncode == 0
    for word in ("examples:", "exit codes:", f"memunit {command} shop"):
        assert word in done.stdout or word.split(" shop")[0] in done.stdout


# -- top -------------------------------------------------------------------------------------------------------


def test_top_into_a_pipe_and_one_that_closes(unit: Unit, service: Service) -> None:
    done = memunit(unit, "top", "-n", "2", "-d", "100ms", "app")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("app: 2 of 2 workers serve") == 2
    assert "\x1b" not in done.stdout
    assert len(json.loads(memunit(unit, "top", "--json", "app").stdout)["workers"]) == 2
    command = " ".join([*MEMUNIT, "top", "-n", "100000", "-d", "100ms", "app"])
    piped = subprocess.run(
        ["bash", "-c", f"{command} | head -1; exit ${{PIPESTATUS[0]}}"],
        env=unit.environment, capture_output=True, text=True, timeout=LONG, check=False,
    )  # fmt: skip
    assert (piped.returncode, piped.stderr) == (141, "")


class Screen:
    """`memunit top` on a terminal of its own."""

    def __init__(self, unit: Unit, *words: str, columns: int = 100, **variables: str) -> None:
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            os.execve(
                MEMUNIT[0], [*MEMUNIT, "top", *words], {**unit.environment, "TERM": "xterm", **variables}
            )
        self.size(columns)
        self.shown = ""
        # A read may end in the middle of a character.
        self._text = codecs.getincrementaldecoder("utf-8")()

    def size(self, columns: int, lines: int = 24) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))

    def until(self, pattern: str) -> str:
        """Read until this is on it, since the last that was found; AssertionError if that does not come."""
        deadline = time.monotonic() + LONG
        while (found := re.search(pattern, self.shown, re.S)) is None:
            ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, self.shown
            try:
                self.shown += self._text.decode(os.read(self._master, 65536))
            except OSError:
                raise AssertionError(f"it has ended: {self.shown}") from None
        seen, self.shown = self.shown[: found.end()], self.shown[found.end() :]
        return seen

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def end(self) -> int:
        """Its exit code, and what is still to be read."""
        while True:
            try:
                block = os.read(self._master, 65536)
            except OSError:
                break
            self.shown += self._text.decode(block)
        os.close(self._master)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_top_on_a_terminal(unit: Unit, service: Service) -> None:
    before = service.serving()
    screen = Screen(unit, "-d", "200ms", "app")
    seen = screen.until("2 of 2 workers serve.*q leave")
    assert "\x1b[?1049h" in seen
    screen.type("m")
    screen.until("sorted by memory")
    screen.type("r1x")
    screen.until("nobody is recycled")
    screen.type("r1\n")
    screen.until(r"to be replaced: 1\.1")
    assert service.entry("ended", pid=before[1], timeout=LONG).cause == "requested"
    screen.type("+")
    screen.until("3 workers until the next reload")
    screen.until("3 of 3 workers serve")
    screen.type("-")
    screen.until("2 workers until the next reload")
    # SIGWINCH: drawn anew, in blocks.
    screen.size(30)
    seen = screen.until(r"  phase: running")
    screen.type("q")
    assert screen.end() == 0
    assert "\x1b[?1049l" in screen.shown
    service.until(lambda: set(service.serving()) == {0, 1} or None, "two workers")


def test_top_without_colours_and_when_told_to_end(unit: Unit, service: Service) -> None:
    screen = Screen(unit, "-d", "200ms", "app", NO_COLOR="1")
    seen = screen.until("q leave")
    assert not re.search(r"\x1b\[[0-9;]*m", seen), seen
    os.kill(screen.pid, signal.SIGTERM)
    assert screen.end() == 0
    assert "\x1b[?1049l" in screen.shown


def test_top_outlives_a_master_that_executes_itself_anew_and_says_when_it_has_gone(
    unit: Unit, service: Service
) -> None:
    screen = Screen(unit, "-d", "200ms", "app")
    screen.until("q leave")
    assert memunit(unit, "reexec", "app").returncode == 0
    screen.shown = ""
    screen.until("2 of 2 workers serve.*2 of 2 workers serve")
    assert service.stop() == 0
    assert screen.end() == 69
    told: Any = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.shown)
    assert "app is not running" in told or "closed the connection before" in told
