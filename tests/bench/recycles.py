"""Recycles for memory under load, with each worker examined and with none, in turn: what is lost, the time, what stays.

Two instances of the same leaking app run all the time, of two workers each; in each pair one has the load until some
workers were recycled (20, or fewer where there are few in all), and then the other. The times are those of the masters,
by their flight recorders: from the cause (the worker is over its limit, and is to be replaced) to the start of the
replacement, and from there to READY=1. One worker at a time is replaced: here, where workers reach their limits so
often, a start may wait for the end of another. MEMUNIT_RECYCLES has how many of each (1,000), MEMUNIT_RATE the requests
a second (150): fewer of them wait less often. A recycle needs a hundred requests, and more while it waits: 24 of each,
at 60 requests a second, take a minute and a half.
"""

import contextlib
import math
import os
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from memunit.core import facts as f
from memunit.core.flight import FlightCodec
from memunit.core.model import WorkerId
from memunit.core.replay import Replay
from memunit.master import leakfiles
from memunit.master.recorder import BEFORE, NAME
from tests.bench import leaky
from tests.bench.common import ROOT
from tests.support.harness import Service, Unit
from tests.support.load import LOST
from tests.support.workers import LoadProcess

RATE = float(os.environ.get("MEMUNIT_RATE", "150"))
RECYCLES = int(os.environ.get("MEMUNIT_RECYCLES", "1000"))
# A dozen pairs, where there are enough for that: the median of two says nothing.
PART = max(leaky.SLOTS, min(20, RECYCLES // 12))
PAIRS = -(-RECYCLES // PART)
EXAMINED = {"examined": "2s", "not examined": 0}
LONG = 600.0
# Seconds; the pass that decides it is the one that starts it.
_AT_ONCE = 0.02


def main() -> None:
    """Measure and print."""
    load = os.getloadavg()[1]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        both = {
            name: stack.enter_context(_instance(folder / name.replace(" ", "-"), seconds))
            for name, seconds in EXAMINED.items()
        }
        for each in both.values():
            each.recycle(leaky.SLOTS)  # warms up, and is not counted
            each.begin()
        for pair in range(PAIRS):
            took = {name: both[name].recycle() for name in sorted(both, reverse=bool(pair % 2))}
            said = ", ".join(f"{name} {took[name]:.1f} s" for name in both)
            print(f"pair {pair + 1} of {PAIRS}: {said}", file=sys.stderr, flush=True)
        for name, each in both.items():
            print(f"{name}: {each.told()}", flush=True)
        _compare({name: each.times() for name, each in both.items()})
    print(f"load of the machine: {load:.1f} at the start, {os.getloadavg()[1]:.1f} at the end")


class _Recycled:
    """One instance."""

    def __init__(self, unit: Unit, service: Service, state: Path) -> None:
        self._unit, self._service, self._state = unit, service, state
        self._mark, self._before = 0, ""
        self._open: Counter[str] = Counter()
        self._counts = dict.fromkeys(("sent", *LOST), 0)
        self._parts: list[tuple[float, float]] = []
        self._pids: set[int] = set()

    def recycle(self, part: int = PART) -> float:
        """Load until so many workers have ended, and then until all is as before: the seconds that it took."""
        service, mark, begun = self._service, self._service.mark, time.monotonic()
        words = ("--clients", "4", "--rate", str(RATE), "--seconds", str(LONG))
        load = LoadProcess(self._unit.directory, self._unit.target, *words)
        service.entry("ended", after=mark, count=part, timeout=LONG)
        report = load.finish()
        # A replacement that has begun comes to its end, and does not disturb the other instance.
        service.until(self._settled, "two workers that serve", timeout=LONG)
        self._parts.append((begun, time.monotonic()))
        for name in self._counts:
            self._counts[name] += report[name]
        self._pids |= {entry.pid for entry in service.entries("ended", after=mark)}
        return self._parts[-1][1] - begun

    def begin(self) -> None:
        """From now on it counts."""
        self._mark, self._before = self._service.mark, self._left()
        self._open = self._descriptors()
        self._counts = dict.fromkeys(self._counts, 0)
        self._parts.clear()

    def told(self) -> str:
        """What was lost, what was said, and what is left behind."""
        # A worker that the last requests took to its limit may be about to be replaced.
        with contextlib.suppress(AssertionError):
            self._service.until(lambda: not self._descriptors() - self._open, "as before", timeout=60.0)
        after, more = self._left(), self._descriptors() - self._open
        ends = self._service.entries("ended", after=self._mark)
        causes = sorted({entry.cause for entry in ends})
        said = [each.text for each in self._service.said[self._mark :]]
        found = [text for text in said if "What grew in worker" in text]
        named = sum(f"{leaky.__name__}.KEPT_" in text for text in found)
        lost = sum(self._counts[name] for name in LOST)
        return (
            f"{len(ends)} recycles ({', '.join(causes)}), {len(found)} told what grew, {named} of them by its name; "
            f"{lost} of {self._counts['sent']} requests lost\n  before: {self._before}\n  after:  {after}"
            + (f"\n  descriptors that are more: {dict(more)}" if more else "")
            + "".join(f"\n  {text}" for text in self._silent(said) if found)
        )

    def _silent(self, said: list[str]) -> list[str]:
        """All that was said of the workers of which nothing is told that grew."""
        ends = [entry.pid for entry in self._service.entries("ended", after=self._mark)]
        told = " ".join(text for text in said if "What grew in worker" in text)
        return [text for pid in ends if f"(pid {pid})" not in told for text in said if f"(pid {pid})" in text]

    def times(self) -> list[list[tuple[float, float]]]:
        """Of each part, of each replacement: seconds from the cause to its start, and from there to READY=1."""
        found = list(_replacements(self._unit.runtime))
        return [
            [(wait, start) for at, wait, start in found if begun <= at <= ended]
            for begun, ended in self._parts
        ]

    def _descriptors(self) -> "Counter[str]":
        return Counter(map(_name, Path(f"/proc/{self._service.pid}/fd").iterdir()))

    def _settled(self) -> bool:
        entries = [entry.event for entry in self._service.entries()]
        return entries.count("started") - entries.count("ended") == leaky.SLOTS

    def _left(self) -> str:
        """What the master has, and what it has left: of processes those that have ended, and are its children still."""
        pid = self._service.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        status = Path(f"/proc/{pid}/status").read_text()
        size = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
        zombies = sum(_is_zombie(child) for child in children)
        ended = len(self._pids & set(map(int, children)))
        kinds = Counter[str]()
        for name, count in self._descriptors().items():
            kinds[name.partition(":")[0] if not name.startswith("/") else "file"] += count
        return (
            f"descriptors {dict(sorted(kinds.items()))}, {len(children)} children ({zombies} zombies, {ended} of "
            f"those that have ended), RSS {int(size) / 1024:.1f} MiB, {_files(self._unit.runtime)} files in the "
            f"runtime directory, {_files(self._state)} in the state directory (at most {leakfiles.MOST})"
        )


@contextlib.contextmanager
def _instance(folder: Path, seconds: object) -> Iterator[_Recycled]:
    folder.mkdir()
    state = folder / "state"
    state.mkdir()
    unit = Unit(folder)
    try:
        unit.write(
            app={"run": "tests.bench.leaky:app", "preload": True},
            workers={"count": leaky.SLOTS, "min_lifetime": 0},
            memory={"limit": "32M", "interval": "50ms", "patience": 0},
            examine={"time": seconds},
            recorder={"size": "256M"},
        )
        made = unit.serve(environment={"STATE_DIRECTORY": str(state)}, directory=ROOT).ready()
        yield _Recycled(unit, made, state)
        made.stop()
    finally:
        unit.close()


def _replacements(runtime: Path) -> Iterator[tuple[float, float, float]]:
    """By what the recorder has: when it was ready; the seconds from the cause to its start; and from there."""
    if (runtime / BEFORE).exists():
        raise RuntimeError("the recorder has begun anew: [recorder] size is too small")
    codec = FlightCodec()
    with (runtime / NAME).open() as lines:
        replay = Replay(codec.parse_head(lines.readline()).state, codec)
        for done in replay.run(codec.parse_steps(lines)):
            workers = done.state.workers
            for fact in done.step.facts:
                if isinstance(fact, f.Ready) and fact.id.generation > 1:
                    old = workers.get(WorkerId(fact.id.slot, fact.id.generation - 1))
                    if old is not None:
                        born = workers[fact.id].born
                        yield done.step.now, born - old.wants_since, done.step.now - born


def _compare(times: dict[str, list[list[tuple[float, float]]]]) -> None:
    for name, parts in times.items():
        waits = [wait for part in parts for wait, _ in part]
        starts = [start for part in parts for _, start in part]
        at_once = sum(wait < _AT_ONCE for wait in waits)
        others = [wait for wait in waits if wait >= _AT_ONCE]
        print(
            f"{name}: from the start to READY=1 {_spread(starts)}; {at_once} of {len(waits)} started at once"
            + (f", the others after {_spread(others)}" if others else "")
        )
    for what, most in (("all", math.inf), ("those that started at once", _AT_ONCE)):
        ratios = []
        for pair in zip(*times.values(), strict=True):
            a, b = ([start for wait, start in part if wait < most] for part in pair)
            if a and b:
                ratios.append(statistics.median(a) / statistics.median(b))
        if ratios:
            middle = statistics.median(ratios)
            print(
                f"from the start to READY=1, {what}: {len(ratios)} pairs, median of the ratios {middle:.3f}"
            )


def _spread(values: list[float]) -> str:
    # Of one value there are no quantiles.
    tenths = statistics.quantiles(values if len(values) > 1 else values * 2, n=10, method="inclusive")
    median, most, longest = statistics.median(values), tenths[-1], max(values)
    return f"median {1000 * median:.1f} ms, 9 of 10 within {1000 * most:.1f} ms, most {1000 * longest:.1f} ms"


def _files(folder: Path) -> int:
    return sum(each.is_file() or each.is_socket() for each in folder.rglob("*"))


def _name(link: Path) -> str:
    """What a descriptor is of, without numbers: of the same there may be another one later."""
    with contextlib.suppress(OSError):
        return re.sub(r"[0-9]+", "N", str(link.readlink()))
    return "closed"


def _is_zombie(pid: str) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return False
