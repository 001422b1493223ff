"""The machine is what the other booted tests take it for."""

from __future__ import annotations

import subprocess
from pathlib import Path


def test_systemd_is_pid_1_and_settled() -> None:
    assert Path("/proc/1/comm").read_text().strip() == "systemd"
    state = subprocess.run(
        ["systemctl", "is-system-running", "--wait"], check=False, capture_output=True, text=True, timeout=60
    )
    assert state.stdout.strip() == "running"


def test_cgroup_v2_has_memory_and_pids() -> None:
    controllers = Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
    assert {"memory", "pids"} <= set(controllers)


def test_pressure_is_measured() -> None:
    assert Path("/proc/pressure/memory").read_text().startswith("some ")


def test_the_package_is_installed_whole() -> None:
    state = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Abbrev}", "memunit"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert state.stdout.strip() == "ii"
    audit = subprocess.run(["dpkg", "--audit"], check=True, capture_output=True, text=True)
    assert audit.stdout == ""
