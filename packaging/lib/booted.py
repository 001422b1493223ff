"""The booted tier: pytest in throwaway machines that have installed the .deb, two machines at a time.

Each test runs where what it needs is had at the least price. Its marks (pyproject.toml) say what it needs:

    native              systemd-nspawn: neither a memory controller nor a kernel of its own
    pressure, parallel  QEMU: PSI, two processors
    none of these       user-mode Linux

Of two suites, QEMU boots the first alone: it takes a minute before its first test, and is there for a few.
Where one kind of machine can't be had, its tests go to the next one in this list: nspawn, user-mode Linux, QEMU.
MEMUNIT_MACHINE=nspawn|uml|qemu in the environment has all tests in one kind.

    python3 packaging/lib/booted.py SUITE... DEB COUNT -- PYTEST-ARGUMENT...

writes how many passed to the file COUNT.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from counting import ROOT, Count, of_report
from throwaway import host, image, machine, nspawn, payload, qemukernel, site, uml

SUITES = {
    "booted": ("bookworm", "trixie"),
    "booted-bookworm": ("bookworm",),
    "booted-trixie": ("trixie",),
}
_NAMES = {"bookworm": "Debian 12", "trixie": "Debian 13"}
_MACHINES = {"uml": "user-mode Linux", "nspawn": "systemd-nspawn", "qemu": "QEMU"}
_AT_A_TIME = 2
_COLLECT_SECONDS = 300.0
_END_SECONDS = 30.0
# Of one machine. Where all has to be emulated, or somebody names what is to run, there is more of it.
_SECONDS = {"uml": 3600.0, "nspawn": 2400.0, "qemu": 2400.0}
_LONG_SECONDS = 7200.0
# Of the whole, which each machine's own bound keeps it from.
SECONDS = 2 * _LONG_SECONDS
_FRAMEWORKS = ROOT / "tests" / "frameworks.txt"
_OURS = ("MEMUNIT_DEB", "MEMUNIT_MACHINE")

_EMULATED = "pressure or parallel"
_NATIVE = "native and not pressure and not parallel"
_REST = "not native and not pressure and not parallel"

# Through a pipe, for both draw on a terminal.
_PAYLOAD = """#!/bin/bash
set -uo pipefail
export MEMUNIT_DEB=/payload/memunit.deb PYTHONDONTWRITEBYTECODE=1 {environment}
echo "installing the package"
if ! dpkg -i memunit.deb 2>&1 | cat; then
    echo "the package cannot be installed"
    exit 70
fi
python3 -m pytest -v --durations=12 -p no:cacheprovider --junitxml=/results/junit.xml {arguments} 2>&1 | cat
"""


@dataclass(frozen=True)
class Guest:
    """A machine that is to run the tests of one mark expression."""

    suite: str
    machine: str
    words: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        return f"{_NAMES[self.suite]}, {_MACHINES[self.machine]}"


@dataclass
class _Running:
    guest: Guest
    process: subprocess.Popen[bytes]
    folder: tempfile.TemporaryDirectory[str]
    started: float


def run(suites: list[str], package: Path, arguments: list[str]) -> Count:
    """Run what the arguments choose of the tier on each suite; raises HarnessError."""
    for suite in suites:
        site.ensure(suite, _FRAMEWORKS)
    images = {suite: image.ensure(suite) for suite in suites}
    waiting = plan(suites, images, arguments)
    count = Count()
    running: list[_Running] = []
    alone = len(waiting) == 1
    try:
        while waiting or running:
            while waiting and len(running) < _AT_A_TIME:
                running.append(_start(waiting.pop(0), package, alone))
            first = _first_to_end(running)
            running.remove(first)
            count += _end(first)
    finally:
        for one in running:
            _end(one)
    return count


def plan(suites: list[str], images: dict[str, image.Image], arguments: list[str]) -> list[Guest]:
    """The machines, the longest first; none that would have nothing to run."""
    chosen = [word for word in arguments if word.startswith("tests/")]
    words = arguments if chosen else ["tests/booted", *arguments]
    guests = []
    for kind, expression in _here(images[suites[0]]).items():
        if not _any(words, expression):
            continue
        if kind == "qemu":
            qemukernel.ensure(suites[0])
        emulates_all = kind == "qemu" and expression != _EMULATED
        seconds = _LONG_SECONDS if chosen or emulates_all else _SECONDS[kind]
        marks = ("-m", expression) if expression else ()
        only = suites if expression != _EMULATED else suites[:1]
        guests += [Guest(suite, kind, (*words, *marks), seconds) for suite in only]
    return guests


def _here(made: image.Image) -> dict[str, str]:
    """The division on this host, with a line for each kind of machine that can't be had."""
    forced = os.environ.get("MEMUNIT_MACHINE", "")
    if forced:
        if forced not in _MACHINES:
            raise host.HarnessError(f"MEMUNIT_MACHINE={forced} is none of {', '.join(_MACHINES)}")
        return {forced: ""}
    without = {}
    if refusal := nspawn.refusal(made):
        print(f"no test runs in systemd-nspawn: {_brief(refusal)}", flush=True)
        without["nspawn"] = refusal
    if refusal := uml.refusal(made):
        print(f"QEMU has the tests of user-mode Linux, and takes its time: {_brief(refusal)}", flush=True)
        without["uml"] = refusal
    return division(without)


