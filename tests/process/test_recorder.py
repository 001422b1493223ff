"""The flight recorder of a real master: what it leaves is decided again, however the master ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.harness import Unit, finished

pytest_plugins = ["tests.support.units"]

ROOT = Path(__file__).parents[2]
APP = {"run": "asked:run", "server": "callable", "preload": False}
PASSES = 200  # each of them is a line of the record, or two


def replay(*arguments: str | Path) -> tuple[int, str]:
    """`memunit replay`: its exit code, and all that it says."""
    done = subprocess.run(
        [sys.executable, "-m", "memunit", "replay", *map(str, arguments)],
        check=False,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout


def same(output: str) -> str:
    """The last line, of a replay in which nothing is wrong."""
    assert "!!" not in output, output
    last = output.splitlines()[-1]
    assert "the same as then; each of " in last
    return last


def test_a_life_is_decided_again(unit: Unit) -> None:
    """A start, a recycle for memory, a crash, a reload and a stop."""
    unit.write(
        app=APP,
        workers={"count": 2, "min_lifetime": 0},
        memory={"limit": "64M", "interval": "0.05s", "patience": "0.1s"},
    )
    service = unit.serve().ready()
    mark = service.mark
    unit.get("/leak?kb=81920")
    assert service.entry("ended", after=mark).cause == "memory-limit"
    mark = service.mark
    crashed = service.serving()[1]
    os.kill(crashed, signal.SIGKILL)
    assert service.entry("ended", pid=crashed, after=mark).cause == "crash-signal"
    service.entry("ready", after=mark)
    reload = unit.reload()
    assert finished(reload, service)[0] == 0
    assert service.stop() == 0
    code, output = replay(unit.runtime)
    assert code == 0, output
    same(output)
    for words in ("is being stopped: memory-limit", "answer the reload: done", "leave with exit code 0"):
        assert words in output
    assert output.count("start worker") == len(service.entries("started"))
    assert (unit.runtime / "flight.jsonl").stat().st_mode & 0o777 == 0o600


def test_what_a_killed_master_was_told_is_there(unit: Unit) -> None:
    unit.write(app=APP, workers={"count": 1})
    service = unit.serve().ready()
    service.pass_by()
    service.send(signal.SIGKILL)
    assert service.exit_code() == -signal.SIGKILL
    code, output = replay(unit.runtime / "flight.jsonl")
    assert code == 0, output
    same(output)
    assert "worker 0.1 READY=1" in output
    assert "SIGUSR1" in output
    again = unit.serve().ready()
    assert again.stop() == 0
    # The successor's begins anew, with the worker that it has taken over, and the one before it is still there.
    code, output = replay(unit.runtime)
    assert code == 0, output
    same(output)
    assert output.count("start worker 0.1") == 1
    assert "worker 0.1 READY=1" in output
    assert "leave with exit code 0" in output


def test_it_is_bounded_and_its_halves_join(unit: Unit) -> None:
    """64 KiB at most in two files, however much is told; the second begins where the first ends."""
    unit.write(
        app=APP, workers={"count": 1}, recorder={"size": "64K"}, memory={"limit": "1G", "interval": "10ms"}
    )
    service = unit.serve().ready()
    halves = [unit.runtime / name for name in ("flight.before.jsonl", "flight.jsonl")]
    turns = set[int]()

    def size(half: Path) -> int:
        try:
            return half.stat().st_size
        except FileNotFoundError:  # at the moment of a turn, too
            return 0

    def turned() -> bool:
        service.pass_by()
        if halves[0].exists():
            turns.add(halves[0].stat().st_ino)
        assert sum(map(size, halves)) < 68 << 10
        return len(turns) > 1

    while not turned():
        pass
    assert service.stop() == 0
    heads = [json.loads(half.read_text().splitlines()[0]) for half in halves]
    assert [head["follows"] for head in heads] == [True, True]
    code, output = replay(unit.runtime)
    assert code == 0, output
    same(output)


def test_it_can_be_off_and_a_reload_turns_it(unit: Unit) -> None:
    unit.write(app=APP, workers={"count": 1}, recorder={"size": 0})
    service = unit.serve().ready()
    flight = unit.runtime / "flight.jsonl"
    assert not flight.exists()
    unit.write(app=APP, workers={"count": 1}, recorder={"size": "1M"})
    assert finished(unit.reload(), service)[0] == 0
    assert flight.exists()
    code, output = replay(flight)
    assert code == 0, output
    unit.write(app=APP, workers={"count": 1}, recorder={"size": "0"})
    assert finished(unit.reload(), service)[0] == 0
    assert not flight.exists()
    assert service.stop() == 0


def test_where_it_can_not_begin_that_is_said_and_everybody_serves(unit: Unit) -> None:
    """In the place of the older file is a directory that is not empty: nothing can be renamed to it."""
    (unit.runtime / "flight.before.jsonl" / "x").mkdir(parents=True)
    (unit.runtime / "flight.jsonl").touch()
    unit.write(app=APP, workers={"count": 1})
    service = unit.serve().ready()
    service.pass_by()
    (said,) = [each for each in service.said if "flight recorder" in each.text]
    assert f"The flight recorder can't write to {unit.runtime}: Is a directory" in said.text
    assert unit.get("/")
    assert service.stop() == 0


def test_where_it_can_not_go_on_that_is_said_and_everybody_serves(unit: Unit) -> None:
    """No file may become larger than a few lines, as where a file system is full: the last line is cut off."""
    unit.write(app=APP, workers={"count": 1})
    service = unit.serve(prefix=("prlimit", "--fsize=2000")).ready()
    for _ in range(PASSES):
        service.pass_by()
        if service.find("The flight recorder can't write to .* until the next start", source="output"):
            break
    assert unit.get("/")
    assert service.stop() == 0
    assert len([each for each in service.said if "flight recorder" in each.text]) == 1
    code, output = replay(unit.runtime)
    assert code == 0, output
    same(output)
