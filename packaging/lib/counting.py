"""How many tests of a tier passed, and the command that ran them brought to its end."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from throwaway import host

ROOT = Path(__file__).resolve().parents[2]
# Of a long message: its beginning, and its end, where a command's last words are.
_HEAD, _TAIL = 300, 900
# What pytest puts in the place of the rest, and the lines of its report that have the whole.
_CUT = "[truncated; full report in element text]"
_SAID = re.compile(r"^E +(.*)$", re.MULTILINE)
# How pytest names a line that an exception came through.
_PLACE = re.compile(r"^(\S+\.py:\d+): ", re.MULTILINE)


@dataclass
class Count:
    """Tests of one tier by their result, and what went wrong beside them."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    trouble: str = ""
    failures: list[str] = field(default_factory=list)
    """Each that failed, by the name that pytest takes, and what it said."""

    def __add__(self, other: Count) -> Count:
        trouble = ", ".join(text for text in (self.trouble, other.trouble) if text)
        passed, failed = self.passed + other.passed, self.failed + other.failed
        failures = self.failures + other.failures
        return Count(passed, failed, self.skipped + other.skipped, trouble, failures)


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


def of_report(report: Path, code: int, where: str = "") -> Count:
    """What pytest's own report says; a missing one, or a status that contradicts it, is trouble.

    `where` the tests ran is said of each that failed.
    """
    if not report.exists():
        return Count(failed=1, trouble=f"pytest left no count (exit status {code})")
    count = Count()
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314  # written by our own pytest
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            count.failed += 1
            count.failures += _failures(case, where)
        elif "skipped" in kinds:
            count.skipped += 1
        else:
            count.passed += 1
    # 5 is pytest's "no tests were collected", which the caller reports in its own words.
    if code not in (0, 5) and not count.failed:
        count.trouble = f"pytest ended with {code}"
    return count


def _failures(case: ElementTree.Element, where: str) -> Iterator[str]:
    """A test and its teardown may each have failed."""
    name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
    for child in case:
        if child.tag in {"failure", "error"}:
            report = child.text or ""
            text = " ".join(child.get("message", "").split())
            if text.endswith(_CUT):
                text = " ".join(" ".join(_SAID.findall(report)).split())
            if len(text) > _HEAD + _TAIL:
                text = f"{text[:_HEAD]} [...] {text[-_TAIL:]}"
            lines = ", ".join(_PLACE.findall(report))
            told = [f"{each.get('name')}: {each.get('value')}" for each in case.iter("property")]
            places = [f"(at {lines})"] if lines else []
            yield " ".join([f"{name}{f' ({where})' if where else ''}: {text}", *places, *told])


def say(name: str, count: Count, seconds: float | None = None) -> None:
    line = f"{name}: {count.passed} passed, {count.failed} failed"
    if count.skipped:
        line += f", {count.skipped} skipped"
    if seconds is not None:
        line += f" in {seconds:.0f} s"
    if count.trouble:
        line += f" ({count.trouble})"
    print(line, flush=True)
