"""A root in which systemd-analyze(1) reads memunit's units, with drop-ins that a test has made."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def make(place: Path) -> Path:
    """The host's own units and ours, and the program that they start."""
    units = place / "usr/lib/systemd/system"
    for source in (Path("/usr/lib/systemd/system"), Path("/lib/systemd/system")):
        if not units.exists() and source.is_dir():
            shutil.copytree(source, units, symlinks=True)
    for unit in (
        "memunit@.service",
        "memunit@.socket",
        "memunit-metrics@.service",
        "memunit-metrics@.socket",
        "memunit-varlink-metrics@.service",
        "memunit-varlink-metrics@.socket",
    ):
        shutil.copy(ROOT / "units" / unit, units)
    for program in ("usr/bin/memunit", "bin/sh"):
        (place / program).parent.mkdir(parents=True, exist_ok=True)
        (place / program).write_text("#!/bin/sh\n")
        (place / program).chmod(0o755)
    return place


def generate(place: Path, source: Path) -> subprocess.CompletedProcess[str]:
    """Run the generator, as systemd would, on the files of `source`; its drop-ins are the root's."""
    normal = place / "etc/systemd/system"
    shutil.rmtree(normal, ignore_errors=True)
    normal.mkdir(parents=True)
    words = [
        "--from",
        source,
        "--runtime",
        place / "run/memunit",
        "--keep",
        place / "kept",
        normal,
        place / "early",
        place / "late",
    ]
    return subprocess.run(
        [*map(str, (*entry(place), *words))],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env={"LANG": "C"},
    )


def entry(place: Path) -> Sequence[str | Path]:
    """The generator's program, which finds memunit in this checkout."""
    program = place / "memunit-generator"
    if not program.exists():
        text = (ROOT / "units/memunit-generator").read_text()
        assert "/usr/lib/python3/dist-packages" in text
        program.write_text(text.replace("/usr/lib/python3/dist-packages", os.fspath(ROOT)))
        program.chmod(0o755)
    return [program]


def drop_in(place: Path, unit: str) -> str:
    """What was written for a unit, "" for nothing."""
    path = place / f"etc/systemd/system/{unit}.d/0-memunit.conf"
    return path.read_text() if path.exists() else ""


def verify(place: Path, units: Iterable[str]) -> str:
    """What systemd-analyze(1) has to say of them, "" for nothing."""
    done = subprocess.run(
        [
            *("systemd-analyze", "verify", f"--root={place}", "--man=no", "--recursive-errors=yes"),
            *units,
        ],
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=240,
    )
    said = done.stdout + done.stderr
    assert said or done.returncode == 0
    return said
