"""`memunit check --import`: the app's import in a process of its own, and what of it a fork breaks, with the lines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from memunit.core.exitcodes import EX_CONFIG

ROOT = Path(__file__).parents[2]
SERVE = "def serve(sockets, stopping): pass\n"
KINDS = ("pipes", "connections", "threads", "processes", "descriptors for events", "registered functions")
LEAVING = """\
import atexit, os, socket, subprocess, tempfile, threading
from helper import opened, folder
kept = {}
def deeper():
    kept["pipe"] = os.pipe()
deeper()
first = opened()
work = folder()
open(os.environ["FOUND"], "w").write(work.name)
threading.Thread(target=threading.Event().wait, daemon=True).start()
atexit.register(
    print, "printed at the end",
)
child = subprocess.Popen(["sleep", "1000"])
import third
print("printed by the import")
"""
HELPER = """\
import socket, tempfile
listener = socket.create_server(("127.0.0.1", 0))
def opened():
    return socket.create_connection(listener.getsockname())
def folder():
    return tempfile.TemporaryDirectory()
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with an app, and its file."""
    (tmp_path / "shop.toml").write_text(
        f'[app]\nrun = "shop:serve"\nserver = "callable"\ndirectory = "{tmp_path}"\npreload = true\n'
        f'environment = {{ FOUND = "{tmp_path}/found" }}\n[workers]\nstart_timeout = "60s"\n'
    )
    return tmp_path


def check(shop: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "memunit", "check", "--import", str(shop / "shop.toml")]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=180)


def test_each_thing_in_the_way_with_the_line_that_made_it(shop: Path) -> None:
    (shop / "shop.py").write_text(LEAVING + SERVE)
    (shop / "helper.py").write_text(HELPER)
    (shop / "third.py").write_text(
        "import select\nclass Poller:\n    def __init__(self):\n"
        "        self.x = select.epoll()\nPoller.kept = Poller()\n"
    )
    done = check(shop)
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if "app's import" in line]
    lines = {
        kind: line
        for kind in KINDS
        for line in told
        if f" {kind}" in line.split("app's import ")[1].split(":")[0]
    }
    place = {
        "pipes": "2 x pipe(7) ({shop}/shop.py line 5)",
        "connections": "(shop.first, a socket, {shop}/shop.py line 7; {shop}/helper.py line 4)",
        "threads": "Thread-1 (wait) ({shop}/shop.py line 10)",
        "processes": "({shop}/shop.py line 14)",
        "descriptors for events": "epoll(7) ({shop}/third.py line 4)",
        "registered functions": "atexit: builtins.print ({shop}/shop.py line 11)",
    }
    for kind, text in place.items():
        assert text.format(shop=shop) in lines[kind], (kind, lines)
    assert (
        f"(shop.work, a TemporaryDirectory, {shop}/shop.py line 8; {shop}/helper.py line 6)"
        in lines["registered functions"]
    )
    assert all("or say preload = false" in line for line in lines.values())
    assert "import   took " in done.stdout
    assert ", 6 in the way of preload" in done.stdout
    assert "printed by the import" in done.stderr
    assert "printed at the end" in done.stderr
    assert "printed" not in done.stdout
    assert not Path((shop / "found").read_text()).exists()
    child = int(lines["processes"].split("(pid ")[1].split(")")[0])
    assert not Path(f"/proc/{child}").exists()


def test_nothing_in_the_way(shop: Path) -> None:
    (shop / "shop.env").write_text("# secrets\nTOKEN='a b'\n")
    (shop / "shop.py").write_text("import os\nassert os.environ['TOKEN'] == 'a b'\n" + SERVE)
    done = check(shop)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].endswith(", nothing in the way of preload")
    assert not (shop / "__pycache__").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("raise LookupError('as asked')", "app.run: cannot import shop: LookupError: as asked"),
        ("import os\nos._exit(3)", "app.run: its import ended the process with status 3"),
        ("import os\nos.kill(os.getpid(), 11)", "app.run: its import was killed by signal 11"),
        ("import os\nos.closerange(3, 99)", "app.run: its import ended the process with status"),
    ],
    ids=["raises", "exits", "crashes", "closes"],
)
def test_an_import_that_fails(shop: Path, text: str, told: str) -> None:
    (shop / "shop.py").write_text(f"{text}\n{SERVE}")
    done = check(shop)
    assert done.returncode == EX_CONFIG
    assert told in done.stderr
    assert done.stdout == ""


def test_an_import_that_blocks(shop: Path) -> None:
    """Its stacks stand there, and nobody is left of it."""
    file = shop / "shop.toml"
    file.write_text(file.read_text().replace("60s", "10s"))
    (shop / "shop.py").write_text(
        "import os, subprocess\nsubprocess.run(['sh', '-c', 'echo $$ > pid; exec sleep 99'])\n" + SERVE
    )
    done = check(shop)
    assert done.returncode == EX_CONFIG
    assert "app.run: was not imported within start_timeout (10s); its stacks stand above" in done.stderr
    assert "Fatal Python error: Aborted" in done.stderr
    if (shop / "pid").exists():
        assert not Path(f"/proc/{(shop / 'pid').read_text().strip()}").exists()


def test_a_command_is_not_imported(shop: Path) -> None:
    (shop / "shop.toml").write_text('[app]\ncommand = ["sleep", "1"]\n')
    done = check(shop)
    assert done.returncode == EX_CONFIG
    assert "app.command: a command is not imported; check it without --import" in done.stderr
