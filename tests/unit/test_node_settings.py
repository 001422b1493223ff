"""`server = "node"`: what its keys may say, and what is looked at before a worker starts."""
# ruff: noqa: E501  each message is quoted whole

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from memunit.cli import nodejs
from memunit.cli.main import main
from memunit.cli.preflight import preflight
from memunit.cli.start import WORKER, command_line
from memunit.core.settings import App, Memory, Settings, examine

M = 1 << 20


def faults(**keys: object) -> list[str]:
    return [
        f"{each.key}: {each.message}; {each.remedy}" for each in examine({"app": keys}, "f.toml").problems
    ]


@pytest.mark.parametrize(
    "run",
    ["server.js", "dist/index.mjs", "/srv/shop/server.js", "src/server.ts", "dist", "./bin/www", "a b.js"],
)
def test_the_file_is_a_path(run: str) -> None:
    parsed = examine({"app": {"run": run, "server": "node"}}, "f.toml")
    assert parsed.problems == ()
    assert parsed.settings.app == App(run=run, server="node")
    preload = str(WORKER / "node" / "preload.cjs")
    assert command_line(parsed.settings) == ("node", "--require", preload, run)
    assert os.path.exists(preload)  # noqa: PTH110


@pytest.mark.parametrize("run", ["server.js", "dist/index.mjs", "./server.cjs", "/srv/a/server.ts"])
def test_a_node_program_without_its_server_gets_the_advice(run: str) -> None:
    assert faults(run=run) == [f'app.run: "{run}" is a Node program; say server = "node" beside it']


@pytest.mark.parametrize(
    ("run", "fault"),
    [
        (
            "shop.web:app",
            '"shop.web:app" is a module and an attribute; say the file of the program, as "server.js"',
        ),
        (
            "node server.js",
            '"node server.js" is a command line; say the file alone, "server.js"; `node` names the program',
        ),
        (
            "/usr/bin/node --inspect app.js",
            '"/usr/bin/node --inspect app.js" is a command line; say the file alone, "app.js"; `node` names the program',
        ),
        ("--inspect", '"--inspect" is an option of Node; put it in NODE_OPTIONS of `environment`'),
        ("~/server.js", '"~/server.js": ~ is not expanded here; write the whole path, from / on'),
        ("", 'is empty; say a file as in "server.js", or leave the key out'),
    ],
)
def test_what_is_no_file(run: str, fault: str) -> None:
    assert faults(run=run, server="node") == [f"app.run: {fault}"]


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"python": "/usr/bin/python3"}, 'app.python: is for Python apps, and "node" is none; remove it'),
        ({"after_fork": "a:b"}, 'app.after_fork: is for Python apps, and "node" is none; remove it'),
        ({"before_stop": "a:b"}, 'app.before_stop: is for Python apps, and "node" is none; remove it'),
        ({"threads": 2}, 'app.threads: goes with app.server "wsgi", not with "node"; remove it'),
        ({"preload": True}, "app.preload: a Node program can't be imported before a fork; remove it"),
        (
            {"ready": "exec"},
            "app.ready: exec is for commands: a Node worker says itself when it is ready; remove it",
        ),
        ({"node": "node"}, 'app.node: "node" is not an absolute path; write the whole path, from / on'),
    ],
)
def test_keys_that_are_for_others(keys: dict[str, object], fault: str) -> None:
    assert faults(run="server.js", server="node", **keys) == [fault]


def test_the_key_of_node_is_for_node() -> None:
    assert faults(run="a:b", node="/usr/bin/node") == [
        'app.node: goes with app.server "node", not with "asgi"; remove it'
    ]
    assert faults(command=["a"], node="/usr/bin/node") == [
        "app.node: goes with app.run, not with a command; remove it"
    ]


def looked(run: str, folder: Path, node: str | None = None, path: str = "/usr/bin:/bin") -> list[str]:
    settings = Settings(app=App(run=run, server="node", directory=str(folder), node=node))
    return [
        f"{p.key}: {p.message}; {p.remedy}" for p in preflight(settings, "f.toml", environment={"PATH": path})
    ]


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A folder with a program called node, which says an old version."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "node").write_text("#!/bin/sh\necho v16.20.2\n")
    (folder / "node").chmod(0o755)
    return folder


def test_the_file_and_node_are_looked_for(tmp_path: Path, fake: Path) -> None:
    (tmp_path / "server.js").touch()
    (tmp_path / "lib").mkdir()
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "index.js").touch()
    for run in ("server.js", "server", "dist", str(tmp_path / "server.js")):
        assert looked(run, tmp_path, path=str(fake)) == [], run
    assert looked("srever.js", tmp_path, path=str(fake)) == [
        f"app.run: {tmp_path}/srever.js does not exist; correct the path, or create it"
    ]
    assert looked("lib", tmp_path, path=str(fake)) == [
        f"app.run: {tmp_path}/lib is a directory that has no index.js; say the file of the program"
    ]
    assert looked("server.js", tmp_path, path=str(tmp_path)) == [
        f"app.node: there is no program node in PATH ({tmp_path}); install Node, or say in app.node where it is"
    ]
    assert looked("server.js", tmp_path, node=f"{fake}/nod") == [
        f"app.node: {fake}/nod does not exist; correct the path, or create it"
    ]


def test_check_asks_node_for_its_version(
    tmp_path: Path, fake: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "server.js").touch()
    file = tmp_path / "shop.toml"
    file.write_text(f'[app]\nrun = "server.js"\nserver = "node"\ndirectory = "{tmp_path}"\n')
    monkeypatch.setenv("PATH", f"{fake}:/usr/bin:/bin")
    assert main(["check", str(file)]) == 78
    assert f"app.node: {fake}/node is Node 16.20.2, and 18.2 or newer is needed" in capfd.readouterr().err
    (fake / "node").write_text("#!/bin/sh\necho v18.2.0\n")
    assert main(["check", str(file)]) == 0
    assert "server.js (node), the node in PATH" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("options", "limit", "ceiling", "key"),
    [
        ("--max-old-space-size=256", 300 * M, None, "memory.limit"),
        ("--trace-warnings --max_old_space_size=300", 300 * M, None, "memory.limit"),
        ("", 3 << 30, None, "memory.limit"),
        ("--max-old-space-size=800", 300 * M, 600 * M, "memory.ceiling"),
        ("--max-old-space-size=400", 300 * M, 600 * M, None),
        ("", 300 * M, 600 * M, None),
        ("--max-old-space-size=400", None, None, None),
    ],
)
def test_a_heap_that_fits_badly(
    options: str, limit: int | None, ceiling: int | None, key: str | None
) -> None:
    settings = Settings(app=App(run="a.js", server="node"), memory=Memory(limit=limit, ceiling=ceiling))
    warned = [each.key for each in nodejs.warnings(settings, "f.toml", {"NODE_OPTIONS": options})]
    assert warned == ([] if key is None else [key])


def test_our_modules_are_of_the_syntax_of_the_oldest() -> None:
    """The first file is read by versions that are too old as well, and has to say so."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node")
    files = sorted((WORKER / "node").glob("*.cjs"))
    assert len(files) > 5
    for file in files:
        subprocess.run([node, "--check", file], check=True, timeout=300)
    first = (WORKER / "node" / "preload.cjs").read_text()
    for newer in ("=>", "`${", "?.", "??", "const {", "let "):
        assert newer not in first
