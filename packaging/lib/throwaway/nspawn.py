"""A machine that shares the host's kernel: systemd-nspawn, native speed, the host's cgroup layout.

Everything is mounted in a mount namespace of its own, so nothing is left when it ends: the image, read only,
a layer in memory above it, and a /run/systemd of its own for what nspawn leaves there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from throwaway import host, machine
from throwaway import payload as payloads
from throwaway.image import Image
from throwaway.machine import Running

_PROBE_SECONDS = 120.0
_OWN_ROOT = Path(__file__).with_name("ownroot.py")

# $1 the image, $2 the folder of the channel and the payload, $3 the place of the mounts.
_START = r"""
image=$1 shared=$2 place=$3
mount -t tmpfs -o mode=755 tmpfs /run/systemd 2>/dev/null || :
mount -t tmpfs -o mode=755,size=60% tmpfs "$place"
mkdir "$place/lower" "$place/upper" "$place/work" "$place/root"
mount -o loop,ro "$image" "$place/lower"
mount -t overlay overlay -o "lowerdir=$place/lower,upperdir=$place/upper,workdir=$place/work" "$place/root"
exec systemd-nspawn --quiet -b -D "$place/root" --machine=throwaway --register=no --keep-unit \
    --private-network --console=pipe --kill-signal=SIGRTMIN+4 --bind="$shared:/memunit-host"
"""


def has_memory_controller() -> bool:
    """Whether a machine under nspawn has one of cgroup v2: it sees the host's."""
    with contextlib.suppress(OSError):
        return "memory" in Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
    return False


def refusal(image: Image) -> str:
    """Why no machine under nspawn is whole here, "" if one is: one is tried.

    It is whole if its services can have PrivateUsers=, which a machine in a chroot can't (ownroot.py).
    """
    with tempfile.TemporaryDirectory(prefix="memunit-probe-") as folder:
        empty = Path(folder) / "payload.tar"
        payloads.pack({"run": "#!/bin/sh\nexec unshare --user true\n"}, empty)
        try:
            status = machine.follow(lambda: boot(image, empty), deadline=_PROBE_SECONDS)
        except (host.HarnessError, OSError) as error:
            return str(error)
        return "" if status == 0 else "no user namespace can be made in it"


@contextlib.contextmanager
def boot(image: Image, payload: Path) -> Iterator[Running]:
    """Start the machine; needs root (sudo)."""
    host.find("systemd-nspawn")
    with tempfile.TemporaryDirectory(prefix="memunit-nspawn-") as folder:
        shared = Path(folder) / "shared"
        place = Path(folder) / "place"
        shared.mkdir()
        place.mkdir()
        os.mkfifo(shared / "channel")
        shutil.copyfile(payload, shared / "payload.tar")
        console = Path(folder) / "console"
        channel = os.open(shared / "channel", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        places = [str(image.root), str(shared), str(place)]
        start = [sys.executable, str(_OWN_ROOT), "sh", "-euc", _START, "start", *places]
        try:
            with console.open("wb") as stream:
                process = subprocess.Popen(
                    host.as_root(*start),
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                    start_new_session=True,
                )

            def receive() -> bytes:
                try:
                    return os.read(channel, 1 << 16)
                except BlockingIOError:
                    return b""

            try:
                yield Running(process, channel, receive, console, console)
            finally:
                # A poweroff, then the end at once (nspawn's second SIGTERM), then the kill.
                host.end(process, signal.SIGTERM, signal.SIGTERM, signal.SIGKILL)
        finally:
            os.close(channel)
