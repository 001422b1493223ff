"""`memunit check` and what it shares: reading the file, looking at what it names, the words it says."""
# ruff: noqa: E501  each message is quoted whole

import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from memunit import __version__
from memunit.cli import checking, hiding
from memunit.cli.files import instance_path, load_file, named_path
from memunit.cli.main import main
from memunit.cli.preflight import preflight
from memunit.cli.room import budget_of, budget_problem, worker_count
from memunit.cli.unitfacts import UnitFacts, parse_facts, slices_of, unit_facts
from memunit.core.settings import COMMAND_LINE, App, Memory, Settings, SettingsError, Workers
from memunit.master.sampling import Bound, memory_available
from tests.support.namespaces import OWN_MOUNTS

ROOT = Path(__file__).parents[2]
# The system's own: a virtualenv's may lie where nobody but its owner may go.
PYTHON = os.path.realpath(sys.executable)
NOBODY = 65534
# For root, what may be done is no matter of a file's mode.
DROP: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
UNIT = "memunit@app.service"
IN_UNIT = {"INVOCATION_ID": "0123456789abcdef0123456789abcdef", "PATH": "/usr/bin:/bin"}


@pytest.fixture(scope="module")
def readable() -> Iterator[Path]:
    """The package where every user may read it: a checkout under /root is not."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        shutil.copytree(
            ROOT / "memunit", Path(name) / "memunit", ignore=shutil.ignore_patterns("__pycache__")
        )
        yield Path(name)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike tmp_path."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of /etc/memunit, said as systemd says it."""
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", str(tmp_path))
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    return tmp_path


def refused_file(path: Path) -> str:
    with pytest.raises(SettingsError) as refused:
        load_file(path)
    (problem,) = refused.value.problems
    return str(problem).removeprefix(f"{path}: ")


def found(app: App, *, source: str = COMMAND_LINE, unit: str | None = None, **environment: str) -> list[str]:
    """What preflight says, without the source."""
    env = {"PATH": "/usr/bin:/bin", **environment}
    problems = preflight(Settings(app=app), source, unit=unit, environment=env)
    assert all(problem.source == source for problem in problems)
    return [f"{p.key}: {p.message}; {p.remedy}" for p in problems]


def as_nobody(app: App, readable: Path) -> list[str]:
    """What preflight says to a user who may do nothing; our own rights do when we are not root."""
    code = (
        "import json, sys; from memunit.cli.preflight import preflight; from memunit.core.settings import *;"
        "app = App(**json.loads(sys.argv[1]));"
        "print(json.dumps([f'{p.key}: {p.message}' for p in preflight(Settings(app=app), COMMAND_LINE)]))"
    )
    names = ("run", "command", "python", "directory", "environment")
    given = {name: getattr(app, name) for name in names}
    done = subprocess.run(
        [PYTHON, "-c", code, json.dumps(given)], cwd=readable, stdout=subprocess.PIPE, check=True, **DROP
    )
    said = json.loads(done.stdout)
    assert isinstance(said, list)
    return said


# -- the file ------------------------------------------------------------------------------------------------


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "app.toml"
    path.write_text('[app]\nrun = "caf\u00e9:app"\n')
    assert load_file(path).settings.app.run == "caf\u00e9:app"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "app.toml"
    assert refused_file(path) == f"there is no such file; create {path}, see memunit.toml(5)"
    assert refused_file(path / "x") == f"there is no such file; create {path}/x, see memunit.toml(5)"
    path.write_text("")
    assert refused_file(path / "x") == "a part of its path is not a directory; correct the path"


def test_what_is_no_file(tmp_path: Path) -> None:
    assert refused_file(tmp_path) == "is a directory; name the file in it"
    fifo = tmp_path / "fifo.toml"
    os.mkfifo(fifo)
    assert refused_file(fifo) == "is not a regular file; see memunit.toml(5)"
    loop = tmp_path / "loop.toml"
    loop.symlink_to(loop)
    assert refused_file(loop) == "can't be read: Too many levels of symbolic links; correct the path"
    with pytest.raises(SettingsError, match="can't be read: embedded null byte"):
        load_file("a\0b.toml")


