"""A worker at its limit is asked to give memory back: what falls under the limit goes on, in each kind of worker."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import MEMUNIT, Service, Unit, finished
from tests.support.load import Load
from tests.support.workers import APPS

pytest_plugins = ["tests.support.units"]

RUN = {"asgi": "generous:app", "wsgi": "generous:wsgi", "callable": "generous:run"}
# Asked at once, and never recycled by a test that is slow.
MEMORY: dict[str, Any] = {"interval": "0.05s", "patience": "10min", "metric": "uss", "limit": "60M"}
# A question may come before the request has let go of its blocks, and the next one is a minute later.
LONG = 150.0
GAVE = r"Worker 0\.1 \(pid (\d+)\) was asked to give memory back: it held ([\d.]+)M, holds ([\d.]+)M of"


def serve(unit: Unit, server: str = "asgi", memory: dict[str, Any] | None = None, **app: Any) -> Service:
    """One worker of a kind."""
    unit.write(
        app={"run": RUN[server], "server": server, "preload": False, **app},
        workers={"count": 1, "min_lifetime": 0},
        memory={**MEMORY, **(memory or {})},
    )
    return unit.serve().ready()


def gave(service: Service, after: int = 0) -> tuple[float, float]:
    """What it held, and holds, by the entry."""
    said = re.search(GAVE, service.expect(GAVE, source="output", after=after, timeout=LONG).text)
    assert said is not None
    return float(said[2]), float(said[3])


def asked(service: Service) -> set[int]:
    """Who was asked, and has given back."""
    said = (re.search(r"\(pid (\d+)\) was asked to give memory back: ", each.text) for each in service.said)
    return {int(found[1]) for found in said if found}


def watched(unit: Unit) -> list[str]:
    """What workers watch, in the runtime directory."""
    folder = unit.runtime / "pressure"
    return sorted(each.name for each in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("preload", [True, False], ids=["zygote", "exec"])
@pytest.mark.parametrize("server", RUN)
def test_what_the_allocator_holds_free_is_given_back(unit: Unit, server: str, preload: bool) -> None:
    service = serve(unit, server, preload=preload)
    pid = service.serving()[0]
    assert watched(unit) == ["0.1"]
    # What the app starts must not read what is for the worker.
    assert unit.get("/watch").split()[0] == "-"
    unit.get("/fragment?mb=80")
    held, left = gave(service)
    assert held > 57
    assert left < held / 2
    service.hear(r"^STATUS=1/1 workers, [\d.]+M of 60M at most, gave back [\d.]+M once$")
    assert unit.get() == f"ok {pid}"
    assert service.entries("stopped") == []
    assert service.stop() == 0
    assert watched(unit) == []


def test_a_leak_is_recycled_when_patience_ends(unit: Unit) -> None:
    """asked.py's leak is no garbage."""
    service = serve(unit, "callable", {"patience": "1s"})
    unit.get("/leak?kb=80000")
    assert service.entry("ended", pid=service.entries("started")[0].pid).cause == "memory-limit"
    assert service.find("was asked to give memory back") is None
    service.entry("ready", slot=0, count=2)
    assert watched(unit) == ["0.2"]
    assert service.stop() == 0


@pytest.mark.parametrize(
    ("server", "hook", "where"),
    [
        ("asgi", "empty", "Dummy-"),
        ("asgi", "empty_in_the_loop", "MainThread"),
        ("wsgi", "empty", "Dummy-"),
        ("callable", "empty", "Dummy-"),
        ("callable", "empty_in_the_loop", "Dummy-"),
    ],
)
def test_the_hook_empties_the_caches(unit: Unit, server: str, hook: str, where: str) -> None:
    service = serve(unit, server, give_back=f"generous:{hook}")
    mark = service.mark
    unit.get("/fill?mb=80")
    held, left = gave(service)
    assert left < held / 2
    service.send(signal.SIGUSR1)
    service.expect(rf"status: emptied in {where}", source="output", after=mark)
    assert service.stop() == 0


