"""Where a test needs mounts of its own."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

_OWN_ROOT = Path(__file__).resolve().parents[2] / "packaging" / "lib" / "throwaway" / "ownroot.py"
# Before a command; root's alone.
OWN_MOUNTS = (sys.executable, str(_OWN_ROOT))


def need_mount_namespace() -> None:
    """Skip the test where this process may not make one."""
    tried = subprocess.run([*OWN_MOUNTS, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(tried.stderr.strip())


def enter_mount_namespace() -> None:
    """As OWN_MOUNTS, for this process itself; raises OSError."""
    runpy.run_path(str(_OWN_ROOT))["enter"]()
