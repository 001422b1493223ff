"""`python -m tests.mutation [--seed N] [--only MODULE] [--all]`: put faults into the heart, and see what finds each.

Each mutant is tried in a process of its own, against the tests of its module, until the first of them fails. Prints
each mutant with what has killed it, those that live, and the share; exits with 1 if it is under 95 %. The survivors of
the last run, with the reason why each lives, are in docs/proof.md. `--all` tries every mutant there is.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.mutation.mutants import Mutant, chosen, mutants

ROOT = Path(__file__).parents[2]
_POLICY = (
    "tests/unit/test_causes.py",
    "tests/unit/test_giving.py",
    "tests/unit/test_adjusting.py",
    "tests/unit/test_last_words.py",
    "tests/unit/test_forecast.py",
    "tests/unit/test_memory.py",
    "tests/unit",
    "tests/exploration/test_random.py",
    "tests/exploration/test_liveness.py",
    "tests/exploration/test_waits.py",
    "tests/exploration/test_closed.py",
)
_MASTER = (
    "tests/process/test_serve.py",
    "tests/process/test_master_signals.py",
    "tests/process/test_control.py",
    "tests/process/test_master_due.py",
    "tests/process/test_reload.py",
    "tests/process/test_recycle.py",
    "tests/process/test_adoption.py",
    "tests/process/test_reexec.py",
)
# Of these, the tests start processes of their own: the fault is in a copy of the whole tree.
APART = {"memunit.master.master", "memunit.master.gathering", "memunit.master.carrying"}
# How many of each, and which tests are to find them, the quickest first. "tests/unit" is each test_policy*.py there.
MODULES: dict[str, tuple[int, Sequence[str]]] = {
    "memunit.core.starts": (9, _POLICY),
    "memunit.core.failures": (8, _POLICY),
    "memunit.core.kills": (8, _POLICY),
    "memunit.core.recycle": (9, _POLICY),
    "memunit.core.memory": (9, _POLICY),
    "memunit.core.giving": (9, _POLICY),
    "memunit.core.adjusting": (8, ("tests/unit/test_adjusting.py", *_POLICY)),
    "memunit.core.forecast": (4, ("tests/unit/test_forecast.py", *_POLICY)),
    "memunit.core.backoff": (3, ("tests/unit/test_backoff.py", *_POLICY)),
    "memunit.core.budget": (4, ("tests/unit/test_budget.py", *_POLICY)),
    "memunit.core.policy": (6, _POLICY),
    "memunit.core.retirement": (4, ("tests/unit/test_retirement.py", *_POLICY)),
    "memunit.core.phases": (6, _POLICY),
    "memunit.core.rollout": (5, _POLICY),
    "memunit.core.stopping": (6, _POLICY),
    "memunit.core.transitions": (4, _POLICY),
    "memunit.core.agenda": (3, _POLICY),
    "memunit.core.roster": (3, ("tests/unit/test_roster.py", *_POLICY)),
    "memunit.core.causes": (3, _POLICY),
    "memunit.core.adoption": (5, ("tests/unit/test_adoption.py", "tests/unit/test_adjusting.py")),
    "memunit.core.handover": (4, ("tests/unit/test_handover.py", "tests/unit/test_continuity.py")),
    "memunit.master.continuity": (6, ("tests/unit/test_continuity.py",)),
    "memunit.master.sweeping": (6, ("tests/process/test_sweeping.py",)),
    "memunit.master.master": (
        4,
        (
            "tests/unit/test_pass.py",
            "tests/process/test_metricfiles.py",
            "tests/process/test_footprint.py",
            *_MASTER,
        ),
    ),
    "memunit.master.gathering": (
        2,
        ("tests/unit/test_gathering.py", "tests/process/test_wrappers.py", *_MASTER),
    ),
    "memunit.master.carrying": (
        3,
        (
            "tests/process/test_recorder.py",
            "tests/process/test_examiner.py",
            "tests/process/test_examination.py",
            *_MASTER,
        ),
    ),
    "memunit.master.zygote_messages": (4, ("tests/unit/test_zygote_messages.py",)),
    "memunit.master.startlog": (4, ("tests/process/test_startlog.py",)),
    "memunit.worker.websockets": (6, ("tests/unit/test_worker_websockets.py",)),
}
# CPU seconds after which a mutant that spins counts as killed.
LONGEST = 240
# The same for one unit test: none needs a second.
LONGEST_UNIT = 20
# Seconds after which one in a copy is given up, and counts as alive: each test there has a deadline of its own, so
# what takes longer is the machine's doing.
LATEST = 3600
SHARE = 0.95


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the mutant in the place of the module."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, name: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._mutant.module:
            return None
        return importlib.util.spec_from_loader(name, self, origin=str(_path(name)))

    def create_module(self, spec: Any) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(_path(self._mutant.module))
        exec(compile(self._mutant.tree, module.__file__, "exec"), module.__dict__)


class _Bound:
    """Ends a mutant that spins in a unit test."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        longest = LONGEST_UNIT if item.path.parent.name == "unit" else LONGEST
        signal.setitimer(signal.ITIMER_VIRTUAL, longest)


