"""The Debian package that the tests of this folder look at, built once a session."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def built(program: str, out: Path, seconds: float) -> list[Path]:
    """What a program of packaging/ has built in a folder: the paths that it prints."""
    done = subprocess.run(
        [ROOT / "packaging" / program, "-o", out],
        check=False,
        capture_output=True,
        text=True,
        timeout=seconds,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return [Path(line) for line in done.stdout.splitlines() if line.startswith(f"{out}/")]


def finds_nothing_stale(program: str) -> None:
    """What this program of packaging/lib makes is what the tree has."""
    done = subprocess.run(
        [sys.executable, ROOT / "packaging/lib" / program, "--check"],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture(scope="session")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .deb: the one that MEMUNIT_DEB names, or one built now."""
    given = os.environ.get("MEMUNIT_DEB")
    if given:
        return Path(given).resolve()
    (package,) = built("build-deb", tmp_path_factory.mktemp("dist"), 900)
    return package


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, with the sdist beside it, built once a session."""
    package, _ = built("build-wheel", tmp_path_factory.mktemp("wheel"), 900)
    return package


@pytest.fixture(scope="session")
def sdist(wheel: Path) -> Path:
    """The sdist."""
    (found,) = wheel.parent.glob("*.tar.gz")
    return found


@pytest.fixture(scope="session")
def tree(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's files, unpacked and not installed."""
    place = tmp_path_factory.mktemp("tree")
    subprocess.run(["dpkg-deb", "--extract", deb, place], check=True)
    return place


@pytest.fixture(scope="session")
def control(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's control files and maintainer scripts."""
    place = tmp_path_factory.mktemp("control")
    subprocess.run(["dpkg-deb", "--control", deb, place], check=True)
    return place
