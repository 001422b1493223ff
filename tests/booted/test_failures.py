"""Everything that can break, broken on purpose: workers, the master, the app, the file.

Two instances that can't start are in their crash loop from the first of these tests on (loops.py).
"""

from __future__ import annotations

import os
import signal
import time

from memunit.core.messages import Message
from tests.booted.loops import BROKEN, Loop
from tests.booted.support import (
    SECONDS,
    UNIT_RESTART,
    UNIT_STARTED,
    UNIT_STARTING,
    Instance,
    Wanted,
    at,
    ended,
    kind,
    light,
    say,
    under_load,
)
from tests.booted.support_held import GRACE, Held
from tests.support.wait import wait_gone


def test_a_start_that_fails_says_why(import_error: Loop, bad_file: Loop) -> None:
    journal = import_error.instance.journal
    # A master on a busy machine may have given up before the first import came to its error.
    said = "can't be started: cannot import web: ModuleNotFoundError: No module named 'not_there_at_all'"
    launch_failed = kind(Message.LAUNCH_FAILED.id)
    failed = journal.until(lambda entry: launch_failed(entry) and said in entry["MESSAGE"])[0]
    assert failed["PRIORITY"] == "3"
    # The traceback, in the words of the app's own interpreter.
    for words in (
        "Traceback (most recent call last):",
        f'File "{BROKEN}/web.py", line 1',
        "ModuleNotFoundError: No module named 'not_there_at_all'",
    ):
        journal.until(_printed(words))
    # With a client waiting, it is being started again for good.
    journal.until(kind(UNIT_STARTING, UNIT=import_error.instance.service), 2)
    unit = import_error.instance.socket
    assert import_error.instance.show("ActiveState", unit=unit)["ActiveState"] == "active"

    told = bad_file.instance.journal.find(kind(Message.CONFIGURATION.id))[0]
    assert "/etc/memunit/unusable.toml" in told["MESSAGE"]
    assert "cuont" in told["MESSAGE"]
    assert "count" in told["MESSAGE"]
    exits = bad_file.instance.journal.until(lambda entry: entry.get("EXIT_STATUS") == "78")
    assert exits[0]["UNIT"] == bad_file.instance.service


def _printed(words: str) -> Wanted:
    return lambda entry: entry.get("_TRANSPORT") == "stdout" and words in entry["MESSAGE"]


def test_a_killed_worker_is_one_entry_and_one_replacement(import_error: Loop) -> None:
    with Instance("killed", light()) as instance:
        instance.start()
        instance.journal.until(kind(Message.WORKER_READY.id), 2)
        victim = instance.workers()[0]
        os.kill(victim, signal.SIGKILL)
        instance.journal.until(kind(Message.WORKER_READY.id), 3)
        instance.settle()
        (end,) = instance.journal.find(ended())
        assert end["MEMUNIT_CAUSE"] == "crash-signal"
        assert (end["EXIT_CODE"], end["EXIT_STATUS"]) == ("killed", "9")
        assert (end["MEMUNIT_SLOT"], end["MEMUNIT_WORKER_PID"]) == ("0", str(victim))
        assert end["PRIORITY"] == "4"
        starts = instance.journal.find(kind(Message.WORKER_STARTING.id))
        assert len(starts) == 3
        assert end["MEMUNIT_REPLACEMENT_PID"] == starts[2]["MEMUNIT_WORKER_PID"]
        assert "1 recycled (1 crash-signal)" in instance.status()


def test_a_worker_that_ignores_sigterm_is_one_entry_and_one_replacement(import_error: Loop) -> None:
    more = '[memory]\nlimit = "32M"\npatience = 0\ninterval = "200ms"\n[stop]\ngrace = "2s"\n'
    with Instance("deaf", light("--deaf", more=more, count=1)) as instance:
        instance.start()
        instance.ask("/leak?kb=40000")
        instance.journal.until(ended())
        instance.settle()
        (end,) = instance.journal.find(ended())
        assert end["MEMUNIT_CAUSE"] == "grace-expired"
        assert end["MEMUNIT_STOP_REASON"] == "memory-limit"
        assert (end["EXIT_CODE"], end["EXIT_STATUS"]) == ("killed", "9")
        assert int(end["MEMUNIT_DRAIN_USEC"]) >= 2_000_000
        starts = instance.journal.find(kind(Message.WORKER_STARTING.id))
        assert len(starts) == 2
        assert end["MEMUNIT_REPLACEMENT_PID"] == starts[1]["MEMUNIT_WORKER_PID"]


def test_a_killed_master_is_back_and_nothing_was_lost(import_error: Loop) -> None:
    with Instance("headless", light(more=GRACE), listen="127.0.0.1:8023") as instance:
        instance.start()
        with under_load(instance.load(clients=8, rate=20)) as reports:
            held = Held(instance, 6)
            os.kill(instance.master(), signal.SIGKILL)
            instance.journal.until(kind(UNIT_STARTED, UNIT=instance.service, JOB_RESULT="done"), 2)
            held.answer()

            # Once more with nothing long in flight, for the time that it takes.
            killed = time.monotonic()
            os.kill(instance.master(), signal.SIGKILL)
            instance.journal.until(kind(UNIT_STARTED, UNIT=instance.service, JOB_RESULT="done"), 3)
            found = instance.show("ExecMainStartTimestampMonotonic", "NRestarts", "ActiveState")
        assert (found["NRestarts"], found["ActiveState"]) == ("2", "active")
        back = int(found["ExecMainStartTimestampMonotonic"]) / 1e6 - killed
        ready = at(instance.journal.find(kind(Message.WORKER_READY.id))[-2]) - killed
        say(f"the master was killed: started anew after {back:.2f} s, a worker ready after {ready:.2f} s")
        say(f"requests meanwhile: {reports[0].sent}, the longest gap {reports[0].longest_gap:.2f} s")
        # RestartSec= is one second. With a step or a limit of systemd's on top it would be a minute. Seen from the end
        # of the old one on, for how long that takes is the machine's matter.
        failed = instance.journal.find(lambda entry: "Failed with result" in entry.get("MESSAGE", ""))
        again = instance.journal.find(kind(UNIT_RESTART, UNIT=instance.service))
        assert len(failed) == len(again) == 2
        assert back >= 1.0
        assert all(at(later) - at(former) < 30.0 for former, later in zip(failed, again, strict=True))


def test_a_master_that_hangs_is_found_by_the_watchdog_and_nothing_is_lost(import_error: Loop) -> None:
    service = "WatchdogSec=6s\nTimeoutAbortSec=20s\n"
    with Instance("hung", light(more=GRACE), listen="127.0.0.1:8024", service=service) as instance:
        instance.start()
        master = instance.master()
        with under_load(instance.load(clients=8, rate=20)):
            held = Held(instance, 6)
            os.kill(master, signal.SIGSTOP)
            stopped = time.monotonic()
            instance.journal.until(kind(UNIT_STARTED, UNIT=instance.service, JOB_RESULT="done"), 2)
            back = time.monotonic() - stopped
            held.answer()
        wait_gone(master, SECONDS)
        assert instance.journal.find(lambda entry: "Watchdog timeout" in entry.get("MESSAGE", ""))
        (restart,) = instance.journal.find(kind(UNIT_RESTART, UNIT=instance.service))
        assert restart["N_RESTARTS"] == "1"
        assert instance.master() != master
        say(f"the master was stopped: service is back {back:.1f} s later, WatchdogSec= being 6 s")
