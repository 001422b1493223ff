"""The allocator that an app asks for (memory.allocator): its library looked for and checked, and what a worker is told.

For the app's interpreter alone, by its environment: the master is never preloaded with anything.
"""

import os
import struct
import sys
from collections.abc import Mapping, Sequence

from memunit.core.settings import Settings

# By what a dynamic linker calls them. Debian 12 has mimalloc's 2.0, Debian 13 its 3.
_FILES = {
    "jemalloc": ("libjemalloc.so.2",),
    "mimalloc": ("libmimalloc.so.3", "libmimalloc.so.2", "libmimalloc.so.2.0"),
}
_PACKAGES = {
    "jemalloc": "libjemalloc2",
    "mimalloc": "libmimalloc3 (libmimalloc2.0 in Debian 12)",
}
# Two arenas for all threads, and the end of the heap goes back from 128K on: glibc's own threshold grows up to 64M with
# what is freed, and stays where it is said (mallopt(3)).
TIGHT = {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": "131072"}
# Where Debian has the libraries of an architecture, and others have them.
_FOLDERS = ("/usr/local/lib", "/usr/lib/{triplet}", "/usr/lib64", "/usr/lib", "/lib/{triplet}")
# e_machine of elf(5) in Debian's words; the class is compared as well.
_TRIPLETS = {
    3: "i386-linux-gnu",
    21: "powerpc64le-linux-gnu",
    22: "s390x-linux-gnu",
    40: "arm-linux-gnueabihf",
    62: "x86_64-linux-gnu",
    183: "aarch64-linux-gnu",
    243: "riscv64-linux-gnu",
}
_HEAD = struct.Struct("4sBB10xHH")


class Missing(Exception):
    """The library is not there, or is for another kind of processor: what is wrong, and what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message, self.remedy = message, remedy


def variables(settings: Settings, folders: Sequence[str] | None = None) -> dict[str, str]:
    """What the environment of a worker needs for this allocator, looked for in `folders`. Raises Missing."""
    allocator = settings.memory.allocator
    if allocator == "glibc-tight":
        return dict(TIGHT)
    if allocator not in _FILES:
        return {}
    return {"LD_PRELOAD": _found(allocator, _program(settings), folders or _FOLDERS)}


def added(environment: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """`environment` with what `variables` has given. What the app's own says of glibc stays; of libraries both count.

    MEMUNIT_ALLOCATOR tells a Python worker what to take out again, before the app starts other programs.
    """
    found = dict(environment)
    found.pop("MEMUNIT_ALLOCATOR", None)
    for name, value in more.items():
        if name == "LD_PRELOAD":
            found[name] = ":".join(filter(None, (value, found.get(name))))
            found["MEMUNIT_ALLOCATOR"] = value
        elif name not in found:
            found[name] = value
            found["MEMUNIT_ALLOCATOR"] = " ".join(filter(None, (found.get("MEMUNIT_ALLOCATOR"), name)))
    return found


def _program(settings: Settings) -> str:
    """A program for the kind of processor that the worker's is for: the worker's own, or this interpreter where that
    is not known, as of a name in PATH or a script.
    """
    app = settings.app
    if app.command is not None:
        name = app.command[0]
    elif app.server == "node":
        name = app.node or "node"
    else:
        name = app.python or sys.executable
    path = os.path.join(app.directory or "", name)  # noqa: PTH118  an absolute path stays
    return path if "/" in name and _kind(path) is not None else sys.executable


def _found(allocator: str, program: str, folders: Sequence[str]) -> str:
    mine = _kind(program)
    triplet = _TRIPLETS.get(mine[1], "") if mine else ""
    other = ""
    for folder in folders:
        for name in _FILES[allocator]:
            path = os.path.join(folder.format(triplet=triplet), name)  # noqa: PTH118  a pattern's
            theirs = _kind(path)
            if theirs is None:
                continue
            if mine is None or theirs == mine:
                return path
            other = path
    package = _PACKAGES[allocator]
    if other:
        raise Missing(f"{other} is for another kind of processor than {program}", f"install {package}")
    raise Missing(f"there is no {' and no '.join(_FILES[allocator])} here", f"apt install {package}")


def _kind(path: str) -> tuple[int, int] | None:
    """Class and machine of an ELF file; None for any other, as a script, and for one that can't be read."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123  a path as it is
            head = file.read(_HEAD.size)
        magic, width, _order, _type, machine = _HEAD.unpack(head)
    except (OSError, ValueError, struct.error):
        return None
    return (width, machine) if magic == b"\x7fELF" else None
