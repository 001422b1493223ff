"""Node programs, each as the hello world of its own documentation has it, recycled under load: nothing is lost.

MEMUNIT_RECYCLES=20 tests/run process -- -k node_programs is the long form, which has Express, Koa, TypeScript, cluster
mode and Next's standalone server as well. MEMUNIT_NODES=18,20,22,24 takes these versions of Node.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import nodes
from tests.support.harness import Service, Unit
from tests.support.workers import APPS, LoadProcess

pytest_plugins = ["tests.support.units"]

RECYCLES = int(os.environ.get("MEMUNIT_RECYCLES", "2"))
LONG = "MEMUNIT_RECYCLES" in os.environ


@dataclass(frozen=True)
class Program:
    """A file of tests/support/apps/node, and what its answer begins with."""

    file: str
    answer: str
    options: str = ""


PROGRAMS = {
    "http": Program("http.js", "Hello World"),
    "fastify": Program("fastify.mjs", '{"hello":"world"}'),
}
MORE = {
    "express": Program("express.js", "Hello World!"),
    "koa": Program("koa.js", "Hello World"),
    "typescript": Program("typescript.ts", "Hello World", "--import tsx"),
    "cluster": Program("cluster.js", "hello world "),
    "next": Program("server.js", "<!DOCTYPE html>"),
}


@pytest.mark.parametrize("version", nodes.chosen())
@pytest.mark.parametrize("name", [*PROGRAMS, *MORE] if LONG else PROGRAMS)
def test_it_is_recycled_under_load_and_loses_nothing(
    unit: Unit, tmp_path: Path, name: str, version: str
) -> None:
    """Kept connections and new ones."""
    program = (PROGRAMS | MORE)[name]
    node, folder = nodes.named(version), _folder(tmp_path, name)
    if node is None or folder is None:
        pytest.skip("no node, or npm's packages can't be installed here")
    environment = {"NODE_OPTIONS": program.options, "NODE_ENV": "production"}
    app = {"run": program.file, "server": "node", "node": str(node), "directory": str(folder)}
    unit.write(
        app={**app, "environment": environment},
        workers={"count": 2, "max_age": "1s", "min_lifetime": 0},
        stop={"grace": "120s"},
    )
    service = unit.serve().ready()
    words = ("--clients", "4", "--rate", "150", "--expect-prefix", program.answer, "--seconds", "900")
    loads = {
        "new": LoadProcess(tmp_path, unit.target, *words),
        "kept": LoadProcess(tmp_path, unit.target, *words, "--keep-alive"),
    }
    for load in loads.values():
        load.answered(60)
    # Whoever serves now has ended by then, with its kept connections, and one may end already.
    _recycles(service, service.mark, RECYCLES + 1)
    reports = {kind: load.finish() for kind, load in loads.items()}
    ended = service.entries("ended")
    causes = Counter(entry.cause for entry in ended)
    print(
        json.dumps(
            {
                "program": name,
                "node": version,
                **{kind: [r["sent"], r["lost"], r["reopened"]] for kind, r in reports.items()},
                **causes,
            }
        )
    )
    for kind, report in reports.items():
        assert report["lost"] == 0, (kind, report)
        assert report["ok"] == report["sent"] > 50, (kind, report)
        # Each was told by an answer that its connection ends, and none found out by itself.
        assert report["reopened"] == 0, (kind, report)
    assert reports["kept"]["told"] > 0
    assert set(causes) == {"max-age"}
    # Next has a handler of SIGTERM, which ends it so after the drain.
    status = 143 if name == "next" else 0
    assert [entry for entry in ended if f"exited with status {status}" not in entry.rest] == []
    assert service.stop() == 0


def _folder(tmp_path: Path, name: str) -> Path | None:
    if name == "next":
        return nodes.next_standalone(APPS / "next")
    modules = nodes.modules()
    if modules is None:
        return None
    folder = tmp_path / "apps"
    shutil.copytree(APPS / "node", folder)
    (folder / "node_modules").symlink_to(modules)
    return folder


def _recycles(service: Service, after: int, count: int) -> None:
    def enough() -> bool | None:
        return (
            sum(entry.cause == "max-age" for entry in service.entries("ended", after=after)) >= count or None
        )

    service.until(enough, f"{count} recycles", timeout=60.0 + 10.0 * count)
