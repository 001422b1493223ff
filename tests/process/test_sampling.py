"""Real processes for what a worker holds; real files, and a real cgroup where one can be made, for what there
is.
"""

import contextlib
import gc
import mmap
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from memunit.master import proctree
from memunit.master.child import Launch
from memunit.master.held import Child
from memunit.master.probe import Probe
from memunit.master.sampling import Bound, Sample, Sampler, memory_available
from memunit.master.spawn import fork_call, launch
from tests.support.isolated import isolated
from tests.support.wait import read_line, wait_end, wait_readable

MIB = 1 << 20
PR_SET_DUMPABLE = 4


@pytest.fixture(autouse=True)
def _no_collection() -> Iterator[None]:
    """A collection writes to each page with objects: what was shared with a forked child is the child's own then."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@contextmanager
def holding(hold: Callable[[], object]) -> Iterator[Child]:
    """A process that has done `hold` and keeps what it gave; those in its process group end with it.

    It waits, and touches no page that it has not touched before: it has gone the way to its wait once already.
    """
    reader, writer = os.pipe()
    asked, ask = os.pipe()

    def body() -> int:
        kept = hold()
        while os.read(asked, 1):
            os.write(writer, b"holding\n")
        return int(kept is None)

    child = fork_call(body, Launch(argv=(), environment={}), keep=(writer, asked))
    os.close(writer)
    os.close(asked)
    try:
        for _ in range(3):
            os.write(ask, b"x")
            assert read_line(reader) == "holding"
        yield child
    finally:
        child.kill_tree()
        wait_end(child)
        child.close()
        os.close(reader)
        os.close(ask)


def filled(size: int) -> mmap.mmap:
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for offset in range(0, size, mmap.PAGESIZE):
        memory[offset] = 1
    return memory


def measured(metric: str, pid: int, threshold: int | None = None) -> int:
    sample = Sampler(metric).sample(pid, threshold)
    assert sample is not None
    assert sample.exact
    assert sample.metric == metric
    return sample.bytes


@pytest.mark.parametrize("metric", ["uss", "pss", "rss"])
def test_what_a_worker_allocates_is_seen(metric: str) -> None:
    with holding(lambda: None) as small, holding(lambda: filled(64 * MIB)) as big:
        difference = measured(metric, big.pid) - measured(metric, small.pid)
    assert 60 * MIB < difference < 68 * MIB


def test_inherited_memory_counts_by_rss_alone() -> None:
    """A preloaded parent inflates the rss of each of its workers; none of it would be free without one of
    them.
    """
    preloaded = filled(64 * MIB)
    # Read in the child, so that its own page tables have it.
    with holding(lambda: sum(preloaded[offset] for offset in range(0, 64 * MIB, mmap.PAGESIZE))) as child:
        uss, pss, rss = (measured(metric, child.pid) for metric in ("uss", "pss", "rss"))
    preloaded.close()
    assert rss > 64 * MIB
    assert 32 * MIB <= pss < rss - 16 * MIB
    assert uss < 32 * MIB


def test_subprocesses_count_with_their_worker() -> None:
    def hold() -> object:
        if os.fork() == 0:
            os.setsid()
            kept = filled(32 * MIB)
            os.write(ready[1], b"x")
            signal.pause()
            os._exit(int(kept is None))
        return os.read(ready[0], 1)

    ready = os.pipe()
    with holding(lambda: None) as alone:
        baseline = measured("uss", alone.pid)
    reader, writer = os.pipe()

    def body() -> int:
        os.write(writer, b"ok\n" if hold() else b"")
        signal.pause()
        return 0

    child = fork_call(body, Launch(argv=(), environment={}), keep=(writer, *ready))
    assert read_line(reader) == "ok"
    assert measured("uss", child.pid) > baseline + 30 * MIB
    child.kill_tree()
    wait_end(child)
    child.close()
    for descriptor in (*ready, reader, writer):
        os.close(descriptor)


def costly(samples: Sequence[Sample | None]) -> list[int]:
    return [number for number, sample in enumerate(samples) if sample and sample.exact]


def test_the_costly_reading_is_made_every_sixtieth_time_or_near_the_threshold() -> None:
    with holding(lambda: filled(8 * MIB)) as child:
        sampler = Sampler("uss")
        samples = [sampler.sample(child.pid, 1 << 40) for _ in range(181)]
        found = costly(samples)
        assert found[0] == 0
        assert [number - found[1] for number in found[1:]] == [0, 60, 120][: len(found) - 1]
        assert len(found) > 2
        exact, estimate = samples[0], samples[found[1] + 1]
        assert exact is not None
        assert estimate is not None
        assert estimate.metric == "uss"
        assert abs(estimate.bytes - exact.bytes) < 2 * MIB
        for _ in range(12):
            over = sampler.sample(child.pid, 4 * MIB)
            assert over is not None
            assert over.exact


def test_of_one_that_moves_every_tenth_reading_is_costly() -> None:
    to_child, from_child = os.pipe(), os.pipe()

    def body() -> int:
        kept = []
        while os.read(to_child[0], 1):
            kept.append(filled(MIB))
            os.write(from_child[1], b"\n")
        return len(kept) & 0

    child = fork_call(body, Launch(argv=(), environment={}), keep=(to_child[0], from_child[1]))
    sampler, samples = Sampler("uss"), []
    for _ in range(41):
        os.write(to_child[1], b"x")
        assert os.read(from_child[0], 1)
        samples.append(sampler.sample(child.pid, 1 << 40))
    child.kill_tree()
    wait_end(child)
    child.close()
    for descriptor in (*to_child, *from_child):
        os.close(descriptor)
    found = costly(samples)
    assert [number - found[1] for number in found[1:]] == [0, 10, 20, 30][: len(found) - 1]
    assert len(found) > 3


def test_what_starts_a_process_or_a_thread_is_looked_at_as_a_tree() -> None:
    with holding(lambda: None) as child:
        probe = Probe(child.pid)
        assert probe.resident()
        assert probe.alone()
        assert probe.resident()
    # With its end, the process that has its number is another.
    assert probe.resident() is None
    assert not probe.alone()
    probe.close()
    with holding(lambda: threading.Thread(target=signal.pause, daemon=True).start()) as child:
        probe = Probe(child.pid)
        assert probe.resident()
        assert not probe.alone()
        probe.close()


def test_who_has_not_run_holds_what_it_held(tmp_path: Path) -> None:
    """By files as the kernel's, for a process that grows without running is not to be had."""
    own = tmp_path / "7"
    (own / "task" / "7").mkdir(parents=True)
    (own / "task" / "7" / "children").touch()

    def write(pages: int, ran: str) -> None:
        (own / "statm").write_text(f"1000 {pages} 1 1 0 1 0\n")
        (own / "schedstat").write_text(f"{ran}\n")

    def looked(probe: Probe) -> int:
        resident = probe.resident()
        assert resident is not None
        return resident // os.sysconf("SC_PAGE_SIZE")

    write(10, "500 0 1")
    probe = Probe(7, str(tmp_path))
    assert looked(probe) == 10
    write(20, "500 0 1")
    assert looked(probe) == 10
    write(20, "501 0 2")
    assert looked(probe) == 20
    # Growth without a run, as by khugepaged, is seen at the tenth look.
    write(30, "501 0 2")
    assert [looked(probe) for _ in range(11)] == [20] * 9 + [30, 30]
    # Somebody may run besides.
    write(40, "502 0 3")
    (own / "task" / "7" / "children").write_text("8 ")
    assert looked(probe) == 40
    write(50, "502 0 3")
    assert looked(probe) == 50
    (own / "task" / "7" / "children").write_text("")
    (own / "task" / "8").mkdir()
    write(60, "502 0 3")
    assert looked(probe) == 60
    write(70, "502 0 3")
    assert looked(probe) == 70
    probe.close()