def division(without: Collection[str]) -> dict[str, str]:
    """Which tests go to which kind of machine, as pytest's expressions of marks; "" are all.

    `without` are the kinds that can't be had, of "nspawn" and "uml".
    """
    found = {"uml": _REST, "qemu": _EMULATED, "nspawn": _NATIVE}
    if "nspawn" in without:
        del found["nspawn"]
        found["uml"] = f"not ({_EMULATED})"
    if "uml" in without:
        del found["uml"]
        found["qemu"] = f"not ({_NATIVE})" if "nspawn" in found else ""
    return found


def _brief(refusal: str) -> str:
    """In one line: what happened, and the last that was said of it."""
    first, *others = refusal.splitlines()
    return f"{first} {others[-1].strip()}" if others else first


def _any(words: list[str], expression: str) -> bool:
    """Whether the words choose any test of these marks: asked here, for a boot takes longer."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *words]
    command += ["-m", expression] if expression else []
    done = subprocess.run(
        command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=_COLLECT_SECONDS
    )
    if done.returncode not in (0, 5):
        raise host.HarnessError(f"pytest can't collect the booted tests:\n{done.stdout}{done.stderr}")
    return done.returncode == 0


def _start(guest: Guest, package: Path, shown: bool) -> _Running:
    """Start a machine in a process of its own; what it says goes to a file, or is shown as it comes."""
    folder = tempfile.TemporaryDirectory(prefix="memunit-tier-")
    place = Path(folder.name)
    _pack(place / "payload.tar", package, guest)
    command = [sys.executable, "-m", "throwaway", "--suite", guest.suite, "run", str(place / "payload.tar")]
    command += [
        "--with",
        guest.machine,
        "--deadline",
        str(guest.seconds),
        "--results",
        str(place / "results"),
    ]
    print(f"-- {guest}: started", flush=True)
    with (place / "said").open("wb") as said:
        process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": str(ROOT / "packaging" / "lib")},
            stdin=subprocess.DEVNULL,
            stdout=None if shown else said,
            stderr=None if shown else subprocess.STDOUT,
            start_new_session=True,
        )
    return _Running(guest, process, folder, time.monotonic())


def _first_to_end(running: list[_Running]) -> _Running:
    """Wait until one has ended, whose deadline is its own; one that does not keep it is ended."""
    with contextlib.ExitStack() as opened, selectors.DefaultSelector() as selector:
        for one in running:
            pidfd = os.pidfd_open(one.process.pid)
            opened.callback(os.close, pidfd)
            selector.register(pidfd, selectors.EVENT_READ, one)
        latest = min(running, key=lambda one: one.started + one.guest.seconds)
        bound = latest.started + latest.guest.seconds + _END_SECONDS - time.monotonic()
        ready = selector.select(max(0.0, bound))
        first: _Running = ready[0][0].data if ready else latest
    return first


def _end(one: _Running) -> Count:
    """Its machine is down afterwards; what it said is shown, and its count returned."""
    try:
        # By SIGTERM it takes its machine down.
        host.end(one.process, signal.SIGTERM, signal.SIGKILL)
        place = Path(one.folder.name)
        said = (place / "said").read_text(errors="replace")
        count = of_report(place / "results" / "junit.xml", one.process.wait(), str(one.guest))
        print(f"{said}-- {one.guest}: {count.passed} passed, {count.failed} failed", end="")
        print(f" in {time.monotonic() - one.started:.0f} s", flush=True)
        return count
    finally:
        one.folder.cleanup()


def _pack(packed: Path, package: Path, guest: Guest) -> None:
    """What a guest is given to run its tests of the installed package."""
    # What the apps of examples/ import, for the guest's own interpreter; without it their tests say so. An emulated
    # processor takes a minute to unpack it.
    lean = guest.machine == "qemu" and _EMULATED in guest.words
    folder = None if lean else site.ensure(guest.suite, _FRAMEWORKS)
    # What asks for the long form of a test is for the guest, too.
    said = {name: text for name, text in os.environ.items() if name.startswith("MEMUNIT_")}
    environment = " ".join(f"{name}={shlex.quote(text)}" for name, text in said.items() if name not in _OURS)
    program = _compiled(packed.parent)
    payload.pack(
        {
            "run": _PAYLOAD.format(arguments=shlex.join(guest.words), environment=environment),
            "memunit.deb": package,
            "pyproject.toml": ROOT / "pyproject.toml",
            "tests": ROOT / "tests",
            "examples": ROOT / "examples",
            "autopkgtest": ROOT / "packaging/debian/tests",
            **({} if folder is None else {"site-packages": folder}),
            **({} if program is None else {"generous": program}),
        },
        packed,
    )


def _compiled(place: Path) -> Path | None:
    """The C program of tests/booted/test_giving.py; None without a compiler, and that test says so."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    program = place / "generous"
    source = ROOT / "tests" / "support" / "apps" / "generous.c"
    done = subprocess.run([compiler, "-std=c11", "-O1", "-o", program, source], check=False)
    return program if done.returncode == 0 else None


def main() -> int:
    """Entry point; 0 if the count was written."""
    cut = sys.argv.index("--")
    *suites, package, target = sys.argv[1:cut]
    try:
        count = run(suites, Path(package), sys.argv[cut + 1 :])
    except (host.HarnessError, OSError) as error:
        count = Count(failed=1, trouble=str(error))
    except machine.Interrupted as interrupted:
        return 128 + interrupted.signum
    Path(target).write_text(json.dumps(asdict(count)))
    return 0


if __name__ == "__main__":
    with machine.interruptible():
        sys.exit(main())
