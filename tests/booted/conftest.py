"""The booted tier: tests that run inside a throwaway Debian with real systemd and the installed .deb.

`tests/run booted` boots the machine and runs this folder there; elsewhere it is collected, and nothing
of it run. A test that fails shows what the journal got while it ran.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.booted.loops import bad_file, import_error  # noqa: F401  fixtures

# Two crash loops run from the first of these files to the last of them; those between need time, and nothing that a
# loop beside them takes from them.
_WATCHED = (
    "test_failures",
    "test_recycle",
    "test_reload",
    "test_stop",
    "test_master_gone",
    "test_crash_loops",
)
_STARTED = pytest.StashKey[float]()
_SHOWN_LINES = 200
_LAST_LINES, _SHOWN_WIDTH = 12, 200
# The OOM killer writes a hundred lines at a time: of the kernel only this is shown.
_KERNEL = re.compile(r" kernel: (?!.*(?:invoked oom-killer|Killed process|memory: usage|panic|segfault))")


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    # Only the image of packaging/lib/throwaway has this folder.
    return None if Path("/memunit-host").is_dir() or config.option.collectonly else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _WATCHED.index(item.path.stem) + 1 if item.path.stem in _WATCHED else 0)


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
            ["journalctl", "--no-pager", "-o", "short-monotonic", "--since", since],
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
        )
        lines = [line for line in journal.stdout.splitlines() if not _KERNEL.search(line)]
        title = f"journal while it ran (last {_SHOWN_LINES})"
        report.sections.append((title, "\n".join(lines[-_SHOWN_LINES:])))
        # For the line of tests/run that names this failure (packaging/lib/counting.py).
        # What systemd says then is of the test's own end.
        others = [line for line in lines if " systemd[1]: " not in line] or lines
        last = (line[:_SHOWN_WIDTH] for line in others[-_LAST_LINES:])
        item.user_properties.append(("last of the journal", " | ".join(last)))
