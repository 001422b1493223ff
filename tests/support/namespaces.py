"""Where a test needs mounts of its own."""

from __future__ import annotations

import subprocess

import pytest


def need_mount_namespace() -> None:
    """Skip the test where unshare(1) makes none: in a chroot whose root is no mount point, a mount could not be
    kept from the host.
    """
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no mount namespace here: {tried.stderr.strip()}")
