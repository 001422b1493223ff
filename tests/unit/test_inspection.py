"""What `memunit check` has the app's own interpreter look at: real interpreters, and apps as people have them."""
# ruff: noqa: E501  each message is quoted whole

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from memunit.cli import inspection
from memunit.cli.inspection import Account, inspect, owner_of
from memunit.cli.main import main
from memunit.cli.unitview import UnitView
from memunit.core.settings import App, Settings
from memunit.records import replace

# The system's own: the tests' virtualenv may lie where nobody but its owner may go.
PYTHON = os.path.realpath(sys.executable)
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root looks as another user")
NOBODY = Account(65534, 65534, (), "/", "nobody", of_unit=True)
UNIT = "memunit@app.service"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike tmp_path."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtualenv without any package."""
    place = tmp_path_factory.mktemp("venv") / "bare"
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", place], check=True)
    return place


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def said(app: App, account: Account | None = None) -> list[str]:
    """What is found, without what every file has in common."""
    source = f"{app.directory}/app.toml"
    if app.directory and not Path(source).exists():
        Path(source).write_text("")
    problems = inspect(Settings(app=app), source, account=account, unit=UNIT)
    return [f"{p.key}: {p.message}; {p.remedy}".replace(str(app.directory), "DIR") for p in problems]


def of_files(folder: Path, run: str, files: dict[str, str], hooks: dict[str, str] | None = None) -> list[str]:
    write(folder, files)
    app = App(run=run, server="callable", directory=str(folder), python=PYTHON)
    return said(replace(app, **(hooks or {})))  # type: ignore[arg-type]


# -- what is wrong for sure --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "files", "found"),
    [
        ("shop.web:app", {}, f"app.run: there is no module shop in DIR, nor among those of {PYTHON}; correct the name, correct app.directory, or install the app there"),
        ("shop.web:app", {"shop/__init__.py": ""}, "app.run: there is no module shop.web: DIR/shop has no module of that name; correct the name"),
        ("shop.web:app", {"shop.py": ""}, "app.run: DIR/shop.py is a module and not a package, so it has no web; correct the name"),
        ("json.web:app", {}, "app.run: there is no module json.web: "),
        ("web:app", {"web.py": "def app(:\n"}, "app.run: DIR/web.py line 1 is no Python: invalid syntax; correct the line"),
        ("shop.web:app", {"shop/__init__.py": "\n\nx = = 1\n", "shop/web.py": ""}, "app.run: DIR/shop/__init__.py line 3 is no Python: invalid syntax"),
        ("web:app", {"web.py": "\ufeffapp = 1".encode("utf-8").decode("latin-1")}, "app.run: DIR/web.py line 1 is no Python: "),
        ("web:app", {"web.py": "application = make()\n"}, 'app.run: DIR/web.py has no "app"; say "web:application"'),
        ("web:ap", {"web.py": "from x import y as app\n"}, "app.run: web line 1 imports x, which "),
        ("web:app", {"web.py": "import os\ndef create_app():\n    app = 1\n    return app\n"}, 'app.run: DIR/web.py has no "app"; say "web:create_app()"'),
        ("web:app.x", {"web.py": "class A:\n    app = 1\n"}, 'app.run: DIR/web.py has no "app"; say which object of it is the app'),
        ("shop:app", {"shop/__init__.py": "", "shop/web.py": "app = 1\n"}, 'app.run: DIR/shop/__init__.py has no "app"; say which'),
        ("web:app", {"web.py": '"""Text."""\nfrom __future__ import annotations\nimport os, json\n\nimport not_to_be_had.x\napp = 1\n'}, f"app.run: web line 5 imports not_to_be_had, which {PYTHON} does not have; {PYTHON} -m pip install the package that has it"),
    ],
)  # fmt: skip
def test_what_is_wrong(folder: Path, run: str, files: dict[str, str], found: str) -> None:
    (problem,) = of_files(folder, run, files)
    assert problem.startswith(found)


