"""The host's part of packaging/demo: boot a throwaway Debian and run demo_guest.py in it.

    python3 packaging/lib/demo.py prepare auto|uml|nspawn|qemu
    python3 packaging/lib/demo.py run auto|uml|nspawn|qemu DEB

`prepare` builds what the machine needs. The exit status of `run` is the guest's; 125 means that the machine failed, 3
that auto found none but QEMU.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

from throwaway import image, machine, nspawn, payload, qemu, qemukernel, uml, umlkernel
from throwaway.host import HarnessError

ROOT = Path(__file__).resolve().parents[2]
EXIT_HARNESS = 125
EXIT_ONLY_QEMU = 3
_SUITE = "bookworm"
_SECONDS = 420.0


def main() -> int:
    """Entry point."""
    command, backend, *rest = sys.argv[1:]
    try:
        if command == "prepare":
            _prepare(backend)
            return 0
        return _run(backend, Path(rest[0]))
    except HarnessError as error:
        print(f"demo: {error}", file=sys.stderr)
        return EXIT_HARNESS
    except machine.Interrupted as interrupted:
        return 128 + interrupted.signum


def _prepare(backend: str) -> None:
    if backend == "uml":
        umlkernel.ensure()
    elif backend == "qemu":
        qemukernel.ensure(_SUITE)
    elif backend == "auto" and not nspawn.has_memory_controller():
        try:
            umlkernel.ensure()
        except HarnessError as error:
            print(f"demo: {error}", file=sys.stderr)
    image.ensure(_SUITE)


def _run(backend: str, package: Path) -> int:
    made = image.ensure(_SUITE)
    if backend == "auto":
        backend = _choose(made)
        if not backend:
            return EXIT_ONLY_QEMU
    with tempfile.TemporaryDirectory(prefix="memunit-demo-") as scratch:
        packed = Path(scratch) / "payload.tar"
        payload.pack(
            {
                "run": (ROOT / "packaging/lib/demo_guest.py").read_text(),
                "memunit.deb": package,
                "tests/support/load.py": ROOT / "tests/support/load.py",
            },
            packed,
        )
        if backend == "nspawn":
            kind, boot = "systemd-nspawn", partial(nspawn.boot, made, packed)
        elif backend == "uml":
            kind, boot = "user-mode Linux", partial(uml.boot, made, packed)
        else:
            accelerator = qemu.accelerator(qemukernel.ensure(_SUITE).image)
            kind = "QEMU with KVM" if accelerator == "kvm" else "QEMU, emulated: slow"
            boot = partial(qemu.boot, made, packed)
        print(f"-- booting a throwaway Debian with systemd ({kind})", flush=True)
        return machine.follow(boot, deadline=_SECONDS)


def _choose(made: image.Image) -> str:
    """The quickest machine that has the memory controller of cgroup v2 here; "" if neither of the quick ones does."""
    if nspawn.has_memory_controller() and not nspawn.refusal(made):
        return "nspawn"
    why = uml.refusal(made)
    if why:
        print(f"-- user-mode Linux does not work here: {why}", flush=True)
    return "" if why else "uml"


if __name__ == "__main__":
    with machine.interruptible():
        sys.exit(main())
