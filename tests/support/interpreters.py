"""Interpreters that an app may bring along: Debian's, and a virtual environment with the newest servers."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

DEBIAN = Path("/usr/bin/python3")
_FRAMEWORKS = Path(__file__).resolve().parents[1] / "frameworks.txt"
_OLDER_DJANGO = "Django==4.2.30"
_NEWEST = ("uvicorn", "uvloop", "httptools", "websockets", "wsproto")
_START_SERVERS = ("uvicorn", "gunicorn", "granian")
# pyuwsgi is uWSGI with its program, built by its own authors.
_WSGI_SERVERS = ("uvicorn", "uvloop", "httptools", "gunicorn", "waitress", "pyuwsgi")


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
def wsgi_servers() -> Path | None:
    """The interpreter of a virtual environment with what a WSGI worker needs, and the servers that it is compared with.

    Made once and kept. None when the packages cannot be had.
    """
    return _environment("wsgi-servers", _WSGI_SERVERS)


@functools.cache
def start_servers() -> Path | None:
    """As wsgi_servers(), with ASGI servers whose time to start is compared; without uvloop, as by a plain install."""
    return _environment("start-servers", _START_SERVERS)


@functools.cache
def frameworks() -> Path | None:
    """As newest(), with what tests/frameworks.txt names. Made anew when that has changed."""
    return _environment(f"frameworks-{_digest()}", ("-r", str(_FRAMEWORKS)))


@functools.cache
def plain_frameworks() -> Path | None:
    """As frameworks(), by a plain `pip install uvicorn`: with neither uvloop nor httptools."""
    lines = _FRAMEWORKS.read_text().splitlines()
    wanted = [line for line in lines if line[:1].isalpha() and not line.startswith(("uvloop", "httptools"))]
    return _environment(f"plain-frameworks-{_digest()}", tuple(wanted))


@functools.cache
def varlink() -> Path | None:
    """The interpreter of a virtual environment with varlink's own package for Python, a second client."""
    return _environment("varlink", ("varlink==31.0.0",))


@functools.cache
def older_django() -> Path | None:
    """A folder for PYTHONPATH with Django 4.2, to be put before what frameworks() has."""
    home = cache() / "django-4.2"
    # Debian's Python has no pip of its own until somebody installs python3-pip.
    python = frameworks()
    if python is None:
        return None
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target")

    def make() -> bool:
        command = [str(python), *install, str(home), _OLDER_DJANGO]
        return subprocess.run(command, check=False).returncode == 0

    return home if _kept(home, make) else None


def _digest() -> str:
    return hashlib.sha256(_FRAMEWORKS.read_bytes()).hexdigest()[:12]


def _environment(name: str, wanted: tuple[str, ...]) -> Path | None:
    home = cache() / name

    def make() -> bool:
        subprocess.run([DEBIAN, "-m", "venv", home], check=True)
        pip = [
            str(home / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]
        return subprocess.run([*pip, *wanted], check=False).returncode == 0

    return home / "bin" / "python" if _kept(home, make) else None


def _kept(home: Path, make: Callable[[], bool]) -> bool:
    """Whether what make() puts in `home` is there: it is called by one process at a time, and not again."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "complete").exists():
            shutil.rmtree(home, ignore_errors=True)
            if not make():
                return False
            (home / "complete").touch()
    return True


def bare(directory: Path) -> Path:
    """The interpreter of a new virtual environment in `directory` that has no package at all."""
    subprocess.run([DEBIAN, "-m", "venv", "--without-pip", directory], check=True)
    return directory / "bin" / "python"


def can_import(python: Path, module: str) -> bool:
    """Whether `python` has `module`."""
    return (
        subprocess.run([python, "-c", f"import {module}"], check=False, capture_output=True).returncode == 0
    )
