"""The booted tier: tests that run inside a throwaway Debian with real systemd and the installed .deb.

`tests/run booted` boots the machine and runs this folder there; elsewhere nothing of it is
collected. A test that fails shows what the journal got while it ran.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

# Only the image of packaging/lib/throwaway has this folder.
collect_ignore_glob = [] if Path("/memunit-host").is_dir() else ["test_*.py"]

_STARTED = pytest.StashKey[float]()
_SHOWN_LINES = "80"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[_STARTED] = time.time()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        since = f"@{item.stash.get(_STARTED, time.time()):.3f}"
        journal = subprocess.run(
            ["journalctl", "--no-pager", "-o", "short-monotonic", "-n", _SHOWN_LINES, "--since", since],
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
        )
        report.sections.append((f"journal while it ran (last {_SHOWN_LINES})", journal.stdout))
