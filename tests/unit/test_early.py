"""What is started ahead is what the settings say once they are read, or nothing."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from memunit.cli import early
from memunit.cli.files import load_document
from memunit.cli.flags import examine_both, parse_flags, read_flags
from memunit.cli.start import configure
from tests.unit.test_imports import ROOT, loaded

FILE = """
[app]
run = "shop:app"
python = "/usr/bin/python3"
environment = { A = "1", B = "x=y" }
"""


@pytest.mark.parametrize(
    "words",
    [
        "--listen 127.0.0.1:0 --app shop:app",
        "--listen=127.0.0.1:0 --app=shop:app --server=wsgi --threads 3",
        "--run shop:app --python /usr/bin/python3 --directory {folder}",
        "--app shop:app --environment A=1 --environment B=x=y --environment A=2 --preload auto",
        "--app shop:app --preload --workers 2 --limit 100M",
        "--workers 2 --config {folder}/shop.toml",
        "--config={folder}/shop.toml --environment C=3 --python {folder}/../{name}/python",
    ],
)
def test_it_is_as_the_settings_have_it(tmp_path: Path, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop.py").touch()
    (tmp_path / "python").symlink_to(sys.executable)
    (tmp_path / "shop.toml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    typed = shlex.split(words.format(folder=tmp_path, name=tmp_path.name))
    flags = read_flags(typed)
    parsed = (
        parse_flags(typed)
        if flags.config is None
        else examine_both(flags, load_document(flags.config), flags.config)
    )
    settings = parsed.settings.app
    wanted = configure(parsed, "command line", unit=None, here=True)
    app = early._app("run", typed)
    assert app is not None
    assert (app.get("python", sys.executable), app.get("server", "asgi")) == (
        wanted.argv[0],
        settings.server,
    )
    assert app.get("directory") == wanted.directory
    environment = {"PYTHONUNBUFFERED": "1", **os.environ, **app.get("environment", {})}
    ours = {name: value for name, value in wanted.environment.items() if not name.startswith("MEMUNIT_")}
    assert {name: value for name, value in environment.items() if not name.startswith("MEMUNIT_")} == ours


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--help",
        "--app shop:app --help",
        "-- sleep 1",
        "--app shop:app --no-preload",
        "--app shop:app --preload=false",
        "--app server.js --server node",
        "--app shop:app --server callable",
        "--app shop:app --python python3",
        "--app",
        "--config /no/such.toml",
        "--config {folder}/broken.toml",
        "--config {folder}/command.toml",
        "--config {folder}/odd.toml",
    ],
)
def test_nothing_is_started_for_what_is_not_so_plain(tmp_path: Path, words: str) -> None:
    (tmp_path / "broken.toml").write_text("[app\n")
    (tmp_path / "command.toml").write_text('[app]\ncommand = ["sleep", "1"]\n')
    (tmp_path / "odd.toml").write_text('[app]\nrun = "shop:app"\nenvironment = { A = 1 }\n')
    assert early._app("run", shlex.split(words.format(folder=tmp_path))) is None


def test_a_file_of_an_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", str(tmp_path))
    (tmp_path / "shop.toml").write_text(FILE)
    app = early._app("serve", ["--", "shop"])
    assert app == {
        "run": "shop:app",
        "python": "/usr/bin/python3",
        "environment": {"A": "1", "B": "x=y"},
    }


@pytest.mark.parametrize("name", ["workers.json", "starts.json"])
def test_who_takes_over_or_waits_starts_nothing_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.delenv("MEMUNIT_HANDOVER", raising=False)
    assert not early._continues()
    (tmp_path / name).touch()
    assert early._continues()


def test_settings_that_cannot_be_used_leave_no_process(tmp_path: Path) -> None:
    """run() returns when the last that holds the pipe has ended."""
    (tmp_path / "shop.py").write_text("import sys; print('imported')\ndef app(): ...\n")
    command = [
        sys.executable,
        "-m",
        "memunit",
        "run",
        "--listen",
        "127.0.0.1:0",
        "--app",
        "shop:app",
        "--limit",
        "x",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert done.stdout == ""


def test_a_signal_for_the_master_does_not_end_it_while_it_imports() -> None:
    """SIGHUP, SIGUSR1 and SIGQUIT ended it in its first 0.2 s. Ignored, a reload was lost."""
    code = "import os, signal; from memunit.cli.early import Early; Early('run', ['--help']); "
    code += "[os.kill(os.getpid(), each) for each in (1, 2, 3, 10, 12, 21, 22)]; print(*map(int, signal.sigpending()))"
    command = [sys.executable, "-c", code]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "2", "3", "10", "12", "21", "22"]


def test_little_is_imported_before_it_is_started() -> None:
    """All of that is time in which nothing is imported for the app yet."""
    modules = loaded("import memunit.cli.early")
    heavy = {"dataclasses", "inspect", "typing", "argparse", "ctypes", "json", "pathlib", "traceback"}
    assert not heavy & modules


def test_a_successor_does_not_wait_long_for_the_command_before_it() -> None:
    """systemd runs it between two masters."""
    assert not {"dataclasses", "inspect", "argparse", "json"} & loaded("import memunit.cli.sweep")


def test_a_master_imports_what_it_needs_and_no_more() -> None:
    """Each was half a hundredth of a second at every start."""
    modules = loaded("import memunit.cli.run, memunit.cli.serve")
    heavy = {
        "dataclasses",
        "inspect",
        "psutil",
        "subprocess",
        "tempfile",
        "difflib",
        "tomllib",
        "asyncio",
        "systemd",
        "memunit.cli.nodejs",
    }
    assert not heavy & modules
