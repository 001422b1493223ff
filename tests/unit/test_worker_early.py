"""A request that has come by the time of the accept is answered as any other, and mostly without a transport."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support import interpreters
from tests.support.firsts import SCENES, play
from tests.support.interpreters import DEBIAN

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX], ids=["tcp", "unix"])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_here(scene: object, family: socket.AddressFamily) -> None:
    """By asyncio and h11."""
    assert play("asyncio", "h11", scene, family) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("which", ["debian", "newest"])
def test_by_uvloop_and_httptools(which: str) -> None:
    """Debian's, of 2022, and the newest."""
    python = DEBIAN if which == "debian" else interpreters.newest()
    if python is None or not all(interpreters.can_import(python, each) for each in ("uvloop", "httptools")):
        pytest.skip(f"no uvloop or no httptools in {which}")
    done = subprocess.run(
        [python, "-m", "tests.support.firsts", "uvloop", "httptools"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("", 0)
