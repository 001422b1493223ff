"""Why there is no tree to divide, in words; with one, booted machines do the rest (tests/booted/test_memory.py)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from memunit.core.budget import kept_back
from memunit.master.cgroup import Tree, Unavailable, claim
from memunit.master.group import Counts, whose_bound

PARTS = tuple(
    f"{group}/cgroup.subtree_control"
    for group in ("payload", "payload/zygotes", "payload/workers", "payload/programs")
)
MIB, GIB = 1 << 20, 1 << 30
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


def divide(machine: Path) -> Tree:
    return claim(REMEDY, kept_back, proc=str(machine / "proc"), mount=str(machine / "cgroup"))


def refusal(machine: Path) -> str:
    with pytest.raises(Unavailable) as refused:
        divide(machine)
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


@pytest.fixture
def container(machine: Path) -> Path:
    """The same, where all that can be seen is delegated; the files that are written to are there already."""
    (machine / "proc/self/cgroup").write_text("0::/\n")
    for path in ("cgroup.type", "cgroup.procs", "cgroup.subtree_control", *PARTS):
        (machine / "cgroup" / path).parent.mkdir(exist_ok=True)
        (machine / "cgroup" / path).touch()
    (machine / "cgroup/master").mkdir()
    (machine / "cgroup/master/cgroup.procs").touch()
    return machine


def test_two_masters_do_not_divide_the_same_tree(container: Path) -> None:
    """Each would take the other's workers for those of a master that is dead."""
    first = divide(container)
    assert refusal(container) == (
        "the cgroup / is divided by another memunit already: start each in a scope of its own"
    )
    os.close(first._lock)
    divide(container)


def test_what_cannot_be_divided_is_left_as_it_was(container: Path) -> None:
    (container / "cgroup" / PARTS[2]).unlink()
    assert refusal(container) == "the cgroup / can't be divided: No such file or directory"
    assert not (container / "cgroup/payload/workers").exists()
    assert (container / "cgroup/cgroup.procs").read_text() == str(os.getpid())


def tree(container: Path, **bounds: str) -> Tree:
    """The tree of that container with these bounds of its own, and no others of what memunit has started."""
    for name in ("memory.high", "memory.max"):
        (container / "cgroup" / name).write_text(bounds.get(name[7:], "max") + "\n")
        (container / "cgroup/payload" / name).write_text("max\n")
    return divide(container)


def payload(container: Path) -> dict[str, str]:
    """The bounds of what memunit has started."""
    names = ("memory.high", "memory.max")
    return {name[7:]: (container / "cgroup/payload" / name).read_text().strip() for name in names}


def test_the_master_keeps_its_share_of_what_bounds_the_unit(container: Path) -> None:
    """Of little it is what it takes at the least."""
    divided = tree(container, high=str(100 * MIB), max=str(60 * MIB))
    divided.bound()
    assert payload(container) == {"high": str(75 * MIB), "max": str(44 * MIB)}
    (container / "cgroup/memory.high").write_text("max\n")
    (container / "cgroup/memory.max").write_text(f"{GIB}\n")
    divided.bound()
    assert payload(container)["max"] == str(GIB - 25 * MIB)
    # A file of the kernel's is not truncated by who writes to it.
    assert payload(container)["high"].startswith("max")


def test_a_master_that_holds_more_than_its_share_keeps_more(container: Path) -> None:
    """The unit goes on being charged for what it took before it moved to its leaf: the unit was at its bound first."""
    divided = tree(container, high=str(64 * MIB), max=str(200 * MIB))
    stat, theirs = container / "cgroup/memory.stat", container / "cgroup/payload/memory.stat"
    theirs.write_text(f"anon {10 * MIB}\nfile {30 * MIB}\n")
    stat.write_text(f"anon {27 * MIB}\nfile {30 * MIB}\nkernel {MIB}\n")
    divided.bound()
    assert payload(container) == {"high": str((64 - 23) * MIB), "max": str((200 - 25) * MIB)}
    # It is not given away again, and what is at its bound already is not put under another one for that.
    for ours, own in ((15, 10), (25, 40)):
        theirs.write_text(f"anon {own * MIB}\n")
        stat.write_text(f"anon {(ours + own) * MIB}\n")
        assert divided.bound() is None
        assert payload(container)["high"] == str((64 - 23) * MIB)
    theirs.write_text("anon 0\n")
    stat.write_text(f"anon {40 * MIB}\n")
    divided.bound()
    assert payload(container) == {"high": str(32 * MIB), "max": str((200 - 45) * MIB)}


def test_a_bound_of_a_slice_is_one_of_the_unit(machine: Path) -> None:
    own = machine / "cgroup/system.slice/app.service"
    lock = os.open(own, os.O_RDONLY)
    for folder in (own, own / "payload", own.parent):
        folder.mkdir(exist_ok=True)
        for name in ("memory.high", "memory.max"):
            (folder / name).write_text("max\n")
    (own.parent / "memory.high").write_text(f"{GIB}\n")
    Tree(str(own), lock, kept_back, str(machine / "cgroup")).bound()
    assert (own / "payload/memory.high").read_text() == str(GIB - 25 * MIB)
    os.close(lock)


def test_a_lower_maximum_waits_until_it_kills_nobody(container: Path) -> None:
    """The OOM killer comes at once for who is over a memory.max that is written; over memory.high they only wait."""
    stat = container / "cgroup/payload/memory.stat"
    divided = tree(container, high=str(GIB), max=str(GIB))
    stat.write_text(f"anon {GIB}\nfile 0\n")
    # That it is slowed down is told once.
    assert (divided.bound(), divided.bound()) == (GIB - 25 * MIB, None)
    assert payload(container) == {"high": str(GIB - 25 * MIB), "max": "max"}
    # Page cache is taken back, and there will always be some.
    stat.write_text(f"anon {GIB // 2}\nfile {GIB // 2}\n")
    divided.bound()
    assert payload(container)["max"] == str(GIB - 25 * MIB)
    # More is given at once, however much is taken.
    stat.write_text(f"anon {GIB}\nfile 0\n")
    (container / "cgroup/memory.max").write_text(f"{GIB + MIB}\n")
    divided.bound()
    assert payload(container)["max"] == str(GIB - 24 * MIB)


