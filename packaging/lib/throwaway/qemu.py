"""A machine of its own kernel: QEMU, accelerated where that works, with the whole of cgroup v2."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from throwaway import host, qemukernel
from throwaway.image import Image
from throwaway.machine import Running

_PROBE_SECONDS = 5.0
_ACCEPT_SECONDS = 20.0
# no_timer_check: at boot the kernel counts the ticks of its timer for a moment. It panicked when a busy host gave an
# emulated processor no time just then ("IO-APIC + timer doesn't work!"). Under KVM it does not count them.
_COMMAND_LINE = (
    "root=/dev/vda rw quiet loglevel=4 panic=-1 psi=1 fsck.mode=skip systemd.show_status=auto no_timer_check"
)


def accelerator(kernel: Path) -> str:
    """ "kvm" if the kernel's first line comes within seconds under it, else "tcg".

    A /dev/kvm may be there and still hang, so it is tried; the finding is kept until the host boots again.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    memory = host.cache() / "accelerator"
    with contextlib.suppress(OSError, ValueError):
        known, found = memory.read_text().split()
        if known == boot_id and found in ("kvm", "tcg"):
            return found
    arch = host.architecture()
    command = [
        host.find(arch.emulator),
        *("-accel", "kvm", "-machine", arch.machine, "-cpu", "host", "-m", "256", "-no-reboot"),
        *("-nodefaults", "-display", "none", "-serial", "stdio"),
        *("-kernel", str(kernel), "-append", f"console={arch.console} panic=-1"),
    ]
    # With no root file system the kernel panics and QEMU ends: "Linux version" in what it said is the answer.
    try:
        said = subprocess.run(
            command, check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=_PROBE_SECONDS
        ).stdout
    except subprocess.TimeoutExpired as late:
        said = late.stdout or b""
    found = "kvm" if b"Linux version" in said else "tcg"
    memory.parent.mkdir(parents=True, exist_ok=True)
    memory.write_text(f"{boot_id} {found}\n")
    return found


@contextlib.contextmanager
def boot(image: Image, payload: Path, *, cpus: int = 2, memory: int = 1024) -> Iterator[Running]:
    """Start the machine with `memory` MiB; the root disk lies beneath a layer that QEMU throws away."""
    arch = host.architecture()
    kernel = qemukernel.ensure(image.suite)
    accel = accelerator(kernel.image)
    with (
        tempfile.TemporaryDirectory(prefix="memunit-qemu-") as folder,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        console = Path(folder) / "console"
        channel = Path(folder) / "channel"
        listener.bind(str(channel))
        listener.listen(1)
        listener.settimeout(_ACCEPT_SECONDS)
        command = [
            # Even a SIGKILL of this process takes the machine with it.
            *("setpriv", "--pdeathsig", "KILL", host.find(arch.emulator)),
            *("-accel", "tcg,thread=multi" if accel == "tcg" else "kvm"),
            *("-cpu", "max" if accel == "tcg" else "host", "-machine", arch.machine),
            *("-smp", str(cpus), "-m", str(memory), "-no-reboot", "-nodefaults", "-display", "none"),
            *("-kernel", str(kernel.image), "-initrd", str(kernel.initrd)),
            *("-append", f"console={arch.console} {_COMMAND_LINE}"),
            *("-serial", f"file:{console}"),
            *("-drive", f"file={image.root},format=raw,if=virtio,snapshot=on,cache=unsafe"),
            *("-drive", f"file={payload},format=raw,if=virtio,readonly=on"),
            *("-device", "virtio-serial", "-chardev", f"socket,id=channel,path={channel}"),
            *("-device", "virtserialport,chardev=channel,name=memunit.channel"),
            *("-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng"),
        ]
        errors = Path(folder) / "errors"
        with errors.open("wb") as stream:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
        try:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                raise host.HarnessError(f"QEMU did not start: {errors.read_text(errors='replace')}") from None
            with connection:
                connection.setblocking(False)

                def receive() -> bytes:
                    try:
                        return connection.recv(1 << 16)
                    except BlockingIOError:
                        return b""

                yield Running(process, connection.fileno(), receive, console, errors)
        finally:
            process.kill()
            process.wait()
