"""The notify socket as a descriptor, for a program that can't open one: each write is the writer's own datagram."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from memunit.master.child import Launch
from memunit.master.spawn import launch
from tests.support.wait import wait_end, wait_readable
from tests.support.workers import Stage, stage

_WRITE = """
import os, sys
fd = int(os.environ["MEMUNIT_NOTIFY_FD"])
assert fd == 3 + int(os.environ["LISTEN_FDS"])
os.write(fd, b"READY=1\\nSTATUS=two\\nlines")
if sys.argv[1:] == ["fill"]:
    try:
        while True:
            os.write(fd, b"WATCHDOG=1")
    except BlockingIOError:
        sys.exit(7)
"""


@pytest.mark.parametrize("count", [1, 3])
def test_each_write_is_a_datagram_of_the_writer(tmp_path: Path, count: int) -> None:
    """After the sockets, however many; and it does not block where the master's queue is full."""
    with stage(tmp_path) as here:
        child = launch(_what(here, count, "fill"))
        wait_readable(here.notify.fileno())
        first = here.notify.receive(1)[0]
        assert (first.pid, first.payload) == (child.pid, b"READY=1\nSTATUS=two\nlines")
        assert wait_end(child).status == 7
        child.close()


def test_without_a_notify_socket_it_does_not_start(tmp_path: Path) -> None:
    """The failure names the path."""
    with stage(tmp_path) as here:
        what = _what(here, 1)
        Path(here.notify.path).unlink()
        child = launch(what)
        wait_end(child)
        failure = child.failure()
        assert failure is not None
        assert (failure.errno, failure.filename) == (errno.ENOENT, here.notify.path)
        child.close()


def _what(here: Stage, count: int, *words: str) -> Launch:
    return Launch(
        argv=(sys.executable, "-S", "-c", _WRITE, *words),
        environment={"PATH": os.environ["PATH"]},
        sockets=tuple((f"s{place}", here.sockets[0].fileno()) for place in range(count)),
        notify_path=here.notify.path,
        notify_descriptor=True,
    )
