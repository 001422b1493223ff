"""What ps(1) shows: which process is which worker of which instance (FIELD C14)."""

from __future__ import annotations

from pathlib import Path

import pytest

from memunit.master import proctree
from tests.support.harness import Unit

pytest_plugins = ["tests.support.units"]


def title(pid: int) -> tuple[str, str]:
    """The command line and the name, as ps(1) has them."""
    line = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ")
    return line.decode(), Path(f"/proc/{pid}/comm").read_text().strip()


@pytest.mark.parametrize("preload", [True, False])
def test_workers_and_zygote_are_told_apart(unit: Unit, preload: bool) -> None:
    unit.write(app={"run": "plain:app", "preload": preload}, workers={"count": 2})
    service = unit.serve().ready()
    for slot, pid in service.serving().items():
        assert title(pid) == (f"memunit: app worker {slot}.1: asgi plain:app", f"app {slot}.1")
    others = set(proctree.descendants(service.pid)) - set(service.serving().values())
    zygotes = {("memunit: app zygote: asgi plain:app", "app zygote")} if preload else set()
    assert {title(pid) for pid in others} == zygotes
    assert unit.get()
    assert service.stop() == 0


def test_a_long_name_leaves_room_for_the_number(tmp_path: Path) -> None:
    made = Unit(tmp_path, name="the-longest-name-in-the-shop")
    try:
        made.write(app={"run": "asked:run", "server": "callable"}, workers={"count": 1})
        service = made.serve().ready()
        (pid,) = service.serving().values()
        line, name = title(pid)
        assert line.startswith("memunit: the-longest-name-in-the-shop worker 0.1: callable")
        assert name == "the-longest 0.1"
        # What it starts is found as before: sys.executable is a copy.
        assert made.get("/child?kb=1").startswith("ok ")
        assert service.stop() == 0
    finally:
        made.close()