def test_a_file_that_may_not_be_read(folder: Path, readable: Path) -> None:
    path = folder / "app.toml"
    path.write_text("")
    path.chmod(0)
    code = "import sys; from memunit.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [PYTHON, "-c", code, "check", str(path)], cwd=readable, capture_output=True, check=False, **DROP
    )
    assert done.returncode == 78
    assert done.stderr.decode() == f"memunit: {path}: may not be read; let it be read: chmod a+r {path}\n"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            b'[app]\nrun = "a:b\n',
            "line 2, column 11: illegal character '\\n'; is it TOML? see memunit.toml(5)",
        ),
        (b"[app]\n\nrun\n", "line 3, column 4: expected '=' after a key in a key/value pair; is it TOML?"),
        (b'[app]\nrun = "a:b"\nrun = "a:b"\n', "line 3: the file has the key run twice; keep one of them"),
        (b'[app]\nrun = "a:b"\nrun = "a:b"', "line 3: the file has the key run twice; keep one of them"),
        (b'[app]\ncommand = []\ncommand = [\n"=",\n]\n[x]', "line 3: the file has the key command twice"),
        (
            b"[app]\n[stop]\n[ app ]\n",
            "line 3: the file has the table [app] twice; keep one [app], with all its keys",
        ),
        (b"[[app]]\n[app]\n", "line 2: the file has the table [app] twice; "),
        (b"[app]\nrun = 1\n[app.run]\n", "line 3: the file has the table [app.run] twice; "),
        (b"[app]\n'run' = 1\nrun.x = 1\n", "line 3: the file has the key run.x twice; "),
        (
            b"[app]\nenvironment = {}\nenvironment.X = '1'\n",
            "line 3: the file has the key environment.X twice; ",
        ),
        (
            b"[app]\nenvironment = { A = '', A = '' }\n",
            "line 2: the file has the key A of environment twice; keep one of them",
        ),
        (b"x = 1\nx = [" + b"\n" * 200 + b"]\n", "cannot overwrite a value; is it TOML? see memunit.toml(5)"),
        (b"[app\n", "; is it TOML? see memunit.toml(5)"),
        (b"# caf\xc3\xa9\n# caf\xe9\n", "line 2 is not UTF-8; save it as UTF-8"),
        (b"\xef\xbb\xbf[app]\n", "begins with a byte order mark; save it as UTF-8 without one"),
        (b"x = " + b"[" * 100_000, "is nested too deeply; see memunit.toml(5)"),
        (b"x = " + b"9" * 5000, "; see memunit.toml(5)"),
        (b"#" * (1 << 20) + b"#", "has more than 1M; see memunit.toml(5)"),
    ],
)
def test_what_is_no_toml(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "app.toml"
    path.write_bytes(content)
    assert problem in refused_file(path)


def test_names_of_instances() -> None:
    assert instance_path("app", {}) == Path("/etc/memunit/app.toml")
    assert instance_path("app", {"CONFIGURATION_DIRECTORY": "/run/x:/run/y"}) == Path("/run/x/app.toml")
    for good in ("a", "shop.web", "shop-2", r"srv-shop\x2d", "a@b", "A_1"):
        assert instance_path(good, {}).name == f"{good}.toml"


@pytest.mark.parametrize(
    "bad", ["", ".", "..", "../x", "a/b", ".hidden", "-x", "a:b", "a b", "a\n", "caf\u00e9", "a" * 201]
)
def test_names_that_are_none(bad: str) -> None:
    with pytest.raises(SettingsError, match="can't be the name of an instance"):
        instance_path(bad, {})


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a:b", '": ":" is in it; '),
        ("café", ': "é" is in it; '),
        ("a\n", ": a line break is in it; "),
        ("a\x1b", ": U+001B is in it; "),
        ("-x", ': it begins with "-"; '),
        ("", ": it is empty; "),
        ("a" * 81, ": it has 81 characters; "),
    ],
)
def test_why_a_name_is_none(name: str, why: str) -> None:
    with pytest.raises(SettingsError) as refused:
        instance_path(name, {})
    assert why.lstrip('"') in str(refused.value)


@pytest.mark.parametrize("text", ["app", "memunit@app", "memunit@app.service", "memunit@app.socket"])
def test_the_name_of_a_unit_names_its_instance(text: str, etc: Path) -> None:
    """systemctl(1) takes all but the first."""
    assert named_path(text) == ("app", etc / "app.toml")


def test_a_file_is_no_instance() -> None:
    assert named_path("./memunit@app.toml") == (None, Path("./memunit@app.toml"))
    assert named_path("app.toml") == (None, Path("app.toml"))


# -- what it names -------------------------------------------------------------------------------------------


def test_nothing_is_wrong(folder: Path, readable: Path) -> None:
    package = folder / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')\n")
    (package / "web.py").write_text("raise SystemExit('imported')\n")
    app = App(run="shop.web:app", directory=str(folder), python=PYTHON)
    assert found(app) == []
    assert as_nobody(app, readable) == []
    assert found(App(command=("sh", "-c", "exit"))) == []
    assert found(App(command=("/bin/sh",), directory=str(folder))) == []


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    says = f"{gone} does not exist; correct the path, or create it"
    assert found(App(run="a:b", directory=gone)) == [f"--directory: {says}"]
    assert found(App(run="a:b", directory=gone), source="/etc/x.toml") == [f"app.directory: {says}"]


