"""Instances of memunit on the booted machine, and the journal as the clock by which tests wait.

Nothing polls: a test waits for an entry, for a process's end, or for a command that returns when it is done.
The deadlines only bound a failure; under full emulation on a busy machine everything takes ten times as long.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from memunit.core import messages
from memunit.core.messages import Message
from tests.support.load import Load, Report

SECONDS = 240.0
LIGHT = Path("/opt/memunit-tests/light.py")
DEMO = Path("/usr/share/memunit/demo")

# systemd's own kinds of entries, by MESSAGE_ID.
UNIT_STARTING = "7d4958e842da4a758f6c1cdc7b36dcc5"
UNIT_STARTED = "39f53479d3a045ac8e11786248231fbf"
UNIT_RESTART = "5eb03494b6584870a536b337290809b3"

ENDS = frozenset(each.id for each in messages.ENDS)

Entry = dict[str, Any]
Wanted = Callable[[Entry], bool]


def run(
    *command: str, check: bool = True, seconds: float = SECONDS, cwd: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run to the end. A failed command's words are in the error, unless it may fail."""
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        stdin=subprocess.DEVNULL,
        cwd=cwd,
    )
    assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def say(text: str) -> None:
    """A figure for whoever asks for it: pytest shows it with -rP, and whenever the test fails."""
    print(text, flush=True)


def virtualization() -> str:
    """What the machine is, by systemd-detect-virt(1): "qemu", "uml", "none" for a container on the host's kernel."""
    return run("systemd-detect-virt", "--vm", check=False).stdout.strip()


def emulated() -> bool:
    """Whether the machine's processor is emulated, and time not worth measuring closely."""
    return virtualization() == "qemu"


def kind(message_id: str, **fields: object) -> Wanted:
    """Whether an entry is of this kind and has these fields."""
    return lambda entry: (
        entry.get("MESSAGE_ID") == message_id
        and all(entry.get(name) == str(value) for name, value in fields.items())
    )


def ended(**fields: object) -> Wanted:
    """Whether an entry tells the end of a worker and has these fields."""
    return lambda entry: (
        entry.get("MESSAGE_ID") in ENDS
        and all(entry.get(name) == str(value) for name, value in fields.items())
    )


def at(entry: Entry) -> float:
    """CLOCK_MONOTONIC of the entry, in seconds."""
    return int(entry["__MONOTONIC_TIMESTAMP"]) / 1e6


# `journalctl -f` (257) was seen to miss the last entry before a pause, until there was another one four minutes later:
# after so many seconds without a word there is one of ours.
SILENCE = 10.0


