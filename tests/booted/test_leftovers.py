"""What is left of workers that were replaced: nothing. And of a master that has nothing to do: rest."""

from __future__ import annotations

import contextlib
import os
import select
import time
from pathlib import Path

from tests.booted.bench_memory import crossings
from tests.booted.support import SECONDS, ended, say
from tests.booted.support_groups import Instance, groups, wakings

RECYCLES = int(os.environ.get("MEMUNIT_RECYCLES", "100"))
SLEEPERS = '[app]\ncommand = ["sleep", "infinity"]\nready = "exec"\n[workers]\ncount = 8\n'
# A program that never says READY=1 takes a second to replace another: side by side, so that a thousand take minutes.
SURGE = 4


def test_recycles_leave_nothing_behind() -> None:
    """MEMUNIT_RECYCLES=1000 in the environment is the long form. Nothing but forks: each lives for a moment."""
    file = f'{SLEEPERS}surge = {SURGE}\nmax_age = "1s"\nmin_lifetime = 0\n[memory]\nlimit = "32M"\n'
    with Instance("leaves", file) as instance:
        instance.start()
        instance.journal.until(ended(), 8)
        before = _left(instance)
        instance.journal.until(ended(), RECYCLES, seconds=SECONDS * max(1, RECYCLES / 100))
        ends = instance.journal.find(ended())
        assert {end["MEMUNIT_CAUSE"] for end in ends} == {"max-age"}
        after = _left(instance)
        say(f"after {len(ends)} recycles: {after}; before: {before}")
        # Replacements that are on their way at that moment count.
        assert after["descriptors"] <= before["descriptors"] + 4 * SURGE
        assert after["groups"] <= 8 + 2 * SURGE
        assert after["zombies"] == 0
        assert after["threads"] == 1


def _left(instance: Instance) -> dict[str, int]:
    """What there is of the master at a moment when it has come round."""
    instance.settle()
    zombies = _zombies(instance)
    # One that ends just now is a zombie too, until the master is told: left behind is who still is after that.
    instance.settle()
    proc = Path(f"/proc/{instance.master()}")
    return {
        "descriptors": len(list((proc / "fd").iterdir())),
        "groups": len(groups(instance)),
        "zombies": len(zombies & _zombies(instance)),
        "threads": len(list((proc / "task").iterdir())),
    }


def _zombies(instance: Instance) -> set[str]:
    proc = Path(f"/proc/{instance.master()}")
    found = set()
    for pid in (proc / "task" / proc.name / "children").read_text().split():
        with contextlib.suppress(FileNotFoundError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                found.add(pid)
    return found


def test_an_idle_master_rests() -> None:
    """tests/booted/bench_memory.py has the processor time, of 64 workers for ten minutes."""
    with Instance("idle", f'{SLEEPERS}[memory]\nlimit = "32M"\ninterval = "100ms"\n') as instance:
        instance.start()
        instance.settle()
        master = instance.master()
        began, before = time.monotonic(), wakings(master)
        select.select([], [], [], 15)  # what is counted is what happens while nothing does
        woken, seconds = wakings(master) - before, time.monotonic() - began
        say(f"an idle master of 8 workers woke up {woken} times in {seconds:.1f} s")
        # A look at each worker every 10 s, and a ping every 10 s: each may fall at both ends of the time.
        assert woken <= (8 + 1) * (seconds / 10 + 1) + 5


def test_how_soon_a_crossing_is_known() -> None:
    """The short form of the benchmark; the figures are told and not judged."""
    for name in ("kernel", "sampled"):
        assert len(crossings(name, 3)) == 3
