"""Fixtures (a pytest plugin): an instance, for root and for everybody."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.harness import AS_NOBODY, NOBODY, Unit
from tests.support.workers import ROOT


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
        # A clone may lie in a closed home; what is installed never does.
        program = Path(name, "program")
        shutil.copytree(ROOT / "memunit", program / "memunit", ignore=shutil.ignore_patterns("__pycache__"))
        made = Unit(Path(name), program=program)
        Path(name).chmod(0o755)
        try:
            if AS_NOBODY:
                os.chown(made.runtime, NOBODY, NOBODY)
                os.chown(made.directory / "systemd", NOBODY, NOBODY)
            yield made
        finally:
            made.close()
