"""The kernel that QEMU boots, kept in the cache: the suite's own cloud kernel and an initrd for the machine."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from throwaway import host, workshop

_BUILD_SECONDS = 600.0

# $1 the tree, $2 the folder of the kernel, $3 the owner of what comes out.
_FINISH = r"""
tree=$1 out=$2 owner=$3
cp "$tree"/boot/vmlinuz-* "$out/vmlinuz"
cp "$tree"/boot/initrd.img-* "$out/initrd"
chown -R "$owner" "$out"
"""


@dataclass(frozen=True)
class Kernel:
    """Paths of the kernel's files."""

    image: Path
    initrd: Path


def ensure(suite: str) -> Kernel:
    """The kernel of `suite`, fetched if the cache has none of this recipe.

    Raises HarnessError with the builder's words.
    """
    overlay = workshop.files("initrd")
    steps = "\n".join([*_bootstrap("WORK"), _FINISH])
    recipe = hashlib.sha256(steps.encode() + overlay).hexdigest()[:12]
    place = host.cache() / "qemu" / f"{suite}-{host.architecture().debian}-{recipe}"
    with workshop.locked(place):
        if not place.exists():
            _build(suite, place, overlay)
        os.utime(place)
    workshop.forget_old(place)
    return Kernel(place / "vmlinuz", place / "initrd")


def _build(suite: str, place: Path, overlay: bytes) -> None:
    started = time.monotonic()
    print(f"fetching the kernel of {suite} (once; it stays in {place.parent})", file=sys.stderr, flush=True)
    host.find("mmdebstrap")
    with workshop.workshop(place) as (work, log):
        (work / "initrd.tar").write_bytes(overlay)
        out, tree = work / "kernel", str(work / "tree")
        out.mkdir()
        path = f"PATH={os.environ['PATH']}:/usr/sbin:/sbin"
        command = host.as_root("env", path, *_bootstrap(str(work)), suite, tree, *host.mirrors(suite))
        workshop.run(f"the kernel of {suite}", command, log, _BUILD_SECONDS)
        finish = ["sh", "-euc", _FINISH, "finish", tree, str(out), f"{os.getuid()}:{os.getgid()}"]
        workshop.run(f"the kernel of {suite}", host.as_root(*finish), log, _BUILD_SECONDS)
        out.rename(place)
    print(f"fetched in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def _bootstrap(work: str) -> list[str]:
    """mmdebstrap's words, all but the suite, the tree and the mirrors."""
    return [
        *("mmdebstrap", "--mode=root", "--variant=essential", "--format=directory"),
        f"--include=initramfs-tools,{host.architecture().kernel}",
        '--aptopt=APT::Install-Recommends "false"',
        '--aptopt=Acquire::Retries "3"',
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "info", "locale", "doc")),
        # After the essential packages, before the kernel's: its initrd is made by this configuration.
        f"--essential-hook=tar-in {work}/initrd.tar /",
    ]
