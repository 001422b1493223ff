"""What tests/run does once its environment is there: run the tiers, count, and say it.

Host tiers are pytest runs here; booted tiers are a pytest run in a throwaway machine that has
installed the .deb. While the light tiers run, the machine's image is built beside them; the tiers
that measure time have the processors for themselves. MEMUNIT_DEB names a .deb that is built already.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from counting import ROOT, Count, finish, of_report, say
from lint import lint
from throwaway import host, image, machine, nspawn, payload, qemu, site

Boot = Callable[[image.Image, Path], contextlib.AbstractContextManager[machine.Running]]

_LIGHT = ("lint", "unit", "properties")
_SUITES = {"booted": "bookworm", "booted-trixie": "trixie"}
_DEADLINES = {"lint": 180.0, "unit": 180.0, "properties": 240.0, "process": 720.0, "packaging": 480.0}
# Half of the process tier's time is waiting, for ends and for starts; a file's tests stay together, and in their order.
_HALVES = ("-n", "2", "--dist", "loadfile")
_WORDS = {"unit": _HALVES, "process": _HALVES}
_BOOTED_SECONDS = 1080.0
# Where all has to be emulated, or somebody names what is to run: a benchmark may, and takes its time.
_ALONE_SECONDS = 3600.0
_BUILD_SECONDS = 420.0

_PAYLOAD = """#!/bin/sh
set -u
export MEMUNIT_DEB=/payload/memunit.deb PYTHONDONTWRITEBYTECODE=1 {environment}
echo "installing the package"
if ! dpkg -i memunit.deb; then
    echo "the package cannot be installed"
    exit 70
