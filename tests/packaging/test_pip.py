"""pip install in a bare virtualenv: no compiler, no headers, no systemd, and `memunit run` serves."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.interpreters import DEBIAN
from tests.support.wait import DEADLINE
from tests.support.workers import ROOT

# What a compiler would be found by: without them, a package that has to be built can't be.
_BARE = {"PATH": "/nonexistent", "CC": "/nonexistent/cc", "HOME": "/nonexistent"}
_APP = """import socket
def app(sockets, stopping):
    sockets[0].settimeout(0.2)
    while not stopping.is_set():
        try:
            connection, _ = sockets[0].accept()
        except TimeoutError:
            continue
        with connection:
            connection.sendall(b"served")
"""


@pytest.fixture(scope="module")
def memunit(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command in a virtualenv that has what pip has put there, and nothing of the system's."""
    place = tmp_path_factory.mktemp("pip")
    venv = place / "venv"
    subprocess.run([DEBIAN, "-m", "venv", venv], check=True)
    done = subprocess.run(
        [venv / "bin/pip", "install", "--disable-pip-version-check", "--quiet", str(wheel)],
        env={**os.environ, **_BARE},
        check=False,
        capture_output=True,
        text=True,
        timeout=900,
    )
    if "No matching distribution" in done.stderr or "ConnectionError" in done.stderr:
        pytest.skip("no packages can be had here")
    assert done.returncode == 0, done.stderr
    return venv / "bin/memunit"


@pytest.fixture
def app(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "served.py").write_text(_APP)
    return {"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}


def test_it_needs_no_systemd_python(memunit: Path) -> None:
    done = subprocess.run(
        [memunit.with_name("python"), "-c", "import systemd"], check=False, capture_output=True
    )
    assert done.returncode == 1
    assert b"No module named 'systemd'" in done.stderr


def _serves(process: subprocess.Popen[str], target: Path) -> list[str]:
    """Its lines, once it has served and been stopped."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if re.search(r"Worker 0\.1 .* is ready", line):
            break
    else:
        raise AssertionError("".join(said))
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(DEADLINE)
        client.connect(str(target))
        assert client.recv(100) == b"served"
    process.send_signal(signal.SIGTERM)
    said += process.stderr.readlines()
    assert process.wait(DEADLINE) == 0, said
    return said


def test_it_serves(memunit: Path, app: dict[str, str], tmp_path: Path) -> None:
    target = tmp_path / "s"
    words = ["run", "--listen", str(target), "--workers", "1", "--server", "callable", "--app", "served:app"]
    with subprocess.Popen(
        [memunit, *words], cwd=tmp_path, env=app, stderr=subprocess.PIPE, text=True
    ) as process:
        said = _serves(process, target)
    assert not any("systemd-python" in line for line in said)


@pytest.mark.parametrize("names", [None, "web"])
def test_it_takes_sockets(memunit: Path, app: dict[str, str], tmp_path: Path, names: str | None) -> None:
    """As systemd-socket-activate(1) passes them, which a container may have without systemd-python."""
    target = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(target))
        listener.listen(8)
        script = 'exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"'
        words = ["run", "--workers", "1", "--server", "callable", "--app", "served:app"]
        with subprocess.Popen(
            ["/bin/sh", "-c", script, "sh", memunit, *words],
            cwd=tmp_path,
            env={**app, **({"LISTEN_FDNAMES": names} if names else {})},
            stderr=subprocess.PIPE,
            text=True,
            stdin=listener.fileno(),
        ) as process:
            _serves(process, target)


def test_sockets_that_do_not_fit_are_an_error(memunit: Path, app: dict[str, str], tmp_path: Path) -> None:
    script = 'export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=a; exec "$@"'
    words = ["run", "--server", "callable", "--app", "served:app"]
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", memunit, *words],
        cwd=tmp_path,
        env=app,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 78
    assert "LISTEN_FDS and LISTEN_FDNAMES do not fit what was passed" in done.stderr


def test_check_works(memunit: Path, app: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(f'[app]\nrun = "served:app"\nserver = "callable"\ndirectory = "{tmp_path}"\n')
    done = subprocess.run(
        [memunit, "check", file], env=app, check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_without_a_dependency_it_says_which(tmp_path: Path) -> None:
    """As from a checkout, by an interpreter that has nothing."""
    bare = tmp_path / "bare"
    subprocess.run([DEBIAN, "-m", "venv", "--without-pip", bare], check=True)
    done = subprocess.run(
        [bare / "bin/python", "-m", "memunit.cli.main", "run", "--listen", "127.0.0.1:0", "--app", "a:b"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 70
    assert re.fullmatch(
        rf"memunit: {bare}/bin/python does not have (psutil|sdnotify), which memunit needs; {bare}/bin/python -m pip "
        r"install \1, or apt install python3-\1\n",
        done.stderr,
    )


def test_what_the_wheel_brings_is_beside_it(memunit: Path) -> None:
    """test_wheel.py has all that it brings."""
    share = memunit.parents[1] / "share"
    assert os.access(share / "memunit/units/memunit-generator", os.X_OK)
    assert (share / "man/man1/memunit.1").exists()
    assert (share / "doc/memunit/examples/flask/web.py").exists()


def test_the_readme_says_what_to_install() -> None:
    text = (ROOT / "README.md").read_text()
    assert re.search(r"^    pip install \.$|^    pip install \. ", text, re.MULTILINE)
    assert "pip install '.[journal]'" in text
    for header in ("gcc", "pkg-config", "libsystemd-dev", "python3-dev"):
        assert header in text
