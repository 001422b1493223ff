"""The machines of the booted tier under user-mode Linux: what comes out of them is whole, and their end is told."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.wait import read_line, wait_readable

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 1200.0
MIB = 1 << 20
ASK = """
import sys
from throwaway import image, uml
print(uml.refusal(image.ensure("bookworm")))
"""


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "packaging" / "lib")}


def python(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, *words],
        env=ENVIRONMENT,
        check=False,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=SECONDS,
    )


@pytest.fixture(scope="module", autouse=True)
def _works() -> None:
    asked = python("-c", ASK)
    assert asked.returncode == 0, asked.stderr.decode()
    if refusal := asked.stdout.decode().strip():
        pytest.skip(f"no user-mode Linux here: {refusal}")


def words(folder: Path, script: str, results: Path) -> tuple[str, ...]:
    """What has Python run a script in a machine of its own."""
    folder.mkdir()
    (folder / "run").write_text(f"#!/bin/sh\n{script}")
    (folder / "run").chmod(0o755)
    command = ("-m", "throwaway", "run", str(folder), "--with", "uml", "--results", str(results))
    return (*command, "--deadline", str(SECONDS / 2), "--memory", "512")


def machine(folder: Path, script: str, results: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a script in a machine of its own."""
    return python(*words(folder, script, results))


def test_what_is_printed_and_left_comes_out_whole(tmp_path: Path) -> None:
    """Every byte: a terminal is in between, and none of what terminals do to a stream may be done to this one."""
    script = f"head -c {24 * MIB} /dev/urandom | tee /results/blob\nexit 7\n"
    done = machine(tmp_path / "payload", script, tmp_path / "results")
    assert done.returncode == 7, done.stderr.decode()
    left = (tmp_path / "results" / "blob").read_bytes()
    assert len(left) == 24 * MIB
    assert hashlib.sha256(left).digest() == hashlib.sha256(done.stdout).digest()


def test_a_kernel_that_panics_fails_the_run_in_plain_words(tmp_path: Path) -> None:
    script = "echo up\necho c >/proc/sysrq-trigger\n"
    done = machine(tmp_path / "payload", script, tmp_path / "results")
    assert done.returncode == 125
    assert done.stdout == b"up\n"
    said = done.stderr.decode()
    assert "the machine's kernel panicked: sysrq triggered crash; the end of its console:" in said
    assert "Call Trace" in said


def test_a_machine_ends_with_whoever_started_it(tmp_path: Path) -> None:
    """Even by SIGKILL, which leaves nobody to take it down; and the next one clears away what is left of its files."""
    with subprocess.Popen(
        [sys.executable, *words(tmp_path / "payload", "echo up\nexec sleep infinity\n", tmp_path)],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        try:
            assert read_line(process.stdout.fileno(), SECONDS) == "up"
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            (folder,) = (
                word.partition("=")[2]
                for child in children
                for word in Path(f"/proc/{child}/cmdline").read_text().split("\0")
                if word.startswith("uml_dir=")
            )
            ends = [os.pidfd_open(int(child)) for child in children]
        finally:
            process.kill()
    for end in ends:
        wait_readable(end, SECONDS)
        os.close(end)
    # What is left of it stands until the next machine starts, here or beside this test.
    assert machine(tmp_path / "next", "exit 0\n", tmp_path / "results").returncode == 0
    assert not Path(folder).exists()