fi
exec python3 -m pytest -v --durations=12 -p no:cacheprovider --junitxml=/results/junit.xml {arguments}
"""


class Tiers:
    """The tiers of one call, and the .deb that they share."""

    def __init__(self, names: list[str], arguments: list[str]) -> None:
        self.names = names
        self.arguments = arguments
        self._deb: Path | None = None

    def run(self) -> int:
        """Run all tiers; 0 if each ran tests and none failed."""
        counts: dict[str, Count] = {}
        images = [_build_image(_SUITES[name]) for name in self.names if name in _SUITES]
        try:
            for name in sorted(self.names, key=lambda name: name not in _LIGHT):
                if name not in _LIGHT:
                    _settle(images)
                print(f"== {name}", flush=True)
                started = time.monotonic()
                try:
                    count = self._tier(name)
                except (host.HarnessError, OSError) as error:
                    count = Count(failed=1, trouble=str(error))
                if not count.passed and not count.failed and not count.trouble:
                    count.trouble = "no test ran"
                counts[name] = count
                say(name, count, time.monotonic() - started)
        finally:
            for builder in images:
                builder.terminate()
                builder.wait()
        print()
        for name, count in counts.items():
            say(name, count)
        passed = sum(count.passed for count in counts.values())
        failed = sum(count.failed for count in counts.values())
        print(f"{passed} passed, {failed} failed")
        return 1 if any(count.failed or count.trouble for count in counts.values()) else 0

    def _tier(self, name: str) -> Count:
        if name == "lint":
            return lint(_DEADLINES["lint"])
        if name in _SUITES:
            return self._booted(_SUITES[name])
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
            code = finish(command, _DEADLINES[name], environment)
            return of_report(report, code)

    def _booted(self, suite: str) -> Count:
        """All in QEMU, but what needs no kernel of its own in a container: that is ten times as fast.

        In two machines at a time, for one processor emulates one.
        """
        package = self._package()
        made = image.ensure(suite)
        chosen = [word for word in self.arguments if word.startswith("tests/")]
        words = self.arguments if chosen else ["tests/booted", *self.arguments]
        if chosen:
            return self._guest(suite, made, package, qemu.boot, words, _ALONE_SECONDS)
        refusal = nspawn.refusal(made)
        count, others, deadline = Count(), "not beside", _ALONE_SECONDS
        if refusal:
            print(f"all in QEMU: {refusal.splitlines()[0]}", flush=True)
        else:
            count = self._guest(suite, made, package, nspawn.boot, [*words, "-m", "native"])
            others, deadline = "not native and not beside", _BOOTED_SECONDS
        with self._beside(suite, package, [*words, "-m", "beside"], deadline) as beside:
            count += self._guest(suite, made, package, qemu.boot, [*words, "-m", others], deadline)
        return count + beside[0]

    def _guest(
        self,
        suite: str,
        made: image.Image,
        package: Path,
        boot: Boot,
        words: list[str],
        deadline: float = _BOOTED_SECONDS,
    ) -> Count:
        with tempfile.TemporaryDirectory(prefix="memunit-tier-") as folder:
            packed, results = Path(folder) / "payload.tar", Path(folder) / "results"
            lean = boot is not nspawn.boot and "not native and not beside" in words
            _pack(packed, package, words, {} if lean else _site(suite))
            code = machine.follow(partial(boot, made, packed), deadline=deadline, results=results)
            return of_report(results / "junit.xml", code)

    @contextlib.contextmanager
    def _beside(self, suite: str, package: Path, words: list[str], deadline: float) -> Iterator[list[Count]]:
        """A guest in a process of its own meanwhile; at the end what it said is shown, and its count is in the list."""
        counts: list[Count] = []
        with tempfile.TemporaryDirectory(prefix="memunit-tier-") as folder:
            packed, results, said = (Path(folder) / name for name in ("payload.tar", "results", "said"))
            _pack(packed, package, words, {})
            command = [sys.executable, "-m", "throwaway", "--suite", suite, "run", str(packed)]
            with said.open("wb") as output:
                process = subprocess.Popen(
                    [*command, "--deadline", str(deadline), "--results", str(results)],
                    env={**os.environ, "PYTHONPATH": str(ROOT / "packaging" / "lib")},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            try:
                yield counts
                code = process.wait(deadline + machine.BOOT_SECONDS)
            finally:
                process.terminate()  # which takes its machine down
                process.wait()
                print(f"-- beside it:\n{said.read_text(errors='replace')}", flush=True)
            counts.append(of_report(results / "junit.xml", code))

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


def _pack(packed: Path, package: Path, words: list[str], site_packages: dict[str, Path]) -> None:
    """What a guest is given to run these tests of the installed package."""
    payload.pack(
        {
            "run": _PAYLOAD.format(arguments=shlex.join(words), environment=_environment()),
            "memunit.deb": package,
            "pyproject.toml": ROOT / "pyproject.toml",
            "tests": ROOT / "tests",
            "examples": ROOT / "examples",
            **site_packages,
        },
        packed,
    )


def _environment() -> str:
    """What asks for the long form of a test is for the guest, too."""
    said = {name: text for name, text in os.environ.items() if name.startswith("MEMUNIT_")}
    return " ".join(f"{name}={shlex.quote(text)}" for name, text in said.items() if name != "MEMUNIT_DEB")


def _site(suite: str) -> dict[str, Path]:
    """What the apps of examples/ import, for the guest's own interpreter; without it their tests say so."""
    folder = site.ensure(suite, ROOT / "tests" / "frameworks.txt")
    return {} if folder is None else {"site-packages": folder}


def _build_image(suite: str) -> subprocess.Popen[bytes]:
    """Fill the cache beside the light tiers; whoever needs the image asks for it again and finds it."""
    library = str(ROOT / "packaging" / "lib")
    return subprocess.Popen(
        [sys.executable, "-m", "throwaway", "--suite", suite, "image"],
        env={**os.environ, "PYTHONPATH": library},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def _settle(builders: list[subprocess.Popen[bytes]]) -> None:
    for builder in builders:
        builder.wait()


def main() -> int:
    """Entry point: TIER... -- PYTEST-ARGUMENT..."""
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    names = list(dict.fromkeys(words[:cut]))
    try:
        return Tiers(names, words[cut + 1 :]).run()
    except machine.Interrupted as interrupted:
        return 128 + interrupted.signum


if __name__ == "__main__":
    with machine.interruptible():
        sys.exit(main())