def test_a_hook_that_fails_keeps_nothing_from_the_rest(unit: Unit) -> None:
    service = serve(unit, give_back="generous:fail")
    unit.get("/fragment?mb=80")
    gave(service)
    service.expect("RuntimeError: the hook fails", source="output")
    assert service.stop() == 0


def test_a_hook_that_is_not_there_is_one_clear_error(unit: Unit) -> None:
    unit.write(app={"run": "generous:app", "give_back": "generous:nothing"}, workers={"count": 1})
    service = unit.serve()
    service.expect("generous has no attribute 'nothing'", source="output")
    service.stop()


@pytest.mark.parametrize("memory", [{"give_back": False}, {"patience": 0}], ids=["off", "no patience"])
def test_nobody_is_asked_where_it_is_off(unit: Unit, memory: dict[str, Any]) -> None:
    service = serve(unit, memory={"patience": "1s", **memory})
    assert watched(unit) == []
    unit.get("/fragment?mb=80")
    assert service.entry("ended").cause == "memory-limit"
    assert service.stop() == 0


@pytest.mark.parametrize("said", [None, True, "auto"])
def test_what_the_unit_says_decides_where_the_file_says_nothing(
    unit: Unit, said: Any, tmp_path: Path
) -> None:
    """/dev/null is MemoryPressureWatch=off; the path of the unit's own pressure is for no worker."""
    told = tmp_path / "told"
    unit.write(
        app={
            "command": ["/bin/sh", "-c", f'echo "$MEMORY_PRESSURE_WATCH" >{told}; exec sleep 1000'],
            "ready": "exec",
        },
        workers={"count": 1},
        memory={} if said is None else {"give_back": said},
    )
    for own, expected in (("/dev/null", "/dev/null"), ("/sys/fs/cgroup/memory.pressure", "fifo")):
        service = unit.start(
            *MEMUNIT,
            "serve",
            unit.name,
            prefix=("env", f"MEMORY_PRESSURE_WATCH={own}", "MEMORY_PRESSURE_WRITE=eA=="),
        ).ready()
        service.until(lambda: (told.exists() and told.read_text().endswith("\n")) or None, "its environment")
        wanted = str(unit.runtime / "pressure" / "0.1") if said is True or expected == "fifo" else "/dev/null"
        assert told.read_text() == f"{wanted}\n"
        told.unlink()
        assert service.stop() == 0


def test_a_program_that_reads_nothing_is_recycled(unit: Unit) -> None:
    """Nobody has opened the FIFO: a question is none, and patience is what it was."""
    hold = "import threading; x = bytearray(80 << 20); threading.Event().wait()"
    unit.write(
        app={"command": ["python3", "-c", hold], "ready": "exec"},
        workers={"count": 1, "min_lifetime": 0},
        memory={**MEMORY, "patience": "1s"},
        stop={"grace": "1s"},
    )
    service = unit.serve().ready()
    assert service.entry("ended").cause == "memory-limit"
    assert service.stop() == 0


def test_after_a_new_execution_of_the_master_workers_are_asked_as_before(unit: Unit) -> None:
    service = serve(unit)
    pid = service.serving()[0]
    mark = service.mark
    command = unit.start(*MEMUNIT, "reexec", unit.name)
    assert command.exit_code() == 0
    unit.get("/fragment?mb=80")
    gave(service, after=mark)
    assert unit.get() == f"ok {pid}"
    assert service.stop() == 0
    assert watched(unit) == []