@pytest.mark.parametrize("counted", ["0 0 0", None])
def test_where_the_kernel_does_not_count_it_looks_each_time(tmp_path: Path, counted: str | None) -> None:
    own = tmp_path / "7"
    (own / "task" / "7").mkdir(parents=True)
    (own / "task" / "7" / "children").touch()
    if counted is not None:
        (own / "schedstat").write_text(f"{counted}\n")
    (own / "statm").write_text("1000 10 1 1 0 1 0\n")
    probe = Probe(7, str(tmp_path))
    assert probe.resident() == 10 * os.sysconf("SC_PAGE_SIZE")
    (own / "statm").write_text("1000 20 1 1 0 1 0\n")
    assert probe.resident() == 20 * os.sysconf("SC_PAGE_SIZE")
    probe.close()


def test_without_room_for_files_it_reads_all_the_same() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with holding(lambda: filled(8 * MIB)) as child:
        resource.setrlimit(resource.RLIMIT_NOFILE, (16, hard))
        try:
            sampler = Sampler("uss")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        kept = Sampler("uss")
        one, other = sampler.sample(child.pid, None), kept.sample(child.pid, None)
        assert one is not None
        assert other is not None
        assert abs(one.bytes - other.bytes) < MIB
        assert len(list(Path("/proc/self/fd").iterdir())) > before
        kept.forget(child.pid)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_by_rss_every_reading_is_exact() -> None:
    sampler = Sampler("rss")
    for _ in range(12):
        sample = sampler.sample(os.getpid(), None)
        assert sample is not None
        assert sample.exact


