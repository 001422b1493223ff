"""`memunit new`: what is seen in a folder, and the file that comes out of it. `memunit check --all` with it."""
# ruff: noqa: E501  each case is a line

from __future__ import annotations

import errno
import json
import os
import sys
import tomllib
from pathlib import Path

import pytest

from memunit.account.folder import look
from memunit.cli import new
from memunit.cli.main import main
from memunit.core.schema import KEYS
from memunit.core.settings import examine

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
MANAGE = 'import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")\n'


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of /etc/memunit."""
    folder = tmp_path / "etc"
    folder.mkdir()
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", str(folder))
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    return folder


def tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "run", "server"),
    [
        ({"main.py": "from fastapi import FastAPI\napp = FastAPI()\n"}, "main:app", "asgi"),
        ({"web.py": "import flask\nsite: flask.Flask = flask.Flask(__name__)\n"}, "web:site", "wsgi"),
        ({"shop/__init__.py": "", "shop/web.py": "app = Starlette()\n"}, "shop.web:app", "asgi"),
        ({"shop/__init__.py": "def create_app(config=None):\n    app = Flask('x')\n    return app\n"}, "shop:create_app()", "wsgi"),
        ({"app.py": "async def app(scope, receive, send):\n    pass\n"}, "app:app", "asgi"),
        ({"app.py": "def application(environ, start_response):\n    pass\n"}, "app:application", "wsgi"),
        ({"manage.py": MANAGE, "config/wsgi.py": "", "config/asgi.py": ""}, "config.wsgi:application", "wsgi"),
        ({"manage.py": MANAGE, "config/wsgi.py": "", "config/asgi.py": "", "requirements.txt": "django\nchannels>=4\n"}, "config.asgi:application", "asgi"),
        ({"Procfile": "worker: x\nweb: gunicorn -w 4 shop.wsgi --bind :8000\n"}, "shop.wsgi:application", "wsgi"),
        ({"Procfile": "web: gunicorn -k uvicorn.workers.UvicornWorker shop.main:api"}, "shop.main:api", "asgi"),
        ({"Procfile": "web: uvicorn main:app --port $PORT"}, "main:app", "asgi"),
        ({"package.json": '{"main": "lib/a.js"}', "lib/a.js": "", "server.js": ""}, "lib/a.js", "node"),
        ({"package.json": '{"scripts": {"start": "node --enable-source-maps ./srv.mjs"}}', "srv.mjs": ""}, "srv.mjs", "node"),
        ({"package.json": '{"dependencies": {"next": "15"}}', "app.js": ""}, ".next/standalone/server.js", "node"),
        ({"server.js": ""}, "server.js", "node"),
        # The one whose name says that it is the app, and not a test or a part of a virtualenv.
        ({"zz.py": "a = FastAPI()", "app.py": "b = FastAPI()", "test_app.py": "c = FastAPI()", "venv/x.py": "d = FastAPI()"}, "app:b", "asgi"),
    ],
)  # fmt: skip
def test_what_is_seen(tmp_path: Path, files: dict[str, str], run: str, server: str) -> None:
    found = look(tree(tmp_path, files))
    assert found is not None
    assert (found.run, found.server) == (run, server)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"README.md": "app = FastAPI()"},
        {"broken.py": "app = FastAPI(\n", "nul.py": "\0", "deep.py": "(" * 2000},
        {"lib.py": "def helper(x):\n    return Flask(x)\n"},
        {"package.json": "[1, 2", "x.ts": ""},
        {"package.json": '{"scripts": [], "main": 7, "dependencies": null}'},
        {"package.json": '{"main": "../../etc/passwd"}'},
        {"Procfile": "web: 'unclosed"},
        {"manage.py": MANAGE},
    ],
)
def test_what_is_no_app(tmp_path: Path, files: dict[str, str]) -> None:
    assert look(tree(tmp_path, files)) is None


@pytest.mark.parametrize(
    ("example", "run", "server"),
    [
        ("fastapi", "web:app", "asgi"),
        ("flask", "web:app", "wsgi"),
        ("django", "shop.wsgi:application", "wsgi"),
        ("node", "server.js", "node"),
        ("demo", "demo:app", "asgi"),
    ],
)
def test_our_own_examples(example: str, run: str, server: str) -> None:
    found = look(EXAMPLES / example)
    assert found is not None
    assert (found.run, found.server) == (run, server)


def test_the_virtualenv_is_named(tmp_path: Path) -> None:
    tree(tmp_path, {"app.py": "app = FastAPI()", ".venv/pyvenv.cfg": ""})
    (tmp_path / ".venv/bin").mkdir()
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    found = look(tmp_path)
    assert found is not None
    assert found.python == str(tmp_path / ".venv/bin/python")
    assert found.hints == ()


def test_each_key_stands_there_with_its_help(tmp_path: Path) -> None:
    values = {"app.run": "web:app", "app.directory": '/srv/a "b" \\ \x7fc\u00e9', "memory.limit": "400M"}
    text = new.written("shop", "x\n[evil]\x1b", values)
    parsed = examine(tomllib.loads(text), "shop.toml")
    assert [each for each in parsed.problems if each.key != "app.directory"] == []
    assert tomllib.loads(text)["app"] == {"run": "web:app", "directory": values["app.directory"]}
    assert "\x1b" not in text
    flat = " ".join(text.replace("#", " ").split())
    for key in KEYS:
        assert " ".join(key.help.split()) in flat, key.path
        assert f"\n{'' if key.path in values else '# '}{key.name} = " in text, key.path
    for table in tomllib.loads(text):
        assert f"# {table}." not in text.splitlines(), "each table has a sentence"
    # What is behind a # can be used as it stands there.
    every = [line.removeprefix("# ") if " = " in line else line for line in text.splitlines()]
    said = {line.partition(" = ")[0] for line in every if " = " in line}
    assert {key.name for key in KEYS} <= said
    for key in KEYS:
        line = next(each for each in every if each.startswith(f"{key.name} = "))
        assert tomllib.loads(line)[key.name] is not None, key.path


def test_the_file_is_written_once_and_is_good(
    etc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = EXAMPLES / "demo"
    assert main(["new", "shop", str(folder)]) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert f"{etc}/shop.toml is written" in out
    assert out.index("systemctl daemon-reload") < out.index("systemctl enable --now memunit@shop.socket")
    assert (etc / "shop.toml").stat().st_mode & 0o777 == 0o644
    assert main(["check", "shop"]) == 0
    before = (etc / "shop.toml").read_text()
    capsys.readouterr()
    assert main(["new", "shop", str(folder)]) == 74
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "is there already" in err
    assert (etc / "shop.toml").read_text() == before


def test_what_has_to_be_mended_is_told_at_once(
    etc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree(tmp_path, {"app.py": "import no_such_module_of_anybody\napp = FastAPI()\n"})
    assert main(["new", "shop", str(tmp_path)]) == 78
    err = capsys.readouterr().err
    assert "no_such_module_of_anybody" in err
    assert (etc / "shop.toml").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["new"], 64, "INSTANCE"),
        (["new", "a b"], 64, "a space"),
        (["new", "shop", "/nonexistent"], 66, "can't be looked at"),
        (["new", "shop", "{empty}"], 66, "no app found"),
        (["new", "shop", "--"], 64, "a program and its arguments must follow --"),
        (["new", "shop", "{demo}", "-o", "/nonexistent/shop.toml"], 74, "can't be written"),
        (["new", "shop", "--server", "php"], 64, "invalid choice"),
    ],
)
def test_bad_input_is_one_line(
    etc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    (tmp_path / "empty").mkdir()
    words = [each.format(empty=tmp_path / "empty", demo=EXAMPLES / "demo") for each in words]
    try:
        assert main(words) == code
    except SystemExit as left:
        assert left.code == code  # noqa: PT017
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert list(etc.iterdir()) == []


@pytest.mark.parametrize("place", ["", "{tmp}/other.toml"])
def test_a_full_disk_leaves_no_empty_instance(
    etc: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    """An empty file was left, which `memunit status` listed and the next `memunit new` would not write over; and the
    remedy was to make the directory that was there.
    """

    def full(_descriptor: int, _mode: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fchmod", full)
    output = ["-o", place.format(tmp=tmp_path)] if place else []
    assert main(["new", "shop", str(EXAMPLES / "demo"), *output]) == 74
    err = capsys.readouterr().err
    assert "can't be written: No space left on device; say -o with another place" in err
    assert "mkdir" not in err
    assert list(etc.iterdir()) == []
    assert not (tmp_path / "other.toml").exists()


def test_a_program_and_an_app_that_are_named(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "shop", "/srv", "--json", "--", "cat", "-u"]) == 0
    keys = json.loads(capsys.readouterr().out)["keys"]
    assert keys["app.command"][0].endswith("/cat")
    assert keys["app.command"][1:] == ["-u"]
    assert main(["new", "shop", "/srv", "--app", "x.wsgi:app", "-o", "-"]) == 0
    text = tomllib.loads(capsys.readouterr().out)
    assert text["app"]["run"] == "x.wsgi:app"
    assert text["app"]["server"] == "wsgi"


# -- check --all ---------------------------------------------------------------------------------------------------


def test_check_all(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--all"]) == 0
    assert "no file of an instance" in capsys.readouterr().out
    assert main(["new", "good", str(EXAMPLES / "demo")]) == 0
    (etc / "broken.toml").write_text("[app]\nrun = 7\n[memroy]\n")
    (etc / "torn.toml").write_text("[app\n")
    (etc / "notes.txt").write_text("")
    (etc / "a b.toml").write_text("")
    capsys.readouterr()
    assert main(["check", "--all"]) == 78
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert [line.rpartition(": ")[0] for line in lines] == [
        f"{etc}/{name}.toml" for name in ("broken", "good", "torn")
    ]
    assert "problem" in lines[0]
    assert "problem" not in lines[1]
    assert f"{etc}/broken.toml: app.run: 7 is not an app" in said.err
    assert "memroy" in said.err
    assert f"{etc}/torn.toml: line 1" in said.err
    assert main(["check", "--all", "--json"]) == 78
    told = json.loads(capsys.readouterr().out)
    assert [(each["instance"], each["good"]) for each in told] == [
        ("broken", False),
        ("good", True),
        ("torn", False),
    ]
    assert told[0]["problems"][0].keys() == {"source", "key", "message", "remedy"}


@pytest.mark.parametrize("words", [[], ["--all", "shop"]])
def test_check_wants_one_or_all(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["check", *words])
    assert left.value.code == 64
    assert capsys.readouterr().err.count("\n") == 1


def test_check_as_json(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "good", str(EXAMPLES / "demo"), "--app", "demo:app"]) == 0
    capsys.readouterr()
    assert main(["check", "good", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["good"]
    assert told["in_effect"][0].endswith("good.toml: good")
    assert Path(told["file"]).exists()
