"""What a master finds of the one before it, and what it keeps for the one after."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from memunit.core import facts as f
from memunit.core import handover
from memunit.core.actions import Action, Send, Signal, Spawn
from memunit.core.adoption import adopted
from memunit.core.handover import Handover, LeftWorker
from memunit.core.model import Policy, WorkerId
from memunit.core.state import State, initial
from memunit.master import continuity, proctree, recovery, reexec
from memunit.master.continuity import (
    HandoverFile,
    Inherited,
    again,
    inherit,
    passed_on,
    reconciled,
    written,
)
from memunit.master.doors import KeptDoors
from memunit.master.filenames import WORKERS
from memunit.master.kept import Course, KeptProcesses, Passed, course_codec
from memunit.master.recovery import Recovery, took, unnamed
from memunit.records import replace
from tests.support import descriptors

RUNS = LeftWorker(
    slot=0,
    generation=1,
    pid=50,
    start=5,
    revision=1,
    phase="running",
    born=10.0,
    ready_at=11.0,
    deadline=math.inf,
)


PASSED = Passed(configurations={}, doors=KeptDoors(notify=(3,)), processes=KeptProcesses())


def left(*workers: LeftWorker) -> Handover:
    return Handover(master=9, program="1", stopping=False, revision=1, generations=(2,), workers=workers)


def test_what_was_kept_is_found(tmp_path: Path) -> None:
    HandoverFile(str(tmp_path)).save(written(left(RUNS)))
    assert inherit(None, str(tmp_path)) == Inherited(left=left(RUNS))


@pytest.mark.parametrize("directory", [True, False])
def test_nothing_is_left(tmp_path: Path, directory: bool) -> None:
    assert inherit(None, str(tmp_path) if directory else None) == Inherited()


def test_a_file_of_nobody_is_nothing(tmp_path: Path) -> None:
    HandoverFile(str(tmp_path)).save(written(left()))
    assert inherit(None, str(tmp_path)) == Inherited()


def test_a_file_of_another_boot_is_nothing(tmp_path: Path) -> None:
    HandoverFile(str(tmp_path)).save(handover.write(left(RUNS), "another"))
    assert inherit(None, str(tmp_path)) == Inherited()


def _unknown(path: Path) -> None:
    found = json.loads(written(left(RUNS)))
    found["left"]["workers"][0]["phase"] = "asleep"
    found["left"]["workers"][0]["stop_at"] = 1.0
    path.write_text(json.dumps(found))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: path.mkdir(), f"{WORKERS} can't be read: Is a directory"),
        (lambda path: path.symlink_to("/dev/zero"), f"{WORKERS} can't be read: Too many levels"),
        (os.mkfifo, f"{WORKERS} can't be used: no JSON"),
        (lambda path: path.write_bytes(b""), f"{WORKERS} can't be used: no JSON"),
        (_unknown, f"{WORKERS} can't be used: it has names that this version does not know"),
    ],
    ids=["directory", "link", "fifo", "empty", "unknown"],
)
def test_whatever_stands_there_is_told(tmp_path: Path, make: Any, why: str) -> None:
    make(tmp_path / WORKERS)
    found = inherit(None, str(tmp_path))
    assert found.left is None
    assert why in found.trouble


def test_a_file_is_replaced_in_one_step_and_only_if_it_changes(tmp_path: Path) -> None:
    kept, path = HandoverFile(str(tmp_path)), tmp_path / WORKERS
    kept.save("one")
    first = path.stat().st_ino
    kept.save("one")
    assert path.stat().st_ino == first
    kept.save("two")
    assert path.read_text() == "two"
    assert path.stat().st_ino != first
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == [WORKERS]
    kept.remove()
    kept.remove()
    assert not path.exists()


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/etc/memunit-unit-test"), os.mkfifo])
def test_what_stands_in_the_way_is_not_written_to(tmp_path: Path, make: Any) -> None:
    """A worker has our user. The next change is kept again."""
    kept = HandoverFile(str(tmp_path))
    make(tmp_path / f"{WORKERS}.new")
    kept.save("one")
    kept.save("two")
    assert (tmp_path / WORKERS).read_text() == "two"
    assert not Path("/etc/memunit-unit-test").exists()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuity, "_LOOK", 0.0)


@pytest.mark.usefixtures("at_once")
def test_what_can_not_be_written_is_written_once_it_can(tmp_path: Path) -> None:
    """As where the file system is full: the file says what was so before, and the text does not change any more."""
    kept, path = HandoverFile(str(tmp_path)), tmp_path / WORKERS
    kept.save("one")
    assert not kept.lost()
    (tmp_path / f"{WORKERS}.new").mkdir()
    kept.save("two")
    assert path.read_text() == "one"
    assert kept.lost()
    (tmp_path / f"{WORKERS}.new").rmdir()
    kept.save("two")
    assert path.read_text() == "two"
    assert kept.trouble is None
    assert not kept.lost()


def fill(monkeypatch: pytest.MonkeyPatch, number: int, *, room: int) -> None:
    """From now on, no new file can be made; what is there can grow to `room` bytes."""
    really_open, really_write = os.open, os.write

    def opened(path: Any, flags: int, *more: Any) -> int:
        if flags & os.O_CREAT:
            raise OSError(number, os.strerror(number))
        return really_open(path, flags, *more)

    def write(descriptor: int, data: bytes) -> int:
        left = room - os.lseek(descriptor, 0, os.SEEK_CUR)
        if not left:
            raise OSError(number, os.strerror(number))
        return really_write(descriptor, data[:left])

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "write", write)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_file_system_takes_the_file_in_the_place_of_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A master recycled all its workers while /run was full, and was killed: its successor told the ends of the former
    workers once more, as crashes, and stopped those that served.
    """
    kept, path = HandoverFile(str(tmp_path)), tmp_path / WORKERS
    kept.save(written(left(RUNS, replace(RUNS, slot=1, pid=51))))
    with monkeypatch.context() as context:
        fill(context, number, room=4096)
        for text in (written(left(replace(RUNS, generation=2, pid=60))), written(left(RUNS))):
            kept.save(text)
            assert path.read_text().rstrip(" ") == text
            assert kept.trouble is None
            assert not kept.lost()
    assert inherit(None, str(tmp_path)) == Inherited(left=left(RUNS))
    kept.save("one")
    assert path.read_text() == "one"