def test_a_directory_that_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "app.py"
    file.write_text("")
    assert found(App(run="app:b", directory=str(file))) == [
        f'--directory: {file} is not a directory; say the folder, as "{tmp_path}"'
    ]


def test_a_directory_that_may_not_be_read(folder: Path, readable: Path) -> None:
    shut = folder / "shut"
    shut.mkdir()
    uid = NOBODY if DROP else os.geteuid()
    shut.chmod(0)
    assert as_nobody(App(run="a:b", directory=str(shut)), readable) == [
        f"--directory: {shut} may not be read by uid {uid}"
    ]
    assert as_nobody(App(command=("/bin/sh",), directory=str(shut)), readable) == [
        f"--directory: {shut} may not be entered by uid {uid}"
    ]
    assert as_nobody(App(run="a:b", directory=str(shut / "inner")), readable) == [
        f"--directory: {shut}/inner may not be reached by uid {uid}"
    ]
    # A command enters its folder; Python also lists it.
    shut.chmod(0o111)
    assert as_nobody(App(command=("/bin/sh",), directory=str(shut)), readable) == []
    assert as_nobody(App(run="a:b", directory=str(shut)), readable) == [
        f"--directory: {shut} may not be read by uid {uid}"
    ]
    shut.chmod(0o755)


def test_interpreters(tmp_path: Path) -> None:
    def python(path: Path) -> str:
        (said,) = found(App(run="a:b", python=str(path), directory=str(tmp_path)))
        return said.replace(str(tmp_path), "T")

    assert python(tmp_path / "x") == "--python: T/x does not exist; correct the path, or create it"
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    assert python(venv) == "--python: T/venv is a directory; say the program in it"
    (venv / "bin" / "python").symlink_to("/nowhere/python3.9")
    assert python(venv / "bin" / "python") == (
        "--python: T/venv/bin/python leads to /nowhere/python3.9, which does not exist; mend the link"
    )
    (venv / "bin" / "python").unlink()
    (venv / "bin" / "python").write_text("")
    assert python(venv) == '--python: T/venv is a directory; say "T/venv/bin/python"'
    (venv / "bin" / "python").chmod(0o644)
    assert python(venv / "bin" / "python") == (
        f"--python: T/venv/bin/python may not be executed by uid {os.geteuid()}; chmod a+x T/venv/bin/python"
    )
    assert python(Path("/dev/null")) == "--python: /dev/null is not a program; correct the path"


def test_commands(tmp_path: Path) -> None:
    assert found(App(command=("no-such-program-here",)), PATH="/usr/bin:/bin") == [
        "COMMAND: there is no program no-such-program-here in PATH (/usr/bin:/bin); install it, or say its whole path"
    ]
    script = tmp_path / "serve"
    script.write_text("#!/nowhere/node --flag\n")
    script.chmod(0o755)
    script_problem = f"COMMAND: {script} is a script for /nowhere/node, which does not exist or may not be reached; mend its first line"
    assert found(App(command=(str(script),))) == [script_problem]
    script.write_text("#!/bin/sh\n")
    assert found(App(command=(str(script),))) == []
    # The app's own PATH is where execvpe(3) looks, and a relative name counts from its folder.
    assert found(App(command=("serve",), environment={"PATH": str(tmp_path)})) == []
    assert found(App(command=("./serve",), directory=str(tmp_path))) == []
    assert found(App(command=("./gone",), directory=str(tmp_path))) == [
        f"COMMAND: {tmp_path}/./gone does not exist; correct the path, or create it"
    ]


def test_a_folder_that_is_gone_is_told_once(tmp_path: Path) -> None:
    app = App(command=("./serve",), directory=str(tmp_path / "gone"))
    assert len(found(app)) == 1


