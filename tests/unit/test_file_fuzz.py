"""The loader of files against bytes of every kind: settings, or a refusal of which each line can be read."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from memunit.cli.files import load_file
from memunit.core.problems import SettingsError
from memunit.core.schema import KEYS
from tests.support.mutants import mangle
from tests.support.unitfuzz import mutant

SECONDS = int(os.environ.get("MEMUNIT_FUZZ", "0"))
FIRST = int(os.environ.get("MEMUNIT_SEED", "0"))
FILES = 1500
_TOKENS = [
    *(
        b"[",
        b"]",
        b"[[",
        b"]]",
        b"{",
        b"}",
        b"=",
        b".",
        b",",
        b'"',
        b"'",
        b'"""',
        b"'''",
        b"\\",
        b"\\u",
        b"\\U0010FFFF",
    ),
    *(
        b"#",
        b"\n",
        b"\r",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xc3",
        b"1e999",
        b"0x",
        b"1979-05-27T07:32:00Z",
        b"inf",
    ),
    *(
        b"-nan",
        b"9" * 5000,
        b"[" * 300,
        b"a." * 2000 + b"b = 1\n",
        b"[app]\n",
        b"[app.environment]\n",
        b"x = 1\n",
    ),
]


def broken(number: int) -> bytes:
    """A file of the fuzz of the generator, with more that TOML itself has to refuse."""
    rng = random.Random(number)
    data = bytearray(mutant(number))
    mangle(data, rng, _TOKENS, rng.randint(0, 4))
    return bytes(data)


def refusal(path: Path, content: bytes) -> str:
    """What is wrong with how the loader takes it, "" for nothing."""
    path.write_bytes(content)
    try:
        parsed = load_file(path)
    except SettingsError as error:
        problems = error.problems
    else:
        problems = parsed.problems + parsed.warnings
    for line in map(str, problems):
        if not line.isprintable() or not line.startswith(str(path)) or len(line) > 2000:
            return repr(line[:300])
    return ""


@pytest.mark.parametrize(
    "form",
    [
        '"{}"',
        "{}",
        '["{}"]',
        '{{"{}" = "{}"}}',
        '"0{}"',
        '"{}s"',
        '"{}.{}M"',
        '"{}%"',
        '["127.0.0.1:{}"]',
        '["[::1]:{}"]',
        '["vsock:{}:{}"]',
    ],
)
@pytest.mark.parametrize("digit", ["9", "7", "0", "\u0663", "\xb2"])
def test_no_number_is_too_long(tmp_path: Path, form: str, digit: str) -> None:
    """From Python 3.11 on int() refuses thousands of digits: in [service] user that was a traceback once."""
    for key in KEYS:
        many = digit * 5000
        line = f"[{key.table}]\n{key.name} = {form.format(many, many)}\n"
        assert refusal(tmp_path / "shop.toml", line.encode()) == "", key.path


def test_broken_files_are_refused_in_words(tmp_path: Path) -> None:
    """MEMUNIT_FUZZ=300 tests/run unit -- -k broken_files is the long form: five minutes, from MEMUNIT_SEED on."""
    until, number = time.monotonic() + SECONDS, FIRST
    while time.monotonic() < until if SECONDS else number < FIRST + FILES:
        wrong = refusal(tmp_path / "shop.toml", broken(number))
        assert wrong == "", f"broken({number}): {wrong}"
        number += 1
    if SECONDS:
        print(f"{number} files")
