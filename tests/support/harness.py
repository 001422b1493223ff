"""The harness as systemd: real masters on its sockets and its notify socket, and all that they say, in order."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from memunit.master.child import Launch
from memunit.master.held import Child
from memunit.master.notify import NotifyListener
from memunit.master.spawn import launch
from tests.support.http import Client
from tests.support.interpreters import DEBIAN
from tests.support.wait import DEADLINE, wait_readable
from tests.support.workers import APPS, ROOT, end_clients

MEMUNIT = (str(DEBIAN), "-m", "memunit.cli.main")
NOBODY = 65534
# As systemd's User= does it: the same process goes on under another user. Who is not root is nobody already.
AS_NOBODY = (
    ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups") if os.geteuid() == 0 else ()
)

_ENTRY = re.compile(
    r"memunit: (?:\w+: )?Worker (\d+)\.(\d+) \(pid (\d+)\) "
    r"(?:was |is )?(started|ready|being stopped|killed|aborted|ended)\b(.*)"
)
Found = TypeVar("Found")
# Seconds from one look at what no descriptor tells of to the next.
_LOOK = 0.2


@dataclass(frozen=True)
class Said:
    """One line of stderr (or stdout), or one notify datagram, in the order in which they were heard."""

    place: int
    source: str
    text: str
    at: float


@dataclass(frozen=True)
class Entry:
    """A journal entry about a worker, from its line. `event` is started, ready, stopped, killed, aborted or
    ended.
    """

    place: int
    at: float
    slot: int
    generation: int
    pid: int
    event: str
    rest: str

    @cached_property
    def cause(self) -> str:
        """Why it ended, or why it is being stopped, killed or aborted."""
        found = re.match(r": ([a-z-]+)", self.rest)
        return found[1] if found else ""

    @cached_property
    def reason(self) -> str:
        """Why it was being stopped when something else ended it."""
        found = re.search(r"while being stopped for ([a-z-]+)", self.rest)
        return found[1] if found else ""


class Service:
    """One master process, and what it and its workers say."""

    def __init__(self, child: Child, output: int, notify: NotifyListener) -> None:
        self.pid = child.pid
        self.said: list[Said] = []
        self._child = child
        self._output = output
        self._notify = notify
        self._rest = b""
        self._code: int | None = None
        self._deaf = False
        self._poll = select.poll()
        self._poll.register(output, select.POLLIN)
        self._poll.register(notify.fileno(), select.POLLIN)
        self._poll.register(child.pidfd, select.POLLIN)

    # -- listening -------------------------------------------------------------------------------------------

    @property
    def mark(self) -> int:
        """The place of what will be said next."""
        self._take()
        return len(self.said)

    def until(self, condition: Callable[[], Found | None], what: str, *, timeout: float = DEADLINE) -> Found:
        """Listen until `condition` finds something; AssertionError with all that was said when it never does.

        It is asked whenever something was said, and every fifth of a second: a file or a page of memory tells nobody.
        """
        deadline = time.monotonic() + timeout
        while True:
            gone = self._child.ended or bool(_readable(self._child.pidfd))
            self._take()
            found = condition()
            if found:
                return found
            left = deadline - time.monotonic()
            assert left > 0, f"{what}: not within {timeout:.0f} s\n{self}"
            assert not gone, f"{what}: the master has ended before\n{self}"
            self._poll.poll(min(left, _LOOK) * 1000)

    def listen_until(self, descriptor: int, what: str, *, timeout: float = DEADLINE) -> None:
        """Listen until a descriptor of another kind is readable."""
        self._poll.register(descriptor, select.POLLIN)
        try:
            self.until(lambda: _readable(descriptor) or None, what, timeout=timeout)
        finally:
            self._poll.unregister(descriptor)

    def expect(
        self, pattern: str, *, source: str | None = None, after: int = 0, timeout: float = DEADLINE
    ) -> Said:
        """The first thing said at or after the place `after` in which the regular expression is found."""

        def look() -> Said | None:
            return self.find(pattern, source=source, after=after)

        return self.until(look, f"{pattern!r}", timeout=timeout)

    def find(self, pattern: str, *, source: str | None = None, after: int = 0) -> Said | None:
        """As expect(), in what has been heard so far."""
        wanted = re.compile(pattern)
        for each in self.said[after:]:
            if source in (None, each.source) and wanted.search(each.text):
                return each
        return None

    def hear(self, pattern: str, *, after: int = 0, timeout: float = DEADLINE) -> Said:
        """Wait until systemd is told so."""
        return self.expect(pattern, source="notify", after=after, timeout=timeout)

    def ready(self) -> Service:
        """Wait for READY=1; returns itself."""
        self.hear(r"^READY=1")
        return self

    def entries(
        self, event: str | None = None, *, slot: int | None = None, pid: int | None = None, after: int = 0
    ) -> list[Entry]:
        """The entries about workers so far."""
        found = []
        for said in self.said[after:]:
            match = _ENTRY.search(said.text) if said.source == "output" else None
            if match is None:
                continue
            kind = "stopped" if match[4] == "being stopped" else match[4]
            entry = Entry(said.place, said.at, int(match[1]), int(match[2]), int(match[3]), kind, match[5])
            if event in (None, kind) and slot in (None, entry.slot) and pid in (None, entry.pid):
                found.append(entry)
        return found

    def entry(
        self,
        event: str,
        *,
        slot: int | None = None,
        pid: int | None = None,
        after: int = 0,
        count: int = 1,
        timeout: float = DEADLINE,
    ) -> Entry:
        """Wait for the `count`th such entry."""

        def look() -> Entry | None:
            found = self.entries(event, slot=slot, pid=pid, after=after)
            return found[count - 1] if len(found) >= count else None

        what = f"entry {count} of {event} (slot {slot}, pid {pid})"
        return self.until(look, what, timeout=timeout)

    def serving(self) -> dict[int, int]:
        """{slot: pid} of the workers that are ready and not being stopped, by their entries."""
        self._take()
        found: dict[int, int] = {}
        for entry in self.entries():
            if entry.event == "ready":
                found[entry.slot] = entry.pid
            elif entry.event != "started" and found.get(entry.slot) == entry.pid:
                del found[entry.slot]
        return found

    @property
    def status(self) -> str:
        """The last STATUS= that systemd was told."""
        self._take()
        told = [line for each in self.said if each.source == "notify" for line in each.text.split("\n")]
        lines = [line for line in told if line.startswith("STATUS=")]
        return lines[-1].removeprefix("STATUS=") if lines else ""

    def __str__(self) -> str:
        return "\n".join(f"{each.source:6} {each.at:.3f} {each.text}" for each in self.said)

    def _take(self) -> None:
        """An entry has a place before all that systemd is told after it.

        Datagrams are read first, and put behind the lines: a line that was written before one of them is there by then.
        Nothing tells whether a line was written before or after a datagram that is read with it.
        """
        told = [] if self._deaf else self._notify.receive()
        while True:
            try:
                block = os.read(self._output, 65536)
            except BlockingIOError:
                break
            if not block:
                break  # no writer yet, or none any more
            *lines, self._rest = (self._rest + block).split(b"\n")
            for line in lines:
                self._hear("output", line.decode("utf-8", "replace"))
        for datagram in told:
            self._hear("notify", datagram.payload.decode("ascii"))

    def _hear(self, source: str, text: str) -> None:
        self.said.append(Said(len(self.said), source, text, time.monotonic()))

    # -- acting ----------------------------------------------------------------------------------------------

    @property
    def pidfd(self) -> int:
        """Readable once the master has ended."""
        return self._child.pidfd

    def send(self, signum: int) -> None:
        """Send a signal to the master."""
        self._child.signal(signum)

    @property
    def running(self) -> bool:
        """Whether the master has not ended yet."""
        return not _readable(self._child.pidfd)

    def pass_by(self) -> None:
        """Return after a whole pass of the master's loop that began after this call."""
        mark = self.mark
        self.send(signal.SIGUSR1)
        self.expect(r"^memunit: (\d+/\d+ workers|stopping|reloading)", source="output", after=mark)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """As long as this lasts, the master is stopped by SIGSTOP: it sees what a test does in several steps as one."""
        self.send(signal.SIGSTOP)
        changed = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert changed is not None
        assert changed.si_code == os.CLD_STOPPED, f"the master has ended before\n{self}"
        try:
            yield
        finally:
            self.send(signal.SIGCONT)

    @contextlib.contextmanager
    def deaf(self) -> Iterator[None]:
        """As long as this lasts, systemd reads nothing of what it is told, and its queue is full."""
        self._poll.unregister(self._notify.fileno())
        self._deaf = True
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as flood:
                flood.connect(self._notify.path)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        flood.send(b"FLOOD=1")
            yield
        finally:
            self._deaf = False
            self._poll.register(self._notify.fileno(), select.POLLIN)

    def stop(self, signum: int = signal.SIGTERM, *, timeout: float = DEADLINE) -> int:
        """Ask it to stop, and wait; the exit code."""
        self.send(signum)
        return self.exit_code(timeout)

    def exit_code(self, timeout: float = DEADLINE) -> int:
        """Wait for its end, and for all it has said: the exit code, negative for a signal."""
        if self._code is None:
            self.until(lambda: bool(_readable(self._child.pidfd)) or None, "its end", timeout=timeout)
            self._take()
            self._reap()
        assert self._code is not None
        return self._code

    def kill(self) -> None:
        """End what is left of it."""
        if self._code is None:
            self._child.kill_tree()
            wait_readable(self._child.pidfd)
            self._reap()
        if self._code == -signal.SIGKILL:
            # What a killed master has left behind leads a process group of its own.
            ended = {entry.pid for entry in self.entries("ended")}
            for pid in {entry.pid for entry in self.entries("started")} - ended:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
        self._child.close()
        os.close(self._output)

    def _reap(self) -> None:
        """This child alone: others, as a command that runs beside it, have their own that waits for them."""
        self._poll.unregister(self._child.pidfd)
        end = os.waitid(os.P_PID, self.pid, os.WEXITED)
        assert end is not None
        self._child.ended = True
        self._code = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status


