"""What it costs to be ready to find a leak, while nothing leaks: the same app with all of that and without, in turn.

"With" is memunit as it comes: notes at the fork, a look at routes and memory each few seconds, the question to give
memory back, the flight recorder. "Without" has each of them turned off by its key. The page on which a worker notes its
requests has no key: `board` measures it.

Three things make such pairs differ by more than the cost, measured with "without" on both sides, on a quiet machine:
- Placement. The kernel moves two workers, two masters and wrk(1) between two processors: the ratio of two bursts had a
  standard deviation of 2 to 6 %. So one worker and its master stay on one processor, and wrk on another: then it had
  0.4 % within one start.
- The start. That ratio was 0.991 in all 12 pairs of the start, whoever was first: two processes of the same program
  differ, by the seed of hashes and the addresses of memory, for as long as they live. More bursts do not help against
  that. So each round starts both anew, and counts once.
- Who is first, and what the machine does meanwhile. Bursts are short (1 s, wrk's least) and in the order a, b, b, a;
  who is a changes from round to round. Where another program takes a sixth of a processor all the time, the ratio of
  two bursts has 4 to 7 % even so, and that of the CPU time 1 to 3 %. Then whoever is asked has less than 99 % of its
  processor, which is said.

Both servers run all the time, one is asked at a time. The CPU time a request is that of the master and all that it has
started. Of both there are the median of the rounds, the middle half of them, and how far the median may be off by
chance: the values between which it is with 95 % confidence. MEMUNIT_ROUNDS has how many rounds (40), of 10 s each.
MEMUNIT_CONTROL=1 turns all of it off on both sides: what is left is the measurement's own error.
"""

import contextlib
import math
import os
import re
import statistics
import subprocess
import time
from collections.abc import Iterator

import psutil

from tests.bench.common import APP, answer, free_port, lines, memunit, program

ROUNDS = int(os.environ.get("MEMUNIT_ROUNDS", "40"))
OFF = ["--examine-time", "0", "--no-give-back", "--recorder-size", "0"]
SIDES = {"with": OFF if os.environ.get("MEMUNIT_CONTROL") else [], "without": OFF}
KINDS = {"kept": [], "new": ["-H", "Connection: close"]}
# The measured quantities, each with the text for one value.
_RATE, _CPU = ("requests a second", "{:.0f}"), ("us of CPU a request", "{:.1f}")
_QUARTER = 0.25

_Spent = tuple[int, float, float]
"""Requests, the seconds in which they were answered, and the seconds of CPU that they took."""


def main() -> None:
    """Measure and print."""
    load = os.getloadavg()[0]
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) == 1:
        print("one processor: nothing is pinned, and wrk takes time from the workers")
    served_by, asked_by = {processors[0]}, set(processors[1:2] or processors)
    found: dict[str, dict[str, list[_Spent]]] = {kind: {side: [] for side in SIDES} for kind in KINDS}
    try:
        for number in range(ROUNDS):
            first, second = sorted(SIDES, reverse=bool(number % 2))
            os.sched_setaffinity(0, served_by)
            with _served(first) as one, _served(second) as other:
                os.sched_setaffinity(0, asked_by)
                for kind, header in KINDS.items():
                    bursts = [_burst(header, *served) for served in (one, other, other, one)]
                    found[kind][first].append(_sum(bursts[0], bursts[3]))
                    found[kind][second].append(_sum(bursts[1], bursts[2]))
    finally:
        os.sched_setaffinity(0, processors)
    for kind, sides in found.items():
        rates = {side: [count / seconds for count, seconds, _ in spent] for side, spent in sides.items()}
        costs = {side: [cpu / count * 1e6 for count, _, cpu in spent] for side, spent in sides.items()}
        for what, values in ((_RATE, rates), (_CPU, costs)):
            _tell(kind, what, values["with"], values["without"])
        shares = [cpu / seconds for spent in sides.values() for _, seconds, cpu in spent]
        print(f"{kind} connections: who was asked had {statistics.median(shares):.0%} of its processor")
    print(f"load of the machine: {load:.1f} at the start, {os.getloadavg()[0]:.1f} at the end")


@contextlib.contextmanager
def _served(side: str) -> Iterator[tuple[int, int]]:
    """A master with one worker: its port and its pid."""
    port = free_port()
    with program(*memunit(port, "--workers", "1", "--limit", "500M", "--app", APP, *SIDES[side])) as master:
        lines(master, b" is ready ", 1)
        answer(port)
        yield port, master.pid


def _burst(header: list[str], port: int, pid: int) -> _Spent:
    before = _cpu(pid)
    command = ["wrk", *header, "-t1", "-c16", "-d1", f"http://127.0.0.1:{port}/"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    cpu = _cpu(pid) - before
    count, rate = re.search(r"(\d+) requests in", said), re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert count is not None
    assert rate is not None
    return int(count[1]), int(count[1]) / float(rate[1]), cpu


def _sum(one: _Spent, other: _Spent) -> _Spent:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]


def _cpu(pid: int) -> float:
    """Seconds of CPU time of a master, its zygote and its workers: by their clocks, for /proc has them in 10 ms."""
    processes = (pid, *(child.pid for child in psutil.Process(pid).children(recursive=True)))
    # clock_getcpuclockid(3), which Python lacks.
    return sum(time.clock_gettime(~process << 3 | 2) for process in processes)


def _tell(kind: str, what: tuple[str, str], with_it: list[float], without: list[float]) -> None:
    name, form = what
    ratios = sorted(a / b for a, b in zip(with_it, without, strict=True))
    count = len(ratios)
    # Of the order statistics, by the normal approximation of a binomial: the least and the greatest of a few.
    off = math.ceil(0.98 * math.sqrt(count))
    low, high = ratios[max(0, count // 2 - off)], ratios[min(count - 1, (count - 1) // 2 + off)]
    half = ratios[int(count * _QUARTER)], ratios[min(count - 1, int(count * (1 - _QUARTER)))]
    print(
        f"{kind} connections, {name}: {form.format(statistics.median(with_it))} with, "
        f"{form.format(statistics.median(without))} without; {count} rounds, median {statistics.median(ratios):.3f} "
        f"({low:.3f} to {high:.3f} with 95 % confidence), half of them from {half[0]:.3f} to {half[1]:.3f}, all from "
        f"{ratios[0]:.2f} to {ratios[-1]:.2f}",
        flush=True,
    )
