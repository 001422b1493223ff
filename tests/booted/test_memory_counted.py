"""What the kernel counts for a worker, on a machine with cgroup v2: what is a leak, and what is none."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from memunit.core.messages import Message
from memunit.master.group import own
from memunit.master.sampling import Sampler
from tests.booted.support import LIGHT, SECONDS, ended, kind, light, run, say
from tests.booted.support_groups import BOUNDS, MIB, Instance, wakings, worker
from tests.support.known import METRICS, STEPS


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
            line.split() for line in (worker(instance, "0.1") / "memory.events").read_text().splitlines()
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
        mine = worker(instance, "0.1")
        master = instance.master()
        began, before, first = time.monotonic(), wakings(master), _event(mine, "max")
        seconds, told = 0.0, 0
        # It rests for a second after each, and looks at the worker once a second: two to three in a second, on a
        # machine of any speed. An event that nobody rests after is told every 10 ms (CGROUP_FILE_NOTIFY_MIN_INTV).
        while seconds < 5 or told < (most := 8 * seconds + 50):
            assert seconds < SECONDS, told
            instance.ask("/hole?mib=150")
            woken = wakings(master) - before
            told, seconds = _event(mine, "max") - first, time.monotonic() - began
        say(
            f"memory.events: {told} times at the ceiling in {seconds:.1f} s, the master woke up {woken} times"
        )
        assert woken < most
        instance.ask("/leak?kb=60000")
        (end,) = instance.journal.until(ended())
        assert end["MEMUNIT_CAUSE"] == "memory-limit"


def test_what_is_free_is_known_as_it_is_when_somebody_is_replaced() -> None:
    """Where no bound is near the kernel tells nothing, and the last look is as old as the worker."""
    bounds = "MemoryMax=150M\nMemorySwapMax=0\n"
    file = light(more='[memory]\nceiling = "140M"\ninterval = "1h"\n', count=1)
    big = f"ballast = b'x' * (40 << 20); import runpy; runpy.run_path('{LIGHT}', run_name='__main__')"
    file = file.replace(f'"-S", "{LIGHT}"', f'"-S", "-c", "{big}"')
    assert big in file
    with Instance("scarce", file, service=bounds) as instance:
        instance.start()
        told = kind(Message.SURGE_REVERSED.id)
        instance.ask("/leak?kb=50000")
        said = []
        for _ in range(2):
            instance.systemctl("reload")
            instance.settle()
            said.append([entry["MESSAGE"].split(":")[0] for entry in instance.journal.find(told)])
        scarce, plenty = "The old worker stops before its replacement starts", "Replacement comes first again"
        assert said == [[scarce], [scarce, plenty]]
        assert {end["MEMUNIT_CAUSE"] for end in instance.journal.until(ended(), 2)} == {"reload"}


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
    found = {"cgroup": own(str(worker(instance, "0.1")))}
    for metric in METRICS[1:]:
        sample = Sampler(metric).sample(instance.workers()[0], None)
        assert sample is not None
        assert sample.exact
        found[metric] = sample.bytes
    return {metric: size for metric, size in found.items() if size is not None}


def _event(folder: Path, name: str) -> int:
    lines = (folder / "memory.events").read_text().splitlines()
    return int(dict(line.split() for line in lines)[name])


@pytest.fixture
def swap() -> Iterator[None]:
    """Some, in compressed memory."""
    if run("modprobe", "zram", check=False).returncode != 0:
        pytest.skip("the kernel has no zram")
    # A device of its own, and not given back: the kernel refuses that (EBUSY) while udevd has the device open, to see
    # what mkswap(8) has written. swapoff(8) frees the memory.
    device = f"zram{Path('/sys/class/zram-control/hot_add').read_text().strip()}"
    Path(f"/sys/block/{device}/disksize").write_text("256M")
    run("mkswap", f"/dev/{device}")
    run("swapon", f"/dev/{device}")
    yield
    run("swapoff", f"/dev/{device}")


def test_a_leak_that_is_swapped_out_is_found(swap: None) -> None:
    """Its group never comes to memory.high: no event tells."""
    with Instance("swapped", light(more=BOUNDS, count=1)) as instance:
        instance.start()
        instance.ask("/leak?kb=30000")
        mine = worker(instance, "0.1")
        # A kernel that gets less than all of it says so (EAGAIN); whether it was enough is seen below.
        with contextlib.suppress(BlockingIOError):
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