class Unit:
    """An instance: its file, its directories and its sockets, and the masters that are started in it."""

    def __init__(self, directory: Path, *, name: str = "app", program: Path = ROOT) -> None:
        self.name = name
        self._program = program
        self.directory = directory
        self.etc, self.runtime = directory / "etc", directory / "run"
        self.file = self.etc / f"{name}.toml"
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.sockets: tuple[tuple[str, socket.socket], ...] = ((f"memunit@{name}.socket", self.listener),)
        self.services: list[Service] = []
        self._notify = NotifyListener(str(directory / "systemd"))
        for made in (self.etc, self.runtime):
            made.mkdir()

    @property
    def target(self) -> str:
        """Where the first socket listens."""
        host, port = self.listener.getsockname()
        return f"{host}:{port}"

    @property
    def environment(self) -> dict[str, str]:
        """As ConfigurationDirectory= and RuntimeDirectory= of the unit say it."""
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(self._program),
            "PYTHONDONTWRITEBYTECODE": "1",
            "CONFIGURATION_DIRECTORY": str(self.etc),
            "RUNTIME_DIRECTORY": str(self.runtime),
        }

    def write(self, **tables: Mapping[str, object]) -> None:
        """Write the instance's file: its tables with their keys."""
        lines = []
        for table, keys in tables.items():
            lines += [f"[{table}]", *(f"{key} = {_toml(value)}" for key, value in keys.items())]
        self.file.write_text("\n".join([*lines, ""]))

    def begun_with(self, folder: Path, code: str) -> dict[str, str]:
        """The environment of an interpreter that executes `code` at its start: the file for that is in the folder."""
        (folder / "sitecustomize.py").write_text(code)
        return {"PYTHONPATH": f"{folder}:{self.environment['PYTHONPATH']}"}

    def serve(self, **options: Any) -> Service:
        """Start `memunit serve`, as the unit does; see start()."""
        return self.start(*MEMUNIT, "serve", self.name, **options)

    def start(
        self,
        *command: str,
        environment: Mapping[str, str] | None = None,
        sockets: Sequence[tuple[str, socket.socket]] | None = None,
        watchdog_usec: int = 0,
        prefix: Sequence[str] = (),
        directory: Path = APPS,
    ) -> Service:
        """Start a program as systemd starts a service of Type=notify, and return at once.

        `environment` comes on top of the unit's; `sockets` are (name, socket), the unit's unless given.
        """
        fifo = self.directory / f"output{len(self.services)}"
        os.mkfifo(fifo)
        output = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        passed = self.sockets if sockets is None else sockets
        # By env(1), because the launcher that plays systemd here keeps to itself what is meant for one master.
        variables = (f"{name}={value}" for name, value in (environment or {}).items())
        redirect = ("/bin/sh", "-c", 'out=$1; shift; exec "$@" >"$out" 2>&1', "sh", str(fifo))
        child = launch(
            Launch(
                argv=(*redirect, "env", *variables, *prefix, *command),
                environment=self.environment,
                directory=str(directory),
                sockets=tuple((name, each.fileno()) for name, each in passed),
                notify_path=self._notify.path,
                watchdog_usec=watchdog_usec,
            )
        )
        service = Service(child, output, self._notify)
        self.services.append(service)
        return service

    def reload(self) -> subprocess.Popen[str]:
        """Start `memunit reload`, as ExecReload= does."""
        return self.asked("reload")

    def asked(self, command: str, *words: str) -> subprocess.Popen[str]:
        """Start `memunit COMMAND` for the instance."""
        return subprocess.Popen(
            [*MEMUNIT, command, self.name, *words],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def client(self) -> Client:
        """A connection to the first socket."""
        return Client(self.target)

    def get(self, path: str = "/") -> str:
        """The body of the answer to one request on a connection of its own."""
        with self.client() as client:
            response = client.get(path)
        assert response.status == 200, response
        return response.body.decode()

    def close(self) -> None:
        """End everything."""
        end_clients()
        for service in self.services:
            service.kill()
        self._notify.close()
        for _, each in self.sockets:
            each.close()


def finished(
    process: subprocess.Popen[str], service: Service, *, timeout: float = DEADLINE
) -> tuple[int, str]:
    """Wait for a command's end while listening to the service: its exit code and output."""
    pidfd = os.pidfd_open(process.pid)
    try:
        service.listen_until(pidfd, f"the end of {process.args!r}", timeout=timeout)
    finally:
        os.close(pidfd)
    output, _ = process.communicate(timeout=DEADLINE)
    return process.returncode, output


def let_go(fifo: Path, count: int = 1) -> None:
    """Let those go on that read from a FIFO: they have opened it, or will."""
    for _ in range(count):
        with fifo.open("w") as end:
            end.write("go\n")


def _readable(descriptor: int) -> list[tuple[int, int]]:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return poll.poll(0)


def _toml(value: object) -> str:
    """JSON's text, numbers, booleans and lists are TOML's too."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
    return json.dumps(value)
