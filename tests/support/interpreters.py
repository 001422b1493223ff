"""Interpreters that an app may bring along: Debian's, and a virtual environment with the newest servers."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

DEBIAN = Path("/usr/bin/python3")
_FRAMEWORKS = Path(__file__).resolve().parents[1] / "frameworks.txt"
_NEWEST = ("uvicorn", "uvloop", "httptools", "websockets", "wsproto")


def cache() -> Path:
    """Where tests keep what is dear to make, outside the repository."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "memunit-tests"


@functools.cache
def newest() -> Path | None:
    """The interpreter of a virtual environment with the newest uvicorn and its companions.

    Made once and kept. None when the packages cannot be had.
    """
    return _environment("newest", _NEWEST)


@functools.cache
def frameworks() -> Path | None:
    """As newest(), with what tests/frameworks.txt names. Made anew when that has changed."""
    wanted = hashlib.sha256(_FRAMEWORKS.read_bytes()).hexdigest()[:12]
    return _environment(f"frameworks-{wanted}", ("-r", str(_FRAMEWORKS)))


def _environment(name: str, wanted: tuple[str, ...]) -> Path | None:
    home = cache() / name
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "complete").exists():
            shutil.rmtree(home, ignore_errors=True)
            subprocess.run([DEBIAN, "-m", "venv", home], check=True)
            pip = [
                str(home / "bin" / "python"),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ]
            if subprocess.run([*pip, *wanted], check=False).returncode != 0:
                return None
            (home / "complete").touch()
    return home / "bin" / "python"


def bare(directory: Path) -> Path:
    """The interpreter of a new virtual environment in `directory` that has no package at all."""
    subprocess.run([DEBIAN, "-m", "venv", "--without-pip", directory], check=True)
    return directory / "bin" / "python"


def can_import(python: Path, module: str) -> bool:
    """Whether `python` has `module`."""
    return (
        subprocess.run([python, "-c", f"import {module}"], check=False, capture_output=True).returncode == 0
    )
