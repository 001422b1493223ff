"""`python -m tests.bench NAME...`: measurements, side by side where there is something to compare with.

They print medians and ratios and never fail: a time is no test. Run them on a quiet machine, from the checkout,
with an interpreter that has uvicorn and psutil; `serving` needs wrk(1) too.

    serving   the same app under memunit and under uvicorn alone, in turn: requests a second, keep-alive p50
    respawn   SIGKILL to a worker until its replacement's first answer, beside the app's own time to start
    idle      the master's RSS, and its CPU time over 60 idle seconds, with 2 and with 32 workers
    preload   8 workers of an app of 100 MiB with and without preload: PSS in all, and from Spawn to READY
"""

import sys
from collections.abc import Callable

from tests.bench import idle, preload, respawn, serving

BENCHMARKS: dict[str, Callable[[], None]] = {
    "serving": serving.main,
    "respawn": respawn.main,
    "idle": idle.main,
    "preload": preload.main,
}


def main(names: list[str]) -> int:
    """Run the benchmarks that are named."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown or not names:
        print(__doc__, file=sys.stderr)
        return 2
    for name in names:
        print(f"== {name}")
        BENCHMARKS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
