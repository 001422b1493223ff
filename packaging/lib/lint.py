"""The tier that runs nothing of memunit: what reads the sources."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from counting import ROOT, Count, finish


def lint(deadline: float) -> Count:
    """Each checker counts as one test."""
    tool = Path(sys.executable).parent
    scripts = [
        name
        for name in _tracked()
        if (ROOT / name).is_file()
        and (ROOT / name).read_bytes()[:20].startswith((b"#!/bin/sh", b"#!/bin/bash", b"# shellcheck shell="))
    ]
    checks: dict[str, list[str | Path]] = {
        "ruff check": [tool / "ruff", "check", "."],
        "ruff format": [tool / "ruff", "format", "--check", "."],
        "mypy": [tool / "mypy"],
        "mypy (harness)": [tool / "mypy", "packaging/lib"],
        "shellcheck": ["shellcheck", "-x", *scripts],
    }
    count = Count()
    for title, command in checks.items():
        print(f"-- {title}", flush=True)
        if finish([str(word) for word in command], deadline, dict(os.environ)) == 0:
            count.passed += 1
        else:
            count.failed += 1
            count.trouble = f"{count.trouble}, {title}".lstrip(", ")
    return count


def _tracked() -> list[str]:
    """The files of the checkout; where git or its history is missing, all files are looked at."""
    with contextlib.suppress(FileNotFoundError):
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=False, capture_output=True)
        if listing.returncode == 0 and listing.stdout:
            return listing.stdout.decode().rstrip("\0").split("\0")
    return [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if ".git" not in path.parts]
