"""A machine of its own kernel that is an ordinary process: user-mode Linux, with the whole of cgroup v2.

User code runs at native speed, a system call costs more. There is one processor and no PSI (Debian builds it with
neither). The root disk lies beneath a layer in memory, which goes with the machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from throwaway import host, umlkernel
from throwaway import payload as payloads
from throwaway.image import Image
from throwaway.machine import Running, follow

_PROBE_SECONDS = 180.0
_END_SECONDS = 15.0
_MAPPINGS = Path("/proc/sys/vm/max_map_count")
# A page of a guest's process can be a mapping of the host's. At the host's default of 65530 a process of 256 MiB hangs,
# and nothing says why.
_MAPPINGS_WANTED = 1 << 20
# file-hierarchy(7); each machine makes a folder of its own in one of them.
_SHARED_MEMORY = "/dev/shm"  # noqa: S108
_LONG_TEMPORARY = "/var/tmp"  # noqa: S108
# What a run writes to its root disk; and two machines run at a time.
_LAYER_MIB = 512
_MACHINES = 2
_COMMAND_LINE = (
    "root=/dev/ubda",
    "rw",
    "quiet",
    "loglevel=4",
    "fsck.mode=skip",
    "noreboot",
    # A fork of a process that has an io_uring mapped (libuv's) ends in a panic of 7.2: "Bad page map".
    "sysctl.kernel.io_uring_disabled=2",
    "con=null",
    "ssl=null",
    "con0=null,fd:1",
)
_PREFIX = "memunit-uml-"
_HAS_MEMORY = "#!/bin/sh\nexec grep -qw memory /sys/fs/cgroup/cgroup.controllers\n"


def refusal(image: Image) -> str:
    """Why no machine under user-mode Linux is whole here, "" if one is: one is tried.

    That one was whole is kept until the host boots again.
    """
    try:
        kernel = umlkernel.ensure()
        memory = host.cache() / "uml" / "works"
        finding = f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {kernel.folder.name}"
        with contextlib.suppress(OSError):
            if memory.read_text() == finding:
                return ""
        with tempfile.TemporaryDirectory(prefix="memunit-probe-") as folder:
            probe = Path(folder) / "payload.tar"
            payloads.pack({"run": _HAS_MEMORY}, probe)
            if follow(lambda: boot(image, probe), deadline=_PROBE_SECONDS) != 0:
                return "its kernel has no memory controller"
        memory.write_text(finding)
    except (host.HarnessError, OSError) as error:
        return str(error)
    return ""


@contextlib.contextmanager
def boot(image: Image, payload: Path, *, memory: int = 1024) -> Iterator[Running]:
    """Start the machine with `memory` MiB."""
    kernel = umlkernel.ensure()
    _allow_mappings()
    with _folder(_room(memory)) as folder:
        console = Path(folder) / "console"
        channel, theirs = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(channel, False)
        command = [
            # Even a SIGKILL of this process takes the machine with it.
            *("setpriv", "--pdeathsig", "KILL", "env", f"LD_LIBRARY_PATH={kernel.folder}", "./linux"),
            *("seccomp=on", f"mem={memory}M", f"uml_dir={folder}", f"ubd0c={folder}/layer,{image.root}"),
            *(f"ubd1rc={payload.resolve()}", f"ssl1=null,fd:{theirs}"),
            # What the guest may see of the host by hostfs.
            *(f"hostfs={kernel.folder}/modules", *_COMMAND_LINE),
        ]
        try:
            try:
                with console.open("wb") as stream:
                    process = subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=stream,
                        stderr=stream,
                        pass_fds=(theirs,),
                        cwd=kernel.folder,
                        env={"PATH": os.environ["PATH"], "TMPDIR": folder},
                        start_new_session=True,
                    )
            finally:
                os.close(theirs)

            def receive() -> bytes:
                try:
                    return os.read(channel, 1 << 16)
                except BlockingIOError:
                    return b""

            try:
                yield Running(process, channel, receive, console, console)
            finally:
                # The group: each process of the guest is one of the host's.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait(_END_SECONDS)
        finally:
            os.close(channel)


@contextlib.contextmanager
def _folder(place: Path) -> Iterator[str]:
    """A folder for the files of a machine; those whose harness was killed, and could not remove them, go now."""
    with contextlib.ExitStack() as held:
        with _locked(place, fcntl.LOCK_EX):
            for other in place.glob(f"{_PREFIX}*"):
                # OSError: its harness runs, or it is somebody else's.
                with contextlib.suppress(OSError), _locked(other, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    shutil.rmtree(other)
            folder = held.enter_context(tempfile.TemporaryDirectory(prefix=_PREFIX, dir=place))
            held.enter_context(_locked(Path(folder), fcntl.LOCK_EX))
        yield folder


@contextlib.contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    """flock(2) of a folder; raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def _allow_mappings() -> None:
    """Raise vm.max_map_count of the host where it is too low; raises HarnessError where that can't be done."""
    known = int(_MAPPINGS.read_text())
    if known >= _MAPPINGS_WANTED:
        return
    subprocess.run(
        host.as_root("sh", "-c", f"echo {_MAPPINGS_WANTED} >{_MAPPINGS}"), check=False, capture_output=True
    )
    if int(_MAPPINGS.read_text()) < _MAPPINGS_WANTED:
        raise host.HarnessError(
            f"vm.max_map_count is {known} and can't be raised: user-mode Linux needs {_MAPPINGS_WANTED}"
        )
    print(
        f"vm.max_map_count of this host is {_MAPPINGS_WANTED} now, until it boots again (it was {known}): "
        "user-mode Linux maps its guests' memory page by page",
        file=sys.stderr,
        flush=True,
    )


def _room(memory: int) -> Path:
    """A folder for the machine's memory and the layer of its disk: where writing is quick, if there is room."""
    wanted = _MACHINES * (memory + _LAYER_MIB) << 20
    places = [Path(name) for name in (_SHARED_MEMORY, tempfile.gettempdir(), _LONG_TEMPORARY)]
    for place in places:
        with contextlib.suppress(OSError):
            found = os.statvfs(place)
            # The guest's memory is mapped from there, its code as well.
            executable = not found.f_flag & os.ST_NOEXEC
            if executable and os.access(place, os.W_OK) and found.f_bavail * found.f_frsize >= wanted:
                return place
    raise host.HarnessError(
        f"none of {', '.join(map(str, places))} has {wanted >> 20} MiB of room and allows execution, as user-mode "
        "Linux needs it for its guests' memory"
    )
