"""What grew in a worker is named: leaks of many kinds, seeded into real workers, which are replaced for them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import MEMUNIT, Service, Unit, finished

pytest_plugins = ["tests.support.units"]

# By leak: how often, the verdict, and the holder; None where it has none.
SEEDED: dict[str, tuple[int, str, str | None]] = {
    "module_dict": (200_013, "python", "seeded.SEEN"),
    "class_list": (150_021, "python", "seeded.Product.every"),
    "lru_cache": (120_017, "python", "seeded.price"),
    "closures": (40_031, "python", "seeded.HOOKS"),
    "closure_variable": (40_033, "python", "seeded.count:counted"),
    "cycles": (18_019, "python", "seeded.KEPT"),
    "handlers": (3_011, "python", "seeded.log.handlers"),
    "identity_map": (60_029, "python", "seeded.session.identity_map"),
    "growing_bytes": (523, "python", "seeded.PARTS"),
    # Fewer than are noted: what holds them may have been as long at the start, for all that is known.
    "few_and_large": (13, "python", "seeded.LARGE[\N{HORIZONTAL ELLIPSIS}]"),
    "few_by_name": (23, "python", "seeded.BY_NAME[\N{HORIZONTAL ELLIPSIS}]"),
    "context_variable": (250_037, "python", "seeded.TRACE"),
    "thread_local": (150_011, "python", "seeded.LOCAL.cache"),
    "native": (18_041, "native", None),
    "fragmentation": (3, "fragmentation", None),
    "threads": (101, "threads", "seeded.threads.<locals>.wait"),
    "tmpfs": (40, "shared", None),
    "generators": (30_013, "python", "seeded.STREAMS"),
    "bounded_cache": (26_003, "baseline", "seeded.cache.data"),
    "tasks": (2_503, "tasks", "seeded.tasks.<locals>.refresh"),
}
# An examination may take 40 s here, and a worker's end three minutes.
LONG = 300.0
TARGETS = {"asgi": "seeded:app", "wsgi": "seeded:wsgi", "callable": "seeded:serve"}


class Instance:
    """A unit of the seeded app with one worker."""

    def __init__(self, unit: Unit, service: Service, state: Path) -> None:
        self.unit, self.service, self.state = unit, service, state

    def examine(self) -> tuple[int, str]:
        """As a person types it: the exit code and what is printed."""
        command = subprocess.Popen(
            [*MEMUNIT, "examine", self.unit.name, "0"],
            env=self.unit.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return finished(command, self.service, timeout=LONG)

    def newest(self) -> dict[str, Any]:
        """The report that was written last."""
        found = sorted((self.state / "leaks").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        report: dict[str, Any] = json.loads(found[-1].read_text())
        return report


def start(unit: Unit, tmp_path: Path, server: str, *, preload: bool, **tables: dict[str, Any]) -> Instance:
    unit.write(
        app={"run": TARGETS[server], "server": server, "preload": preload},
        # The bounds of a machine that is three times slower, and busy.
        workers={"count": 1, "start_timeout": "120s"},
        stop={"grace": "180s"},
        **{"examine": {"time": "40s"}, **tables},
    )
    state = tmp_path / "state"
    state.mkdir()
    return Instance(unit, unit.serve(environment={"STATE_DIRECTORY": str(state)}).ready(), state)


@pytest.fixture(params=[(server, preload) for preload in (True, False) for server in TARGETS])
def instance(unit: Unit, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Instance]:
    """One for each kind of server, with and without a zygote."""
    server, preload = request.param
    made = start(unit, tmp_path, server, preload=preload)
    yield made
    assert made.service.stop() == 0


def test_seeded_leaks_are_named(instance: Instance) -> None:
    """All but one by their names or verdicts, and none by another's name."""
    server = instance.unit.file.read_text()
    wanted = {name: each for name, each in SEEDED.items() if name != "tasks" or "seeded:app" in server}
    missed, wrong = {}, {}
    for leak, (count, verdict, holder) in wanted.items():
        instance.unit.get(f"/{leak}/{count}")
        code, said = instance.examine()
        assert code == 0, said
        report = instance.newest()
        found = (report["verdict"], report["holder"] or None)
        if found != (verdict, holder):
            missed[leak] = (found, said)
        if report["holder"] and report["holder"] != holder:
            wrong[leak] = (found, said)
    assert wrong == {}
    assert len(missed) <= 1, missed


def test_a_recycle_for_memory_tells_it(unit: Unit, tmp_path: Path) -> None:
    """Without being asked: one entry after the end of a worker that was over its limit, and one file."""
    instance = start(unit, tmp_path, "asgi", preload=True, memory={"limit": "128M", "patience": "10ms"})
    service = instance.service
    for _ in range(3):
        unit.get("/growing_bytes/900")
    service.entry("ended", timeout=LONG)
    told = service.until(
        lambda: next((each.text for each in service.said if "What grew in worker 0.1" in each.text), None),
        "what grew",
        timeout=LONG,
    )
    assert "in seeded.PARTS (collections.deque, " in told
    assert instance.newest()["cause"] == "memory-limit"
    assert service.stop() == 0


def test_it_can_be_turned_off(unit: Unit, tmp_path: Path) -> None:
    instance = start(unit, tmp_path, "asgi", preload=True, examine={"time": 0})
    code, said = instance.examine()
    assert code == 64
    assert "examine.time is 0" in said
    assert instance.service.stop() == 0


@pytest.mark.parametrize(
    ("slot", "why"), [("7", "no worker serves in slot '7'"), ("x", '"x" is no slot'), ("9999", "is no slot")]
)
def test_a_slot_without_a_worker_is_an_error(unit: Unit, tmp_path: Path, slot: str, why: str) -> None:
    instance = start(unit, tmp_path, "wsgi", preload=True)
    done = subprocess.run(
        [*MEMUNIT, "examine", unit.name, slot],
        env=unit.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 64
    assert why in done.stderr
    assert instance.service.stop() == 0


def test_a_worker_that_is_killed_in_its_examination_says_nothing(unit: Unit, tmp_path: Path) -> None:
    """It is replaced all the same, and who has asked is told."""
    instance = start(unit, tmp_path, "asgi", preload=False)
    unit.write(
        app={
            "run": "stuck:app",
            "server": "asgi",
            "preload": False,
            "environment": {"PYTHONPATH": str(tmp_path)},
        },
        workers={"count": 1},
        stop={"grace": "4s"},
    )
    (tmp_path / "stuck.py").write_text(
        "import os, signal\n"
        "from seeded import app as seeded\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'http':\n"
        "        from memunit.worker.examination import look\n"
        "        look.examine = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        scope['path'] = '/growing_bytes/1'\n"
        "    await seeded(scope, receive, send)\n"
    )
    before = instance.service.serving()[0]
    reload = unit.reload()
    assert finished(reload, instance.service)[0] == 0
    # Until then it may be the one that takes the request.
    instance.service.entry("ended", pid=before)
    unit.get("/")
    code, said = instance.examine()
    assert code == 69, said
    assert "was not examined to the end" in said
    unit.get("/")
    assert instance.service.stop() == 0
