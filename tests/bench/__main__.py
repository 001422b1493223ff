"""`python -m tests.bench NAME...`: measurements, side by side where there is something to compare with.

They print medians and ratios and never fail: a time is no test. Run them on a quiet machine, from the checkout,
with an interpreter that has uvicorn and psutil; `serving` needs wrk(1) too.

    serving   the same app under memunit and under uvicorn alone, in turn: requests a second, keep-alive p50
    spread    connections opened at once, under memunit and under uvicorn alone: the shares of the workers
    requests  CPU time a request of one worker, beside uvicorn alone: kept and new connections, two stacks
    wsgi      CPU time a request of WSGI servers: memunit, gunicorn's gthread, waitress, uWSGI's http mode
    start     start of the program to an ASGI app's first answer: memunit, uvicorn, gunicorn, granian
    board     what a request pays for the worker's page, by itself, and in workers with and without, in turn
    allocators what a worker holds under each allocator, and when it was asked to give memory back
    finding   requests a second with all that finds leaks and without, while nothing leaks
    noting    what a zygote pays to note what it holds: CPU time for each 100,000 objects
    routes    which route leaks, asked of 10,000 simulated workers: right names, and wrong ones
    giving    how late an event loop is while its worker gives memory back
    fragments a load that fragments the heap, with and without giving back: recycles, and requests lost
    recycles  1,000 recycles for memory with examination, 1,000 without, in pairs: loss, time, what is left behind
    respawn   SIGKILL to a worker until its replacement's first answer, beside the app's own time to start
    idle      the master's RSS, and its CPU time over 60 idle seconds, with 2 and with 32 workers
    node      a Node program under memunit and by itself: CPU a request; what recycles lose, beside PM2
    passes    policy alone: the time of a pass for one fact, with 2, 64, 256 and 1,024 workers
    preload   8 workers of an app of 100 MiB with and without preload: PSS in all, and from Spawn to READY
    generator memunit-generator with 50 instances, after a boot and with nothing changed
    status    memunit status of an instance with 2 and 256 workers, beside a bare interpreter
    replay    the flight recorder's cost a fact, and the time that a day of 64 workers takes to replay
"""

import signal
import sys
from collections.abc import Callable

from tests.bench import (
    allocators,
    board,
    finding,
    fragments,
    generator,
    giving,
    idle,
    node,
    noting,
    passes,
    preload,
    recycles,
    replay,
    requests,
    respawn,
    routes,
    serving,
    spread,
    start,
    status,
    wsgi,
)

BENCHMARKS: dict[str, Callable[[], None]] = {
    "serving": serving.main,
    "requests": requests.main,
    "spread": spread.main,
    "board": board.main,
    "wsgi": wsgi.main,
    "allocators": allocators.main,
    "fragments": fragments.main,
    "finding": finding.main,
    "noting": noting.main,
    "routes": routes.main,
    "giving": giving.main,
    "recycles": recycles.main,
    "respawn": respawn.main,
    "start": start.main,
    "idle": idle.main,
    "node": node.main,
    "passes": passes.main,
    "preload": preload.main,
    "generator": generator.main,
    "replay": replay.main,
    "status": status.main,
}


def main(names: list[str]) -> int:
    """Run the benchmarks that are named."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown or not names:
        print(__doc__, file=sys.stderr)
        return 2
    # What a measurement has started ends with it, also at the time limit of timeout(1).
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    for name in names:
        print(f"== {name}")
        BENCHMARKS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