def test_a_successor_of_a_killed_master_knows_what_each_watches(unit: Unit) -> None:
    """The adopted are replaced, and what they watched goes with them."""
    first = serve(unit)
    pid = first.serving()[0]
    (unit.runtime / "pressure" / "7.7").write_text("left by nobody")
    first.send(signal.SIGKILL)
    first.exit_code()
    second = unit.serve()
    assert second.entry("ended", pid=pid).cause == "adopted"
    second.entry("ready", slot=0)
    assert watched(unit) == ["0.2"]
    unit.get("/fragment?mb=80")
    second.expect(r"Worker 0\.2 \(pid \d+\) was asked to give memory back", source="output", timeout=LONG)
    assert second.stop() == 0
    assert watched(unit) == []


def test_no_request_is_lost_while_workers_give_back(unit: Unit) -> None:
    """A load that fragments the heap: each worker is at its limit once, and none is recycled."""
    count = 4
    unit.write(
        app={"run": "generous:app", "preload": True},
        workers={"count": count, "min_lifetime": 0},
        memory=MEMORY,
    )
    service = unit.serve().ready()
    before = service.serving()
    fragmented: set[str] = set()
    with Load(unit.target, clients=4, path="/", expect_prefix="ok ", rate=50, seconds=600) as load:
        while len(fragmented) < count:
            fragmented.add(unit.get("/fragment?mb=80"))
        service.until(
            lambda: set(before.values()) <= asked(service) or None, "all have given back", timeout=2 * LONG
        )
        service.hear(r"gave back [\d.]+M \d+ times")
    report = load.report()
    assert report.lost == 0, report
    assert report.ok > count
    assert service.serving() == before
    assert service.entries("stopped") == []
    assert service.stop() == 0


def test_a_reload_turns_it_off_for_the_workers_that_it_starts(unit: Unit) -> None:
    service = serve(unit)
    text = unit.file.read_text()
    unit.file.write_text(text + "give_back = false\n")
    code, _ = finished(unit.reload(), service)
    assert code == 0
    service.entry("ended", slot=0)
    assert watched(unit) == []
    assert os.path.exists(unit.runtime)  # noqa: PTH110
    assert service.stop() == 0


def test_a_node_program_empties_its_caches_and_collects(unit: Unit) -> None:
    """By the event 'memunit:give-back', and by global.gc where it is exposed: buffers go with their last reference."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node")
    unit.write(
        app={
            "run": "node/giving.js",
            "server": "node",
            "directory": str(APPS),
            # In NODE_OPTIONS, only newer versions let it be said.
            "node": str(exposing(unit.directory, node)),
        },
        workers={"count": 1, "min_lifetime": 0},
        memory={**MEMORY, "limit": "160M"},
    )
    service = unit.serve().ready()
    pid = service.serving()[0]
    assert unit.get("/watch").split()[0] == "-"
    unit.get("/fill?mb=150")
    held, left = gave(service)
    assert left < held - 100
    assert unit.get() == f"ok {pid}"
    assert service.stop() == 0


def exposing(folder: Path, node: str) -> Path:
    """A Node with --expose-gc."""
    program = folder / "node"
    program.write_text(f'#!/bin/sh\nexec {node} --expose-gc "$@"\n')
    program.chmod(0o755)
    return program


def test_the_allocator_is_for_the_workers_interpreter_alone(unit: Unit) -> None:
    """glibc reads its variables at the start; the master has none, and nor has what the app starts."""
    service = serve(unit, memory={"allocator": "glibc-tight"}, preload=True)

    def told(pid: int) -> bool:
        return b"MALLOC_ARENA_MAX=2\0" in Path(f"/proc/{pid}/environ").read_bytes()

    pid = service.serving()[0]
    # A forked worker has its zygote's.
    assert (told(pid), told(service.pid)) == (True, False)
    assert unit.get("/allocator") == "-"
    unit.file.write_text(unit.file.read_text().replace("glibc-tight", "tcmalloc"))
    code, output = finished(unit.reload(), service)
    assert code == 78
    assert (
        'memory.allocator: "tcmalloc" is not "system" or "glibc-tight" or "jemalloc" or "mimalloc"' in output
    )
    assert unit.get() == f"ok {pid}"
    assert service.stop() == 0
