"""The kernel as the sensor: each worker in a group of its own, on a machine with cgroup v2."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from memunit.master import messages
from memunit.master.cgroup import own
from memunit.master.sampling import Sampler
from tests.booted.support import LIGHT, SECONDS, ended, kind, light, lossless, run, say, under_load
from tests.booted.support import Instance as _Instance
from tests.support.known import METRICS, STEPS
from tests.support.load import Load
from tests.support.wait import wait_gone

MIB = 1 << 20
RECYCLES = int(os.environ.get("MEMUNIT_RECYCLES", "100"))
BOUNDS = '[memory]\nlimit = "48M"\nceiling = "96M"\npatience = 0\ninterval = "1h"\n'


class Instance(_Instance):
    """One of which start() returns when the journal has told of its workers, too."""

    def start(self) -> None:
        """As the other, and then by the journal."""
        super().start()
        count = int(self.property("StatusText").split("/")[0])
        self.journal.until(kind(messages.WORKER_READY), count)


def group(instance: Instance) -> Path:
    """The folder of the unit's group."""
    return Path("/sys/fs/cgroup" + instance.property("ControlGroup"))


def groups(instance: Instance) -> set[str]:
    """The groups of workers, by slot and generation."""
    return {each.name for each in (group(instance) / "workers").iterdir() if each.is_dir()}


def test_a_worker_has_a_group_and_is_recycled_without_polling() -> None:
    """With an interval of an hour, only the kernel can have told."""
    with Instance("wire", light(more=BOUNDS)) as instance:
        instance.start()
        assert groups(instance) == {"0.1", "1.1"}
        assert instance.journal.find(kind(messages.SENSOR)) == []
        mine = group(instance) / "workers/0.1"
        assert (mine / "cgroup.procs").read_text().split() == [str(instance.workers()[0])]
        assert (mine / "memory.max").read_text() == f"{96 * MIB}\n"
        assert (group(instance) / "master" / "cgroup.procs").read_text().split() == [str(instance.master())]
        with under_load(instance.load(clients=2, rate=10)):
            instance.ask("/leak?kb=60000")
            (end,) = instance.journal.until(ended())
        assert end["MEMUNIT_CAUSE"] == "memory-limit"
        assert end["MEMUNIT_METRIC"] == "cgroup"
        assert int(end["MEMUNIT_LIMIT_BYTES"]) <= int(end["MEMUNIT_MEMORY_BYTES"]) < 96 * MIB
        instance.settle()
        slot = end["MEMUNIT_SLOT"]
        assert groups(instance) == {f"{slot}.2", f"{1 - int(slot)}.1"}


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
            assert int(end["MEMUNIT_PEAK_BYTES"]) <= 96 * MIB
            say(
                f"the most that it held: {int(end['MEMUNIT_PEAK_BYTES']) / MIB:.1f} MiB of a ceiling of 96 MiB"
            )
        instance.journal.until(kind(messages.WORKER_READY), 3)
        sibling = 1 - int(end["MEMUNIT_SLOT"])
        assert (group(instance) / f"workers/{sibling}.1/memory.events").read_text().count("oom_kill 0") == 1
        instance.ask()
        assert instance.property("NRestarts") == "0"
        assert len(instance.journal.find(ended())) == 1


def test_when_memory_is_short_the_biggest_goes_early() -> None:
    """It may not get to its end in time: it waits for memory as well."""
    more = '[memory]\npatience = 0\n[stop]\ngrace = "5s"\n'
    with Instance("pressed", light(more=more, count=3), service="MemoryHigh=100M\n") as instance:
        instance.start()
        instance.load(clients=1, requests=1, path="/leak?kb=90000").start()
        (end,) = instance.journal.until(ended())
        assert "pressure" in (end["MEMUNIT_CAUSE"], end.get("MEMUNIT_STOP_REASON"))
        assert int(end["MEMUNIT_MEMORY_BYTES"]) > 40 * MIB
        instance.journal.until(kind(messages.WORKER_READY), 4)
        assert len(instance.journal.find(ended())) == 1


def test_a_kill_by_hand_is_no_oom_kill() -> None:
    with Instance("byhand", light(more=BOUNDS)) as instance:
        instance.start()
        os.kill(instance.workers()[0], signal.SIGKILL)
        (end,) = instance.journal.until(ended())
        assert end["MEMUNIT_CAUSE"] == "crash-signal"
        assert "OOM" not in end["MESSAGE"]


