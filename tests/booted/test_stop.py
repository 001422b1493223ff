"""Stopping and restarting: what is in flight is finished, what comes meanwhile waits in the socket."""

from __future__ import annotations

from pathlib import Path

from memunit.master import messages
from tests.booted.support import (
    UNIT_STARTED,
    Instance,
    asgi,
    at,
    ended,
    in_flight,
    kind,
    light,
    lossless,
    run,
    under_load,
)


def test_a_stop_finishes_what_is_in_flight_and_the_socket_goes_on_listening() -> None:
    with Instance("stopped", light()) as instance:
        instance.start()
        slow = in_flight(instance, 6, 4.0)
        instance.systemctl("stop")
        report = lossless(slow.join())
        assert report.ok == 6
        found = instance.show("ActiveState", "Result", "ExecMainCode", "ExecMainStatus", "ControlGroup")
        assert (found["ActiveState"], found["Result"]) == ("inactive", "success")
        assert (found["ExecMainCode"], found["ExecMainStatus"]) == ("1", "0")
        ends = instance.journal.until(ended(), 2)
        assert [end["MEMUNIT_CAUSE"] for end in ends] == ["stop", "stop"]
        assert not any("MEMUNIT_REPLACEMENT_PID" in end for end in ends)
        # Longer than the requests took, less the moment in which all began.
        assert max(int(end["MEMUNIT_DRAIN_USEC"]) for end in ends) > 500_000

        # Still there, and the next client starts it again.
        assert instance.show("ActiveState", unit=instance.socket)["ActiveState"] == "active"
        instance.ask()
        instance.journal.until(kind(UNIT_STARTED, UNIT=instance.service), 2)
        starts = instance.journal.find(kind(messages.WORKER_STARTING))
        assert len(starts) == 4
        assert min(at(start) for start in starts[2:]) > max(at(end) for end in ends)


def test_stopping_both_units_leaves_nothing() -> None:
    with Instance("nothing", light()) as instance:
        instance.start()
        instance.ask()
        pids = [instance.master(), *instance.workers().values()]
        group = Path("/sys/fs/cgroup" + instance.property("ControlGroup"))
        assert group.is_dir()
        run("systemctl", "stop", instance.socket, instance.service)
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        assert not group.exists()
        assert not Path("/run/memunit/nothing").exists()
        assert not Path(instance.target).exists()
        assert instance.property("Result") == "success"


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
