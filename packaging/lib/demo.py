"""The host's part of packaging/demo: boot a throwaway Debian and run demo_guest.py in it.

    python3 packaging/lib/demo.py DEB nspawn|qemu

The exit status is the guest's; 125 means that the machine failed, 3 that nspawn does not work here.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

from throwaway import image, machine, nspawn, payload, qemu
from throwaway.host import HarnessError

ROOT = Path(__file__).resolve().parents[2]
EXIT_HARNESS = 125
EXIT_NO_NSPAWN = 3
_SECONDS = 420.0


def main() -> int:
    """Entry point."""
    package, backend = Path(sys.argv[1]), sys.argv[2]
    try:
        made = image.ensure("bookworm")
        if backend == "nspawn" and (why := nspawn.refusal(made)):
            print(f"-- systemd-nspawn does not work here: {why}", flush=True)
            return EXIT_NO_NSPAWN
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
            else:
                accelerator = qemu.accelerator(made.kernel)
                kind = "QEMU with KVM" if accelerator == "kvm" else "QEMU, emulated: slow"
                boot = partial(qemu.boot, made, packed)
            print(f"-- booting a throwaway Debian with systemd ({kind})", flush=True)
            return machine.follow(boot, deadline=_SECONDS)
    except HarnessError as error:
        print(f"demo: {error}", file=sys.stderr)
        return EXIT_HARNESS
    except machine.Interrupted as interrupted:
        return 128 + interrupted.signum


if __name__ == "__main__":
    with machine.interruptible():
        sys.exit(main())
