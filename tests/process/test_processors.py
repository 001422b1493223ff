"""What `count = "auto"` counts: processors by affinity, and by the quota of CPU time of the groups above."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from memunit.master.processors import processors
from tests.support.harness import Unit

pytest_plugins = ["tests.support.units"]

MANY = len(os.sched_getaffinity(0))


def machine(root: Path, line: str, files: dict[str, str]) -> tuple[str, str]:
    """A /proc whose self/cgroup is `line`, and a cgroup mount with these files."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(line)
    for name, text in files.items():
        (root / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "cgroup" / name).write_text(text)
    return str(root / "proc"), str(root / "cgroup")


V2 = {"cgroup.controllers": "cpu memory\n"}
V1 = "3:memory:/x\n2:cpu,cpuacct:{}\n0::/\n"


@pytest.mark.skipif(MANY < 2, reason="one processor is the least whatever the quota")
@pytest.mark.parametrize(
    ("line", "files", "expected"),
    [
        # A container of cgroup v2: its own group is the root of what it sees. docker run --cpus=0.5
        ("0::/\n", {**V2, "cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {**V2, "cpu.max": "max 100000\n"}, MANY),
        ("0::/\n", V2, MANY),
        # CPUQuota=50% of the unit, with the master in a leaf below; and of the slice.
        (
            "0::/system.slice/m.service/master\n",
            {**V2, "system.slice/m.service/cpu.max": "50000 100000\n"},
            1,
        ),
        ("0::/web.slice/m.service/master\n", {**V2, "web.slice/cpu.max": "100000 100000\n"}, 1),
        # 101 % is used by two, and 1001 processors by no more than there are.
        ("0::/m\n", {**V2, "m/cpu.max": "101000 100000\n"}, 2),
        ("0::/m\n", {**V2, "m/cpu.max": "100100000 100000\n"}, MANY),
        # The least of several counts.
        ("0::/a/b\n", {**V2, "a/cpu.max": "90000 100000\n", "a/b/cpu.max": "700000 100000\n"}, 1),
        # cgroup v1, its path as the host has it: only the root of the mount is there.
        (
            V1.format("/docker/2f1e"),
            {"cpu/cpu.cfs_quota_us": "25000\n", "cpu/cpu.cfs_period_us": "50000\n"},
            1,
        ),
        (V1.format("/"), {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, MANY),
        (
            V1.format("/system.slice/m.service"),
            {
                "cpu/cpu.cfs_quota_us": "-1\n",
                "cpu/cpu.cfs_period_us": "100000\n",
                "cpu/system.slice/m.service/cpu.cfs_quota_us": "1000\n",
                "cpu/system.slice/m.service/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
        # What is no number is no quota.
        ("0::/\n", {**V2, "cpu.max": "50000\n"}, MANY),
        ("0::/\n", {**V2, "cpu.max": "1 0\n"}, MANY),
        ("", {}, MANY),
    ],
)
def test_the_quota_rounded_up(tmp_path: Path, line: str, files: dict[str, str], expected: int) -> None:
    assert processors(*machine(tmp_path, line, files)) == expected


def test_auto_is_that_many_workers(unit: Unit) -> None:
    """By affinity, which everybody may set; the booted tier has a unit with CPUQuota=."""
    unit.write(app={"command": ["sleep", "infinity"], "ready": "exec"})
    service = unit.serve(prefix=("taskset", "--cpu-list", str(min(os.sched_getaffinity(0))))).ready()
    service.hear(r"^STATUS=1/1 workers")
    assert service.stop() == 0


@pytest.mark.skipif(
    MANY < 2 or not os.access("/sys/fs/cgroup/cpu/cgroup.procs", os.W_OK),
    reason="a group with a quota can be made by root where cgroup v1 is mounted",
)
def test_a_quota_of_the_kernels_own(unit: Unit) -> None:
    group = Path("/sys/fs/cgroup/cpu") / f"memunit-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / "cpu.cfs_quota_us").write_text("50000")
        unit.write(app={"command": ["sleep", "infinity"], "ready": "exec"})
        move = ("sh", "-c", f'echo 0 >"{group}/cgroup.procs" && exec "$@"', "sh")
        service = unit.serve(prefix=move).ready()
        service.hear(r"^STATUS=1/1 workers")
        assert service.stop() == 0
    finally:
        group.rmdir()
