"""How many tests of a tier passed, and the command that ran them brought to its end."""

from __future__ import annotations

import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from throwaway import host

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Count:
    """Tests of one tier by their result, and what went wrong beside them."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    trouble: str = ""

    def __add__(self, other: Count) -> Count:
        trouble = ", ".join(text for text in (self.trouble, other.trouble) if text)
        passed, failed = self.passed + other.passed, self.failed + other.failed
        return Count(passed, failed, self.skipped + other.skipped, trouble)


def finish(command: list[str], deadline: float, environment: dict[str, str]) -> int:
    """Run to the end, or kill it with everything it started; the exit status, 124 if it took too long."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        return process.wait(deadline)
    except subprocess.TimeoutExpired:
        print(f"not done after {deadline:.0f} s", flush=True)
        return 124
    finally:
        # SIGINT first: pytest then takes its fixtures down, and with them what they started.
        host.end(process, signal.SIGINT, signal.SIGKILL)


def of_report(report: Path, code: int) -> Count:
    """What pytest's own report says; a missing one, or a status that contradicts it, is trouble."""
    if not report.exists():
        return Count(failed=1, trouble=f"pytest left no count (exit status {code})")
    count = Count()
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314  # written by our own pytest
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            count.failed += 1
        elif "skipped" in kinds:
            count.skipped += 1
        else:
            count.passed += 1
    # 5 is pytest's "no tests were collected", which the caller reports in its own words.
    if code not in (0, 5) and not count.failed:
        count.trouble = f"pytest ended with {code}"
    return count


def say(name: str, count: Count, seconds: float | None = None) -> None:
    line = f"{name}: {count.passed} passed, {count.failed} failed"
    if count.skipped:
        line += f", {count.skipped} skipped"
    if seconds is not None:
        line += f" in {seconds:.0f} s"
    if count.trouble:
        line += f" ({count.trouble})"
    print(line, flush=True)
