"""What tests/run does once its environment is there: run the tiers, count, and say it.

Host tiers are pytest runs here, one after the other. The booted tiers are machines, which mostly wait (booted.py): they
run beside the others from the moment at which their images are built, and what they said is shown at the end.
MEMUNIT_DEB names a .deb that is built already.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import booted
from counting import ROOT, Count, finish, of_report, say
from lint import lint
from throwaway import host, machine

# The process tier last: it meets the fewest machines.
_HOST = ("lint", "unit", "properties", "exploration", "packaging", "process")
_BOOTED = "booted"
# Each only bounds a hang: on two cores with other work beside, a tier takes three times as long as on quiet ones.
_DEADLINES = {
    "lint": 1800.0,
    "unit": 1800.0,
    "properties": 1800.0,
    "exploration": 1800.0,
    "process": 3600.0,
    "packaging": 1800.0,
}
# A file's tests stay together, and in their order. More than half of the process tier's time is waiting, for ends and
# for starts: with three processes two processors are busy. What a search has found is said: how many states, and how
# long who waits has waited.
_FILES = ("--dist", "loadfile")
_WORDS = {
    "unit": ("-n", "2", *_FILES),
    "packaging": ("-n", "2", *_FILES),
    # In the order of its conftest.py, not by the number of tests.
    "process": ("-n", "3", *_FILES, "--no-loadscope-reorder"),
    "exploration": ("-n", "2", "-rP"),
}
# Of the host's tiers while machines run: the machines take longest, so they go first, and most of their time they wait.
_NICE = 5
_BUILD_SECONDS = 900.0
_END_SECONDS = 120.0


@dataclass(frozen=True)
class Machines:
    """The process of booted.py, where its count will be, where what it says goes if that is not shown, and its start.

    The last is in seconds of CLOCK_MONOTONIC.
    """

    process: subprocess.Popen[bytes]
    count: Path
    said: Path | None
    started: float

    def finish(self) -> Count:
        """Wait for its end, and show what it has said."""
        code = self.process.wait(booted.SECONDS)
        if self.said:
            print(self.said.read_text(errors="replace"), end="", flush=True)
        if not self.count.exists():
            return Count(failed=1, trouble=f"booted.py left no count (exit status {code})")
        return Count(**json.loads(self.count.read_text()))


class Tiers:
    """The tiers of one call, and the .deb that they share."""

    def __init__(self, names: list[str], arguments: list[str]) -> None:
        self.suites = list(dict.fromkeys(suite for name in names for suite in booted.SUITES.get(name, ())))
        both = [_BOOTED] if len(self.suites) > 1 else [name for name in names if name in booted.SUITES]
        self.names = [*(name for name in _HOST if name in names), *both]
        self.arguments = arguments
        self._deb: Path | None = None

    def run(self) -> int:
        """Run all tiers; 0 if each ran tests and none failed."""
        counts: dict[str, Count] = {}
        with contextlib.ExitStack() as stack:
            machines = stack.enter_context(self._machines()) if self.suites else None
            for name in self.names:
                print(f"== {name}", flush=True)
                ours = machines if name.startswith(_BOOTED) else None
                started = ours.started if ours else time.monotonic()
                try:
                    count = ours.finish() if ours else self._tier(name)
                except (host.HarnessError, OSError) as error:
                    count = Count(failed=1, trouble=str(error))
                if not count.passed and not count.failed and not count.trouble:
                    count.trouble = "no test ran"
                counts[name] = count
                say(name, count, time.monotonic() - started)
        print()
        # Of a long output some readers keep the end alone.
        for failure in (failure for count in counts.values() for failure in count.failures):
            print(f"failed: {failure}")
        for name, count in counts.items():
            say(name, count)
        passed = sum(count.passed for count in counts.values())
        failed = sum(count.failed for count in counts.values())
        print(f"{passed} passed, {failed} failed")
        return 1 if any(count.failed or count.trouble for count in counts.values()) else 0

    @contextlib.contextmanager
    def _machines(self) -> Iterator[Machines]:
        """The booted tier under way, after what its machines are made of: gone afterwards, whatever happened."""
        first, *others = self.suites
        # Two at a time, for two processors; what the first machines need comes first. Of the tests that somebody
        # names, few need QEMU.
        last = [] if self.arguments else [f"qemu-{first}"]
        with contextlib.ExitStack() as stack:
            for things in (["uml", first], [*others, *last]):
                if things:
                    stack.enter_context(_started([sys.executable, "-m", "throwaway", "prepare", *things]))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="memunit-tier-")))
            said = folder / "said" if len(self.names) > 1 else None
            command = [sys.executable, str(ROOT / "packaging" / "lib" / "booted.py"), *self.suites]
            command += [str(self._package()), str(folder / "count"), "--", *self.arguments]
            process = stack.enter_context(_started(command, said))
            yield Machines(process, folder / "count", said, time.monotonic())

    def _tier(self, name: str) -> Count:
        if name == "lint":
            return lint(_DEADLINES["lint"])
        environment = dict(os.environ)
        if name == "packaging":
            environment["MEMUNIT_DEB"] = str(self._package())
        with tempfile.TemporaryDirectory(prefix="memunit-tier-") as folder:
            report = Path(folder) / "junit.xml"
            command = [
                sys.executable,
                "-m",
                "pytest",
                f"tests/{name}",
                f"--junitxml={report}",
                *_WORDS.get(name, ()),
                *self.arguments,
            ]
            if self.suites:
                command = ["nice", "-n", str(_NICE), *command]
            code = finish(command, _DEADLINES[name], environment)
            return of_report(report, code)

    def _package(self) -> Path:
        """The .deb, built once a call."""
        if self._deb is None and os.environ.get("MEMUNIT_DEB"):
            self._deb = Path(os.environ["MEMUNIT_DEB"])
        if self._deb is None:
            started = time.monotonic()
            built = subprocess.run(
                [ROOT / "packaging" / "build-deb"],
                check=False,
                stdout=subprocess.PIPE,
                timeout=_BUILD_SECONDS,
            )
            lines = built.stdout.decode(errors="replace").strip().splitlines()
            if built.returncode != 0 or not lines or not Path(lines[-1]).is_file():
                tail = "\n".join(lines[-30:])
                raise host.HarnessError(f"packaging/build-deb ended with {built.returncode}\n{tail}")
            self._deb = Path(lines[-1])
            print(f"built {self._deb.name} in {time.monotonic() - started:.0f} s", flush=True)
        return self._deb


@contextlib.contextmanager
def _started(command: list[str], said: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours beside the rest, ended with it; what it says is shown, or goes to a file."""
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(said.open("wb")) if said else None
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT / "packaging" / "lib")},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
        )
        try:
            yield process
        finally:
            # By SIGTERM it takes down what it has started.
            process.terminate()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def main() -> int:
    """Entry point: TIER... -- PYTEST-ARGUMENT..."""
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    names = list(dict.fromkeys(words[:cut]))
    try:
        return Tiers(names, words[cut + 1 :]).run()
    except host.HarnessError as error:
        print(f"tests/run: {error}", file=sys.stderr)
        return 1
    except machine.Interrupted as interrupted:
        return 128 + interrupted.signum


if __name__ == "__main__":
    with machine.interruptible():
        sys.exit(main())
