"""The wheel and the sdist: what is in them, and that two builds are the same."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = "memunit-0.1.0.data/data/"


def tree(folder: str) -> set[str]:
    """The files of the checkout below a folder that belong to it."""
    made = {"__pycache__", "node_modules"}
    found = (path for path in (ROOT / folder).rglob("*") if path.is_file() and not made & {*path.parts})
    return {
        str(path.relative_to(ROOT))
        for path in found
        if path.name != ".gitignore" and path != ROOT / "examples/c/server"
    }


def test_the_wheel_has_every_module(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("memunit/")}
    assert packed == tree("memunit")


def test_the_wheel_has_units_manuals_completions_pages_and_examples(wheel: Path) -> None:
    wanted = {
        **{name: f"share/memunit/{name}" for name in tree("units") if "/examples/" not in name},
        **{name: f"share/man/man{name[-1]}/{Path(name).name}" for name in tree("packaging/man")},
        **{name: f"share/doc/memunit/{name}" for name in tree("docs") | tree("examples")},
        **{name: f"share/doc/memunit/examples/{Path(name).name}" for name in tree("units/examples")},
        "packaging/completion/memunit": "share/bash-completion/completions/memunit",
        "packaging/completion/_memunit": "share/zsh/site-functions/_memunit",
        "packaging/completion/memunit.fish": "share/fish/vendor_completions.d/memunit.fish",
        "README.md": "share/doc/memunit/README.md",
        "CHANGELOG.md": "share/doc/memunit/CHANGELOG.md",
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name.removeprefix(DATA) for name in archive.namelist() if name.startswith(DATA)}
        assert packed == set(wanted.values())
        for source, place in wanted.items():
            assert archive.read(DATA + place) == (ROOT / source).read_bytes(), source
        assert archive.getinfo(f"{DATA}share/memunit/units/memunit-generator").external_attr >> 16 & 0o111


def test_the_sdist_has_what_packages_are_made_of(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
        owners = {(each.uid, each.gid, each.uname, each.gname) for each in archive.getmembers()}
    folders = ("docs", "examples", "memunit", "units", *(f"packaging/{name}" for name in PACKAGING))
    programs = {
        "packaging/build-deb",
        "packaging/build-wheel",
        "packaging/install-files",
        "packaging/lib/common.sh",
    }
    wanted = (
        set().union(*map(tree, folders))
        | programs
        | {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml"}
    )
    assert wanted - packed == set()
    assert owners == {(0, 0, "", "")}


PACKAGING = ("arch", "completion", "debian", "man", "rpm")


def test_a_second_build_is_the_same_to_the_byte(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    """In another zone, by another umask, and without the time that the first one was told."""
    subprocess.run(
        ["/bin/sh", "-c", 'umask 077; exec "$@"', "sh", ROOT / "packaging/build-wheel", "-o", tmp_path],
        check=True,
        capture_output=True,
        timeout=900,
        env={**os.environ, "TZ": "Pacific/Kiritimati"},
    )
    for first in (wheel, sdist):
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (first, tmp_path / first.name)]
        assert digests[0] == digests[1], first.name


@pytest.mark.parametrize("word", ["surplus", "-x"])
def test_build_wheel_refuses_what_it_does_not_know(word: str) -> None:
    done = subprocess.run(
        [ROOT / "packaging/build-wheel", word], check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 64
    assert word.strip("-") in done.stderr


@pytest.mark.parametrize("word", ["-h", "--help"])
@pytest.mark.parametrize("program", ["build-deb", "build-wheel", "demo"])
def test_each_program_of_packaging_tells_what_it_does(program: str, word: str) -> None:
    done = subprocess.run(
        [ROOT / "packaging" / program, word], check=False, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"packaging/{program} ")
