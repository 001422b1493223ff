"""The environment of a process, by which a master recognizes what a master before it has left."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from memunit.master import proctree
from memunit.master.leftovers import strangers

# One read in fifty meets an execve(2): a reader that takes what it finds passes once in some thousand runs.
_READS = 400


@contextlib.contextmanager
def replacing_itself(folder: Path, more: dict[str, str]) -> Iterator[int]:
    """The pid of a process that does nothing but replace its program."""
    program = folder / "restless"
    program.write_text(f"#!/bin/sh\nexec {program}\n")
    program.chmod(0o755)
    environment = {"NOTIFY_SOCKET": str(folder / "notify"), **more}
    with subprocess.Popen([program], env=environment) as process:
        try:
            yield process.pid
        finally:
            process.kill()


@pytest.fixture
def restless(tmp_path: Path) -> Iterator[int]:
    """Such a process."""
    with replacing_itself(tmp_path, {}) as pid:
        yield pid


def test_in_the_midst_of_an_execve_it_is_read_again(restless: int, tmp_path: Path) -> None:
    wanted = b"NOTIFY_SOCKET=" + os.fsencode(tmp_path / "notify")
    assert all(wanted in proctree.environment_of(restless) for _ in range(_READS))


def test_as_long_as_the_kernel_goes_through_the_variables(tmp_path: Path) -> None:
    """The environment has a place by then, and is empty: for a millisecond if there are so many variables."""
    wanted = b"NOTIFY_SOCKET=" + os.fsencode(tmp_path / "notify")
    with replacing_itself(tmp_path, {f"V{number}": "" for number in range(30_000)}) as pid:
        assert all(wanted in proctree.environment_of(pid) for _ in range(_READS))


def test_a_worker_that_replaces_its_program_is_found(restless: int, tmp_path: Path) -> None:
    """As a wrapper does. The master that did not see it would never stop it."""
    for _ in range(_READS // 4):
        held = strangers(str(tmp_path / "notify"), ())
        for pidfd in held.values():
            os.close(pidfd)
        assert list(held) == [restless]


def test_who_has_none_is_not_waited_for() -> None:
    """A program may be started with none, and a zombie and a kernel thread have no memory at all."""
    before = time.monotonic()
    with subprocess.Popen(["sleep", "1000"], env={}) as process:
        try:
            found = [proctree.environment_of(process.pid) for _ in range(_READS)]
        finally:
            process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with contextlib.suppress(OSError):
            found.append(proctree.environment_of(process.pid))
    assert [one for one in found if one] == []
    # Far from it: each would have been read again for a second.
    assert time.monotonic() - before < _READS / 2
