"""Why there is no tree to divide, in words; with one, booted machines do the rest (tests/booted/test_memory.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from memunit.master.cgroup import Unavailable, claim

REMEDY = "say Delegate=memory in the unit"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A /proc and a mount of cgroup v2 as a process in system.slice/app.service sees them."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/system.slice/app.service\n")
    own = tmp_path / "cgroup/system.slice/app.service"
    own.mkdir(parents=True)
    (tmp_path / "cgroup/cgroup.controllers").write_text("cpu memory pids\n")
    return tmp_path


def refusal(machine: Path) -> str:
    with pytest.raises(Unavailable) as refused:
        claim(REMEDY, proc=str(machine / "proc"), mount=str(machine / "cgroup"))
    return str(refused.value)


def test_without_delegation_it_names_the_group_and_the_remedy(machine: Path) -> None:
    assert refusal(machine) == f"the cgroup /system.slice/app.service was not delegated to memunit: {REMEDY}"


def test_with_cgroup_v1(machine: Path) -> None:
    (machine / "proc/self/cgroup").write_text("5:memory:/app\n1:name=systemd:/app\n")
    assert refusal(machine).startswith("this machine does not use cgroup v2")
    # Hybrid: there is a group of version 2, but what is mounted has no controllers.
    (machine / "proc/self/cgroup").write_text("5:memory:/app\n0::/app\n")
    (machine / "cgroup/cgroup.controllers").unlink()
    assert refusal(machine).startswith("this machine does not use cgroup v2")


def test_without_proc(machine: Path) -> None:
    (machine / "proc/self/cgroup").unlink()
    assert refusal(machine) == f"{machine}/proc/self/cgroup: No such file or directory"


def test_the_root_of_the_machine_is_nobodys(machine: Path) -> None:
    (machine / "proc/self/cgroup").write_text("0::/\n")
    assert refusal(machine) == f"the cgroup / was not delegated to memunit: {REMEDY}"


def test_a_container_without_the_memory_controller(machine: Path) -> None:
    """In a cgroup namespace of its own, "/" is the container's: it has a type, as the machine's has not."""
    (machine / "proc/self/cgroup").write_text("0::/\n")
    (machine / "cgroup/cgroup.type").write_text("domain\n")
    (machine / "cgroup/cgroup.controllers").write_text("cpu pids\n")
    assert refusal(machine) == f"the memory controller is not delegated to the cgroup /: {REMEDY}"
