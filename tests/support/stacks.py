"""Fixtures (a pytest plugin): a stage, and the server stacks that an app may bring along."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import interpreters
from tests.support.interpreters import DEBIAN
from tests.support.workers import Stage, stage

KEYS = ("UVICORN_LOOP", "UVICORN_HTTP")
STACKS = [
    pytest.param(("debian", "asyncio", "h11"), id="debian-asyncio-h11"),
    pytest.param(("debian", "uvloop", "httptools"), id="debian-uvloop-httptools"),
    pytest.param(("newest", "asyncio", "h11"), id="newest-asyncio-h11"),
    pytest.param(("newest", "uvloop", "httptools"), id="newest-uvloop-httptools"),
]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Stage]:
    with stage(tmp_path) as made:
        yield made


@pytest.fixture(params=STACKS)
def stack(request: pytest.FixtureRequest) -> tuple[Path, dict[str, str]]:
    """An interpreter with its uvicorn, and the environment that chooses loop and parser."""
    which, loop, parser = request.param
    python = DEBIAN if which == "debian" else interpreters.newest()
    if python is None:
        pytest.skip("the newest uvicorn cannot be installed here")
    for module in ("uvloop", "httptools") if loop == "uvloop" else ():
        if not interpreters.can_import(python, module):
            pytest.skip(f"{python} has no {module}")
    return python, dict(zip(KEYS, (loop, parser), strict=True))
