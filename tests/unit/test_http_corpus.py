"""One verdict for each request, whatever library reads it and however it is cut. tests/process does it with sockets."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from tests.support import interpreters
from tests.support.corpus import CASES
from tests.support.fuzzing import fuzz
from tests.support.interpreters import DEBIAN
from tests.support.verdicts import differences

ROOT = Path(__file__).parents[2]
SECONDS = int(os.environ.get("MEMUNIT_FUZZ", "0"))
MUTANTS = 12_000


def test_the_corpus_is_one() -> None:
    assert len(CASES) >= 150
    assert len({case.name for case in CASES}) == len(CASES)


def test_here() -> None:
    """With whatever httptools and h11 run the tests."""
    for reader in ("httptools", "h11"):
        assert asyncio.run(differences(reader)) == []


@pytest.mark.parametrize("which", ["debian", "newest"])
@pytest.mark.parametrize("reader", ["httptools", "h11"])
def test_elsewhere(which: str, reader: str) -> None:
    """Debian's libraries, of 2022, and the newest."""
    python = DEBIAN if which == "debian" else interpreters.newest()
    if python is None or not interpreters.can_import(python, reader):
        pytest.skip(f"no {reader} in {which}")
    done = subprocess.run(
        [python, "-m", "tests.support.verdicts", reader],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("", 0)


def test_mutants_get_one_verdict() -> None:
    """MEMUNIT_FUZZ=600 tests/run unit -- -k mutants is the long form: ten minutes."""
    assert asyncio.run(fuzz(mutants=MUTANTS, seconds=SECONDS)) == []
