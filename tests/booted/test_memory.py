"""The kernel as the sensor: each worker in a group of its own, on a machine with cgroup v2."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from memunit.core.messages import Message
from tests.booted.support import LIGHT, SECONDS, ended, kind, light, lossless, run, say, under_load
from tests.booted.support_groups import BOUNDS, MIB, Instance, group, groups, reached, until_groups, worker
from tests.support.load import Load
from tests.support.wait import wait_gone

PSI = Path("/proc/pressure/memory")
# As in a container: the root of what is to be seen of cgroups is its own.
CONTAINER = (
    *("unshare", "--cgroup", "--mount", "sh", "-c"),
    "umount --lazy /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && "
    'grep -qx 0::/ /proc/self/cgroup && exec "$@"',
    "sh",
)


def test_a_worker_has_a_group_and_is_recycled_without_polling() -> None:
    """With an interval of an hour, only the kernel can have told."""
    with Instance("wire", light(more=BOUNDS)) as instance:
        instance.start()
        assert groups(instance) == {"0.1", "1.1"}
        assert instance.journal.find(kind(Message.SENSOR.id)) == []
        mine = worker(instance, "0.1")
        assert (mine / "cgroup.procs").read_text().split() == [str(instance.workers()[0])]
        assert (mine / "memory.max").read_text() == f"{96 * MIB}\n"
        assert (group(instance) / "master" / "cgroup.procs").read_text().split() == [str(instance.master())]
        with under_load(instance.load(clients=2, rate=10)):
            instance.ask("/leak?kb=60000")
            (end,) = instance.journal.until(ended())
        assert end["MEMUNIT_CAUSE"] == "memory-limit"
        assert end["MEMUNIT_METRIC"] == "cgroup"
        assert int(end["MEMUNIT_LIMIT_BYTES"]) <= int(end["MEMUNIT_MEMORY_BYTES"]) < 96 * MIB
        slot = end["MEMUNIT_SLOT"]
        until_groups(instance, {f"{slot}.2", f"{1 - int(slot)}.1"})


def test_a_runaway_dies_alone_at_its_ceiling() -> None:
    """It takes 2 GiB as fast as it can; what its sibling serves is not hurt, nor is what waits in the socket."""
    with Instance("runaway", light(more=BOUNDS)) as instance:
        instance.start()
        doomed = instance.load(clients=1, requests=1, path="/leak?kb=2000000").start()
        (end,) = instance.journal.until(ended())
        assert doomed.join().lost == 1
        assert end["MEMUNIT_CAUSE"] == "memory-ceiling"
        assert "ceiling of 96M reached, the kernel has killed it" in end["MESSAGE"]
        assert (end["EXIT_CODE"], end["EXIT_STATUS"]) == ("killed", "9")
        if "MEMUNIT_PEAK_BYTES" in end:
            # What the kernel can't refuse itself may go over it by some pages.
            assert int(end["MEMUNIT_PEAK_BYTES"]) <= 97 * MIB
            say(
                f"the most that it held: {int(end['MEMUNIT_PEAK_BYTES']) / MIB:.1f} MiB of a ceiling of 96 MiB"
            )
        instance.journal.until(kind(Message.WORKER_READY.id), 3)
        sibling = 1 - int(end["MEMUNIT_SLOT"])
        other = worker(instance, f"{sibling}.1")
        assert (other / "memory.events").read_text().count("oom_kill 0") == 1
        instance.ask()
        assert instance.property("NRestarts") == "0"
        assert len(instance.journal.find(ended())) == 1


def test_when_memory_is_short_the_biggest_goes_early() -> None:
    """It may not get to its end in time: it waits for memory as well. But the master, which ends that, does not."""
    more = '[memory]\npatience = 0\n[stop]\ngrace = "5s"\n'
    with Instance("pressed", light(more=more, count=3), service="MemoryHigh=100M\n") as instance:
        instance.start()
        instance.load(clients=1, requests=1, path="/leak?kb=90000").start()
        (end,) = instance.journal.until(ended())
        assert "pressure" in (end["MEMUNIT_CAUSE"], end.get("MEMUNIT_STOP_REASON"))
        assert int(end["MEMUNIT_MEMORY_BYTES"]) > 40 * MIB
        instance.journal.until(kind(Message.WORKER_READY.id), 4)
        assert len(instance.journal.find(ended())) == 1
        assert reached(group(instance), "high") == 0
        assert reached(group(instance) / "payload", "high") > 0


# Switched off for the group, or a kernel that measures none.
@pytest.mark.parametrize(
    "there", [pytest.param(True, marks=pytest.mark.pressure, id="off"), pytest.param(False, id="none")]
)
def test_without_psi_the_bound_of_the_unit_tells_that_memory_is_short(there: bool) -> None:
    """Page cache that fills the same bound is no want of memory."""
    file = light(more='[memory]\npatience = 0\n[stop]\ngrace = "5s"\n', count=2)
    with Instance("crowded", file, service="MemoryHigh=64M\n") as instance:
        instance.start()
        if there:
            (worker(instance, "") / "cgroup.pressure").write_text("0")
        elif PSI.exists():
            pytest.skip("this kernel measures pressure")
        assert not (worker(instance, "") / "memory.pressure").exists()
        run("sync")
        Path("/proc/sys/vm/drop_caches").write_text("3")
        instance.ask("/read?mib=100")
        instance.settle()
        theirs, units = reached(group(instance) / "payload", "high"), reached(group(instance), "high")
        say(f"workers were at their bound {theirs} times, the unit was at its bound {units} times")
        assert theirs > 0
        # At the unit's own bound the master would wait with the workers. The kernel lets a group go over memory.high
        # for a moment, and makes nobody wait for so little (calculate_high_delay in mm/memcontrol.c).
        assert units <= theirs // 20
        assert instance.journal.find(ended()) == []
        instance.load(clients=1, requests=1, path="/leak?kb=90000").start()
        (end,) = instance.journal.until(ended())
        assert "pressure" in (end["MEMUNIT_CAUSE"], end.get("MEMUNIT_STOP_REASON"))
        assert int(end["MEMUNIT_MEMORY_BYTES"]) > 20 * MIB
        instance.journal.until(kind(Message.WORKER_READY.id), 3)


def test_at_the_maximum_of_the_unit_only_workers_are_killed() -> None:
    """The master may be the biggest of many small ones; it is not among those of whom the kernel chooses."""
    with Instance("brimful", light(count=3), service="MemoryMax=100M\nMemorySwapMax=0\n") as instance:
        instance.start()
        instance.load(clients=1, requests=1, path="/leak?kb=200000").start()
        (end,) = instance.journal.until(ended())
        assert (end["MEMUNIT_CAUSE"], "OOM killer" in end["MESSAGE"]) == ("crash-signal", True)
        instance.journal.until(kind(Message.WORKER_READY.id), 4)
        assert reached(group(instance), "oom") == 0
        assert reached(group(instance) / "payload", "oom") > 0
        assert instance.property("NRestarts") == "0"
        # What bounds the unit from now on is found out by itself.
        run("systemctl", "set-property", "--runtime", instance.service, "MemoryMax=1G")
        deadline = time.monotonic() + SECONDS
        while (group(instance) / "payload/memory.max").read_text() != f"{(1024 - 25) * MIB}\n":
            instance.settle()
            assert time.monotonic() < deadline


def test_a_kill_by_hand_is_no_oom_kill() -> None:
    with Instance("byhand", light(more=BOUNDS)) as instance:
        instance.start()
        os.kill(instance.workers()[0], signal.SIGKILL)
        (end,) = instance.journal.until(ended())
        assert end["MEMUNIT_CAUSE"] == "crash-signal"
        assert "OOM" not in end["MESSAGE"]


def test_what_a_worker_has_started_ends_with_it() -> None:
    # Nobody told the worker to end, so what it has started is told now, and killed when its grace is over.
    file = light(more=f'{BOUNDS}[stop]\ngrace = "2s"\n', count=1)
    with Instance("family", file) as instance:
        instance.start()
        instance.ask("/daemon")
        (told,) = instance.journal.until(lambda entry: entry.get("MESSAGE", "").startswith("daemon "))
        daemon = int(told["MESSAGE"].split()[1])
        os.kill(instance.workers()[0], signal.SIGTERM)
        instance.journal.until(ended())
        wait_gone(daemon, SECONDS)
        until_groups(instance, {"0.2"})


def test_without_delegation_it_is_sampled_and_says_so() -> None:
    more = BOUNDS.replace('"1h"', '"200ms"')
    with Instance("sampled", light(more=more), service="Delegate=no\n") as instance:
        instance.start()
        (told,) = instance.journal.find(kind(Message.SENSOR.id))
        assert "was not delegated to memunit: say Delegate=memory in the unit" in told["MESSAGE"]
        assert told["PRIORITY"] == "5"
        instance.ask("/leak?kb=60000")
        (end,) = instance.journal.until(ended())
        assert (end["MEMUNIT_CAUSE"], end["MEMUNIT_METRIC"]) == ("memory-limit", "uss")


@pytest.mark.parametrize("inside", [(), CONTAINER], ids=["scope", "container"])
def test_run_in_a_group_of_its_own_divides_it(inside: tuple[str, ...]) -> None:
    """In the foreground, as `systemd-run --user --scope` would have it; here the system's own manager."""
    # A scope that has ended is known to systemd for a while: each has a name of its own.
    name = "scoped-inside" if inside else "scoped"
    path = Path(f"/run/{name}.sock")
    light()
    # It ends by itself if nothing is said: then there is no line to wait for any more.
    scope = ["timeout", f"{SECONDS:.0f}", "systemd-run", "--scope", f"--unit={name}", "-p", "Delegate=yes"]
    options = ["--listen", str(path), "--workers", "1", "--limit", "48M", "--patience", "0"]
    words = ["/usr/bin/python3", "-I", "-S", str(LIGHT)]
    command = [*scope, *inside, "memunit", "run", *options, "--", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said: list[str] = []
    try:
        for line in process.stderr:
            said.append(line)
            if "is ready" in line:
                break
        folder = Path("/sys/fs/cgroup/system.slice") / f"{name}.scope"
        assert [each.name for each in (folder / "payload/workers").iterdir() if each.is_dir()] == ["0.1"]
        assert not any("the kernel does not report it" in line for line in said)
        lossless(Load(str(path), clients=1, requests=1, path="/leak?kb=60000", timeout=SECONDS).run())
        for line in process.stderr:
            said.append(line)
            if "ended: memory-limit" in line:
                assert "(cgroup)" in line
                break
        else:
            raise AssertionError("".join(said))
    finally:
        process.terminate()
        process.communicate(timeout=SECONDS)
    assert process.returncode == 0


def test_groups_of_a_killed_master_are_taken_over_and_cleared() -> None:
    file = light("--deaf", more=BOUNDS + '[stop]\ngrace = "2s"\n', count=1)
    with Instance("orphans", file) as instance:
        instance.start()
        (old,) = instance.workers().values()
        os.kill(instance.master(), signal.SIGKILL)
        instance.journal.until(kind(Message.WORKER_READY.id), 2)
        wait_gone(old, SECONDS)
        instance.journal.until(ended(MEMUNIT_WORKER_PID=old))
        until_groups(instance, {"0.2"})
        (new,) = instance.workers().values()
        assert (worker(instance, "0.2") / "cgroup.procs").read_text().split() == [str(new)]
