"""Servers of others as a command: docs/commands.md says what `memunit check` warns of, and this is why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import interpreters
from tests.support.harness import Unit, finished, let_go
from tests.support.http import Client

pytest_plugins = ["tests.support.units"]

# Later than the second that the first worker of a reload has to live (docs/architecture.md): when a test says so.
BROKEN = "raise RuntimeError('broken')\n"
LATE = "open('later').read()\n" + BROKEN
GOOD = 'def app(environ, start):\n    start("200 OK", [("Content-Length", "2")])\n    return [b"ok"]\n'


@pytest.fixture
def gunicorn() -> str:
    python = interpreters.frameworks()
    if python is None:
        pytest.skip("the frameworks cannot be installed here")
    return str(python.parent / "gunicorn")


@pytest.mark.parametrize(
    ("words", "code"), [(["--preload"], 78), ([], 0)], ids=["preloaded", "not preloaded"]
)
def test_gunicorn_is_ready_when_the_app_is_loaded_only_if_it_preloads(
    unit: Unit, tmp_path: Path, gunicorn: str, words: list[str], code: int
) -> None:
    """A reload to an app that can't be loaded fails, and all goes on; without --preload it is reported as done."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "shop.py").write_text(GOOD)
    unit.write(
        app={"command": [gunicorn, *words, "shop:app"], "directory": str(folder)},
        workers={"count": 1, "min_lifetime": 0},
    )
    service = unit.serve().ready()
    with Client(unit.target) as client:
        assert client.get().body == b"ok"
    os.mkfifo(folder / "later")
    (folder / "shop.py").write_text(BROKEN if code else LATE)
    assert finished(unit.reload(), service)[0] == code
    if code:
        with Client(unit.target) as client:
            assert client.get().body == b"ok"
    else:
        let_go(folder / "later")
        service.until(
            lambda: any(each.cause == "crash-exit" for each in service.entries("ended")) or None,
            "the end of a worker that the reload had counted as good",
        )
    service.stop()