def test_page_cache_is_no_leak() -> None:
    """It trips the wire, and the answer to the question is no."""
    with Instance("cache", light(more=BOUNDS, count=1)) as instance:
        instance.start()
        (pid,) = instance.workers().values()
        # Charged to whoever reads it first.
        run("sync")
        Path("/proc/sys/vm/drop_caches").write_text("3")
        instance.ask("/read?mib=150")
        instance.settle()
        events = dict(
            line.split() for line in (group(instance) / "workers/0.1/memory.events").read_text().splitlines()
        )
        say(f"memory.events after 150 MiB of page cache under a limit of 48 MiB: {events}")
        assert int(events["high"]) > 0
        assert instance.workers() == {0: pid}
        assert instance.journal.find(ended()) == []
        # Nor does it hide one that comes when it has gone, and the wire is where it no longer belongs.
        Path("/proc/sys/vm/drop_caches").write_text("3")
        instance.ask("/leak?kb=60000")
        (end,) = instance.journal.until(ended())
        assert end["MEMUNIT_CAUSE"] == "memory-limit"


def test_page_cache_at_the_ceiling_does_not_keep_the_master_busy() -> None:
    """memory.events changes with each reclaim there: hundreds of times a second."""
    with Instance("thrash", light(more=BOUNDS, count=1)) as instance:
        instance.start()
        mine = group(instance) / "workers/0.1"
        run("sync")
        Path("/proc/sys/vm/drop_caches").write_text("3")
        instance.ask("/read?mib=150")
        began, woken, told = time.monotonic(), _wakings(instance.master()), _event(mine, "max")
        while _event(mine, "max") - told < 2000:
            instance.ask("/read?mib=150")
        seconds, woken = time.monotonic() - began, _wakings(instance.master()) - woken
        told = _event(mine, "max") - told
        say(
            f"memory.events: {told} times at the ceiling in {seconds:.1f} s, the master woke up {woken} times"
        )
        assert woken < 10 * seconds + 50 < told
        instance.ask("/leak?kb=60000")
        (end,) = instance.journal.until(ended())
        assert end["MEMUNIT_CAUSE"] == "memory-limit"


def test_the_worked_example() -> None:
    """docs/memory.md has the table."""
    with Instance("known", light(more='[memory]\nlimit = "500M"\n', count=1)) as instance:
        instance.start()
        instance.ask()
        before = _counted(instance)
        for path, _, expected in STEPS:
            instance.ask(path)
            after = _counted(instance)
            grown = {metric: (after[metric] - before[metric]) / MIB for metric in METRICS}
            say(f"{path}: {grown}")
            assert grown == pytest.approx(dict(zip(METRICS, expected, strict=True)), abs=1.0)
            before = after


def _counted(instance: Instance) -> dict[str, int]:
    found = {"cgroup": own(str(group(instance) / "workers/0.1"))}
    for metric in METRICS[1:]:
        sample = Sampler(metric).sample(instance.workers()[0], None)
        assert sample is not None
        assert sample.exact
        found[metric] = sample.bytes
    return {metric: size for metric, size in found.items() if size is not None}


def _event(folder: Path, name: str) -> int:
    lines = (folder / "memory.events").read_text().splitlines()
    return int(dict(line.split() for line in lines)[name])


