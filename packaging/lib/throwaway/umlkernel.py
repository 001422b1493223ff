"""The kernel of user-mode Linux: Debian sid's with its own C library, kept in the cache."""

from __future__ import annotations

import hashlib
import inspect
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from throwaway import host, workshop

# sid's is 7.2 and runs its processes by seccomp; bookworm's is 6.1 and traces them by ptrace, which costs several times
# as much.
_RELEASES = ("sid", "bookworm")
_BUILD_SECONDS = 240.0
_RETRY_SECONDS = 86400.0
_LOADER = b"/lib64/ld-linux-x86-64.so.2\0"
_OWN_LOADER = b"ld.so"


@dataclass(frozen=True)
class Kernel:
    """A folder to start `./linux` in, with LD_LIBRARY_PATH naming it; its modules are in `modules` there."""

    folder: Path
    release: str


def ensure() -> Kernel:
    """The kernel, fetched if the cache has none: sid's, or bookworm's where sid's can't be had.

    Raises HarnessError with the builder's words.
    """
    if host.architecture().debian != "amd64":
        raise host.HarnessError("Debian has user-mode Linux for amd64 alone")
    errors = []
    for release in _RELEASES:
        place = _place(release)
        later = [_place(other) for other in _RELEASES[_RELEASES.index(release) + 1 :]]
        with workshop.locked(place):
            if not place.exists() and not any(_is_fresh(other) for other in later):
                try:
                    _build(release, place)
                except host.HarnessError as error:
                    errors.append(error)
                    print(f"no user-mode Linux of {release}: {error}", file=sys.stderr, flush=True)
        if place.exists():
            if release == _RELEASES[0]:
                os.utime(place)
                workshop.forget_old(place)
            return Kernel(place, release)
    raise errors[-1]


def _is_fresh(place: Path) -> bool:
    """Whether the better one was looked for today, and not found."""
    return place.exists() and time.time() - place.stat().st_mtime < _RETRY_SECONDS


def _place(release: str) -> Path:
    steps = "\n".join([*_bootstrap(release, "TREE"), inspect.getsource(_put_together)])
    recipe = hashlib.sha256(steps.encode()).hexdigest()[:12]
    return host.cache() / "uml" / f"{release}-{recipe}"


def _bootstrap(release: str, tree: str) -> list[str]:
    return [
        *("mmdebstrap", "--mode=root", "--variant=extract", "--format=directory"),
        "--include=user-mode-linux,libc6",
        '--aptopt=Acquire::Retries "3"',
        # A mirror that keeps a day of the archive has a Release file of sid that has expired.
        '--aptopt=Acquire::Check-Valid-Until "false"',
        *(release, tree),
    ]


def _build(release: str, place: Path) -> None:
    started = time.monotonic()
    print(
        f"fetching user-mode Linux of {release} (once; it stays in {place.parent})",
        file=sys.stderr,
        flush=True,
    )
    host.find("mmdebstrap")
    with workshop.workshop(place) as (work, log):
        tree, out = work / "tree", work / "kernel"
        path = f"PATH={os.environ['PATH']}:/usr/sbin:/sbin"
        # Of the mirrors those of the suite itself: sid has neither updates nor security updates.
        mirrors = [entry for entry in host.mirrors(release) if entry.endswith(f" {release} main")]
        command = host.as_root("env", path, *_bootstrap(release, str(tree)), *mirrors)
        workshop.run(f"the kernel of {release}", command, log, _BUILD_SECONDS)
        _put_together(tree, out)
        out.rename(place)
    print(f"fetched in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def _put_together(tree: Path, out: Path) -> None:
    """The kernel with its loader and its C library beside it, for the host's library is older.

    A chroot would need root and mounts for each boot. The loader can't be started by hand with the kernel as its
    argument: the kernel takes the distance from its own end to the break, which is then the loader's, for memory. So
    the name of the loader in the program (PT_INTERP, elf(5)) becomes one that is looked up in the working directory.
    """
    out.mkdir()
    kernel = (tree / "usr/bin/linux.uml").read_bytes()
    if kernel.count(_LOADER) != 1:
        raise host.HarnessError("linux.uml does not name the loader that it should")
    (out / "linux").write_bytes(kernel.replace(_LOADER, _OWN_LOADER.ljust(len(_LOADER), b"\0")))
    (out / "linux").chmod(0o755)
    for library in sorted(tree.glob("**/x86_64-linux-gnu/*.so.*")):
        name = "ld.so" if library.name.startswith("ld-linux") else library.name
        shutil.copyfile(library, out / name)
        (out / name).chmod(0o755)
    shutil.copytree(tree / "usr/lib/uml/modules", out / "modules")
    if not (out / "ld.so").exists():
        raise host.HarnessError("the C library has no loader")
