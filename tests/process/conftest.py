"""What the tests of several files ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# A file runs in one process, and what comes last is waited for: the longest files come first.
_LONGEST = (
    "test_examination",
    "test_frameworks",
    "test_matrix",
    "test_node",
    "test_giving",
    "test_asgi_drain",
    "test_adoption",
    "test_reexec",
    "test_board",
    "test_reload",
    "test_http",
    "test_witness",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the longest files first, each file's in their order (pytest-xdist keeps it so)."""
    places = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """Whoever asks an app for /held has its answer when a test writes there."""
    made = tmp_path / "fifo"
    os.mkfifo(made)
    return made