def _wakings(pid: int) -> int:
    """How often it has waited for something."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])


@pytest.fixture
def swap() -> Iterator[None]:
    """Some, in compressed memory."""
    if run("modprobe", "zram", check=False).returncode != 0:
        pytest.skip("the kernel has no zram")
    Path("/sys/block/zram0/disksize").write_text("256M")
    run("mkswap", "/dev/zram0")
    run("swapon", "/dev/zram0")
    yield
    run("swapoff", "/dev/zram0")
    Path("/sys/block/zram0/reset").write_text("1")


def test_a_leak_that_is_swapped_out_is_found(swap: None) -> None:
    """Its group never comes to memory.high: no event tells."""
    with Instance("swapped", light(more=BOUNDS, count=1)) as instance:
        instance.start()
        instance.ask("/leak?kb=30000")
        mine = group(instance) / "workers/0.1"
        (mine / "memory.reclaim").write_text("30M")
        swapped = int((mine / "memory.swap.current").read_text())
        assert swapped > 10 * MIB
        instance.ask("/leak?kb=24000")
        assert instance.journal.find(ended()) == []
        (end,) = instance.journal.until(ended())
        assert end["MEMUNIT_CAUSE"] == "memory-limit"
        say(
            f"{swapped / MIB:.0f} MiB were swapped out, {int(end['MEMUNIT_MEMORY_BYTES']) / MIB:.0f} MiB counted"
        )


def test_what_a_worker_has_started_ends_with_it() -> None:
    with Instance("family", light(more=BOUNDS, count=1)) as instance:
        instance.start()
        instance.ask("/daemon")
        (told,) = instance.journal.until(lambda entry: entry.get("MESSAGE", "").startswith("daemon "))
        daemon = int(told["MESSAGE"].split()[1])
        os.kill(instance.workers()[0], signal.SIGTERM)
        instance.journal.until(ended())
        wait_gone(daemon)
        instance.settle()
        assert groups(instance) == {"0.2"}


def test_without_delegation_it_is_sampled_and_says_so() -> None:
    more = BOUNDS.replace('"1h"', '"200ms"')
    with Instance("sampled", light(more=more), service="Delegate=no\n") as instance:
        instance.start()
        (told,) = instance.journal.find(kind(messages.SENSOR))
        assert "was not delegated to memunit: say Delegate=memory in the unit" in told["MESSAGE"]
        assert told["PRIORITY"] == "5"
        instance.ask("/leak?kb=60000")
        (end,) = instance.journal.until(ended())
        assert (end["MEMUNIT_CAUSE"], end["MEMUNIT_METRIC"]) == ("memory-limit", "uss")


def test_run_in_a_delegated_scope_divides_it() -> None:
    """In the foreground, as `systemd-run --user --scope` would have it; here the system's own manager."""
    path = Path("/run/scoped.sock")
    words = ["/usr/bin/python3", "-I", "-S", str(LIGHT)]
    light()
    # It ends by itself if nothing is said: then there is no line to wait for any more.
    command = [
        "timeout",
        f"{SECONDS:.0f}",
        "systemd-run",
        "--scope",
        "--unit=scoped",
        "-p",
        "Delegate=yes",
        "memunit",
        "run",
    ]
    process = subprocess.Popen(
        [
            *command,
            "--listen",
            str(path),
            "--workers",
            "1",
            "--limit",
            "48M",
            "--patience",
            "0",
            "--",
            *words,
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said: list[str] = []
    try:
        for line in process.stderr:
            said.append(line)
            if "is ready" in line:
                break
        folder = Path("/sys/fs/cgroup/system.slice/scoped.scope")
        assert [each.name for each in (folder / "workers").iterdir() if each.is_dir()] == ["0.1"]
        assert not any("not told by the kernel" in line for line in said)
        lossless(Load(str(path), clients=1, requests=1, path="/leak?kb=60000").run())
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


def test_groups_of_a_killed_master_are_cleared() -> None:
    with Instance(
        "orphans", light("--deaf", more=BOUNDS, count=1), service="TimeoutStopSec=1s\n"
    ) as instance:
        instance.start()
        (old,) = instance.workers().values()
        os.kill(instance.master(), signal.SIGKILL)
        wait_gone(old)
        instance.journal.until(kind(messages.WORKER_READY), 2)
        assert groups(instance) == {"0.1"}
        (new,) = instance.workers().values()
        assert (group(instance) / "workers/0.1/cgroup.procs").read_text().split() == [str(new)]


def test_recycles_leave_nothing_behind() -> None:
    """MEMUNIT_RECYCLES=1000 in the environment is the long form. Nothing but forks: each lives for a moment."""
    file = '[app]\ncommand = ["sleep", "infinity"]\nready = "exec"\n[workers]\ncount = 8\nmax_age = "1s"\n'
    with Instance("leaves", f'{file}min_lifetime = 0\n[memory]\nlimit = "32M"\n') as instance:
        instance.start()
        instance.journal.until(ended(), 8)
        before = _left(instance)
        instance.journal.until(ended(), RECYCLES)
        ends = instance.journal.find(ended())
        assert {end["MEMUNIT_CAUSE"] for end in ends} == {"max-age"}
        after = _left(instance)
        say(f"after {len(ends)} recycles: {after}; before: {before}")
        # Replacements that are on their way at that moment count.
        assert after["descriptors"] <= before["descriptors"] + 4
        assert after["groups"] <= 8 + 2
        assert after["zombies"] == 0
        assert after["threads"] == 1


def _left(instance: Instance) -> dict[str, int]:
    """What there is of the master at a moment when it has come round."""
    instance.settle()
    proc = Path(f"/proc/{instance.master()}")
    children = (proc / "task" / proc.name / "children").read_text().split()
    states = [
        Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in children if _alive(pid)
    ]
    return {
        "descriptors": len(list((proc / "fd").iterdir())),
        "groups": len(groups(instance)),
        "zombies": states.count("Z"),
        "threads": len(list((proc / "task").iterdir())),
    }


def _alive(pid: str) -> bool:
    return Path(f"/proc/{pid}/stat").exists()
