"""Stopping and restarting: what is in flight is finished, what comes meanwhile waits in the socket."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from memunit.core.messages import Message
from tests.booted.support import (
    SECONDS,
    UNIT_STARTED,
    Instance,
    asgi,
    at,
    ended,
    kind,
    light,
    lossless,
    run,
    say,
    under_load,
)
from tests.booted.support_held import GRACE, Held
from tests.support.wait import wait_readable

FROZEN = Path("/run/frozen")


@pytest.fixture
def frozen() -> Iterator[None]:
    """A file system whose writers sleep, and can't be killed: as those of a disk or a server that does not answer."""
    FROZEN.mkdir()
    run("truncate", "-s", "16M", "/run/frozen.image")
    run("mkfs.ext4", "-q", "/run/frozen.image")
    run("modprobe", "loop")
    run("mount", "-o", "loop", "/run/frozen.image", str(FROZEN))
    FROZEN.chmod(0o777)
    run("fsfreeze", "--freeze", str(FROZEN))
    yield
    run("fsfreeze", "--unfreeze", str(FROZEN), check=False)
    # Lazily: who was killed while it was frozen may not have gone yet.
    run("umount", "--lazy", str(FROZEN))
    FROZEN.rmdir()


def test_a_stop_finishes_what_is_in_flight_and_the_socket_goes_on_listening() -> None:
    with Instance("stopped", light(more=GRACE)) as instance:
        instance.start()
        held = Held(instance, 6)
        run("systemctl", "--no-block", "stop", instance.service)
        instance.journal.until(lambda entry: entry.get("MESSAGE") == "told to stop", 2)
        held.answer()
        instance.systemctl("stop")
        found = instance.show("ActiveState", "Result", "ExecMainCode", "ExecMainStatus", "ControlGroup")
        assert (found["ActiveState"], found["Result"]) == ("inactive", "success")
        assert (found["ExecMainCode"], found["ExecMainStatus"]) == ("1", "0")
        ends = instance.journal.until(ended(), 2)
        assert [end["MEMUNIT_CAUSE"] for end in ends] == ["stop", "stop"]
        assert not any("MEMUNIT_REPLACEMENT_PID" in end for end in ends)
        assert all(int(end["MEMUNIT_DRAIN_USEC"]) > 0 for end in ends)

        # Still there, and the next client starts it again.
        assert instance.show("ActiveState", unit=instance.socket)["ActiveState"] == "active"
        instance.ask()
        instance.journal.until(kind(UNIT_STARTED, UNIT=instance.service), 2)
        starts = instance.journal.find(kind(Message.WORKER_STARTING.id))
        assert len(starts) == 4
        assert min(at(start) for start in starts[2:]) > max(at(end) for end in ends)


def test_stopping_both_units_leaves_nothing() -> None:
    with Instance("nothing", light()) as instance:
        instance.start()
        instance.ask()
        instance.settle()
        pids = [instance.master(), *instance.workers().values()]
        assert len(pids) == 3
        group = Path("/sys/fs/cgroup" + instance.property("ControlGroup"))
        assert group.is_dir()
        run("systemctl", "stop", instance.socket, instance.service)
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        assert not group.exists()
        assert not Path("/run/memunit/nothing").exists()
        assert not Path(instance.target).exists()
        assert instance.property("Result") == "success"


@pytest.mark.native
def test_restarts_under_load_lose_nothing() -> None:
    file = asgi(workers='count = 2\nstart_timeout = "2min"\n')
    with Instance("restart", file, listen="127.0.0.1:8022") as instance:
        instance.start()
        before = instance.master()
        slow = instance.load(clients=4, requests=4, path="/slow?s=3").start()
        with under_load(
            instance.load(clients=4, rate=20), instance.load(clients=4, rate=20, keep_alive=True)
        ) as reports:
            instance.systemctl("restart")
            assert instance.master() != before
            # A stop alone: the clients that wait start it again.
            instance.systemctl("stop")
            instance.journal.until(kind(UNIT_STARTED, UNIT=instance.service, JOB_RESULT="done"), 3)
        assert all(report.ok for report in reports)
        assert lossless(slow.join()).ok == 4
        assert {end["MEMUNIT_CAUSE"] for end in instance.journal.find(ended())} == {"stop"}


def test_a_worker_that_cannot_even_be_killed_holds_up_nobody(frozen: None) -> None:
    """In an uninterruptible sleep: not the master, nor a reload, nor its siblings, nor the end of the master."""
    file = light(more='[stop]\ngrace = "6s"\n')
    service = f"ReadWritePaths={FROZEN}\nTimeoutStopSec=2min\n"
    with Instance("stuck", file, service=service) as instance:
        instance.start()
        doomed = instance.load(clients=1, requests=1, path="/frozen").start()
        instance.journal.until(lambda entry: entry.get("MESSAGE") == "frozen")
        instance.systemctl("reload")
        (end,) = instance.journal.until(ended())
        assert end["MEMUNIT_CAUSE"] == "reload"
        with under_load(instance.load(clients=2, rate=20)):
            until = time.monotonic() + SECONDS
            while "stop-sigkill" not in instance.settle():
                assert time.monotonic() < until
        assert len(instance.journal.find(ended())) == 1

        began, master = time.monotonic(), os.pidfd_open(instance.master())
        stopping = subprocess.Popen(["systemctl", "stop", instance.service])
        wait_readable(master, SECONDS)
        os.close(master)
        took = time.monotonic() - began
        say(f"with a worker that can't be killed, the master ended {took:.1f} s after systemctl stop")
        ends = instance.journal.until(ended(), 4)
        assert Counter(end["MEMUNIT_CAUSE"] for end in ends) == {"reload": 1, "stop": 2, "grace-expired": 1}
        (stuck,) = instance.journal.find(ended(MEMUNIT_CAUSE="grace-expired"))
        say(f"its entry: {stuck['MESSAGE']}")
        assert (stuck["EXIT_CODE"], stuck["MEMUNIT_STOP_REASON"]) == ("stuck", "reload")
        run("fsfreeze", "--unfreeze", str(FROZEN))
        stopping.communicate()
        doomed.join()
