"""The allocator that an app asks for: where its library is found, what is said where it is not, what a worker gets."""

from __future__ import annotations

import shutil
import struct
import sys
from pathlib import Path

import pytest

from memunit.cli import allocating
from memunit.cli.preflight import preflight
from memunit.cli.start import configure
from memunit.core.settings import App, Memory, Parsed, Settings
from memunit.records import replace
from memunit.worker import allocators

OWN = allocating._kind(sys.executable)


def asks(allocator: str) -> Settings:
    """An instance with this allocator."""
    return Settings(app=App(run="json:loads"), memory=Memory(allocator=allocator))


def library(folder: Path, name: str, machine: int | None = None) -> Path:
    """What looks like a library of this processor, or of another one."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    shutil.copy(sys.executable, path)
    if machine is not None:
        data = bytearray(path.read_bytes())
        struct.pack_into("<H", data, 18, machine)
        path.write_bytes(data)
    return path


def test_what_is_there_is_preloaded(tmp_path: Path) -> None:
    path = library(tmp_path / "b", "libjemalloc.so.2")
    (tmp_path / "a").mkdir()
    # A linker script or a text is no library.
    (tmp_path / "a" / "libjemalloc.so.2").write_text("INPUT(libjemalloc.so.2)")
    folders = (str(tmp_path / "a"), str(tmp_path / "b"))
    assert allocating.variables(asks("jemalloc"), folders) == {"LD_PRELOAD": str(path)}
    newer = library(tmp_path / "b", "libmimalloc.so.3")
    library(tmp_path / "b", "libmimalloc.so.2.0")
    assert allocating.variables(asks("mimalloc"), folders) == {"LD_PRELOAD": str(newer)}


@pytest.mark.parametrize(
    ("allocator", "package"),
    [("jemalloc", "libjemalloc2"), ("mimalloc", "libmimalloc3 (libmimalloc2.0 in Debian 12)")],
)
def test_what_is_not_there_is_one_clear_error(tmp_path: Path, allocator: str, package: str) -> None:
    with pytest.raises(allocating.Missing) as missing:
        allocating.variables(asks(allocator), (str(tmp_path),))
    assert missing.value.message.startswith(f"there is no lib{allocator}.so.")
    assert missing.value.remedy == f"apt install {package}"


def test_one_for_another_processor_is_named(tmp_path: Path) -> None:
    assert OWN is not None
    path = library(tmp_path, "libjemalloc.so.2", machine=OWN[1] + 1)
    with pytest.raises(allocating.Missing) as missing:
        allocating.variables(asks("jemalloc"), (str(tmp_path),))
    assert missing.value.message == f"{path} is for another kind of processor than {sys.executable}"


def test_check_start_and_reload_say_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(allocating, "_FILES", {"jemalloc": ("libnone.so.9",)})
    (problem,) = preflight(asks("jemalloc"), "/etc/memunit/app.toml")
    assert str(problem) == (
        "/etc/memunit/app.toml: memory.allocator: there is no libnone.so.9 here; apt install libjemalloc2"
    )
    assert preflight(replace(asks("jemalloc"), memory=Memory()), "/etc/memunit/app.toml") == []


@pytest.mark.parametrize("kind", ["node", "script", "bare command", "relative command", "shim"])
def test_a_program_that_is_no_elf_file_gets_the_library_of_this_processor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    """As check has it, start has it: the folder of Debian's is named after the processor."""
    assert OWN is not None
    triplet = allocating._TRIPLETS[OWN[1]]
    path = library(tmp_path / triplet, "libjemalloc.so.2")
    monkeypatch.setattr(allocating, "_FOLDERS", (str(tmp_path / "{triplet}"),))
    script = tmp_path / "serve"
    script.write_text("#!/bin/sh\nexec sleep 9\n")
    script.chmod(0o755)
    (tmp_path / "server.js").write_text("")
    (tmp_path / "node").symlink_to("/bin/true")
    app = {
        "node": App(run="server.js", server="node", environment={"PATH": str(tmp_path)}),
        "script": App(command=(str(script),)),
        "bare command": App(command=("sleep", "9")),
        "relative command": App(command=("./serve",)),
        "shim": App(run="json:loads", python=str(script)),
    }[kind]
    settings = replace(asks("jemalloc"), app=replace(app, directory=str(tmp_path)))
    assert preflight(settings, "app.toml", unit="memunit@app.service") == []
    made = configure(Parsed(settings), "app.toml", unit="memunit@app.service")
    assert made.environment["LD_PRELOAD"].split(":")[0] == str(path)


def test_a_program_for_another_processor_gets_the_library_of_its_own(tmp_path: Path) -> None:
    assert OWN is not None
    foreign = next(machine for machine in allocating._TRIPLETS if machine != OWN[1])
    library(tmp_path, "serve", foreign)
    path = library(tmp_path / allocating._TRIPLETS[foreign], "libjemalloc.so.2", foreign)
    library(tmp_path / allocating._TRIPLETS[OWN[1]], "libjemalloc.so.2")
    settings = replace(asks("jemalloc"), app=App(command=("./serve",), directory=str(tmp_path)))
    told = allocating.variables(settings, (str(tmp_path / "{triplet}"),))
    assert told == {"LD_PRELOAD": str(path)}


def test_glibc_is_told_by_variables_and_a_persons_own_stay() -> None:
    more = allocating.variables(asks("glibc-tight"))
    assert more == {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": "131072"}
    assert allocating.added({"MALLOC_ARENA_MAX": "8"}, more) == {
        "MALLOC_ARENA_MAX": "8",
        "MALLOC_TRIM_THRESHOLD_": "131072",
        "MEMUNIT_ALLOCATOR": "MALLOC_TRIM_THRESHOLD_",
    }
    assert allocating.added({"MEMUNIT_ALLOCATOR": "x"}, {}) == {}


def test_a_worker_takes_out_what_is_for_its_interpreter_alone() -> None:
    for own in ({}, {"LD_PRELOAD": "/lib/eatmydata.so"}):
        for more in ({"LD_PRELOAD": "/usr/lib/libjemalloc.so.2"}, dict(allocating.TIGHT), {}):
            environment = allocating.added(own, more)
            if "LD_PRELOAD" in more:
                assert environment["LD_PRELOAD"].startswith("/usr/lib/libjemalloc.so.2")
            allocators.leave_out(environment)
            assert environment == own