def test_an_inexact_sample_is_under_the_threshold() -> None:
    """Growth between two exact readings up to and over the threshold: whatever is said to be over it, is
    exact.
    """
    to_child, from_child = os.pipe(), os.pipe()

    def body() -> int:
        kept = []
        while os.read(to_child[0], 1):
            kept.append(filled(2 * MIB))
            os.write(from_child[1], b"\n")
        return len(kept) & 0

    child = fork_call(body, Launch(argv=(), environment={}), keep=(to_child[0], from_child[1]))
    sampler = Sampler("uss")
    os.write(to_child[1], b"x")
    read_line(from_child[0])  # what it needs to run is there
    first = sampler.sample(child.pid, None)
    assert first is not None
    threshold = first.bytes + 15 * MIB
    seen_over = 0
    for _ in range(20):
        os.write(to_child[1], b"x")
        read_line(from_child[0])
        sample = sampler.sample(child.pid, threshold)
        assert sample is not None
        assert sample.exact or sample.bytes < threshold
        seen_over += sample.bytes >= threshold
    assert 10 <= seen_over <= 14
    child.kill_tree()
    wait_end(child)
    child.close()
    for descriptor in (*to_child, *from_child):
        os.close(descriptor)


@pytest.mark.parametrize("metric", ["uss", "rss"])
def test_who_has_vanished_costs_only_itself(metric: str) -> None:
    sampler = Sampler(metric)
    child = launch(Launch(argv=("/bin/sleep", "100"), environment={}))
    wait_readable(child.exec_fd)
    assert sampler.sample(child.pid, 0) is not None
    child.signal(signal.SIGKILL)
    wait_readable(child.pidfd)
    # A zombie first, then nothing at all.
    assert sampler.sample(child.pid, 0) is None
    wait_end(child)
    assert sampler.sample(child.pid, 0) is None
    assert sampler.sample(os.getpid(), 0) is not None
    child.close()


def test_a_number_that_comes_again_starts_anew() -> None:
    sampler = Sampler("uss")
    first = sampler.sample(os.getpid(), None)
    sampler.forget(os.getpid())
    second = sampler.sample(os.getpid(), None)
    assert first is not None
    assert second is not None
    assert second.exact


def test_unknown_metrics_are_refused() -> None:
    with pytest.raises(ValueError, match="uss, pss, rss"):
        Sampler("vsz")


SECRETIVE = f"""
import ctypes, os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
hide = lambda: ctypes.CDLL(None).prctl({PR_SET_DUMPABLE}, 0, 0, 0, 0)
if os.environ["WHO"] == "descendant" and os.fork() == 0:
    hide()
    os.write(1, b"x\\n")
    signal.pause()
if os.environ["WHO"] == "worker":
    hide()
# From its second time on, this touches no page that it has not touched before.
while True:
    if os.environ["WHO"] == "worker":
        os.write(1, b"x\\n")
    signal.sigwait([signal.SIGUSR1])
"""


