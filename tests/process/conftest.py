"""What the tests of several files ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """Whoever asks an app for /held has its answer when a test writes there."""
    made = tmp_path / "fifo"
    os.mkfifo(made)
    return made