def test_without_an_interpreter_of_its_own_the_app_may_lack_a_virtualenv(folder: Path) -> None:
    write(folder, {"web.py": "from not_to_be_had import App\napp = App()\n"})
    (problem,) = said(App(run="web:app", server="callable", directory=str(folder)))
    assert problem == (
        "app.run: web line 1 imports not_to_be_had, which memunit's own interpreter does not have; set app.python to "
        "the interpreter of the app's virtualenv, install the package that has it, or correct app.directory"
    )


@pytest.mark.parametrize("key", ["after_fork", "before_stop"])
def test_hooks_are_looked_at_too(folder: Path, key: str) -> None:
    files = {"web.py": "app = 1\n", "hooks.py": "def connect(): pass\n"}
    (problem,) = of_files(folder, "web:app", files, {key: "hooks:conect"})
    assert problem == f'app.{key}: DIR/hooks.py has no "conect"; say "hooks:connect"'
    assert of_files(folder, "web:app", files, {key: "hooks:connect"}) == []


# -- what may be right -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "files"),
    [
        ("web:app", {"web.py": "app = 1\n"}),
        ("web:app", {"web.py": "if True:\n    try:\n        app: int = 1\n    except E as x: pass\n"}),
        ("web:app", {"web.py": "with a() as app: pass\n"}),
        ("web:app", {"web.py": "for app, b in c: pass\n"}),
        ("web:app", {"web.py": "if (app := 1): pass\n"}),
        ("web:app", {"web.py": "def f():\n    global app\n    app = 1\nf()\n"}),
        ("web:app", {"web.py": "class app: pass\n"}),
        ("web:app", {"web.py": "import json as app\n"}),
        ("web:app", {"web.py": "import app.x\n", "app/__init__.py": "", "app/x.py": ""}),
        ("web:app", {"web.py": "from json import *\n"}),
        ("web:app", {"web.py": "globals()['app'] = 1\n"}),
        ("web:app", {"web.py": "import sys\nsys.modules[__name__] = 1\n"}),
        ("web:app", {"web.py": "import sys\nsetattr(sys.modules[__name__], 'app', 1)\n"}),
        ("web:app", {"web.py": "exec('app = 1')\n"}),
        ("web:app", {"web.py": "def __getattr__(name): return 1\n"}),
        ("shop:web", {"shop/__init__.py": "import json\n", "shop/web.py": ""}),
        ("shop.web:app", {"shop/web.py": "app = 1\n"}),
        ("shop.web:app", {"shop/other.py": ""}),
        ("shop.web:app", {"shop/__init__.py": "__path__.append('/elsewhere')\n"}),
        ("shop.web:app", {"shop.py": "import sys\nsys.modules['shop.web'] = sys\n"}),
        # What comes after the first statement, or in a try, need not be reached.
        ("web:app", {"web.py": "import sys\nsys.path.insert(0, 'lib')\nimport not_to_be_had\napp = 1\n"}),
        ("web:app", {"web.py": "try:\n    import not_to_be_had\nexcept ImportError: pass\napp = 1\n"}),
        ("web:app", {"web.py": "import paths\nimport not_to_be_had\napp = 1\n", "paths.py": "import sys\n"}),
        ("web:app", {"web.py": "# -*- coding: latin-1 -*-\napp = 1\n"}),
        ("web:create_app()", {"web.py": "def create_app(): pass\n"}),
        ("web:site.app", {"web.py": "site = object()\n"}),
        ("json:loads", {}),
        ("time:sleep", {}),
        ("_json:app", {}),
    ],
)  # fmt: skip
def test_what_can_not_be_told_is_not_said(folder: Path, run: str, files: dict[str, str]) -> None:
    assert of_files(folder, run, files) == []


def test_nothing_of_the_app_is_executed(folder: Path) -> None:
    """Nor is a module of its folder taken for one of the standard library's that the look needs."""
    trap = f"open({str(folder / 'executed')!r}, 'w')\n"
    names = ("json", "ast", "warnings", "difflib", "tokenize", "sitecustomize", "uvicorn", "shop/__init__")
    files = {f"{name}.py": trap for name in names}
    assert of_files(folder, "shop.web:app", {**files, "shop/web.py": trap + "app = 1\n"}) == []
    assert not (folder / "executed").exists()