class Journal:
    """What the journal gets about an instance from now on: its own entries and systemd's about its units."""

    def __init__(self, instance: str) -> None:
        shown = run("journalctl", "-q", "-n", "0", "--show-cursor").stdout
        cursor = shown.partition("-- cursor: ")[2].strip()
        assert cursor
        units = [f"memunit@{instance}.{kind}" for kind in ("service", "socket")]
        self._process = subprocess.Popen(
            [
                *("journalctl", "-f", "-n", "all", "-o", "json", "--all", "--after-cursor", cursor),
                *("-u", units[0], "-u", units[1]),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        self.entries: list[Entry] = []
        self._buffer = b""

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def find(self, wanted: Wanted) -> list[Entry]:
        """Those that have come by now."""
        return [entry for entry in self.entries if wanted(entry)]

    def until(self, wanted: Wanted, count: int = 1, seconds: float = SECONDS) -> list[Entry]:
        """Wait until there are at least `count` such entries; returns them, the oldest first."""
        deadline = time.monotonic() + seconds
        while len(found := self.find(wanted)) < count:
            left = deadline - time.monotonic()
            assert left > 0, f"{len(found)} of {count} entries within {seconds:.0f} s:\n{self}"
            if not self._read(min(left, SILENCE)):
                run("logger", "--tag", "tests", "whoever follows the journal, read on")
        return found

    def _read(self, seconds: float) -> bool:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        if not select.select([descriptor], [], [], seconds)[0]:
            return False
        block = os.read(descriptor, 1 << 16)
        assert block, "journalctl has ended"
        *lines, self._buffer = (self._buffer + block).split(b"\n")
        self.entries += [json.loads(line) for line in lines if line]
        return True

    def __str__(self) -> str:
        return "\n".join(f"{at(entry):.3f} {entry.get('MESSAGE')}" for entry in self.entries[-60:])


class Instance:
    """One instance: its file, drop-ins and units. Leaves nothing behind."""

    def __init__(self, name: str, file: str, *, listen: str | None = None, service: str = "") -> None:
        """Write the file of the instance; `listen` and `service` become drop-ins of its units."""
        self.name = name
        self.service = f"memunit@{name}.service"
        self.socket = f"memunit@{name}.socket"
        self.target = listen or f"/run/memunit/{name}.sock"
        self.file = Path(f"/etc/memunit/{name}.toml")
        self.write(file)
        self._drop_ins: list[Path] = []
        if listen is not None:
            self._drop_in(self.socket, f"[Socket]\nListenStream=\nListenStream={listen}\n")
        if service:
            self._drop_in(self.service, f"[Service]\n{service}")
        if self._drop_ins:
            run("systemctl", "daemon-reload")
        self.journal = Journal(name)

    def write(self, text: str) -> None:
        """Put another text into the file of the instance."""
        self.file.write_text(text)

    def _drop_in(self, unit: str, text: str) -> None:
        folder = Path(f"/run/systemd/system/{unit}.d")
        folder.mkdir(parents=True)
        (folder / "test.conf").write_text(text)
        self._drop_ins.append(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            # SIGSTOP and the like must not outlive a test that failed, nor need its requests be waited for.
            run("systemctl", "kill", "-s", "CONT", self.service, check=False)
            run("systemctl", "kill", "-s", "KILL", self.service, check=False)
        run("systemctl", "stop", self.socket, self.service, check=False)
        run("systemctl", "reset-failed", self.socket, self.service, check=False)
        self.journal.__exit__(None, None, None)
        self.file.unlink()
        for folder in self._drop_ins:
            shutil.rmtree(folder)
        # Of `systemctl set-property --runtime`.
        shutil.rmtree(f"/run/systemd/system.control/{self.service}.d", ignore_errors=True)
        if self._drop_ins:
            run("systemctl", "daemon-reload")

    def systemctl(self, verb: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`systemctl VERB` of the service."""
        return run("systemctl", verb, self.service, check=check)

    def listen(self) -> None:
        """Start the socket alone."""
        run("systemctl", "start", self.socket)

    def start(self) -> None:
        """Start the socket and the service; returns when all workers are ready."""
        run("systemctl", "start", self.socket, self.service)

    def show(self, *names: str, unit: str | None = None) -> dict[str, str]:
        """Properties of the service, or of another unit."""
        properties = [word for name in names for word in ("-p", name)]
        text = run("systemctl", "show", *properties, unit or self.service).stdout
        return dict(line.split("=", 1) for line in text.splitlines())

    def property(self, name: str) -> str:
        """One property of the service."""
        return self.show(name)[name]

    def status(self) -> str:
        """What the master tells systemd of itself now: of its own accord it does so once a second at most."""
        self.settle()
        return self.property("StatusText")

    def master(self) -> int:
        """The pid of the master, which there is: a signal to pid 0 would be for the tests themselves."""
        pid = int(self.property("MainPID"))
        assert pid > 0, f"{self.service} has no master:\n{self.journal}"
        return pid

    def workers(self) -> dict[int, int]:
        """The pid of each slot's worker that was ready last, by the entries that were read: after `settle`, by all."""
        serving: dict[int, int] = {}
        for entry in self.journal.entries:
            if entry.get("MESSAGE_ID") == Message.WORKER_READY.id:
                serving[int(entry["MEMUNIT_SLOT"])] = int(entry["MEMUNIT_WORKER_PID"])
        return serving

    def settle(self) -> str:
        """Wait until the master has told all that it knew when this was called; returns its own account."""
        before = len(self.journal.find(kind(Message.STATE_DUMP.id)))
        os.kill(self.master(), signal.SIGUSR1)
        account: str = self.journal.until(kind(Message.STATE_DUMP.id), before + 1)[-1]["MESSAGE"]
        return account

    def load(self, **options: Any) -> Load:
        """A load on its socket, whose requests may wait for as long as a test may take."""
        options.setdefault("timeout", SECONDS)
        return Load(self.target, **options)

    def ask(self, path: str = "/") -> None:
        """One request that must be answered."""
        lossless(self.load(clients=1, requests=1, path=path).run())


def light(*options: str, more: str = "", count: int = 2) -> str:
    """The file of an instance of the light worker."""
    LIGHT.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(__file__).parent / "support_light.py", LIGHT)
    words = ", ".join(f'"{word}"' for word in ("/usr/bin/python3", "-I", "-S", str(LIGHT), *options))
    return f"[app]\ncommand = [{words}]\n[workers]\ncount = {count}\nmin_lifetime = 0\n{more}"


def asgi(*, folder: Path = DEMO, app: str = "demo:app", workers: str = "count = 2\n", more: str = "") -> str:
    """The file of an instance of an ASGI app."""
    return f'[app]\nrun = "{app}"\ndirectory = "{folder}"\n[workers]\n{workers}{more}'


def lossless(report: Report) -> Report:
    """The report, of which nothing may be lost."""
    assert report.lost == 0, str(report)
    assert report.ok == report.sent > 0, str(report)
    return report


@contextlib.contextmanager
def under_load(*loads: Load) -> Iterator[list[Report]]:
    """Loads that run meanwhile. The reports, of which nothing was lost, are there afterwards."""
    reports: list[Report] = []
    for load in loads:
        load.start()
    try:
        yield reports
    finally:
        for load in loads:
            load.stop()
    reports += [lossless(load.join()) for load in loads]
