"""The root file system of the throwaway machine: mmdebstrap, then mke2fs from the tree, kept in the cache.

An image is named by a hash of its recipe (the steps below and what is copied into the guest), is built
beside its place and renamed into it, and is never written to afterwards: each boot has its own layer above.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from throwaway import host, workshop

SUITES = ("bookworm", "trixie")
_PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "udev",
    "kmod",
    "curl",
    "e2fsprogs",
    "procps",
    "python3",
    "python3-systemd",
    "python3-psutil",
    "python3-sdnotify",
    "python3-uvicorn",
    "python3-prometheus-client",
    "python3-pytest",
    "nodejs",
)
# Nobody logs in, nothing is fetched, and every driver that the machine needs is there before systemd.
_MASKED = (
    "getty@.service",
    "serial-getty@.service",
    "console-getty.service",
    "getty-static.service",
    "systemd-udev-trigger.service",
    "modprobe@.service",
    "kmod-static-nodes.service",
    "dev-hugepages.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-logind.service",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-networkd-wait-online.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "systemd-pcrphase.service",
    "systemd-pcrphase-sysinit.service",
)
_BUILD_SECONDS = 600.0
_ROOM_MIB = 1024

# $1 the tree, $2 the folder of the image, $3 the owner of what comes out, $4 mke2fs. The machine identity and
# the stamps make this not a first boot, which would apply presets and rebuild caches.
_FINISH = r"""
tree=$1 out=$2 owner=$3 mke2fs=$4
od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >"$tree/etc/machine-id"
echo >>"$tree/etc/machine-id"
echo throwaway >"$tree/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 throwaway\n::1 localhost\n' >"$tree/etc/hosts"
rm -f "$tree/etc/resolv.conf" "$tree/etc/dpkg/dpkg.cfg.d/99mmdebstrap" "$tree/etc/apt/apt.conf.d/99mmdebstrap"
mkdir -p "$tree/memunit-host" "$tree/var/log/journal" "$tree/usr/lib/modules"
touch "$tree/etc/.updated" "$tree/var/.updated"
"$mke2fs" -q -F -t ext4 -O ^has_journal -E lazy_itable_init=1 -d "$tree" "$out/root.img"
chown -R "$owner" "$out"
"""


@dataclass(frozen=True)
class Image:
    """A built image: the file of its root file system, and the suite that it is of."""

    suite: str
    root: Path


def cached(suite: str) -> Path | None:
    """The folder of the image of `suite` if the cache has one of this recipe."""
    place, _ = _place(suite)
    return place if (place / "root.img").exists() else None


def ensure(suite: str) -> Image:
    """The image of `suite`, built if the cache has none of this recipe.

    Raises HarnessError with the builder's words.
    """
    place, overlay = _place(suite)
    with workshop.locked(place):
        if not (place / "root.img").exists():
            _build(suite, place, overlay)
        os.utime(place)
    workshop.forget_old(place)
    return Image(suite, place / "root.img")


def _place(suite: str) -> tuple[Path, bytes]:
    """Where the image belongs, and the guest's files that its name stands for."""
    if suite not in SUITES:
        raise host.HarnessError(f"no image for {suite!r}: one of {', '.join(SUITES)}")
    overlay = workshop.files("guest")
    steps = "\n".join([*_bootstrap("WORK"), _FINISH])
    recipe = hashlib.sha256(steps.encode() + overlay).hexdigest()[:12]
    return host.cache() / "images" / f"{suite}-{host.architecture().debian}-{recipe}", overlay


def _build(suite: str, place: Path, overlay: bytes) -> None:
    started = time.monotonic()
    print(f"building the {suite} image (once; it stays in {place.parent})", file=sys.stderr, flush=True)
    with workshop.workshop(place) as (work, log):
        (work / "guest.tar").write_bytes(overlay)
        out = work / "image"
        out.mkdir()
        tree = str(work / "tree")
        host.find("mmdebstrap")
        command = [*_bootstrap(str(work)), suite, tree, *host.mirrors(suite)]
        command = host.as_root("env", f"PATH={os.environ['PATH']}:/usr/sbin:/sbin", *command)
        workshop.run("the image", command, log, _BUILD_SECONDS)
        used = subprocess.run(
            host.as_root("du", "-sm", tree), check=True, capture_output=True, text=True
        ).stdout
        with (out / "root.img").open("wb") as image:
            image.truncate((int(used.split()[0]) + _ROOM_MIB) << 20)
        owner = f"{os.getuid()}:{os.getgid()}"
        finish = ["sh", "-euc", _FINISH, "finish", tree, str(out), owner, host.find("mke2fs")]
        workshop.run("the image", host.as_root(*finish), log, _BUILD_SECONDS)
        if place.exists():
            shutil.rmtree(place)
        out.rename(place)
    print(f"built in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def _bootstrap(work: str) -> list[str]:
    """mmdebstrap's words, all but the suite, the tree and the mirrors."""
    chroot = 'chroot "$1" '
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
        f"--include={','.join(_PACKAGES)}",
        '--aptopt=APT::Install-Recommends "false"',
        '--aptopt=Acquire::Retries "3"',
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/info/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        f"--customize-hook=tar-in {work}/guest.tar /",
        f"--customize-hook={chroot}systemctl mask {' '.join(_MASKED)}",
        f"--customize-hook={chroot}systemctl enable throwaway-payload.service",
        f"--customize-hook={chroot}systemctl set-default throwaway.target",
    ]
