"""What a dead master has left is ended when its service stops: real processes, in a group that the test stands for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memunit.core.handover import Handover, LeftWorker, write
from memunit.master import sweeping
from memunit.master.proctree import start_ticks
from memunit.master.system import boot_id
from tests.support.wait import DEADLINE

# Ends by the signal that it names, with 0, or by none; and says when it listens. It waits by sigwait(3): a handler is
# not run for a signal that comes right before the system call of a pause.
PROGRAM = """
import signal, sys
number, ends = int(sys.argv[1]), sys.argv[2] == "ends"
signal.pthread_sigmask(signal.SIG_BLOCK, {number, signal.SIGTERM})
print("listens", flush=True)
signal.sigwait({number if ends else signal.SIGALRM})
"""


class Group:
    """Processes of ours in the place of a control group."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[str]] = []
        self.told: list[str] = []

    def start(
        self, number: int = signal.SIGTERM, *, ends: bool = True, group: int = 0
    ) -> subprocess.Popen[str]:
        """A process in the process group `group`, or in one of its own."""
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(int(number)), "ends" if ends else "stays"],
            stdout=subprocess.PIPE,
            text=True,
            process_group=group,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "listens\n"
        self.processes.append(process)
        return process

    def members(self, _: str) -> set[int]:
        return {each.pid for each in self.processes if each.poll() is None}


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Group]:
    made = Group()
    monkeypatch.setattr(sweeping, "_members", made.members)
    monkeypatch.setattr(sweeping, "_own_group", lambda: str(tmp_path / "group"))
    monkeypatch.setattr(sweeping, "_tell", lambda _, text: made.told.append(text))
    monkeypatch.setattr(sweeping, "_systemctl", lambda *_: "")
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.delenv("SERVICE_RESULT", raising=False)
    yield made
    for process in made.processes:
        process.kill()
        process.wait(DEADLINE)
        assert process.stdout is not None
        process.stdout.close()


def keep(folder: Path, *workers: LeftWorker, stopping: bool = False) -> None:
    left = Handover(master=9, program="1", stopping=stopping, revision=1, generations=(), workers=workers)
    (folder / "workers.json").write_text(write(left, boot_id()))


def worker(process: subprocess.Popen[str], slot: int = 0, **fields: Any) -> LeftWorker:
    known: dict[str, Any] = {
        "start": start_ticks(process.pid) or 0,
        "stop_signal": int(signal.SIGTERM),
        "grace": 20.0,
        **fields,
    }
    return LeftWorker(
        slot=slot,
        generation=1,
        pid=process.pid,
        revision=1,
        phase="running",
        born=1.0,
        ready_at=1.0,
        deadline=float("inf"),
        **known,
    )


def failed(monkeypatch: pytest.MonkeyPatch, result: str = "signal") -> None:
    """The master has ended so, and systemd has a job to stop the service."""
    monkeypatch.setenv("SERVICE_RESULT", result)
    monkeypatch.setattr(
        sweeping,
        "_systemctl",
        lambda *words: "77 memunit@app.service stop waiting\n" if words[0] == "list-jobs" else "",
    )


