"""Instances of which each worker has a group of its own, and what to read there."""

from __future__ import annotations

import time
from pathlib import Path

from memunit.core.messages import Message
from tests.booted.support import SECONDS, kind
from tests.booted.support import Instance as _Instance

MIB = 1 << 20
# With an interval of an hour, only the kernel can have told.
BOUNDS = '[memory]\nlimit = "48M"\nceiling = "96M"\npatience = 0\ninterval = "1h"\n'


class Instance(_Instance):
    """One of which start() returns when the journal has told of its workers, too."""

    def start(self) -> None:
        """As the other, and then by the journal."""
        super().start()
        count = int(self.property("StatusText").split("/")[0])
        self.journal.until(kind(Message.WORKER_READY.id), count)


def group(instance: _Instance) -> Path:
    """The folder of the unit's group."""
    return Path("/sys/fs/cgroup" + instance.property("ControlGroup"))


def worker(instance: Instance, name: str) -> Path:
    """The folder of a worker's group, by slot and generation."""
    return group(instance) / "payload/workers" / name


def groups(instance: Instance) -> set[str]:
    """The groups of workers, by slot and generation."""
    return {each.name for each in worker(instance, "").iterdir() if each.is_dir()}


def until_groups(instance: Instance, wanted: set[str]) -> None:
    """Wait until the groups of workers are these: the kernel tells a moment later that one has become empty."""
    deadline = time.monotonic() + SECONDS
    while (found := groups(instance)) != wanted:
        assert time.monotonic() < deadline, found
        instance.settle()


def reached(folder: Path, event: str) -> int:
    """How often a group itself was at one of its bounds: those of groups below do not count (memory.events.local)."""
    lines = (folder / "memory.events.local").read_text().splitlines()
    return int(dict(line.split() for line in lines)[event])


def wakings(pid: int) -> int:
    """How often it has waited for something."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])
