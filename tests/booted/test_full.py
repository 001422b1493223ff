"""A /run without room. Not beside the crash loops that other files watch: systemd can't start them in time then."""

from __future__ import annotations

import contextlib
from pathlib import Path

from memunit.core.messages import Message
from tests.booted.support import Instance, ended, kind, light, run, under_load
from tests.booted.test_master_gone import kill_master


def test_a_full_run_does_not_hide_who_serves() -> None:
    """The set of workers changed while nothing could be written; the successor took those of before for crashed, told
    their ends once more, and stopped at once those that served.
    """
    filler = Path("/run/memunit-test-filler")
    with Instance("full", light()) as instance:
        instance.start()
        instance.settle()
        before = instance.workers()
        try:
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(1 << 20))
            with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(1 << 10))
            with under_load(instance.load(clients=2, rate=20)):
                run("memunit", "recycle", instance.name)
                instance.settle()
                now = instance.workers()
                assert not set(before.values()) & set(now.values())
                kill_master(instance)
                (told,) = instance.journal.until(kind(Message.MASTER_SUCCEEDED.id))
                assert "2 of its workers are taken over" in told["MESSAGE"]
                instance.journal.until(ended(MEMUNIT_CAUSE="adopted"), 2)
        finally:
            filler.unlink()
        assert not instance.journal.find(ended(MEMUNIT_CAUSE="crash-exit"))
        for pid in (*before.values(), *now.values()):
            assert len(instance.journal.find(ended(MEMUNIT_WORKER_PID=pid))) == 1
