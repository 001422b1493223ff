"""What check knows of other servers as a command: docs/commands.md says with which versions it was tried."""

from __future__ import annotations

from pathlib import Path

import pytest

from memunit.cli.main import main
from memunit.core.commands import configuration_of, warnings_of

PRELOAD = "says READY=1 before it has loaded the app"
NO_SOCKET = "uses no inherited socket"
TOLD = "uses the inherited socket only if an option says so"
NEVER = "never says READY=1"


@pytest.mark.parametrize(
    ("command", "ready", "said"),
    [
        (["gunicorn", "shop:app"], "notify", [PRELOAD]),
        (["/srv/shop/venv/bin/gunicorn", "-w", "2", "shop:app"], "notify", [PRELOAD]),
        (["python3", "-m", "gunicorn", "shop:app"], "notify", [PRELOAD]),
        (["uv", "run", "gunicorn", "shop:app"], "notify", [PRELOAD]),
        (["env", "A=1", "gunicorn", "shop:app"], "notify", [PRELOAD]),
        (["sh", "-c", "A=1 exec gunicorn shop:app"], "notify", [PRELOAD]),
        (["gunicorn", "--preload", "shop:app"], "notify", []),
        (["sh", "-c", "exec gunicorn --preload shop:app"], "notify", []),
        (["uvicorn", "shop:app"], "notify", [TOLD, NEVER]),
        (["uvicorn", "shop:app", "--fd", "3", "--workers", "2"], "notify", [NEVER]),
        (["python", "-m", "uvicorn", "shop:app", "--fd=3"], "exec", []),
        (["hypercorn", "-b", "fd://3", "shop:app"], "exec", []),
        (["hypercorn", "--bind=fd://3", "shop:app"], "notify", [NEVER]),
        (["hypercorn", "-b", "0.0.0.0:80", "shop:app"], "exec", [TOLD]),
        (["daphne", "--fd", "3", "shop:app"], "exec", []),
        (["granian", "shop:app"], "exec", [NO_SOCKET]),
        (["python", "-I", "-m", "granian", "shop:app"], "notify", [NO_SOCKET]),
        (["flask", "--app", "shop", "run"], "exec", [NO_SOCKET]),
        (["python", "manage.py", "runserver", "--noreload"], "exec", [NO_SOCKET]),
        (["waitress-serve", "shop:app"], "exec", [NO_SOCKET]),
        # Nothing is known, or it is no server.
        (["node", "server.js"], "notify", []),
        (["flask", "worker"], "notify", []),
        (["python", "manage.py", "process_tasks"], "notify", []),
        (["./server", "--name", "gunicorn"], "notify", []),
        (["sh", "-c", "unbalanced '"], "notify", []),
    ],
)
def test_what_is_known(command: list[str], ready: str, said: list[str]) -> None:
    found = warnings_of(command, ready)
    assert [next(each for each in said if each in text) for _, text, _ in found] == said
    assert all(remedy for _, _, remedy in found)


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("preload_app = True\n", False),
        ("workers = 2\n", True),
        ("preload_app = False\n", True),
        ("import os\npreload_app = bool(os.environ.get('P'))\n", True),
        ("if True:\n    preload_app = True\n", True),
        ("not Python (\n", True),
    ],
)
def test_gunicorns_own_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, warned: bool
) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(text)
    (tmp_path / "gunicorn").write_text("#!/bin/sh\n")
    (tmp_path / "gunicorn").chmod(0o755)
    file = tmp_path / "shop.toml"
    file.write_text(f'[app]\ncommand = ["./gunicorn", "shop:app"]\ndirectory = "{tmp_path}"\n')
    assert main(["check", str(file)]) == 0
    said = capsys.readouterr().err
    assert (PRELOAD in said) is warned
    assert ("unless its configuration file sets preload_app" in said) is (
        warned and text != "workers = 2\n" and "False" not in text
    )


def test_gunicorns_variable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "shop.toml"
    words = 'command = ["/bin/sh", "-c", "exec gunicorn shop:app"]'
    file.write_text(f'[app]\n{words}\nenvironment = {{ GUNICORN_CMD_ARGS = "--preload -w 2" }}\n')
    assert main(["check", str(file)]) == 0
    assert PRELOAD not in capsys.readouterr().err


def test_which_file_is_gunicorns() -> None:
    assert configuration_of(["gunicorn", "-c", "conf/g.py", "shop:app"]) == "conf/g.py"
    assert configuration_of(["python", "-m", "gunicorn", "--config=file:g.py", "a:b"]) == "g.py"
    assert configuration_of(["gunicorn", "a:b"]) == "gunicorn.conf.py"
    assert configuration_of(["node", "a.js"]) is None
