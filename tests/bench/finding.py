"""What it costs to be ready to find a leak, while nothing leaks: the same app with all of that and without, in turn.

"With" is memunit as it comes: notes at the fork, a look at routes and memory each few seconds, the question to give
memory back, the flight recorder. "Without" has each of them turned off by its key. The page on which a worker notes its
requests has no key: `board` measures it.

In each pair wrk(1) asks one and then the other, and who is first changes from pair to pair. Requests a second depend on
whatever else the machine does; the CPU time a request, of the master and its workers together, depends on it much less.
Of both there are the median of the pairs, the middle half of them, and how far the median may be off by chance: the
values between which it is with 95 % confidence. MEMUNIT_ROUNDS has how many pairs of each kind (25), of 4 s each.
"""

import math
import os
import statistics
import time

import psutil

from tests.bench.common import APP, answer, free_port, lines, memunit, program
from tests.bench.serving import wrk

ROUNDS = int(os.environ.get("MEMUNIT_ROUNDS", "25"))
OFF = ["--examine-time", "0", "--no-give-back", "--recorder-size", "0"]
KINDS = {"kept": "", "new": "Connection: close"}
# The measured quantities, each with the text for one value.
_RATE, _CPU = ("requests a second", "{:.0f}"), ("us of CPU a request", "{:.1f}")
_QUARTER = 0.25


def main() -> None:
    """Measure and print."""
    load = os.getloadavg()[0]
    flags = ["--workers", "2", "--limit", "500M", "--app", APP]
    with_port, without_port = free_port(), free_port()
    with program(*memunit(with_port, *flags)) as ours, program(*memunit(without_port, *flags, *OFF)) as bare:
        masters = {with_port: ours.pid, without_port: bare.pid}
        for process, port in ((ours, with_port), (bare, without_port)):
            lines(process, b" is ready ", 2)
            answer(port)
        for kind, header in KINDS.items():
            found: dict[tuple[str, str], dict[int, list[float]]] = {
                what: {with_port: [], without_port: []} for what in (_RATE, _CPU)
            }
            for number in range(ROUNDS + 1):
                # By turns who is first: a machine that gets busier favours who was before.
                for port in (with_port, without_port) if number % 2 else (without_port, with_port):
                    before = _cpu(masters[port])
                    rate, _, count = wrk(port, 16, header)
                    if number:  # the first round is for the caches
                        found[_RATE][port].append(rate)
                        found[_CPU][port].append((_cpu(masters[port]) - before) / count * 1e6)
            for what, values in found.items():
                _tell(kind, what, values[with_port], values[without_port])
    print(f"load of the machine: {load:.1f} at the start, {os.getloadavg()[0]:.1f} at the end")


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
        f"{form.format(statistics.median(without))} without; {count} pairs, median {statistics.median(ratios):.3f} "
        f"({low:.3f} to {high:.3f} with 95 % confidence), half of them from {half[0]:.3f} to {half[1]:.3f}, all from "
        f"{ratios[0]:.2f} to {ratios[-1]:.2f}",
        flush=True,
    )