# -- interpreters ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", ["asgi", "wsgi"])
def test_a_virtualenv_without_uvicorn(folder: Path, bare: Path, server: str) -> None:
    write(folder, {"web.py": "app = 1\n"})
    python = f"{bare}/bin/python"
    found = said(App(run="web:app", server=server, directory=str(folder), python=python))
    assert found == [
        f'app.server: server "{server}" needs uvicorn, which {python} does not have; {python} -m pip install uvicorn'
    ]


def test_an_app_that_is_installed_in_its_virtualenv(folder: Path, bare: Path) -> None:
    """As pip does it: a package, a .pth file, a namespace, and an editable install with a finder of its own."""
    (site,) = bare.glob("lib/python3*/site-packages")
    elsewhere = folder / "src"
    write(
        elsewhere, {"linked/web.py": "app = 1\n", "linked/__init__.py": "", "mapped/__init__.py": "app = 1\n"}
    )
    write(
        site, {"packed/__init__.py": "", "packed/web.py": "application = 1\n", "spaced/web.py": "app = 1\n"}
    )
    (site / "linked.pth").write_text(f"{elsewhere}\n")
    (site / "__editable___mapped_finder.py").write_text(
        "import sys\nfrom importlib.machinery import PathFinder\n"
        "class Finder:\n    @classmethod\n    def find_spec(cls, name, path=None, target=None):\n"
        f"        return PathFinder.find_spec(name, [{str(elsewhere)!r}]) if name == 'renamed' else None\n"
        "sys.meta_path.append(Finder)\n"
    )
    (site / "__editable__.mapped.pth").write_text("import __editable___mapped_finder\n")
    (elsewhere / "mapped").rename(elsewhere / "renamed")

    def of(run: str) -> list[str]:
        empty = folder / "empty"
        empty.mkdir(exist_ok=True)
        return said(App(run=run, server="callable", directory=str(empty), python=f"{bare}/bin/python"))

    for good in ("linked.web:app", "packed.web:application", "spaced.web:app", "renamed:app"):
        assert of(good) == []
    (problem,) = of("packed.web:app")
    assert problem.endswith('/packed/web.py has no "app"; say "packed.web:application"')
    assert "there is no module unpacked in DIR" in of("unpacked.web:app")[0]


def test_an_interpreter_that_is_too_old(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the next Python were the oldest that will do: an old one can't be had everywhere."""
    write(folder, {"web.py": "app = 1\n"})
    monkeypatch.setattr(inspection, "LEAST", (sys.version_info[0], sys.version_info[1] + 1))
    (problem,) = said(App(run="web:app", server="callable", directory=str(folder), python=PYTHON))
    have, want = (f"{sys.version_info[0]}.{sys.version_info[1] + more}" for more in (0, 1))
    assert problem == (
        f"app.python: {PYTHON} is Python {have}, and a worker needs {want} or newer; make the virtualenv with a newer "
        "Python"
    )


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("#!/bin/sh\nexit 3\n", "status 3"),
        (
            "#!/bin/sh\necho 'Fatal Python error: no encodings' >&2\nexit 1\n",
            "status 1: Fatal Python error: no encodings",
        ),
        ("#!/bin/sh\n", "status 0"),
    ],
)
def test_what_is_no_interpreter(folder: Path, text: str, what: str) -> None:
    """As a virtualenv whose Python has been removed."""
    program = folder / "python"
    program.write_text(text)
    program.chmod(0o755)
    (problem,) = said(App(run="web:app", directory=str(folder), python=str(program)))
    assert problem.startswith(
        f"app.python: DIR/python does not work as Python does ({what}); make the virtualenv anew"
    )


