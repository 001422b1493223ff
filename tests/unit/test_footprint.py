"""What the kernel tells of a worker: which kind of memory grew, and what is no name for it."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from memunit.core.footprint import Footprint
from memunit.core.footprint_verdict import VERDICTS, Account, account, sentence
from memunit.master import footprint as kernel
from memunit.master import leakfiles
from memunit.records import replace

M = 1 << 20
START = Footprint(
    anon=20 * M,
    file=8 * M,
    shmem=0,
    kernel=M,
    swap=0,
    threads=4,
    descriptors=12,
    kinds={"socket": 3, "file": 9},
    processes={100: 20 * M},
)


def told(files: bool = False, mapped: dict[str, int] | None = None, **more: Any) -> Account:
    """What grew from START by so much."""
    grown = {name: getattr(START, name) + value for name, value in more.items() if isinstance(value, int)}
    kept = {name: value for name, value in more.items() if not isinstance(value, int)}
    processes = {100: START.processes[100] + more.get("anon", 0)}
    after = replace(START, **{"processes": processes, **grown, **kept})
    return account(START, after, files=files, mapped=mapped)


@pytest.mark.parametrize(
    ("found", "verdict", "words"),
    [
        (
            told(anon=371 * M, kernel=9 * M),
            "native",
            "371M of 380M in anonymous memory: the heap of the program",
        ),
        (told(swap=100 * M), "native", "100M of 100M in anonymous memory"),
        (told(anon=60 * M, threads=100), "threads", "with 100 threads more than at the start"),
        # Threads that hold more than a thread does are not what grew.
        (told(anon=900 * M, threads=100), "native", "Meanwhile: threads from 4 to 104."),
        (told(anon=60 * M, threads=8), "native", "Meanwhile: threads from 4 to 12."),
        (
            told(shmem=80 * M, anon=20 * M),
            "shared",
            "80M of 100M in shared memory, or in files on tmpfs. Files in",
        ),
        (
            told(shmem=80 * M, mapped={"/dev/shm/carts-8ffe12ab90cd77aa51": 78 * M}),
            "shared",
            "most of it /dev/shm/{}.",
        ),
        (told(shmem=80 * M, mapped={"/dev/shm/carts": 8 * M}), "shared", "on tmpfs. Files in"),
        (
            told(kernel=40 * M, descriptors=3000, kinds={"socket": 2990, "file": 22}),
            "descriptors",
            "40M of 40M in the kernel, with 3,000 descriptors more than at the start (most of them sockets)",
        ),
        (told(kernel=40 * M), "unknown", "in the kernel: page tables"),
        (
            told(anon=90 * M, processes={100: 21 * M, **dict.fromkeys(range(101, 121), 4 * M)}),
            "processes",
            "80M of 90M in 20 processes that it has started since it was ready, and that have not ended",
        ),
        (
            told(anon=90 * M, processes={100: 21 * M, 101: 45 * M, 102: 44 * M}),
            "native",
            "45M of 90M in anonymous memory of a process that it has started",
        ),
        # As a server does that forks its workers.
        (
            told(anon=90 * M, processes={100: 21 * M, **dict.fromkeys(range(101, 105), 22 * M)}),
            "unknown",
            "88M of 90M in 4 processes that it has started since it was ready.",
        ),
        (told(anon=M), "baseline", "has grown by only 1M since it was ready, to 22M. This is no leak"),
        (told(file=90 * M), "baseline", "has grown by only 0B since"),
        (
            told(files=True, file=90 * M, mapped={"/srv/shop/data.mdb": 88 * M}),
            "baseline",
            "90M of 90M in pages of files that it maps, most of it of /srv/shop/data.mdb. This is no leak",
        ),
        (told(anon=10 * M, shmem=10 * M, kernel=10 * M), "unknown", "no kind of memory is most of it"),
    ],
)
def test_each_verdict_says_what_grew(found: Account, verdict: str, words: str) -> None:
    said = sentence(found, "0.7 (pid 4711)")
    assert (found.leak.verdict, words in said) == (verdict, True), said
    assert said.endswith(".")
    assert verdict in VERDICTS


def test_a_start_that_nobody_has_seen_is_no_growth() -> None:
    found = account(None, START)
    assert found.leak.verdict == "unknown"
    assert found.leak.growth == 0
    assert sentence(found, "0.7 (pid 1)") == (
        "Worker 0.7 (pid 1) has 21M: 20M anonymous, 0B shared, 1M of the kernel; 1 process, 4 threads, 12 descriptors. "
        "Its memory at the start is not known, so nobody can say what grew."
    )


def test_a_late_start_is_told() -> None:
    after = replace(START, anon=90 * M)
    said = account(replace(START, at=7200.4), after).text
    assert "70M of 70M in anonymous memory, 2h after it was ready:" in said


def test_who_is_well_under_its_limit_needs_no_higher_one() -> None:
    after = replace(START, anon=START.anon + M)
    said = [account(START, after, far=far).text for far in ("", "It was well under its limit, at 15M of 60M")]
    assert ["raise memory.limit" in each for each in said] == [True, False]
    assert (
        "to 22M. It was well under its limit, at 15M of 60M: examine one that has served for longer."
        in said[1]
    )


def test_any_numbers_give_an_account(tmp_path: Path) -> None:
    chance = random.Random(14)

    def some() -> Footprint:
        def number() -> int:
            return chance.choice([0, 1, chance.randrange(1 << 20), chance.randrange(1 << 42)])

        return Footprint(
            anon=number(),
            file=number(),
            shmem=number(),
            kernel=number(),
            swap=number(),
            threads=number(),
            descriptors=number(),
            kinds={kind: number() for kind in chance.sample(["socket", "pipe", "file"], chance.randrange(4))},
            processes={chance.randrange(9): number() for _ in range(chance.randrange(4))},
            at=chance.random() * 1e5,
        )

    for _ in range(3000):
        before, after = chance.choice([None, some()]), some()
        mapped = chance.choice([None, {}, {"/srv/\x1b[2J\udcff" + "x" * 4000: 1 << 40}])
        found = account(before, after, files=chance.random() < 0.5, mapped=mapped)
        assert found.leak.verdict in VERDICTS
        assert 0 <= found.leak.size <= max(found.leak.growth, 0) or found.leak.growth == 0
        assert found.leak.holder.isprintable()
        assert sentence(found, "0.7 (pid 4711)").isprintable()
    leakfiles.save(str(tmp_path), "one", found.leak.details)


def test_of_a_process_that_is_there() -> None:
    found = kernel.read(os.getpid())
    assert found is not None
    assert found["anon"] > M
    assert found["threads"] >= 1
    assert found["descriptors"] >= 3
    assert os.getpid() in found["processes"]
    assert Footprint(**found).own(files=True) > found["anon"]


@pytest.mark.parametrize("name", ["\xb2 kB", "\x0bThreads:\xb2", "\x85RssAnon: 9 kB", "a\nThreads:\t7"])
def test_a_process_may_have_any_name(name: str) -> None:
    """The kernel writes it into the table (PR_SET_NAME), and escapes a newline alone."""
    hold = (
        "import ctypes, sys\n"
        "ctypes.CDLL(None).prctl(15, sys.argv[1].encode(), 0, 0, 0); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        ["python3", "-c", hold, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        found = kernel.read(child.pid)
        child.stdin.close()
    assert found is not None
    assert found["threads"] == 1
    assert found["processes"][child.pid] > 100_000


def test_of_one_that_is_gone() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert kernel.read(child.pid) is None
    assert kernel.read(os.getpid(), "/sys/fs/cgroup/not/there") is not None
    assert kernel.mapped(child.pid) == {}


def test_many_descriptors_are_counted_and_some_are_looked_at() -> None:
    """More than are listed: the number is the kernel's where it tells it, and at least as many as were listed.

    Of a process of its own: in this one the collector closes files of earlier tests at any moment.
    """
    hold = (
        "import os, sys; print(flush=True); sys.stdin.readline()\n"
        "opened = [os.open('/proc/self/stat', os.O_RDONLY) for _ in range(900)]; print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(["python3", "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        before = kernel.read(child.pid)
        child.stdin.write(b"\n")
        child.stdin.flush()
        child.stdout.readline()
        after = kernel.read(child.pid)
        child.stdin.close()
    assert before is not None
    assert after is not None
    assert after["descriptors"] - before["descriptors"] == 900
    assert 850 <= after["kinds"]["file"] - before["kinds"].get("file", 0) <= 950


def test_the_file_that_is_mapped_most(tmp_path: Path) -> None:
    path = tmp_path / "data.mdb"
    path.write_bytes(b"x" * (8 << 20))
    hold = (
        "import mmap, sys; file = open(sys.argv[1], 'rb'); area = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)\n"
        "sum(area[place] for place in range(0, len(area), 4096)); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        ["python3", "-c", hold, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        # Bounded by a tenth of a second, which a busy machine may need for the start alone.
        found: dict[str, int] = {}
        for _ in range(100):
            found = kernel.mapped(child.pid)
            if found:
                break
        child.stdin.close()
    assert max(found, key=lambda each: found[each]) == str(path)
    assert found[str(path)] >= 8 << 20


# As Linux 6.1 writes it, with what matters here and some of the rest.
STAT = """anon 104857600
file 734003200
kernel 9437184
kernel_stack 65536
pagetables 1048576
sock 4096
shmem 52428800
file_mapped 33554432
slab_reclaimable 6291456
slab_unreclaimable 1048576
slab 7340032
pgfault 1234567
"""


def test_a_control_group_is_believed(tmp_path: Path) -> None:
    """Its memory is the group's, page cache left out; threads and descriptors are those of each process in it."""
    (tmp_path / "below").mkdir()
    (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n")
    (tmp_path / "below" / "cgroup.procs").write_text(f"{os.getppid()}\n")
    (tmp_path / "memory.stat").write_text(STAT)
    (tmp_path / "memory.swap.current").write_text("2097152\n")
    found = kernel.read(os.getpid(), str(tmp_path))
    assert found is not None
    memory = {name: found[name] for name in ("anon", "shmem", "kernel", "swap")}
    assert memory == {"anon": 100 * M, "shmem": 50 * M, "kernel": 3 * M, "swap": 2 * M}
    assert set(found["processes"]) == {os.getpid(), os.getppid()}
    assert Footprint(**found).own(files=False) == 155 * M


def test_an_older_kernel_has_no_sum_of_its_own(tmp_path: Path) -> None:
    """Before Linux 5.18 there is no line `kernel`; and where nothing is swapped, no file says how much."""
    (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n")
    (tmp_path / "memory.stat").write_text(STAT.replace("kernel 9437184\n", ""))
    found = kernel.read(os.getpid(), str(tmp_path))
    assert found is not None
    assert (found["kernel"], found["swap"]) == (65536 + 7340032 + 1048576 - 6291456, 0)