@pytest.mark.parametrize(("who", "metric"), [("worker", "rss"), ("descendant", "uss+rss")])
def test_what_the_kernel_does_not_show_counts_by_rss_and_says_so(who: str, metric: str) -> None:
    """A process that is not dumpable keeps smaps_rollup from its own user, but not statm."""

    def body() -> None:
        if os.getuid() == 0:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
        reader, writer = os.pipe()
        os.dup2(writer, 1)
        child = launch(Launch(argv=("/usr/bin/python3", "-c", SECRETIVE), environment={"WHO": who}))
        assert read_line(reader) == "x"
        for _ in range(2 if who == "worker" else 0):
            child.signal(signal.SIGUSR1)
            assert read_line(reader) == "x"
        sample = Sampler("uss").sample(child.pid, None)
        rss = Sampler("rss").sample(child.pid, None)
        child.kill_tree()
        assert sample is not None
        assert rss is not None
        assert (sample.metric, sample.exact) == (metric, True)
        assert MIB < sample.bytes <= rss.bytes
        assert (sample.bytes == rss.bytes) == (who == "worker")

    isolated(body)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_descendants_without_the_kernels_lists(tmp_path: Path) -> None:
    """CONFIG_PROC_CHILDREN is not in every kernel; then the parents are read once for all."""
    for pid, parent, name in (
        (10, 1, "a"),
        (11, 10, "b) S 99 ("),
        (12, 11, "c d"),
        (13, 1, "e"),
        (14, 10, "f"),
    ):
        write(tmp_path / str(pid) / "stat", f"{pid} ({name}) S {parent} 1 1 0 -1")
        write(tmp_path / str(pid) / "task" / str(pid) / "stat", "")
    (tmp_path / "self").mkdir()
    assert sorted(proctree.descendants(10, str(tmp_path))) == [11, 12, 14]
    assert proctree.descendants(13, str(tmp_path)) == []
    assert proctree.descendants(99, str(tmp_path)) == []


def machine(root: Path, cgroup: str) -> tuple[str, str]:
    write(root / "proc/meminfo", "MemTotal:  8388608 kB\nMemFree: 1 kB\nMemAvailable:  4194304 kB\n")
    write(root / "proc/self/cgroup", cgroup)
    return str(root / "proc"), str(root / "cgroup")


GIB = 1 << 30


def v2(root: Path, group: str, **files: str) -> None:
    write(root / "cgroup/cgroup.controllers", "memory pids\n")
    for name, text in files.items():
        write(root / "cgroup" / group / name.replace("_", ".", 1), text)


def test_no_limit_anywhere(tmp_path: Path) -> None:
    where = machine(tmp_path, "0::/system.slice/memunit@app.service\n")
    v2(
        tmp_path,
        "system.slice/memunit@app.service",
        memory_max="max\n",
        memory_high="max\n",
        memory_current="5\n",
    )
    assert memory_available(*where) == Bound(8 * GIB, 4 * GIB, "the machine")


def test_the_units_own_limit_less_what_cannot_be_given_up(tmp_path: Path) -> None:
    where = machine(tmp_path, "0::/system.slice/memunit@app.service/master\n")
    group = "system.slice/memunit@app.service"
    v2(tmp_path, f"{group}/master", memory_max="max\n", memory_current=f"{GIB}\n")
    v2(
        tmp_path,
        group,
        memory_max=f"{2 * GIB}\n",
        memory_current=f"{GIB + GIB // 2}\n",
        memory_stat=f"anon {GIB}\nactive_file 7\ninactive_file {GIB // 4}\n",
    )
    assert memory_available(*where) == Bound(
        2 * GIB, GIB // 2 + GIB // 4, "MemoryMax= of memunit@app.service"
    )


def test_what_is_left_to_the_master_is_not_free_for_workers(tmp_path: Path) -> None:
    where = machine(tmp_path, "0::/memunit@app.service/master\n")
    v2(tmp_path, "memunit@app.service", memory_high=f"{2 * GIB}\n", memory_current=f"{GIB}\n")
    v2(tmp_path, "memunit@app.service/payload", memory_high=f"{GIB + 7}\n", memory_current=f"{GIB}\n")
    assert memory_available(*where) == Bound(2 * GIB, 7, "MemoryHigh= of memunit@app.service")


def test_the_least_total_and_the_least_that_is_free_may_be_of_two_groups(tmp_path: Path) -> None:
    where = machine(tmp_path, "0::/web.slice/memunit@app.service\n")
    v2(tmp_path, "web.slice/memunit@app.service", memory_max=f"{2 * GIB}\n", memory_current=f"{GIB}\n")
    v2(tmp_path, "web.slice", memory_max=f"{3 * GIB}\n", memory_current=f"{3 * GIB - 5}\n")
    assert memory_available(*where) == Bound(2 * GIB, 5, "MemoryMax= of memunit@app.service")