@pytest.mark.usefixtures("at_once")
def test_a_file_that_has_no_room_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the text of before nor a part of a text: the successor starts clean."""
    kept, path = HandoverFile(str(tmp_path)), tmp_path / WORKERS
    kept.save("one")
    with monkeypatch.context() as context:
        fill(context, errno.ENOSPC, room=4)
        kept.save("eleven")
        assert isinstance(kept.trouble, OSError)
        assert list(tmp_path.iterdir()) == []
    assert kept.lost()
    kept.save("eleven")
    assert path.read_text() == "eleven"
    assert kept.trouble is None


@pytest.mark.parametrize("known", [True, False])
def test_who_has_asked_is_known_beside_the_text(monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    """By the text that goes with it: a version in between may not know the variable, and leave it as it is."""
    passed = os.memfd_create("passed")
    os.write(passed, b"text")
    os.lseek(passed, 0, os.SEEK_SET)
    inode = os.fstat(passed).st_ino
    monkeypatch.setenv("MEMUNIT_HANDOVER", f"{os.getpid()}:{passed}")
    monkeypatch.setenv("MEMUNIT_ASKERS", f"{inode if known else inode + 1}:7 8")
    assert reexec.received() == reexec.Received(b"text", (7, 8) if known else ())
    assert not {"MEMUNIT_HANDOVER", "MEMUNIT_ASKERS"} & os.environ.keys()
    assert reexec.received() is None


def test_one_descriptor_is_enough_to_read_it(tmp_path: Path) -> None:
    """Its boot could not be compared: the workers that it names were not taken over."""
    HandoverFile(str(tmp_path)).save(written(left(RUNS)))
    with descriptors.left(1):
        found = inherit(None, str(tmp_path))
    assert found.left == left(RUNS)


def test_without_descriptors_the_file_of_before_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    kept = HandoverFile(str(tmp_path))
    kept.save("one")
    monkeypatch.setattr(os, "open", opened)
    kept.save("two")
    assert not (tmp_path / WORKERS).exists()
    assert kept.trouble is not None


@pytest.mark.parametrize(
    "make", [lambda path: path.symlink_to("/etc/memunit-unit-test"), os.mkfifo, os.mkdir]
)
def test_what_stands_in_its_place_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    kept, path = HandoverFile(str(tmp_path)), tmp_path / WORKERS
    make(path)
    fill(monkeypatch, errno.ENOSPC, room=4096)
    kept.save("one")
    assert isinstance(kept.trouble, OSError)
    assert not Path("/etc/memunit-unit-test").exists()


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("how", ["removed", "another's", "with its directory"])
def test_a_file_that_is_lost_is_written_again(tmp_path: Path, how: str) -> None:
    directory = tmp_path / "runtime"
    directory.mkdir()
    kept, path = HandoverFile(str(directory)), directory / WORKERS
    kept.save("one")
    if how == "another's":
        (directory / "other").write_text("other")
        (directory / "other").replace(path)
    else:
        path.unlink()
    if how == "with its directory":
        directory.rmdir()
        assert kept.lost()
        kept.save("one")
        assert isinstance(kept.trouble, FileNotFoundError)
        directory.mkdir()
    assert kept.lost()
    kept.save("one")
    assert path.read_text() == "one"
    assert not kept.lost()
    kept.remove()
    assert not kept.lost()


def test_a_file_is_looked_for_now_and_then(tmp_path: Path) -> None:
    kept = HandoverFile(str(tmp_path))
    assert not kept.lost()
    kept.save("one")
    assert not kept.lost()
    (tmp_path / WORKERS).unlink()
    assert not kept.lost()


def test_what_is_passed_on_and_can_not_be_read_leaves_the_workers() -> None:
    text = passed_on(written(left(RUNS)), None, None)
    assert inherit(text, None) == Inherited(left=left(RUNS))
    assert inherit(text + b"\n{}\nof another version {}", None) == Inherited(left=left(RUNS))
    assert "can't be used" in inherit(b"{}", None).trouble
    other = handover.write(left(RUNS), "another boot").encode()
    assert "can't be used" in inherit(other, None).trouble


def test_policy_goes_on_where_it_was_if_this_version_wrote_it() -> None:
    """In a text of another version, the same words may mean something else."""
    course = Course(state=state(RUNS), facts=(f.StopRequested(),))
    text = passed_on(written(left(RUNS)), PASSED, course)
    assert inherit(text, None) == Inherited(left=left(RUNS), passed=PASSED, course=course)
    version = course_codec().version.encode()
    other = text.replace(version, b"another!")
    assert inherit(other, None) == Inherited(left=left(RUNS), passed=PASSED)


def state(*workers: LeftWorker) -> State:
    return adopted(initial(Policy(count=1), now=0.0, seed=1), left(*workers), now=0.0, afresh=False)


def test_who_stops_is_told_so_once_more() -> None:
    """Whether the one before has come to it, nobody knows."""
    term = LeftWorker(**{**_fields(RUNS), "slot": 1, "pid": 51, "phase": "stop-sigterm", "stop_at": 1.0})
    kill = LeftWorker(**{**_fields(RUNS), "slot": 2, "pid": 52, "phase": "stop-sigkill", "stop_at": 1.0})
    assert again(state(RUNS, term, kill)) == [
        Send(WorkerId(1, 1), Signal.TERM),
        Send(WorkerId(2, 1), Signal.KILL),
    ]


def _fields(worker: LeftWorker) -> dict[str, Any]:
    return {name: getattr(worker, name) for name in LeftWorker.__slots__}


class Found:
    """The processes that are there, by the names of their workers."""

    def __init__(self, pids: dict[WorkerId, int], awaited: tuple[WorkerId, ...] = ()) -> None:
        self.pids, self.awaited = pids, awaited

    def awaits(self, who: WorkerId) -> bool:
        return who in self.awaited

    def pid(self, who: WorkerId) -> int | None:
        return self.pids.get(who)


A = WorkerId(0, 1)
NEW = f.Spawned(A, 50)
END = f.Exited(A, "exited", 0)
FAILED = f.SpawnFailed(A, "memunit itself has failed while it was started")


@pytest.mark.parametrize(
    ("known", "heard", "pids", "awaited", "told"),
    [
        # It is there, and policy knows its pid.
        (50, [], {A: 50}, (), []),
        # It was forked, and policy has not heard of it; or will hear.
        (0, [], {A: 50}, (), [NEW]),
        (0, [NEW], {A: 50}, (), []),
        # It was there, as policy knows or will hear, and is not.
        (50, [], {}, (), [f.Exited(A, "unknown", 0)]),
        (0, [NEW], {}, (), [f.Exited(A, "unknown", 0)]),
        # Its end is known, and is to be heard.
        (50, [END], {}, (), []),
        (0, [f.SpawnFailed(A, "no memory")], {}, (), []),
        # It was asked for, and it comes; or it was never forked.
        (0, [], {}, (A,), []),
        (0, [], {}, (), [FAILED]),
    ],
)
def test_policy_hears_what_it_would_never_hear(
    known: int,
    heard: list[f.Fact],
    pids: dict[WorkerId, int],
    awaited: tuple[WorkerId, ...],
    told: list[f.Fact],
) -> None:
    found = state(RUNS)
    found.workers[A].pid = known
    processes = cast("Any", Found(pids, awaited))
    assert reconciled(found, heard, [], processes, set(pids)) == told


@pytest.mark.parametrize(
    ("to_do", "told"),
    [
        ([Spawn(A, revision=1, watchdog=math.inf)], []),
        ([Send(A, Signal.TERM), Spawn(A, revision=1, watchdog=math.inf)], []),
        # That another is to start says nothing of this one.
        ([Spawn(WorkerId(1, 1), revision=1, watchdog=math.inf)], [FAILED]),
        ([Send(A, Signal.TERM)], [FAILED]),
    ],
)
def test_a_worker_that_is_still_to_start_has_not_failed(to_do: list[Action], told: list[f.Fact]) -> None:
    """A master failed between its decision to start a worker and the start: the next pass heard of a failure, and then
    the start found no such worker.
    """
    found = state(RUNS)
    found.workers[A].pid = 0
    assert reconciled(found, [], to_do, cast("Any", Found({})), set()) == told


def test_without_a_directory_nothing_is_kept() -> None:
    kept = HandoverFile(None)
    kept.save("one")
    kept.remove()


@pytest.mark.parametrize(
    ("many", "says"),
    [
        (0, "None of its workers is left; new ones are started"),
        (
            1,
            "1 of its workers is taken over; it is replaced in its turn, because systemd has removed its /tmp",
        ),
        (
            3,
            "3 of its workers are taken over; each is replaced in its turn, because systemd has removed its /tmp",
        ),
    ],
)
def test_what_a_successor_says_of_the_workers_that_it_finds(many: int, says: str) -> None:
    """Where none is left, none is replaced in its turn."""
    assert took(many) == says


@pytest.mark.parametrize(
    ("many", "others", "says"),
    [
        (0, False, ""),
        (1, True, ". 1 process that its file does not name is told to stop"),
        (2, False, ". 2 processes that its file does not name are told to stop when new workers serve"),
    ],
)
def test_what_a_successor_says_of_those_that_the_file_does_not_name(
    many: int, others: bool, says: str
) -> None:
    assert unnamed(many, others) == says


def unclaimed(path: Path, **found: Any) -> list[int]:
    """What a master with this notify socket, and without a tree of cgroups, finds when it starts."""
    at: Any = SimpleNamespace(
        directory="/run/memunit/shop", parent_death_signal=False, sole=True, tree=None, notify_path=str(path)
    )
    report: Any = None
    processes: Any = SimpleNamespace(pids=tuple, may_be_awaited=lambda _: False)
    return Recovery(at, report, Inherited(**found)).unclaimed(processes)


def test_a_process_that_ends_while_it_is_looked_at_is_nobody(tmp_path: Path) -> None:
    """What a command has left may start a program a hundred times a second; the master failed of one that had ended."""
    environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
    with subprocess.Popen(["sleep", "1000"], env=environment, start_new_session=True) as stray:

        def ends(pids: Iterable[int]) -> dict[int, int]:
            found = {pid: os.pidfd_open(pid) for pid in pids}
            stray.kill()
            stray.wait()
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(recovery, "strangers", lambda *_: ends([stray.pid]))
            passed: Any = SimpleNamespace(failures=())
            left: Any = SimpleNamespace()
            assert unclaimed(tmp_path / "notify", left=left, passed=passed) == []


@pytest.fixture
def orphan(tmp_path: Path) -> Iterator[int]:
    """A worker of a master that was killed."""
    environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
    shell = ["sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!"]
    pid = int(subprocess.run(shell, env=environment, check=True, capture_output=True).stdout)
    yield pid
    os.kill(pid, signal.SIGKILL)


def test_a_removed_file_hides_no_worker(tmp_path: Path, orphan: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a word of it in the file, a worker would serve for ever, and nobody would measure it."""
    monkeypatch.setattr(proctree, "unit_members", lambda: {os.getpid(), orphan})
    assert unclaimed(tmp_path / "notify") == [orphan]


def test_nobody_is_looked_for_where_nobody_is(
    tmp_path: Path, orphan: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proctree, "unit_members", lambda: {os.getpid()})
    assert unclaimed(tmp_path / "notify") == []


def test_a_zygote_that_was_started_ahead_is_no_predecessors(tmp_path: Path, orphan: int) -> None:
    """It has the same notify socket. Told to stop, it took the starts of the first workers with it."""
    environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
    with subprocess.Popen(["sleep", "1000"], env=environment) as ahead:
        try:
            found = unclaimed(tmp_path / "notify", trouble="it can't be used")
        finally:
            ahead.kill()
    assert found == [orphan]
