"""`systemctl reload` waits for the reload and tells its result; a broken one leaves the old generation serving."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from memunit.core.messages import Message
from tests.booted.support import SECONDS, Instance, ended, kind, light, run, under_load

pytestmark = pytest.mark.native
GONE = Path("/opt/memunit-tests/gone.py")
HANGING = Path("/opt/memunit-tests/hanging.py")


def _assert_serving(instance: Instance) -> None:
    # A reload is told to the journal first, and then to systemd.
    instance.settle()
    found = instance.show("ActiveState", "SubState", "Result", "NRestarts")
    assert found == {"ActiveState": "active", "SubState": "running", "Result": "success", "NRestarts": "0"}
    instance.ask()


def test_a_reload_is_done_when_it_returns_and_a_broken_one_says_so() -> None:
    with Instance("reload", light()) as instance:
        instance.start()
        journal = instance.journal
        journal.until(kind(Message.WORKER_READY.id), 2)
        with under_load(instance.load(clients=4, rate=20)):
            # Another setting, and so another number of workers.
            instance.write(light(count=3))
            instance.systemctl("reload")
            done = journal.until(kind(Message.RELOAD_DONE.id))
            assert done[0]["MEMUNIT_RESULT"] == "done"
            assert instance.status().startswith("3/3 workers")
            _assert_serving(instance)
            journal.until(ended(MEMUNIT_CAUSE="reload"), 2)
            generation = instance.workers()

            # A file that can't be used.
            instance.write(light(count=3).replace("count", "cuont"))
            refused = instance.systemctl("reload", check=False)
            assert refused.returncode != 0
            (told,) = journal.until(kind(Message.RELOAD_FAILED.id))
            assert told["MEMUNIT_RESULT"] == "refused"
            assert "cuont" in told["MESSAGE"]
            status = instance.status()
            assert status.startswith("3/3 workers")
            assert "the last reload failed" in status
            assert "cuont" in status
            _assert_serving(instance)

            # An app that does not come up.
            GONE.write_text("raise SystemExit('gone for good')\n")
            instance.write(light(count=3).replace("light.py", "gone.py"))
            failed = instance.systemctl("reload", check=False)
            assert failed.returncode != 0
            told = journal.until(kind(Message.RELOAD_FAILED.id), 2)[1]
            assert told["MEMUNIT_RESULT"] == "failed"
            # Why, in the app's own words.
            journal.until(lambda entry: entry.get("MESSAGE") == "gone for good")
            status = instance.status()
            assert status.startswith("3/3 workers")
            assert "the last reload failed" in status
            _assert_serving(instance)
            assert instance.workers() == generation
            assert not journal.find(ended(MEMUNIT_WORKER_PID=next(iter(generation.values()))))

            # Mended.
            instance.write(light(count=1))
            instance.systemctl("reload")
            status = instance.status()
            assert status.startswith("1/1 workers")
            assert "the last reload failed" not in status
            _assert_serving(instance)

            # By the signal, as systemctl kill and old scripts send it.
            run("systemctl", "kill", "--kill-whom=main", "-s", "HUP", instance.service)
            journal.until(kind(Message.RELOAD_DONE.id), 3)
            _assert_serving(instance)
        GONE.unlink()


def test_a_master_that_is_killed_in_the_midst_of_a_reload_has_a_successor() -> None:
    """systemd (257) waited for the READY=1 of the dead one, for as long as the reload might have taken."""
    with Instance("midst", light()) as instance:
        instance.start()
        journal = instance.journal
        journal.until(kind(Message.WORKER_READY.id), 2)
        before = instance.master()
        with under_load(instance.load(clients=2, rate=20)):
            HANGING.write_text("import sys, time\nprint('starts', file=sys.stderr)\ntime.sleep(10000)\n")
            instance.write(light().replace("light.py", "hanging.py"))
            run("systemctl", "--no-block", "reload", instance.service)
            journal.until(lambda entry: entry.get("MESSAGE") == "starts")
            instance.write(light())
            # Held, it ends after systemd has seen the end of the master: left alone, it is either way.
            client = int(instance.property("ControlPID"))
            os.kill(client, signal.SIGSTOP)
            os.kill(before, signal.SIGKILL)
            deadline = time.monotonic() + SECONDS
            while instance.property("MainPID") != "0":
                assert time.monotonic() < deadline
            os.kill(client, signal.SIGCONT)
            journal.until(kind(Message.MASTER_SUCCEEDED.id), seconds=60)
            journal.until(ended(MEMUNIT_CAUSE="adopted"), 2)
        assert instance.master() != before
        instance.settle()
        assert instance.show("ActiveState", "SubState") == {"ActiveState": "active", "SubState": "running"}
        HANGING.unlink()