def _path(module: str) -> Path:
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")


def _tests(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        path = ROOT / name
        found += (
            sorted(map(str, path.glob("test_policy*.py")))
            if path.is_dir()
            else [str(path)]
            if path.exists()
            else []
        )
    return list(dict.fromkeys(found))


def tried(mutant: Mutant | None, tests: Sequence[str]) -> str:
    """The test that kills it, "" if it lives, or how else it ended; without a mutant, what fails anyway."""
    if mutant is not None and mutant.module in APART:
        return _apart(mutant, tests)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        with contextlib.suppress(BaseException):
            resource.setrlimit(resource.RLIMIT_CPU, (LONGEST, LONGEST + 5))
            if mutant is not None:
                sys.meta_path.insert(0, _Finder(mutant))
            said = io.StringIO()
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                code = pytest.main(
                    ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header", *tests],
                    plugins=[_Bound()],
                )
            text = said.getvalue()
            found = re.search(r"^(?:FAILED|ERROR) (\S+)", text, re.M)
            os.write(writer, (found[1] if found else "" if code == 0 else f"exit {code}")[:200].encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    _, status = os.waitpid(pid, 0)
    return text or ("" if os.WIFEXITED(status) else f"signal {os.WTERMSIG(status)}")


def _apart(mutant: Mutant | None, tests: Sequence[str]) -> str:
    """The same in a copy of the tree, whose processes have the fault too."""
    with tempfile.TemporaryDirectory(prefix="memunit-mutant-") as folder:
        tree = Path(folder)
        for name in ("memunit", "tests", "units", "packaging"):
            shutil.copytree(
                ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True
            )
        shutil.copy(ROOT / "pyproject.toml", tree)
        if mutant is not None:
            path = tree.joinpath(*mutant.module.split(".")).with_suffix(".py")
            path.write_text(ast.unparse(mutant.tree))
        local = [str(tree / Path(test).relative_to(ROOT)) for test in tests]
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "tests.mutation.inorder",
            "--no-header",
            *local,
        ]
        try:
            done = subprocess.run(
                command, cwd=tree, capture_output=True, text=True, check=False, timeout=LATEST
            )
        except subprocess.TimeoutExpired:
            print(f"Not decided within {LATEST} s:", end=" ")
            return ""
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.M)
    return found[1] if found else "" if done.returncode == 0 else f"exit {done.returncode}"


def main(arguments: Sequence[str]) -> int:
    """Run; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--only", metavar="MODULE")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--list", action="store_true", help="print them, and try none")
    parser.add_argument("--hasty", action="store_true", help="believe that all tests pass without a mutant")
    asked = parser.parse_args(arguments)
    alive, dead, sound = list[Mutant](), 0, set[str]()
    for module, (count, names) in MODULES.items():
        if asked.only not in (None, module, module.rpartition(".")[2]):
            continue
        tests = _tests(names)
        unproven = [test for test in tests if test not in sound]
        if not asked.list and not asked.hasty and unproven:
            failed = _apart(None, unproven) if module in APART else tried(None, unproven)
            if failed:
                print(f"{failed} fails without any mutant")
                return 2
            sound |= set(tests)
        every = mutants(module, _path(module).read_text())
        for mutant in every if asked.all else chosen(every, count, asked.seed):
            if asked.list:
                print(mutant)
                continue
            began = time.monotonic()
            by = tried(mutant, tests)
            dead += bool(by)
            alive += [] if by else [mutant]
            print(
                f"{'killed' if by else 'LIVES '} {mutant}  [{by}, {time.monotonic() - began:.0f} s]",
                flush=True,
            )
    total = dead + len(alive)
    if total:
        print(f"\n{dead} of {total} killed, {dead / total:.0%}; alive:", *alive, sep="\n  ")
    return 1 if total and dead / total < SHARE else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
