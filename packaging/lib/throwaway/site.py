"""Python packages for a guest that reaches no index: put together here for its interpreter, kept in the cache."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from throwaway import host

_PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}
# pip takes a wheel that names any of these; glibc is 2.36 in Debian 12.
_PLATFORMS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
_SECONDS = 300.0


def ensure(suite: str, requirements: Path) -> Path | None:
    """A folder to be the guest's site-packages, with what `requirements` names; None if it can't be had."""
    python, machine = _PYTHONS[suite], host.architecture().wheels
    recipe = f"{python} {machine} {_PLATFORMS} compiled".encode() + requirements.read_bytes()
    place = host.cache() / "site" / f"{suite}-{hashlib.sha256(recipe).hexdigest()[:12]}"
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists() and not _fetch(place, requirements, python, machine):
            return None
    return place


def _fetch(place: Path, requirements: Path, python: str, machine: str) -> bool:
    half = place.with_name(f".{place.name}")
    shutil.rmtree(half, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", python]
    command += [word for name in _PLATFORMS for word in ("--platform", f"{name}_{machine}")]
    command += ["--no-compile", "--target", str(half), "-r", str(requirements)]
    if subprocess.run(command, check=False, timeout=_SECONDS).returncode != 0:
        return False
    _compile(half, python)
    half.rename(place)
    return True


def _compile(folder: Path, python: str) -> None:
    """Where the host has the guest's interpreter: on an emulated processor it takes minutes."""
    interpreter = shutil.which(f"python{python}", path="/usr/bin")
    if interpreter is not None:
        words = ["-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", str(folder)]
        subprocess.run([interpreter, *words], check=False, timeout=_SECONDS, stdout=subprocess.DEVNULL)