def test_each_worker_is_told_by_its_own_signal_and_the_rest_is_killed(
    group: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A helper that a request runs is needed for its answer: it is not told."""
    one, other, helper = group.start(), group.start(signal.SIGUSR2), group.start()
    keep(tmp_path, worker(one), worker(other, 1, stop_signal=int(signal.SIGUSR2)))
    failed(monkeypatch)
    assert sweeping.after_master("app") == 0
    assert [each.wait(DEADLINE) for each in (one, other, helper)] == [0, 0, -signal.SIGKILL]
    assert len(group.told) == 1
    assert "2 processes are told to stop, and may finish for 20 s" in group.told[0]


def test_of_a_command_all_processes_are_told(
    group: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its master would have told them: behind `sh -c` the first process is not the one that serves."""
    first = group.start()
    server, other = group.start(group=first.pid), group.start()
    keep(tmp_path, worker(first, whole=True))
    failed(monkeypatch)
    assert sweeping.after_master("app") == 0
    assert [each.wait(DEADLINE) for each in (first, server, other)] == [0, 0, -signal.SIGKILL]


def test_who_does_not_end_in_its_grace_is_killed(
    group: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf, well = group.start(ends=False), group.start()
    keep(tmp_path, worker(deaf, grace=4.0), worker(well, 1, grace=0.1))
    failed(monkeypatch)
    assert sweeping.after_master("app") == 0
    assert deaf.wait(DEADLINE) == -signal.SIGKILL
    assert "1 of them had not ended after 4 s, and are killed" in group.told[-1]


def _none(folder: Path, _: subprocess.Popen[str]) -> None:
    """No file at all."""


def _broken(folder: Path, _: subprocess.Popen[str]) -> None:
    (folder / "workers.json").write_text("{")


def _fifo(folder: Path, _: subprocess.Popen[str]) -> None:
    os.mkfifo(folder / "workers.json")


def _anothers(folder: Path, process: subprocess.Popen[str]) -> None:
    """The pid is there, and was another's."""
    keep(folder, worker(process, start=1, stop_signal=int(signal.SIGUSR1)))


def _elsewhere(folder: Path, _: subprocess.Popen[str]) -> None:
    """A process that is not of the service: this one."""
    keep(
        folder,
        LeftWorker(
            slot=0,
            generation=1,
            pid=os.getpid(),
            start=start_ticks(os.getpid()) or 0,
            revision=1,
            phase="running",
            born=1.0,
            ready_at=1.0,
            deadline=float("inf"),
            stop_signal=int(signal.SIGKILL),
        ),
    )


@pytest.mark.parametrize("make", [_none, _broken, _fifo, _anothers, _elsewhere])
def test_where_nothing_tells_who_is_a_worker_all_are_told(
    group: Group,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path, subprocess.Popen[str]], None],
) -> None:
    process = group.start()
    make(tmp_path, process)
    failed(monkeypatch)
    assert sweeping.after_master("app") == 0
    assert process.wait(DEADLINE) == 0
    assert "1 process is told to stop, and may finish for 30 s" in group.told[0]


def test_a_master_that_has_ended_in_order_has_given_them_their_time(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_RESULT", "success")
    process = group.start()
    assert sweeping.after_master("app") == 0
    assert process.wait(DEADLINE) == -signal.SIGKILL
    assert group.told == []


def test_those_that_a_successor_will_take_over_are_left(
    group: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_RESULT", "signal")
    process = group.start()
    keep(tmp_path, worker(process))
    assert sweeping.after_master("app") == 0
    assert process.poll() is None
    assert group.told == []


@pytest.mark.parametrize("result", ["timeout", "exec-condition"])
def test_after_these_no_successor_comes(
    group: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: str
) -> None:
    monkeypatch.setenv("SERVICE_RESULT", result)
    process = group.start()
    keep(tmp_path, worker(process))
    assert sweeping.after_master("app") == 0
    assert process.wait(DEADLINE) == 0


def test_a_master_that_had_begun_to_stop_has_no_successor(
    group: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_RESULT", "signal")
    process = group.start()
    keep(tmp_path, worker(process), stopping=True)
    assert sweeping.after_master("app") == 0
    assert process.wait(DEADLINE) == 0


@pytest.mark.parametrize(
    ("jobs", "pid", "ends"),
    [
        ("77 memunit@app.service stop waiting", "0", True),
        ("77 memunit@app.service stop waiting", "4711", False),
        ("77 memunit@app.service restart waiting", "0", False),
        ("77 memunit@apple.service stop waiting", "0", False),
        ("", "0", False),
    ],
)
def test_a_service_that_stops_without_a_master(
    group: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: str, pid: str, ends: bool
) -> None:
    said = {"list-jobs": jobs, "show": f"MainPID={pid}\nControlGroup=/system.slice/memunit@app.service\n"}
    monkeypatch.setattr(sweeping, "_systemctl", lambda *words: said[words[0]])
    process = group.start()
    keep(tmp_path, worker(process))
    assert sweeping.before_stop("app") == 0
    if ends:
        assert process.wait(DEADLINE) == 0
    else:
        assert process.poll() is None


def test_nobody_is_there(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    failed(monkeypatch)
    assert sweeping.after_master("app") == 0
    assert group.told == []


def test_the_commands_of_the_service_itself_are_none_of_it(tmp_path: Path) -> None:
    """systemd runs this one in .control, below the group that it sweeps."""
    for name, pids in {"": "", "workers": "11\n12\n", "workers/0.1": "13\n", ".control": "14\n"}.items():
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "cgroup.procs").write_text(pids + f"{os.getpid()}\n")
    assert sweeping._members(str(tmp_path)) == {11, 12, 13}


def test_nobody_is_held_who_is_not_of_it(group: Group) -> None:
    """The pid may be another's since it was read."""
    process = group.start()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  names are what is wanted
    assert dict(sweeping._hold({process.pid, os.getpid()}, "")).keys() == {process.pid}
    assert len(os.listdir("/proc/self/fd")) == before + 1  # noqa: PTH208