def test_modules(tmp_path: Path) -> None:
    def module(target: str, python: str | None = sys.executable) -> list[str]:
        said = found(App(run=target, directory=str(tmp_path), python=python))
        return [line.replace(str(tmp_path), "T") for line in said]

    (tmp_path / "single.py").write_text("")
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text("")
    (tmp_path / "shop" / "fast.cpython-39-x86_64-linux-gnu.so").write_text("")
    (tmp_path / "spread").mkdir()
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "__init__.py").write_text("__path__ = []\n")
    assert module("single:app") == []
    assert module("shop:app") == []
    assert module("shop.fast:app") == []
    assert module("shop.gone:app") == [
        "--app: there is no module shop.gone: T/shop/gone.py does not exist; correct the name, or --directory"
    ]
    assert module("single.x.y:app") == [
        "--app: T/single.py is a module and not a package, so it has no x.y; correct the name, or --directory"
    ]
    # What may come from elsewhere is left to the import itself.
    assert module("spread.gone:app") == []
    assert module("moved.gone:app") == []
    assert module("elsewhere:app") == []
    # In memunit's own interpreter, elsewhere is known.
    assert module("elsewhere:app", None) == [
        (
            "--app: there is no module elsewhere in T, nor among the modules of memunit's own interpreter; correct the "
            "name, or --directory"
        )
    ]
    assert module("json:app", None) == []


def test_pythonpath_counts(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "elsewhere.py").write_text("")
    app = App(run="elsewhere:app", directory=str(tmp_path))
    assert len(found(app)) == 1
    assert found(app, PYTHONPATH="/nowhere:lib") == []
    assert (
        found(App(run=app.run, directory=app.directory, environment={"PYTHONPATH": f"{tmp_path}/lib"})) == []
    )
    # The unit's EnvironmentFile= is not read by a person's shell.
    (tmp_path / "app.env").write_text("PYTHONPATH=/srv/lib\n")
    assert found(app, source=str(tmp_path / "app.toml")) == []


@pytest.mark.parametrize("path", ["app.pyz", "app.pyz/lib", "lib:app.pyz/"])
def test_a_module_in_an_archive_of_pythonpath(tmp_path: Path, path: str) -> None:
    """The service did not start, for want of a module that was there."""
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as archive:
        for folder in ("", "lib/"):
            archive.writestr(f"{folder}elsewhere.py", "")
            archive.writestr(f"{folder}package/web.py", "")
            archive.writestr(f"{folder}package/__init__.py", "")
    for target, wrong in (("elsewhere:app", 0), ("package.web:app", 0), ("gone:app", 1)):
        app = App(run=target, directory=str(tmp_path))
        assert len(found(app, PYTHONPATH=path)) == wrong


def test_an_archive_that_can_not_be_read_has_no_module(tmp_path: Path) -> None:
    (tmp_path / "app.pyz").write_bytes(b"PK")
    (problem,) = found(App(run="elsewhere:app", directory=str(tmp_path)), PYTHONPATH="app.pyz")
    assert "there is no module elsewhere" in problem


def test_a_folder_of_pythonpath_that_may_be_listed_and_not_searched(folder: Path, readable: Path) -> None:
    (folder / "lib").mkdir()
    (folder / "lib" / "elsewhere.py").write_text("")
    (folder / "lib").chmod(0o444)
    app = App(run="elsewhere:app", directory=str(folder), environment={"PYTHONPATH": f"{folder}/lib"})
    assert as_nobody(app, readable) == []
    (folder / "lib").chmod(0o755)


def test_a_home_that_is_hidden_from_the_unit() -> None:
    app = App(run="a:b", directory="/home/no-such-user/shop", python="/root/no-such-venv/bin/python")
    problems = preflight(Settings(app=app), "/etc/memunit/app.toml", unit=UNIT, environment=IN_UNIT)
    assert [str(each) for each in problems] == [
        (
            "/etc/memunit/app.toml: app.directory: /home/no-such-user/shop can't be seen from memunit@app.service: its "
            'ProtectHome= hides /home; write a drop-in with "systemctl edit memunit@app.service" that says, under '
            "[Service], ProtectHome=read-only; or to show no more than is needed, ProtectHome=tmpfs and "
            "BindReadOnlyPaths=/home/no-such-user/shop; or move it to /srv"
        ),
        (
            "/etc/memunit/app.toml: app.python: /root/no-such-venv/bin/python can't be seen from memunit@app.service: its "
            'ProtectHome= hides /root; write a drop-in with "systemctl edit memunit@app.service" that says, under '
            "[Service], ProtectHome=read-only; or to show no more than is needed, ProtectHome=tmpfs and "
            "BindReadOnlyPaths=/root/no-such-venv; or move it to /srv"
        ),
    ]
    command = App(command=("/run/user/1/x/serve",))
    (problem,) = preflight(Settings(app=command), "/etc/memunit/app.toml", unit=UNIT, environment=IN_UNIT)
    assert "its ProtectHome= hides /run/user" in problem.message
    assert "BindReadOnlyPaths=/run/user/1/x;" in problem.remedy