def test_a_zygote_may_take_what_is_free_while_it_imports(container: Path) -> None:
    divided = tree(container, high=str(125 * MIB))
    divided.bound()
    (container / "cgroup/payload/memory.stat").write_text(f"anon {70 * MIB}\nfile {20 * MIB}\n")
    bound = container / "cgroup/payload/zygotes/1.0/memory.max"
    bound.parent.mkdir()
    bound.write_text("max\n")
    (bound.parent / "memory.stat").write_text("anon 0\nfile 0\n")
    together = bound.parent / "memory.oom.group"
    together.write_text("0\n")
    assert not divided.imports("1.0")
    path = divided.zygote("1.0")
    # What it starts ends with it: the app may need that.
    assert together.read_text().startswith("1")
    assert divided.imports("1.0")
    divided.bound_imports([path])
    assert divided.imports("1.0")
    # Not all of it: at the bound of all, the OOM killer may take somebody who serves.
    assert bound.read_text() == str(26 * MIB)
    divided.settle(path)
    assert bound.read_text().startswith("max")
    assert together.read_text().startswith("0")
    assert not divided.imports("1.0")
    # Of a version that knew only the bound.
    bound.write_text("30\n")
    assert divided.imports("1.0")
    (container / "cgroup/payload/memory.high").write_text("max\n")
    assert divided.zygote("1.0") == path
    divided.bound_imports([path])
    assert bound.read_text().startswith("max")


def imports(container: Path, taken: int, **own: int) -> dict[str, int]:
    """The bounds in MiB of zygotes that import and have taken so much of 100 MiB, where all have `taken` so much."""
    divided = tree(container, high=str(125 * MIB))
    divided.bound()
    (container / "cgroup/payload/memory.stat").write_text(f"anon {taken * MIB}\nfile {20 * MIB}\n")
    folder = container / "cgroup/payload/zygotes"
    for name, size in own.items():
        (folder / name).mkdir()
        (folder / name / "memory.stat").write_text(f"anon {size * MIB}\nfile {size * MIB}\n")
        (folder / name / "memory.max").write_text("max\n")
    divided.bound_imports([str(folder / name) for name in own])
    return {name: int((folder / name / "memory.max").read_text()) // MIB for name in own}


def test_who_serves_comes_before_who_imports(container: Path) -> None:
    """Workers grow while an import takes minutes. It is at its own bound then, where nobody else is to be killed."""
    assert imports(container, 70, a=20) == {"a": 46}


def test_an_import_is_bounded_below_what_it_holds_where_more_is_taken(container: Path) -> None:
    assert imports(container, 99, a=40) == {"a": 37}


def test_an_import_for_which_nothing_is_left_gets_the_least(container: Path) -> None:
    assert imports(container, 120, a=0) == {"a": 1}


def test_two_imports_at_once_have_what_is_free_in_common(container: Path) -> None:
    assert imports(container, 46, a=20, b=6) == {"a": 45, "b": 31}


@pytest.mark.parametrize(("taken", "granted"), [(10, 64), (46, 50), (99, 1)])
def test_a_program_that_examines_gets_no_more_than_there_is(
    container: Path, taken: int, granted: int
) -> None:
    divided = tree(container, high=str(125 * MIB))
    divided.bound()
    (container / "cgroup/payload/memory.stat").write_text(f"anon {taken * MIB}\nfile {20 * MIB}\n")
    assert divided.free_for(64 * MIB) == granted * MIB
    (container / "cgroup/payload/memory.high").write_text("max\n")
    assert divided.free_for(64 * MIB) == 64 * MIB


@pytest.mark.parametrize(
    ("high", "stat", "crowded"),
    [
        ("max", f"anon {GIB}\n", False),
        (str(125 * MIB), f"anon {80 * MIB}\nkernel {8 * MIB}\nfile {12 * MIB}\n", True),
        (str(125 * MIB), f"anon {80 * MIB}\nkernel {7 * MIB}\nfile {12 * MIB}\n", False),
        # What the kernel can take back is none of it.
        (str(125 * MIB), f"anon {80 * MIB}\nkernel {9 * MIB}\nslab_reclaimable {2 * MIB}\n", False),
    ],
)
def test_page_cache_at_the_bound_is_no_want_of_memory(
    container: Path, high: str, stat: str, crowded: bool
) -> None:
    divided = tree(container, high=high)
    divided.bound()
    (container / "cgroup/payload/memory.stat").write_text(stat)
    assert divided.crowded() is crowded


@pytest.mark.parametrize(
    ("counts", "own_oom", "whose"),
    [
        (Counts(high=3, oom=0, oom_kill=0), 0, ""),
        (Counts(high=0, oom=1, oom_kill=2), 1, "own"),
        (Counts(high=0, oom=0, oom_kill=1), 0, "outside"),
        # A job in a group that the worker has made and bounded: nothing of ours, nor of the machine's.
        (Counts(high=0, oom=1, oom_kill=1), 0, ""),
        (Counts(high=0, oom=2, oom_kill=2), 1, "own"),
    ],
)
def test_whose_bound_the_oom_killer_came_for(counts: Counts, own_oom: int, whose: str) -> None:
    assert whose_bound(counts, own_oom) == whose