def test_check_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It was "good"."""
    file = tmp_path / "shop.toml"
    file.write_text(f'[app]\nrun = "shop.web:app"\nserver = "callable"\npython = "{PYTHON}"\n')
    assert main(["check", str(file)]) == 78
    assert (
        f"{file}: app.run: there is no module shop in /, nor among those of {PYTHON}; "
        in capsys.readouterr().err
    )


# -- the user of the unit ----------------------------------------------------------------------------------------


@AS_ROOT
def test_what_the_units_user_may_not_do(folder: Path) -> None:
    write(folder, {"web.py": "app = 1\n", "shop/__init__.py": "", "shop/web.py": "app = 1\n"})
    app = App(run="web:app", server="callable", directory=str(folder), python=PYTHON)
    assert said(app, NOBODY) == []
    (folder / "web.py").chmod(0o600)
    assert said(app, NOBODY) == [
        f"app.run: DIR/web.py may not be read by the user of {UNIT} (nobody); namei -l DIR/web.py shows which folder or file shuts that user out"
    ]
    (folder / "shop").chmod(0o700)
    inner = App(run="shop.web:app", server="callable", directory=str(folder), python=PYTHON)
    assert said(inner, NOBODY)[0].startswith("app.run: DIR/shop may not be read by the user of")
    folder.chmod(0o700)
    assert [each.partition("; ")[0] for each in said(app, NOBODY)] == [
        f": may not be read by the user of {UNIT} (nobody)",
        f"app.directory: DIR may not be read by the user of {UNIT} (nobody)",
        f"app.directory: DIR may not be entered by the user of {UNIT} (nobody)",
    ]
    group = Account(65534, 65534, (4242,), "/", "nobody", of_unit=True)
    for path in (folder, folder / "web.py", folder / "app.toml"):
        os.chown(path, 0, 4242)
        path.chmod(0o750)
    assert said(app, group) == []


@AS_ROOT
def test_an_interpreter_that_the_units_user_may_not_execute(folder: Path) -> None:
    write(folder, {"web.py": "app = 1\n", "shut/python": "#!/bin/sh\n", "server": "#!/bin/sh\n"})
    (folder / "shut/python").chmod(0o755)
    (folder / "shut").chmod(0o700)
    (folder / "server").chmod(0o700)
    app = App(run="web:app", server="callable", directory=str(folder), python=f"{folder}/shut/python")
    (problem,) = said(app, NOBODY)
    assert problem.startswith(
        f"app.python: DIR/shut/python may not be executed by the user of {UNIT} (nobody); "
    )
    (problem,) = said(App(command=("./server",), directory=str(folder)), NOBODY)
    assert problem.startswith(
        f"app.command: DIR/./server may not be executed by the user of {UNIT} (nobody); "
    )


@AS_ROOT
def test_root_executes_no_interpreter_of_another_user_as_root(folder: Path) -> None:
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nid -u >{folder}/who\nexec {PYTHON} "$@"\n')
    python.chmod(0o755)
    os.chown(python, 65534, 65534)
    os.chown(folder, 65534, 65534)
    (folder / "app.toml").write_text(
        f'[app]\nrun = "json:loads"\nserver = "callable"\npython = "{python}"\ndirectory = "{folder}"\n'
    )
    assert main(["check", str(folder / "app.toml")]) == 0
    assert (folder / "who").read_text() == "65534\n"
    assert owner_of(PYTHON) is None


# -- the unit ----------------------------------------------------------------------------------------------------


def view(**said: str) -> UnitView:
    return UnitView(UNIT, {"ProtectHome": "no", "User": "", "DynamicUser": "no", **said})


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"User": "no-such"}, 'User=: there is no user "no-such" on this machine, and systemd ends the start with status 217'),
        ({"Group": "no-such"}, 'Group=: there is no group "no-such" on this machine, and systemd ends the start with status 216'),
        ({"SupplementaryGroups": "root no-such"}, 'SupplementaryGroups=: there is no group "no-such"'),
        ({"ReadWritePaths": "/usr /srv/no-such -/srv/other"}, "ReadWritePaths=: /srv/no-such does not exist, and systemd ends the start with status 226"),
        ({"BindReadOnlyPaths": "/srv/no-such:/srv/x:rbind"}, "BindReadOnlyPaths=: /srv/no-such does not exist"),
        ({"WorkingDirectory": "/srv/no-such"}, "WorkingDirectory=: /srv/no-such does not exist, and systemd ends the start with status 200"),
        ({"EnvironmentFiles": "/etc/no-such.env (ignore_errors=no)"}, "EnvironmentFile=: /etc/no-such.env does not exist, and systemd does not start it"),
    ],
)  # fmt: skip
def test_what_keeps_systemd_from_starting_it(said: dict[str, str], problem: str) -> None:
    (found,) = view(**said).problems()
    assert str(found).startswith(f"{UNIT}: {problem}")
    assert found.remedy


@pytest.mark.parametrize(
    "said",
    [
        {"User": "no-such", "DynamicUser": "yes"},
        {"User": "root", "Group": "root"},
        {"User": "65534"},
        {"ReadWritePaths": "-/srv/no-such +/usr /run/no-such /var/lib/memunit/app"},
        {"EnvironmentFiles": "/etc/no-such.env (ignore_errors=yes)"},
        {"WorkingDirectory": "-/srv/no-such"},
        {"ReadWritePaths": "/srv/no-such", "RootDirectory": "/srv/root"},
    ],
)
def test_what_does_not(said: dict[str, str]) -> None:
    assert list(view(**said).problems()) == []


def hidden(app: App, **said: str) -> list[str]:
    return [str(problem) for problem in view(**said).hidden(Settings(app=app), "f.toml")]


def test_paths_that_the_unit_hides(tmp_path: Path) -> None:
    venv = App(run="a:b", python="/home/shop/venv/bin/python", directory="/srv/shop")
    (problem,) = hidden(venv, ProtectHome="yes")
    assert problem.startswith(
        f"f.toml: app.python: /home/shop/venv/bin/python can't be seen from {UNIT}: its ProtectHome=yes hides /home; "
    )
    assert "BindReadOnlyPaths=/home/shop/venv;" in problem
    assert len(hidden(venv, ProtectHome="tmpfs")) == 1
    assert (
        len(hidden(venv, ProtectHome="yes", BindReadOnlyPaths="/home/shop/venv:/home/shop/venv:rbind")) == 1
    )
    assert hidden(venv, ProtectHome="tmpfs", BindReadOnlyPaths="/home/shop/venv:/home/shop/venv:rbind") == []
    assert hidden(venv, ProtectHome="read-only") == []
    assert hidden(venv, ProtectHome="yes", RootDirectory="/srv/root") == []
    link = tmp_path / "python"
    link.symlink_to("/root/.pyenv/versions/3.12/bin/python")
    (problem,) = hidden(App(run="a:b", python=str(link)), ProtectHome="yes")
    assert f"{link}, which leads to /root/.pyenv/versions/3.12/bin/python, can't be seen" in problem
    temporary = App(command=("/tmp/app/server",), directory="/var/tmp/app")
    assert [each.partition("its ")[2].partition(";")[0] for each in hidden(temporary, PrivateTmp="yes")] == [
        "PrivateTmp= has a /var/tmp of its own",
        "PrivateTmp= has a /tmp of its own",
    ]
    assert hidden(temporary, PrivateTmp="no") == []
    srv = App(run="a:b", directory="/srv/shop")
    assert "InaccessiblePaths= hides /srv" in hidden(srv, InaccessiblePaths="-/srv")[0]
    assert "TemporaryFileSystem= covers /srv" in hidden(srv, TemporaryFileSystem="/srv:ro")[0]
    assert hidden(srv, TemporaryFileSystem="/srv:ro", BindReadOnlyPaths="/srv/shop") == []
    assert hidden(srv, InaccessiblePaths="/srv/shopper") == []


def test_as_whom_a_unit_runs() -> None:
    assert view(User="root").account() is None
    assert view().account() is None
    dynamic = view(DynamicUser="yes").account()
    assert dynamic is not None
    assert (dynamic.uid, dynamic.of_unit) == (65534, True)
    daemon = view(User="daemon", SupplementaryGroups="www-data").account()
    assert daemon is not None
    assert (daemon.uid, daemon.gid, daemon.home) == (1, 1, "/usr/sbin")
    assert 33 in daemon.groups
    assert view(User="no-such").account() is None
