"""Fixtures (a pytest plugin): an instance, for root and for everybody."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.harness import AS_NOBODY, NOBODY, Unit


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[Unit]:
    """An instance called "app"."""
    made = Unit(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def open_unit() -> Iterator[Unit]:
    """One in a folder that every user may enter, unlike tmp_path, and whose masters nobody may run (AS_NOBODY)."""
    with TemporaryDirectory() as name:
        made = Unit(Path(name))
        Path(name).chmod(0o755)
        try:
            if AS_NOBODY:
                os.chown(made.runtime, NOBODY, NOBODY)
                os.chown(made.directory / "systemd", NOBODY, NOBODY)
            yield made
        finally:
            made.close()
