"""The program of examine.command, where each has a control group of its own: bounded, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from memunit.core.messages import Message
from tests.booted.support import SECONDS, ended, kind, light, run, under_load
from tests.booted.support_groups import Instance, group

# No ceiling: a worker that grows towards one is told to stop before the program has ended.
BOUNDS = '[memory]\nlimit = "48M"\npatience = 0\ninterval = "1h"\n'


def examining(script: str, bounds: str) -> str:
    """The file of an instance with one worker, of which each recycle runs this script."""
    command = f'[examine]\ncommand = ["/bin/sh", "-c", "{script}"]\n{bounds}\n'
    return light(more=BOUNDS + command, count=1)


def programs(instance: Instance) -> list[Path]:
    """The control groups of programs that run."""
    return [each for each in (group(instance) / "payload/programs").iterdir() if each.is_dir()]


def until(instance: Instance, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, str(instance.journal)
        instance.settle()


def test_its_memory_is_its_own_and_bounded() -> None:
    """The kernel kills all of it at its bound, and neither the worker nor a request is hurt."""
    file = examining("cat /proc/self/cgroup; tail /dev/zero", 'memory = "8M"\ntime = "10min"')
    with Instance("looked", file) as instance:
        instance.start()
        with under_load(instance.load(clients=2, rate=10)):
            instance.ask("/leak?kb=45000")
            (end,) = instance.journal.until(ended())
            (entry,) = instance.journal.until(kind(Message.EXAMINED.id))
        assert (end["MEMUNIT_CAUSE"], end["EXIT_STATUS"]) == ("memory-limit", "0")
        assert "examine.command was killed at 8M (examine.memory): " in entry["MESSAGE"]
        assert entry["MEMUNIT_LEAK_COMMAND"].endswith("/payload/programs/0.1")
        until(instance, lambda: programs(instance) == [])


def test_it_takes_no_memory_that_the_unit_does_not_have() -> None:
    """The OOM killer takes the biggest for want of memory in the unit, and that would be the worker."""
    file = examining("tail /dev/zero", 'memory = "500M"\ntime = "10min"')
    with Instance("cramped", file, service="MemoryMax=122M\nMemorySwapMax=0\n") as instance:
        instance.start()
        with under_load(instance.load(clients=2, rate=10)):
            instance.ask("/leak?kb=45000")
            instance.journal.until(ended())
            (entry,) = instance.journal.until(kind(Message.EXAMINED.id))
        instance.settle()
        (end,) = instance.journal.find(ended())
        assert (end["MEMUNIT_CAUSE"], end["EXIT_STATUS"]) == ("memory-limit", "0")
        assert ", because the unit had no more memory for it" in entry["MESSAGE"]
        until(instance, lambda: programs(instance) == [])


def test_a_successor_ends_what_one_has_started() -> None:
    """In a session of its own, too."""
    file = examining("setsid sleep 10000 & sleep 10000", 'time = "50min"')
    with Instance("outlived", file) as instance:
        instance.start()
        asker = subprocess.Popen(["memunit", "examine", "outlived", "0"])
        try:
            until(instance, lambda: [p for p in programs(instance) if len(members(p)) == 3] != [])
            inside = members(programs(instance)[0])
            worker = instance.workers()[0]
            os.kill(instance.master(), signal.SIGKILL)
            instance.journal.until(kind(Message.MASTER_SUCCEEDED.id))
            until(instance, lambda: programs(instance) == [])
        finally:
            asker.kill()
            asker.wait()
        assert not [pid for pid in inside if _sleeps(pid)]
        instance.journal.until(ended(MEMUNIT_WORKER_PID=worker))
        run("systemctl", "is-active", instance.service)


def members(path: Path) -> list[str]:
    return (path / "cgroup.procs").read_text().split()


def _sleeps(pid: str) -> bool:
    try:
        return b"10000" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
