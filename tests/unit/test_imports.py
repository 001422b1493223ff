"""The three import rules that hold the design together, read from the source of every module."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "memunit"
MODULES = sorted(PACKAGE.rglob("*.py"))
# The pure half decides, and neither sees, does nor tells anything.
IMPURE = {
    "asyncio",
    "concurrent",
    "contextvars",
    "ctypes",
    "datetime",
    "fcntl",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "psutil",
    "random",
    "sdnotify",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "subprocess",
    "sys",
    "systemd",
    "tempfile",
    "threading",
    "time",
}
# What all of the program is written in, as in a library.
RECORDS = "memunit.records"
# What is imported inside a function of a worker is the app's own, or comes with its server.
WORKER_EXTRAS = {"uvicorn", "uvloop", "memray"}


def name_of(module: Path) -> str:
    """The dotted name of a module's file."""
    parts = module.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(module: Path, *, top_level: bool = False) -> Iterator[str]:
    """Every module that is imported, as a dotted name; with `top_level` what is executed when it is imported."""
    tree = ast.parse(module.read_text())
    for node in _executed(tree) if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import hides what it reaches"
            assert node.module is not None
            # "from memunit.master import system" is an import of memunit.master.system.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        typing_only = isinstance(child, ast.If) and ast.unparse(child.test) in (
            "TYPE_CHECKING",
            "typing.TYPE_CHECKING",
        )
        if not typing_only and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from _executed(child)


def within(name: str, package: str) -> bool:
    """Whether a dotted name is a package or something in it."""
    return name == package or name.startswith(package + ".")


def of(package: str) -> list[Path]:
    """The modules of memunit/<package>/."""
    found = [module for module in MODULES if within(name_of(module), f"memunit.{package}")]
    assert found
    return found


def params(modules: list[Path]) -> list[object]:
    return [pytest.param(module, id=name_of(module)) for module in modules]


@pytest.mark.parametrize("module", params(of("core")))
def test_core_is_pure(module: Path) -> None:
    for name in imports(module):
        assert name.partition(".")[0] not in IMPURE, name
        assert not within(name, "memunit") or within(name, "memunit.core") or within(name, RECORDS), name
    called = [node.id for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Name)]
    assert not {"open", "print", "input", "__import__", "exec", "eval"} & set(called)


# The loop, what it is given, what it tells, the processes that it has, with their zygotes and what workers are given,
# and its own sockets; what it is asked for, what it measures, and by which configuration; what outlives it.
JOINT = (
    *(
        "master.py",
        "parts.py",
        "gathering.py",
        "carrying.py",
        "setting.py",
        "report.py",
        "processes.py",
        "inheritance.py",
        "doors.py",
    ),
    *("zygotes.py", "belongings.py", "launching.py"),
    *("asking.py", "measuring.py", "revisions.py"),
    *(
        "continuity.py",
        "examinations.py",
        "examiners.py",
        "kept.py",
        "recorder.py",
        "recovery.py",
        "sweeping.py",
    ),
    *("interface.py", "followers.py", "view.py"),
)


@pytest.mark.parametrize("module", params(of("master")))
def test_only_the_joint_knows_both_halves(module: Path) -> None:
    for name in imports(module):
        if within(name, "memunit"):
            allowed = [
                "memunit.master",
                RECORDS,
                *(["memunit.core", "memunit.__version__"] if module.name in JOINT else []),
            ]
            assert any(within(name, each) for each in allowed), name


@pytest.mark.parametrize("module", params(of("worker")))
def test_a_worker_needs_the_standard_library_alone(module: Path) -> None:
    for name in imports(module):
        assert not within(name, "memunit") or within(name, "memunit.worker"), name
    for name in imports(module, top_level=True):
        first = name.partition(".")[0]
        assert first == "memunit" or first in sys.stdlib_module_names, name
    for name in imports(module):
        first = name.partition(".")[0]
        assert first in {"memunit", *sys.stdlib_module_names, *WORKER_EXTRAS}, name


def test_the_package_itself_is_light() -> None:
    """Workers import it, in the app's own interpreter."""
    assert {name.partition(".")[0] for name in imports(PACKAGE / "__init__.py", top_level=True)} == set()


def test_nobody_imports_who_joins() -> None:
    """Commands and the library are the ends of the graph: core, master and workers know nothing of them."""
    for module in [*of("core"), *of("master"), *of("worker")]:
        for name in imports(module):
            assert not within(name, "memunit.cli"), (module, name)
            assert not within(name, "memunit.account"), (module, name)
            assert not within(name, "memunit.library"), (module, name)


# What is read afterwards comes in here; the rest of the account is values.
READS = {"source.py", "units.py", "folder.py"}


@pytest.mark.parametrize("module", params([each for each in of("account") if each.name not in READS]))
def test_an_account_is_made_of_values(module: Path) -> None:
    for name in imports(module):
        assert name.partition(".")[0] not in {"os", "subprocess", "pathlib", "socket", "systemd", "rich"}, (
            name
        )
        assert not within(name, "memunit.cli"), name


def test_the_rules_see_what_they_forbid(tmp_path: Path) -> None:
    """Each way to write an import is found."""
    module = tmp_path / "module.py"
    module.write_text(
        "import os.path as p, sys\n"
        "from memunit.master import system as s\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import decimal\n"
        "try:\n    import select\nexcept ImportError:\n    pass\n"
        "class C:\n    import json\n"
        "def f():\n    import socket\n    async def g():\n        from time import monotonic\n"
    )
    top = {"os.path", "sys", "memunit.master.system", "typing.TYPE_CHECKING", "select", "json"}
    assert set(imports(module, top_level=True)) == top
    assert set(imports(module)) == top | {"decimal", "socket", "time.monotonic"}


def loaded(code: str) -> set[str]:
    """The modules that are loaded after `code`, in a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("name", [name_of(module) for module in of("worker") if module.stem != "__main__"])
def test_a_worker_loads_nothing_of_the_master(name: str) -> None:
    modules = loaded(f"import {name}")
    assert name in modules
    ours = {each for each in modules if within(each, "memunit")}
    assert {each for each in ours if each != "memunit" and not within(each, "memunit.worker")} == set()
    assert not {"psutil", "systemd", "sdnotify", "uvicorn"} & modules


def test_reload_loads_no_master() -> None:
    """`systemctl reload` starts it each time."""
    modules = loaded("from memunit.cli.main import main\nmain(['reload', 'no-such-instance'])")
    assert "memunit.cli.reload" in modules
    assert "memunit.master.control" in modules
    heavy = {"psutil", "systemd", "sdnotify", "argparse", "tomllib", "asyncio"}
    assert not heavy & {each.partition(".")[0] for each in modules}
    assert not {"memunit.master.master", "memunit.master.spawn", "memunit.core.policy"} & modules


@pytest.mark.parametrize("module", params([m for m in MODULES if m.stem != "__main__"]))
def test_every_module_can_be_imported_by_itself(module: Path) -> None:
    """No order of imports is needed, and none goes round in a circle."""
    assert name_of(module) in loaded(f"import {name_of(module)}")
