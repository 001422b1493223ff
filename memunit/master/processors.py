"""How many processors this process may use: its affinity, and the quota of CPU time of the groups that it is in."""

import os
from collections.abc import Iterator


def processors(proc: str = "/proc", cgroup: str = "/sys/fs/cgroup") -> int:
    """The least of the affinity (sched_setaffinity(2)) and of each group's quota, rounded up; 1 at least.

    CPUQuota= and a container's --cpus set no affinity, but a quota of time in each period: cpu.max in cgroup v2,
    cpu.cfs_quota_us in v1 (Documentation/scheduler/sched-bwc.rst). Rounded down, 1.5 processors would be used as one.
    `proc` and `cgroup` are where those file systems are mounted.
    """
    least = len(os.sched_getaffinity(0))
    for quota, period in _quotas(proc, cgroup):
        least = min(least, max(1, -(-quota // period)))
    return least


def _quotas(proc: str, mount: str) -> Iterator[tuple[int, int]]:
    for line in _read(f"{proc}/self/cgroup").splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            unified = os.path.exists(f"{mount}/cgroup.controllers")
            for group in _upward(mount if unified else f"{mount}/unified", path):
                yield from _pair(*[*_read(f"{group}/cpu.max").split(), "", ""][:2])
        elif "cpu" in controllers.split(","):
            for group in _upward(f"{mount}/cpu", path):
                yield from _pair(_read(f"{group}/cpu.cfs_quota_us"), _read(f"{group}/cpu.cfs_period_us"))


def _upward(root: str, path: str) -> Iterator[str]:
    """From our group up to the root of what is mounted, as sampling.py walks: each of them bounds us.

    In a container whose path is the host's, only the mount's root is there, and that is the container's own group.
    """
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        yield "/".join([root, *parts[:depth]])


def _pair(quota: str, period: str) -> Iterator[tuple[int, int]]:
    """Microseconds in microseconds; nothing for "max", for -1, and where the controller is not there."""
    quota, period = quota.strip(), period.strip()
    if quota.isascii() and quota.isdigit() and period.isascii() and period.isdigit() and int(period):
        yield int(quota), int(period)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(16384)
    except OSError:
        return ""
