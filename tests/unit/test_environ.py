"""What the process of ExecReload= leaves to the master; tests/booted/test_onefile.py does it with systemd."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

from memunit.cli import environ

OWN = {
    "INVOCATION_ID": "1",
    "JOURNAL_STREAM": "9:1",
    "NOTIFY_SOCKET": "/run/systemd/notify",
    "SECRET": "first",
    "OLD": "x",
}


def leave(directory: Path, **variables: str) -> None:
    """As a process with this environment."""
    script = f"from memunit.cli import environ; environ.leave({str(directory)!r})"
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", script], cwd=root, env=variables, check=True)


def test_the_variables_of_the_last_reload_take_the_place_of_the_first(tmp_path: Path) -> None:
    new = {
        "INVOCATION_ID": "1",
        "JOURNAL_STREAM": "9:2",
        "MAINPID": "7",
        "SYSTEMD_EXEC_PID": "8",
        "SECRET": "a=b\nc \u00e4",
        "EMPTY": "",
        "WATCHDOG_USEC": "3",
    }
    leave(tmp_path, **new)
    found = environ.left(str(tmp_path), OWN)
    found.pop("LC_CTYPE", None)  # Python's own
    assert found == {
        "INVOCATION_ID": "1",
        "JOURNAL_STREAM": "9:1",
        "NOTIFY_SOCKET": "/run/systemd/notify",
        "SECRET": "a=b\nc \u00e4",
        "EMPTY": "",
    }
    file = tmp_path / "environment"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    leave(tmp_path, **{**new, "SECRET": "third"})
    assert environ.left(str(tmp_path), OWN)["SECRET"] == "third"
    assert [each.name for each in tmp_path.iterdir()] == ["environment"]


def test_what_was_left_to_another_run_is_of_no_use(tmp_path: Path) -> None:
    leave(tmp_path, INVOCATION_ID="0", SECRET="old")
    assert environ.left(str(tmp_path), OWN) == OWN
    leave(tmp_path, SECRET="of nobody")
    assert environ.left(str(tmp_path), OWN) == OWN
    assert environ.left(str(tmp_path), {"SECRET": "without systemd"}) == {"SECRET": "without systemd"}


def test_nothing_was_left(tmp_path: Path) -> None:
    assert environ.left(None, OWN) == OWN
    assert environ.left(str(tmp_path), OWN) == OWN
    (tmp_path / "environment").write_bytes(os.urandom(64).replace(b"=", b""))
    assert environ.left(str(tmp_path), OWN) == OWN
    (tmp_path / "environment").unlink()
    (tmp_path / "environment").mkdir()
    assert environ.left(str(tmp_path), OWN) == OWN


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """The directory is the service's own, and whoever runs this may have more rights."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / "environment~").symlink_to(victim)
    script = f"from memunit.cli import environ; environ.leave({str(tmp_path)!r})"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, check=False, capture_output=True)
    assert done.returncode != 0
    assert victim.read_text() == "untouched"


def test_what_can_not_be_written_has_a_place(tmp_path: Path) -> None:
    """A failed write(2) names no file: "None: No space left on device" was said of a full /run."""
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); from memunit.cli import reload; "
        f"print(reload._leave_environment({str(tmp_path)!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        env={"A": "b"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"the environment files are not read again: {tmp_path}: File too large\n"
