"""The machine is what the other booted tests take it for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


def test_systemd_is_pid_1_and_settled() -> None:
    assert Path("/proc/1/comm").read_text().strip() == "systemd"
    state = subprocess.run(
        ["systemctl", "is-system-running", "--wait"], check=False, capture_output=True, text=True, timeout=240
    )
    assert state.stdout.strip() == "running"


def test_cgroup_v2_has_memory_and_pids() -> None:
    controllers = Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
    assert {"memory", "pids"} <= set(controllers)


@pytest.mark.pressure
def test_pressure_is_measured() -> None:
    assert Path("/proc/pressure/memory").read_text().startswith("some ")


@pytest.mark.parallel
def test_there_are_two_processors() -> None:
    assert len(os.sched_getaffinity(0)) >= 2


def test_the_journal_drops_as_debian_ships_it() -> None:
    """An image without its limits would hide what a real machine loses."""
    configuration = subprocess.run(
        ["systemd-analyze", "cat-config", "systemd/journald.conf"], check=True, capture_output=True, text=True
    )
    assert not [line for line in configuration.stdout.splitlines() if line.startswith("RateLimit")]


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
