"""A master is killed, and its workers serve on: a successor takes them over, and replaces them in its own time."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from memunit.master.filenames import WORKERS
from tests.support.harness import Service, Unit, let_go
from tests.support.load import Load
from tests.support.wait import DEADLINE, wait_gone

pytest_plugins = ["tests.support.units"]

ADOPTED = r"The master before this one \(pid \d+\) ended unexpectedly"


def served(unit: Unit, count: int = 2, **app: object) -> Service:
    """So many workers of an ASGI app."""
    unit.write(app={"run": "plain:app", **app}, workers={"count": count, "watchdog": "10s"})
    return unit.serve().ready()


def killed(service: Service) -> None:
    """SIGKILL, and nobody may think it a stop of the unit's."""
    service.send(signal.SIGKILL)
    assert service.exit_code() == -signal.SIGKILL


def alive(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def slow(unit: Unit, seconds: float) -> Callable[[], str]:
    """A request under way; its answer."""
    body: list[str] = []
    asked = threading.Thread(target=lambda: body.append(unit.get(f"/slow?s={seconds}")))
    asked.start()

    def answer() -> str:
        asked.join(2 * DEADLINE)
        return body[0]

    return answer


@pytest.mark.parametrize("hangs", [False, True], ids=["killed", "hung"])
@pytest.mark.parametrize("preload", [True, False], ids=["zygote", "exec"])
def test_a_successor_takes_over_and_replaces_each_in_its_turn(unit: Unit, preload: bool, hangs: bool) -> None:
    first = served(unit, preload=preload)
    before = first.serving()
    answer = slow(unit, 4)
    with Load(unit.target, clients=2, path="/", expect_prefix="ok ", rate=50, seconds=120) as load:
        if hangs:
            # As a watchdog finds it: systemd ends it by force in the end.
            first.send(signal.SIGSTOP)
        killed(first)
        assert all(map(alive, before.values()))
        second = unit.serve()
        second.expect(f"{ADOPTED}. 2 of its workers are taken over", source="output")
        second.hear("^READY=1")
        ends = [second.entry("ended", pid=pid) for pid in before.values()]
        assert [each.cause for each in ends] == ["adopted", "adopted"]
        second.expect("STATUS=2/2 workers", source="notify", after=max(each.place for each in ends))
        load.answered(51)
    report = load.report()
    assert answer().startswith("ok ")
    assert report.lost == 0, report
    assert report.ok > 50
    assert not set(second.serving().values()) & set(before.values())
    # One at a time: the second is told to stop when the first has gone.
    stops = [second.entry("stopped", pid=pid).place for pid in before.values()]
    assert max(stops) > min(each.place for each in ends)
    for pid in before.values():
        assert len(second.entries("ended", pid=pid)) == 1
    assert second.stop() == 0
    assert not (unit.runtime / WORKERS).exists()


def test_an_end_while_no_master_lived_is_told_once(unit: Unit) -> None:
    first = served(unit)
    before = first.serving()
    killed(first)
    os.kill(before[0], signal.SIGKILL)
    wait_gone(before[0])
    second = unit.serve()
    end = second.entry("ended", pid=before[0])
    assert "unknown" in end.rest
    second.entry("ready", slot=0)
    assert second.entry("ended", pid=before[1]).cause == "adopted"
    assert len(second.entries("ended", pid=before[0])) == 1
    assert second.stop() == 0


def test_one_that_was_starting_is_started_anew(unit: Unit) -> None:
    """Whether it is ready, it has said to nobody."""
    os.mkfifo(unit.directory / "go")
    script = f"[ $MEMUNIT_SLOT = 0 ] || cat {unit.directory}/go; systemd-notify --ready; exec sleep infinity"
    unit.write(app={"command": ["/bin/sh", "-c", script]}, workers={"count": 2})
    first = unit.serve()
    first.entry("ready", slot=0)
    starting = first.entry("started", slot=1).pid
    first.pass_by()
    killed(first)
    second = unit.serve()
    second.expect(ADOPTED, source="output")
    assert second.entry("ended", pid=starting).cause == "adopted"
    let_go(unit.directory / "go")
    second.entry("ready", slot=1)
    second.hear("^READY=1")
    assert second.stop() == 0


def test_one_that_was_stopping_keeps_its_time(unit: Unit) -> None:
    os.mkfifo(unit.directory / "end")
    trap = f"trap 'cat {unit.directory}/end; exit 0' TERM"
    script = f"{trap}; systemd-notify --ready; while :; do sleep 60 & wait $!; done"
    unit.write(app={"command": ["/bin/sh", "-c", script]}, workers={"count": 2}, stop={"grace": "8s"})
    first = unit.serve().ready()
    first.send(signal.SIGTTOU)
    stopping = first.entry("stopped").pid
    first.pass_by()
    killed(first)
    second = unit.serve()
    end = second.entry("ended", pid=stopping)
    assert (end.cause, end.reason) == ("grace-expired", "scale-down")
    assert second.stop() == 0


def of_another_version(text: str) -> str:
    found = json.loads(text)
    return json.dumps({**found, "version": found["version"] + 1})


def without_a_pid(text: str) -> str:
    found = json.loads(text)
    found["left"]["workers"][0]["pid"] = -1
    return json.dumps(found)


def of_a_worker_too_far(text: str) -> str:
    """As many slots as there are numbers below: they were made."""
    found = json.loads(text)
    found["left"]["workers"][0]["slot"] = 1 << 40
    return json.dumps(found)


def with_a_time_too_long(text: str) -> str:
    """More than a float can be."""
    found = json.loads(text)
    found["left"]["workers"][0]["grace"] = 10**400
    return json.dumps(found)


@pytest.mark.parametrize(
    "broken",
    [
        lambda _: "{",
        of_another_version,
        without_a_pid,
        lambda _: "[" * 100000,
        of_a_worker_too_far,
        with_a_time_too_long,
    ],
    ids=["text", "version", "pid", "nested", "slot", "time"],
)
def test_a_broken_file_starts_clean_and_says_so(unit: Unit, broken: Callable[[str], str]) -> None:
    """Nobody is cut off: who can't be taken over is told to stop once others serve."""
    first = served(unit)
    before = first.serving()
    killed(first)
    path = unit.runtime / WORKERS
    path.write_text(broken(path.read_text()))
    with Load(unit.target, clients=2, path="/", expect_prefix="ok ", rate=50, seconds=120) as load:
        second = unit.serve()
        second.expect(
            rf"{WORKERS} can't be used: .*Started clean: \d of its processes are told to stop",
            source="output",
        )
        second.ready()
        for pid in before.values():
            wait_gone(pid)
    assert load.report().lost == 0, load.report()
    assert second.stop() == 0


def test_a_fifo_in_the_place_of_a_file_is_not_waited_for(unit: Unit) -> None:
    """A worker has the user of the service, and may put there what it likes."""
    for name in (WORKERS, "starts.json"):
        os.mkfifo(unit.runtime / name)
    service = served(unit)
    service.expect(rf"{WORKERS} can't be (read|used): .*Started clean", source="output")
    assert service.stop() == 0


def test_a_file_of_another_boot_is_of_nobody(unit: Unit) -> None:
    path = unit.runtime / WORKERS
    path.write_text('{"version":1,"boot":"another","left":{}}')
    service = served(unit)
    assert service.find(ADOPTED) is None
    assert service.find("can't be used") is None
    assert service.stop() == 0


def test_a_pid_that_is_anothers_by_now_is_left_alone(unit: Unit) -> None:
    """The number is the same, and the start is not."""
    first = served(unit)
    before = first.serving()
    killed(first)
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)
    path = unit.runtime / WORKERS
    found = json.loads(path.read_text())
    found["left"]["workers"][0]["pid"] = os.getpid()
    path.write_text(json.dumps(found))
    second = unit.serve().ready()
    assert len(second.entries("ended")) == 2
    assert second.stop() == 0


def test_a_number_that_was_asked_for_is_kept(unit: Unit) -> None:
    """Until the next reload: the master's end is none."""
    first = served(unit, 1)
    first.send(signal.SIGTTIN)
    first.entry("ready", slot=1)
    first.pass_by()
    killed(first)
    second = unit.serve()
    ends = [second.entry("ended", slot=slot) for slot in (0, 1)]
    assert [each.cause for each in ends] == ["adopted", "adopted"]
    second.expect("STATUS=2/2 workers, .*2 recycled", source="notify")
    assert set(second.serving()) == {0, 1}
    assert second.stop() == 0


def test_one_too_many_goes_as_at_a_restart(unit: Unit) -> None:
    """The file says fewer by now."""
    first = served(unit, 3)
    extra = first.entry("ready", slot=2).pid
    first.pass_by()
    unit.write(app={"run": "plain:app"}, workers={"count": 2, "watchdog": "10s"})
    killed(first)
    second = unit.serve()
    assert second.entry("ended", pid=extra).cause == "scale-down"
    second.entry("ended", slot=1)
    second.entry("ended", slot=0)
    second.expect("STATUS=2/2 workers, .*2 recycled", source="notify")
    assert set(second.serving()) == {0, 1}
    assert second.stop() == 0
