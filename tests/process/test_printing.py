"""What workers print: each line is one write(2), for all have the same stdout."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.http import Client
from tests.support.wait import DEADLINE
from tests.support.workers import APPS, ROOT


class _Journal:
    """A socket that keeps each write to it apart, as no pipe does."""

    def __init__(self, ours: socket.socket) -> None:
        self.writes: list[str] = []
        self._socket = ours

    def until(self, enough: Callable[[str], bool]) -> None:
        until = time.monotonic() + DEADLINE
        while not enough("".join(self.writes)):
            self._socket.settimeout(max(0.01, until - time.monotonic()))
            self.writes.append(self._socket.recv(65536).decode())

    def to_its_end(self) -> None:
        self._socket.settimeout(DEADLINE)
        while written := self._socket.recv(65536):
            self.writes.append(written.decode())

    def beginning(self, *words: str) -> list[str]:
        return [each for each in self.writes if each.startswith(words)]


@contextlib.contextmanager
def _running(path: Path, *words: str, own: str = "") -> Iterator[_Journal]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "memunit", "run", "--listen", str(path), "--workers", "2"]
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment |= {"PYTHONPATH": str(ROOT), "CHATTY": own}
    with ours:
        process = subprocess.Popen(
            [*command, "--app", "chatty:app", "--directory", str(APPS), *words],
            env=environment, stdin=subprocess.DEVNULL, stdout=theirs.fileno(), stderr=theirs.fileno(),
        )  # fmt: skip
        theirs.close()
        journal = _Journal(ours)
        try:
            yield journal
        finally:
            process.send_signal(signal.SIGTERM)
            journal.to_its_end()
            process.wait(DEADLINE)


@pytest.mark.parametrize("preload", ["true", "false"])
def test_a_line_is_one_write(tmp_path: Path, preload: str) -> None:
    path = tmp_path / "s"
    with _running(path, "--preload", preload) as journal:
        journal.until(lambda said: said.count(" is ready ") == 2)
        with Client(str(path)) as client:
            assert client.get("/").status == 200
        journal.until(lambda said: said.count("told by") == 3)
    assert len(journal.beginning("imported by ")) == (1 if preload == "true" else 2)
    assert len(journal.beginning("told by ")) == 3
    # The part that an import has printed is said once, by whom the import was in.
    assert "".join(journal.writes).count("loading ...") == (1 if preload == "true" else 2)
    parts = [each for each in journal.writes if not each.endswith("\n") and each != "loading ..."]
    assert parts == []
    lines = [line for each in journal.writes for line in each.splitlines()]
    assert sum("said by " in line for line in lines) == 3


def test_what_the_app_says_of_its_stdout_has_the_last_word(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with _running(path, "--preload", "false", own="own") as journal:
        journal.until(lambda said: said.count(" is ready ") == 2)
        with Client(str(path)) as client:
            assert client.get("/").status == 200
        journal.until(lambda said: said.count("told by") == 3)
    assert "said" in journal.writes
    assert len(journal.beginning("told by ")) == 3