def test_memory_high_bounds_too_and_an_overdrawn_limit_is_no_negative(tmp_path: Path) -> None:
    where = machine(tmp_path, "0::/memunit@app.service\n")
    v2(
        tmp_path,
        "memunit@app.service",
        memory_max=f"{2 * GIB}\n",
        memory_high=f"{GIB}\n",
        memory_current=f"{GIB + 7}\n",
    )
    assert memory_available(*where) == Bound(GIB, 0, "MemoryHigh= of memunit@app.service")


def test_a_container_without_a_recognisable_name(tmp_path: Path) -> None:
    where = machine(tmp_path, "0::/\n")
    v2(tmp_path, ".", memory_max=f"{GIB}\n", memory_current="0\n")
    assert memory_available(*where) == Bound(GIB, GIB, "memory.max of /")


def test_a_limit_that_is_looser_than_the_machine_is_none(tmp_path: Path) -> None:
    where = machine(tmp_path, "0::/a\n")
    v2(tmp_path, "a", memory_max=f"{16 * GIB}\n", memory_current="0\n")
    assert memory_available(*where) == Bound(8 * GIB, 4 * GIB, "the machine")


def v1(root: Path, group: str, limit: int, usage: int, cache: int = 0) -> None:
    base = root / "cgroup/memory" / group
    write(base / "memory.limit_in_bytes", f"{limit}\n")
    write(base / "memory.usage_in_bytes", f"{usage}\n")
    write(base / "memory.stat", f"inactive_file 1\ntotal_inactive_file {cache}\n")


def test_cgroup_v1(tmp_path: Path) -> None:
    where = machine(tmp_path, "9:name=systemd:/x\n4:cpu,memory:/system.slice/memunit@app.service\n0::/x\n")
    v1(tmp_path, "system.slice/memunit@app.service", GIB, GIB // 2, GIB // 4)
    v1(tmp_path, "system.slice", 9223372036854771712, GIB)
    assert memory_available(*where) == Bound(GIB, GIB // 2 + GIB // 4, "MemoryLimit= of memunit@app.service")


def test_a_v1_container_that_sees_only_its_own_root(tmp_path: Path) -> None:
    where = machine(tmp_path, "4:memory:/docker/0123\n")
    v1(tmp_path, ".", GIB, 0)
    assert memory_available(*where) == Bound(GIB, GIB, "memory.limit_in_bytes of /")


def test_nothing_can_be_read(tmp_path: Path) -> None:
    assert memory_available(str(tmp_path), str(tmp_path)) == Bound(0, 0, "unknown")


@pytest.mark.parametrize("text", ["", "garbage\n", "0::\n", "4:memory\n", "::::\n"])
def test_a_strange_cgroup_file(tmp_path: Path, text: str) -> None:
    assert memory_available(*machine(tmp_path, text)) == Bound(8 * GIB, 4 * GIB, "the machine")


def test_this_machine() -> None:
    headroom = memory_available()
    assert 0 < headroom.available <= headroom.total
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert headroom.total <= pages


def own_group() -> tuple[Path, str] | None:
    """Our group's directory and the name of its limit, where we may make one below it."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return Path("/sys/fs/cgroup/memory" + path), "memory.limit_in_bytes"
        if not controllers and Path("/sys/fs/cgroup/cgroup.subtree_control").exists():
            return Path("/sys/fs/cgroup" + path), "memory.max"
    return None


def test_a_real_cgroup() -> None:
    found = own_group()
    if found is None:
        pytest.skip("no memory controller")
    parent, limit = found
    group = parent / f"memunit-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(256 * MIB))
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip(f"no cgroup can be made here: {error}")

    def body() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))
        before = memory_available()
        assert before.total == 256 * MIB
        assert before.source.startswith(f"{limit} of /")
        assert before.source.endswith(group.name)
        kept = filled(64 * MIB)
        assert 60 * MIB < before.available - memory_available().available < 70 * MIB
        kept.close()

    try:
        isolated(body)
    finally:
        group.rmdir()
