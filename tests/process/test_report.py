"""What the service manager is told, and when."""

import math
import select
import socket
import time
from pathlib import Path

from memunit.core.model import Policy
from memunit.core.state import initial
from memunit.master.journal import Log
from memunit.master.notify import Systemd
from memunit.master.report import Reporter
from tests.support.wait import wait_readable


def test_a_status_that_is_nearly_due_is_told_in_a_pass_that_happens_anyway(tmp_path: Path) -> None:
    """Samples are taken each second, and a status was due 3 ms after each of them: twice the passes when idle."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as manager:
        manager.bind(path)
        report = Reporter(Log("app", native=False), Systemd({"NOTIFY_SOCKET": path}))
        state = initial(Policy(count=1), now=time.monotonic(), seed=0)
        report.finished_pass(state)
        wait_readable(manager.fileno())
        assert manager.recv(4096).startswith(b"STATUS=")
        state.trouble = "the disk is full"
        report.finished_pass(state)
        due = report.due
        # Told within a second, and not at once: whatever happens in a pass may change it again.
        assert 0 < due - time.monotonic() <= 1
        assert not select.select([manager], [], [], 0)[0]
        select.select([], [], [], max(0, due - time.monotonic() - 0.04))
        report.finished_pass(state, news=False)
        wait_readable(manager.fileno())
        assert b"the disk is full" in manager.recv(4096)
        assert math.isinf(report.due)
