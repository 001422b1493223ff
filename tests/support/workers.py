"""The harness as master: real workers by real exec on a real socket, with a real notify socket."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from memunit.master.child import Launch
from memunit.master.held import Child
from memunit.master.notify import NotifyListener
from memunit.master.spawn import launch
from tests.support.wait import DEADLINE, wait_end, wait_readable

ROOT = Path(__file__).resolve().parents[2]
APPS = Path(__file__).resolve().parent / "apps"
LOAD = Path(__file__).resolve().parent / "load.py"
WORKER = ROOT / "memunit" / "worker" / "__main__.py"


class Stage:
    """A listening socket and a notify socket in `directory`, and the workers that are started on them."""

    def __init__(
        self, directory: Path, *, unix: bool = False, sockets: tuple[socket.socket, ...] = ()
    ) -> None:
        self._directory = directory
        self._own = () if sockets else (_listener(directory, unix=unix),)
        self.sockets = sockets or self._own
        self.notify = NotifyListener(str(directory / "notify"))
        self._said: dict[int, list[str]] = {}
        self._numbers = itertools.count()
        self._workers: list[RunningWorker] = []

    @property
    def target(self) -> str:
        """Where the first socket listens, as the load client wants it."""
        name = self.sockets[0].getsockname()
        return str(name) if isinstance(name, str) else f"{name[0]}:{name[1]}"

    def start(
        self,
        python: str | Path,
        target: str,
        *,
        server: str = "asgi",
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        directory: Path = APPS,
        watchdog_usec: int = 0,
    ) -> RunningWorker:
        """Start a worker, and return at once."""
        output = self._directory / f"output{next(self._numbers)}"
        command = (str(python), str(WORKER), "--server", server, *options, target)
        child = launch(
            Launch(
                argv=("/bin/sh", "-c", 'out=$1; shift; exec "$@" >"$out" 2>&1', "sh", str(output), *command),
                environment={
                    "PATH": os.environ["PATH"],
                    "PYTHONDONTWRITEBYTECODE": "1",
                    **(environment or {}),
                },
                directory=str(directory),
                sockets=tuple((f"s{place}.socket", each.fileno()) for place, each in enumerate(self.sockets)),
                notify_path=self.notify.path,
                watchdog_usec=watchdog_usec,
            )
        )
        worker = RunningWorker(self, child, output)
        self._workers.append(worker)
        return worker

    def hear(self, pid: int, assignment: str, timeout: float = DEADLINE) -> str:
        """Wait until `pid` has said a line that begins with `assignment`; takes and returns it."""
        until = time.monotonic() + timeout
        poll = select.poll()
        poll.register(self.notify.fileno(), select.POLLIN)
        while True:
            said = self._said.setdefault(pid, [])
            for line in said:
                if line.startswith(assignment):
                    said.remove(line)
                    return line
            if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
                raise TimeoutError(f"worker {pid} did not say {assignment} within {timeout} s, but {said}")
            for datagram in self.notify.receive():
                self._said.setdefault(datagram.pid, []).extend(datagram.payload.decode("ascii").split("\n"))

    def said(self, pid: int) -> list[str]:
        """What `pid` has said and nobody has taken with hear()."""
        for datagram in self.notify.receive():
            self._said.setdefault(datagram.pid, []).extend(datagram.payload.decode("ascii").split("\n"))
        return self._said.get(pid, [])

    def close(self) -> None:
        """Kill what still runs, and close the sockets."""
        end_clients()
        for worker in self._workers:
            worker.kill()
        self.notify.close()
        for each in self._own:
            each.close()


class RunningWorker:
    """One worker of a Stage."""

    def __init__(self, stage: Stage, child: Child, output: Path) -> None:
        self.pid = child.pid
        self._stage = stage
        self._child = child
        self._output = output
        self._status: int | None = None

    def ready(self, timeout: float = DEADLINE) -> RunningWorker:
        """Wait for READY=1; returns itself. The output tells why when it does not come."""
        try:
            self._stage.hear(self.pid, "READY=1", timeout)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it wrote:\n{self.output}") from None
        return self

    def signal(self, signum: int = signal.SIGTERM) -> None:
        """Send a signal."""
        self._child.signal(signum)

    def stop(self) -> None:
        """SIGTERM, and wait until it has answered with STOPPING=1."""
        self.signal()
        self._stage.hear(self.pid, "STOPPING=1")

    def wait(self, timeout: float = DEADLINE) -> int:
        """Wait for its end: the exit status, negative for a signal."""
        if self._status is None:
            end = wait_end(self._child, timeout)
            self._status = end.status if end.code == "exited" else -end.status
        return self._status

    def kill(self) -> None:
        """End it, if it has not ended; release what is held of it."""
        if self._status is None:
            self._child.kill_tree()
            self.wait()
        with contextlib.suppress(OSError):
            self._child.close()

    @property
    def output(self) -> str:
        """What it has written on stdout and stderr so far."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""


_clients: list[subprocess.Popen[bytes]] = []


def end_clients() -> None:
    """Kill the clients that are processes of their own: a test that fails must leave none of them behind it."""
    for process in _clients:
        process.kill()
        process.wait()
    _clients.clear()


def client_process(process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """It is one of those that end with their test."""
    _clients.append(process)
    return process


class LoadProcess:
    """tests/support/load.py in a process of its own, until finish()."""

    EVERY = 20  # right answers for which it writes one line, an empty one

    def __init__(self, directory: Path, target: str, *arguments: str) -> None:
        self._stop_file = directory / f"stop-{os.urandom(4).hex()}"
        command = [
            sys.executable,
            str(LOAD),
            "--target",
            target,
            "--json",
            "--stop-file",
            str(self._stop_file),
            "--every",
            str(self.EVERY),
            "--seconds",
            "300",
        ]
        self._process = client_process(subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE))

    def answered(self, count: int = EVERY) -> None:
        """Wait until so many more requests, or a few more than that, have been answered as expected.

        Until then it may not even have begun: a busy machine takes seconds to start it.
        """
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        while select.select([output], [], [], 0)[0]:
            assert os.read(output, 1), "the load has ended"
        # Up to the first line that comes now, the answers may be of before.
        for _ in range(1 + -(-count // self.EVERY)):
            wait_readable(output)
            assert os.read(output, 1), "the load has ended"

    def finish(self, timeout: float = 120.0) -> dict[str, Any]:
        """Let the requests under way end; the report."""
        self._stop_file.touch()
        return self.report(timeout)

    def report(self, timeout: float = 120.0) -> dict[str, Any]:
        """Wait until it has sent all that it was told to; the report."""
        output, _ = self._process.communicate(timeout=timeout)
        report: dict[str, Any] = json.loads(output)
        return report


@contextlib.contextmanager
def stage(directory: Path, *, unix: bool = False, sockets: tuple[socket.socket, ...] = ()) -> Iterator[Stage]:
    """A Stage that is closed at the end."""
    made = Stage(directory, unix=unix, sockets=sockets)
    try:
        yield made
    finally:
        made.close()


def _listener(directory: Path, *, unix: bool) -> socket.socket:
    if unix:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(directory / "app.sock"))
        listener.listen(1024)
        return listener
    return socket.create_server(("127.0.0.1", 0), backlog=1024)
