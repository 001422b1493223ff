"""What it costs to be ready to find a leak, while nothing leaks: the same app with all of that and without, in turn.

"With" is memunit as it comes: notes at the fork, a look at routes and memory each few seconds, the question to give
memory back, the flight recorder. "Without" has each of them turned off by its key. The page on which a worker notes its
requests has no key: `board` measures it.
"""

import statistics

from tests.bench.common import APP, answer, free_port, lines, memunit, program
from tests.bench.serving import wrk

ROUNDS = 11
OFF = ["--examine-time", "0", "--no-give-back", "--recorder-size", "0"]
KINDS = {"kept": "", "new": "Connection: close"}


def main() -> None:
    """Measure and print."""
    flags = ["--workers", "2", "--limit", "500M", "--app", APP]
    with_port, without_port = free_port(), free_port()
    with program(*memunit(with_port, *flags)) as ours, program(*memunit(without_port, *flags, *OFF)) as bare:
        for process, port in ((ours, with_port), (bare, without_port)):
            lines(process, b" is ready ", 2)
            answer(port)
        for kind, header in KINDS.items():
            rates: dict[int, list[float]] = {with_port: [], without_port: []}
            for number in range(ROUNDS + 1):
                # By turns who is first: a machine that gets busier favours who was before.
                for port in (with_port, without_port) if number % 2 else (without_port, with_port):
                    rate, _, _ = wrk(port, 16, header)
                    if number:  # the first round is for the caches
                        rates[port].append(rate)
            ratios = [a / b for a, b in zip(rates[with_port], rates[without_port], strict=True)]
            print(
                f"{kind} connections: {statistics.median(rates[with_port]):.0f} requests a second with, "
                f"{statistics.median(rates[without_port]):.0f} without; in pairs, median "
                f"{statistics.median(ratios):.3f} of {min(ratios):.2f} to {max(ratios):.2f}",
                flush=True,
            )