def test_a_home_that_is_sealed_with_a_mount(folder: Path, readable: Path) -> None:
    """As ProtectHome=yes does it: a folder of mode 0000 is mounted over /home, and ENOENT becomes EACCES."""
    sealed = folder / "sealed"
    sealed.mkdir(mode=0)
    code = (
        "from memunit.cli.preflight import preflight; from memunit.core.settings import *;"
        "app = App(command=('./serve',), directory='/home/ann/shop');"
        "print(*preflight(Settings(app=app), COMMAND_LINE), sep='\\n')"
    )
    script = (
        'mount --bind "$1" /home || exit 99; '
        f'exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups "$2" -c "$3"'
    )
    done = subprocess.run(
        [*OWN_MOUNTS, "sh", "-c", script, "sh", str(sealed), PYTHON, code],
        cwd=readable, env={**os.environ, **IN_UNIT}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 99 or done.stderr.startswith("no mount namespace"):
        pytest.skip(done.stderr.strip())
    assert done.stdout == (
        "command line: --directory: /home/ann/shop can't be seen from this unit: its ProtectHome= hides /home; "
        'write a drop-in with "systemctl edit UNIT" that says, under [Service], ProtectHome=read-only; or to '
        "show no more than is needed, ProtectHome=tmpfs and BindReadOnlyPaths=/home/ann/shop; or move it to /srv\n"
    )


def test_a_link_into_a_hidden_home(tmp_path: Path) -> None:
    link = tmp_path / "shop"
    link.symlink_to("/home/no-such-user/shop")
    app = App(run="a:b", directory=str(link))
    (problem,) = preflight(Settings(app=app), "/etc/memunit/app.toml", unit=UNIT, environment=IN_UNIT)
    assert "its ProtectHome= hides /home" in problem.message


def test_outside_a_unit_a_home_is_like_any_folder() -> None:
    app = App(run="a:b", directory="/home/no-such-user/shop")
    says = ["--directory: /home/no-such-user/shop does not exist; correct the path, or create it"]
    assert found(app) == says
    assert found(app, **IN_UNIT) == says  # a terminal of a desktop has an INVOCATION_ID too


def test_outside_of_homes_a_unit_has_no_hiding() -> None:
    app = App(run="a:b", directory="/srv/no-such-folder")
    assert found(app, unit=UNIT, **IN_UNIT) == [
        "--directory: /srv/no-such-folder does not exist; correct the path, or create it"
    ]


def test_a_sealed_folder_is_known_by_its_mode(tmp_path: Path) -> None:
    assert not hiding.is_sealed(str(tmp_path))
    assert not hiding.is_sealed(str(tmp_path / "gone"))
    tmp_path.chmod(0)
    assert hiding.is_sealed(str(tmp_path))
    tmp_path.chmod(stat.S_IRWXU)


def test_homes() -> None:
    homes = {
        path: hiding.home_of(path)
        for path in ("/home", "/home/a", "/homes/a", "/srv/../root/x", "/run/userx")
    }
    assert homes == {
        "/home": "/home",
        "/home/a": "/home",
        "/homes/a": None,
        "/srv/../root/x": "/root",
        "/run/userx": None,
    }


# -- the budget ----------------------------------------------------------------------------------------------


def test_the_budget_of_settings() -> None:
    settings = Settings(app=App(run="a:b"), workers=Workers(count=4), memory=Memory(limit=400 << 20))
    budget = budget_of(settings, 1 << 30, f"MemoryMax= of {UNIT}")
    problem = budget_problem(budget, "/etc/memunit/app.toml")
    assert str(problem) == (
        f"/etc/memunit/app.toml: memory.limit: 4 workers x 400M + 25M for memunit = 1.6G, more than the 1G of MemoryMax= of {UNIT}; "
        "lower the limit to 249M, run 2 workers or raise MemoryMax= to 1625M or more"
    )
    assert budget_problem(budget_of(settings, 1 << 40, "the machine"), "x") is None


def test_auto_is_the_cpus_that_we_may_use() -> None:
    assert worker_count(Settings(app=App())) == len(os.sched_getaffinity(0))


def test_facts_of_a_unit() -> None:
    said = f"Id={UNIT}\nLoadState=loaded\nMemoryMax=1073741824\nMemoryHigh=infinity\nProtectHome=yes\n"
    assert parse_facts(said) == UnitFacts(True, ((1 << 30, f"MemoryMax= of {UNIT}"),), True)
    said = (
        f"Id={UNIT}\nLoadState=loaded\nMemoryMax=18446744073709551615\nMemoryHigh=5\nProtectHome=read-only\n"
    )
    assert parse_facts(said) == UnitFacts(True, ((5, f"MemoryHigh= of {UNIT}"),), False)
    assert parse_facts("LoadState=not-found\nMemoryMax=1\nProtectHome=no\n") == UnitFacts()
    assert parse_facts("LoadState=loaded\n") == UnitFacts(known=True)
    assert parse_facts("") == UnitFacts()


def test_the_slices_that_hold_a_slice() -> None:
    assert slices_of("system-memunit.slice") == ["system-memunit.slice", "system.slice", "-.slice"]
    assert slices_of("a\\x2db.slice") == ["a\\x2db.slice", "-.slice"]
    assert slices_of("-.slice") == ["-.slice"]
    assert slices_of("") == slices_of(".slice") == slices_of("x.service") == []


def _systemctl(folder: Path, monkeypatch: pytest.MonkeyPatch, **bounds: dict[str, int]) -> None:
    """A systemctl that knows memunit@app.service and its slices: app-web.slice in app.slice."""
    script = [
        f"#!{PYTHON}",
        "import sys",
        "units = sys.argv[sys.argv.index('--') + 1:]",
        f"bounds = {bounds!r}",
    ]
    script += [
        "for i, unit in enumerate(units):",
        "    own = bounds.get(unit.partition('.')[0].partition('@')[0].replace('-', '_'), {})",
        "    print(end='\\n' if i else '')",
        "    for name in ('MemoryMax', 'MemoryHigh'): print(f\"{name}={own.get(name, 'infinity')}\")",
        "    print(f'Id={unit}', 'LoadState=loaded', sep='\\n')",
        "    print('Slice=app-web.slice\\nProtectHome=no' if '@' in unit else 'Slice=app.slice')",
    ]
    (folder / "systemctl").write_text("\n".join(script))
    (folder / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_facts_of_the_slices(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _systemctl(
        folder,
        monkeypatch,
        memunit={"MemoryHigh": 4},
        app={"MemoryMax": 2, "MemoryHigh": 1},
        app_web={"MemoryMax": 9},
    )
    assert unit_facts(UNIT) == UnitFacts(
        True,
        (
            (4, f"MemoryHigh= of {UNIT}"),
            (9, "MemoryMax= of app-web.slice"),
            (2, "MemoryMax= of app.slice"),
            (1, "MemoryHigh= of app.slice"),
        ),
        False,
    )


def test_facts_where_no_systemctl_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert unit_facts(UNIT) == UnitFacts()


# -- the command ---------------------------------------------------------------------------------------------


def test_check_of_a_good_file(etc: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "web.py").write_text("raise SystemExit('imported')\napp = None\n")
    (etc / "app.toml").write_text(
        f'[app]\nrun = "web:app"\ndirectory = "{folder}"\npython = "{PYTHON}"\n'
        '[socket]\nlisten = ["127.0.0.1:8000"]\n[workers]\ncount = 2\n[memory]\nlimit = "2M"\nceiling = "3M"\n'
    )
    assert main(["check", "app"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    lines = said.out.splitlines()
    assert lines[:11] == [
        f"{etc}/app.toml: good",
        f"  app      web:app (asgi, preload auto), {PYTHON}",
        f"  in       {folder}",
        "  listen   127.0.0.1:8000",
        "  workers  2, surge 1, start_timeout 30s, watchdog 30s, min_lifetime 10s, max_age infinity",
        "  memory   limit 2M, ceiling 3M, metric cgroup, or else uss every 1s, patience 2s",
        "  http     head_size 64K in 10s, body_size infinity, body_timeout 30s",
        "  stop     SIGTERM, grace 30s",
        "  examine  for 2s within 64M, at a recycle for memory",
        "  recorder 1M",
        "  service  runs as the dynamic user of all instances; umask 0077, network internet; watchdog 30s, MemoryMax=37M",
    ]
    assert lines[11].startswith("  budget   2 workers x 2M + 25M for memunit = 29M of the ")
    assert main(["check", str(etc / "app.toml")]) == 0


def test_check_of_a_command(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (etc / "app.toml").write_text('[app]\ncommand = ["sh", "-c", "exit 0"]\nready = "exec"\n')
    assert main(["check", "app"]) == 0
    out = capsys.readouterr().out
    assert "  app      sh -c 'exit 0' (ready: exec)\n" in out
    assert "  listen   /run/memunit/app.sock\n" in out
    assert f"  workers  {len(os.sched_getaffinity(0))} (auto: the CPUs of this machine), surge 1" in out


def test_check_says_everything_at_once(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (etc / "app.toml").write_text('[app]\nrun = "a:b"\n[memory]\nlimt = "4M"\nlimit = 400\n')
    assert main(["check", "app"]) == 78
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f'memunit: {etc}/app.toml: memory.limt: unknown key; did you mean "limit"?\n'
        f'memunit: {etc}/app.toml: memory.limit: 400 bytes; say "400M"\n'
        f"memunit: {etc}/app.toml: app.run: there is no module a in /, nor among the modules of memunit's own interpreter; "
        "say in app.directory which folder holds the module\n"
    )


def test_check_joins_what_is_missing_with_the_sum(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (etc / "app.toml").write_text(
        '[app]\nrun = "a:b"\ndirectory = "/srv/no-such-folder"\n[memory]\nlimit = "7E"\n[workers]\ncount = 1\n'
        'max_age = "5s"\n'
    )
    assert main(["check", "app"]) == 78
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[2] for line in lines[:2]] == ["app.directory", "memory.limit"]
    assert "1 worker x 7E + 25M for memunit = 7E, more than the " in lines[1]
    assert lines[2].startswith(f"memunit: warning: {etc}/app.toml: workers.max_age: 5s is less than")


def test_check_of_a_mistyped_key_hides_nothing_else(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (etc / "app.toml").write_text(
        '[app]\nrun = "a:b"\ndirectory = "/srv/no-such-folder"\nprelaod = true\n'
        '[memory]\nlimit = "7E"\npateince = "1s"\n[workers]\ncount = 1\nsurge = 1\n'
    )
    assert main(["check", "app"]) == 78
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[2] for line in lines] == [
        "app.prelaod",
        "memory.pateince",
        "app.directory",
        "memory.limit",
    ]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        # What is judged by a default in the place of what was meant is not judged.
        ('[app]\nrun = "a"\n', ["app.run"]),
        ('[app]\nrun = "no_such:b"\ndirectroy = "/srv"\n', ["app.directroy"]),
        ('[app]\nrun = "no_such:b"\ndirectory = "srv"\n', ["app.directory"]),
        ('[app]\nrun = "no_such:b"\npython = 3\n', ["app.python"]),
        ('[app]\nrun = "no_such:b"\nenvironment = 3\n', ["app.environment"]),
        ('[app]\nrun = "no_such:b"\n[memory]\ndirectory = "/srv"\n', ["memory.directory"]),
        ('[app]\nrun = "no_such:b"\ncommand = ["no-such"]\n', ["app.run"]),
        ('[app]\ncommand = ["no-such"]\nenvironment = { PATH = 3 }\n', ["app.environment"]),
        ('[app]\ncommand = ["./no-such"]\ndirectory = 3\n', ["app.directory"]),
        ('[app]\ncommand = ["sh"]\npython = "/no/such"\n', ["app.python"]),
        ('[app]\ncommand = ["sh"]\n[memory]\nlimit = "7E"\n[workers]\ncount = "x"\n', ["workers.count"]),
        ('[app]\ncommand = ["sh"]\n[memory]\nlimit = "7E"\n[workers]\ncuont = 1\n', ["workers.cuont"]),
        ('[app]\ncommand = ["sh"]\n[memory]\nlimit = "7E"\n[worker]\ncount = 1\n', ["[worker]"]),
        ('workers = 1\n[app]\ncommand = ["sh"]\n[memory]\nlimit = "7E"\n', ["workers"]),
        ('[app]\ncommand = ["sh"]\n[workers]\nmax_age = "2s"\nmin_lifetme = "1s"\n', ["workers.min_lifetme"]),
        # And what does not depend on it is.
        ('[app]\ncommand = ["/no/such"]\ndirectory = 3\n', ["app.directory", "app.command"]),
        ('[app]\nrun = "no_such:b"\n[stop]\ngrcae = "1s"\n', ["stop.grcae", "app.run"]),
        (
            '[app]\ncommand = ["sh"]\n[memory]\nlimit = "7E"\n[stop]\ngrcae = "1s"\n',
            ["stop.grcae", "memory.limit"],
        ),
    ],
)
def test_no_problem_is_the_consequence_of_another(
    etc: Path, capsys: pytest.CaptureFixture[str], text: str, keys: list[str]
) -> None:
    (etc / "app.toml").write_text(text)
    assert main(["check", "app"]) == 78
    assert [line.split(": ")[2] for line in capsys.readouterr().err.splitlines()] == keys


@pytest.fixture
def shell_of_1m(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the shell's own slice had 1M."""

    def available(proc: str = "/proc", cgroup: str = "/sys/fs/cgroup") -> Bound:
        if cgroup == "/sys/fs/cgroup":
            return Bound(1 << 20, 1 << 20, "MemoryMax= of user-1000.slice")
        return memory_available(proc, cgroup)

    monkeypatch.setattr(checking, "memory_available", available)


@pytest.mark.usefixtures("shell_of_1m")
def test_check_adds_up_the_bounds_of_the_unit_and_not_of_the_shell(
    etc: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (etc / "app.toml").write_text('[app]\ncommand = ["sh"]\n[memory]\nlimit = "4M"\n[workers]\ncount = 1\n')
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(checking, "_CGROUP", str(folder))
    assert main(["check", str(etc / "app.toml")]) == 78
    assert "more than the 1M of MemoryMax= of user-1000.slice; " in capsys.readouterr().err
    _systemctl(folder, monkeypatch)
    assert main(["check", "app"]) == 0
    assert " of the machine, with room for 1 more" in capsys.readouterr().out
    _systemctl(folder, monkeypatch, memunit={"MemoryMax": 28 << 20}, app={"MemoryHigh": 27 << 20})
    assert main(["check", "app"]) == 78
    assert "= 29M, more than the 27M of MemoryHigh= of app.slice; " in capsys.readouterr().err
    # A container's own group is the root of the tree here.
    (folder / "memory.max").write_text("27262976\n")
    (folder / "memory.high").write_text("max\n")
    assert main(["check", "app"]) == 78
    assert "= 29M, more than the 26M of memory.max of /; " in capsys.readouterr().err


def test_check_warns_of_what_the_unit_will_not_see(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Root's folder is there for whoever types this, and hidden from the unit.
    (etc / "app.toml").write_text('[app]\ncommand = ["sh"]\ndirectory = "/root"\n')
    main(["check", "app"])
    assert (
        "app.directory: /root lies under /root, which ProtectHome=yes hides from memunit@app.service; write a drop-in "
        in capsys.readouterr().err
    )


def test_check_warns_of_a_file_that_the_units_user_may_not_read(
    etc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Root, who types it, reads everything."""
    (etc / "closed.toml").write_text('[app]\ncommand = ["/bin/true"]\n')
    (etc / "closed.toml").chmod(0o600)
    assert main(["check", "closed"]) == 0
    said = capsys.readouterr()
    assert (
        "has mode 0600, and memunit@closed.service may run as a user that can't read it; chmod 0644"
        in said.err
    )


def test_check_warns_of_a_folder_that_others_may_not_enter(
    etc: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shut = folder / "shut"
    (shut / "inner").mkdir(parents=True)
    shut.chmod(0o700)
    (etc / "shut.toml").write_text(f'[app]\ncommand = ["/bin/true"]\ndirectory = "{shut / "inner"}"\n')
    assert main(["check", "shut"]) == 0
    assert f"app.directory: {shut} may not be entered by others" in capsys.readouterr().err


def test_check_that_cannot_print(etc: Path) -> None:
    (etc / "told.toml").write_text('[app]\ncommand = ["/bin/true"]\n')
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "memunit.cli.main", "check", "told"],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 74
    assert done.stderr == "memunit: the settings are good, but can't be printed: No space left on device\n"


def test_check_of_what_is_not_there(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "gone"]) == 78
    assert main(["check", "a b"]) == 78
    assert capsys.readouterr().err == (
        f"memunit: {etc}/gone.toml: there is no such file; create {etc}/gone.toml, see memunit.toml(5)\n"
        'memunit: "a b" can\'t be the name of an instance: a space is in it; letters of ASCII, digits and _ . - @ \\ may '
        "be; systemd-escape(1) escapes others\n"
    )


@pytest.mark.parametrize("words", [[], ["a", "b"], ["--wat", "a"]])
def test_check_with_wrong_arguments(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["check", *words])
    assert ended.value.code == 64
    assert capsys.readouterr().err.endswith("; see memunit check --help\n")


def test_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 64
    assert capsys.readouterr().err.startswith("usage: memunit COMMAND")
    assert main(["--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: memunit COMMAND")
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"memunit {__version__}\n"


def test_unknown_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sevre", "x"]) == 64
    assert main(["--wat"]) == 64
    assert capsys.readouterr().err == (
        "memunit: unknown command 'sevre', did you mean 'serve'?; see memunit --help\n"
        "memunit: unknown option '--wat'; see memunit --help\n"
    )


def test_the_dispatcher_is_light() -> None:
    code = (
        "import sys; before = set(sys.modules); import memunit.cli.main as m; m.main(['--version']);"
        "new = set(sys.modules) - before; print(*sorted(new))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "memunit.cli.main" in loaded
    assert not loaded & {"argparse", "tomllib", "psutil", "systemd", "asyncio", "difflib", "memunit.master"}
