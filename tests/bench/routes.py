"""Which route leaks, asked of 10,000 simulated workers of which all is by lot: how many names are right, and wrong.

By lot are routes and rates, who leaks how much and by what chance, a cache that fills, garbage, drift, waves of the
traffic, and whether the clients follow a path through the app. In most of them no route can be told from the others: a
name is not expected there, but a wrong one is a fault. MEMUNIT_SIMULATED has another number.
"""

import math
import os
import random
import time
from collections import Counter
from collections.abc import Callable

from memunit.worker.routes import Note, of_rows

WORKERS = int(os.environ.get("MEMUNIT_SIMULATED", "10000"))
_K, _M = 1 << 10, 1 << 20
_CLIENTS = 8


def main() -> None:
    """Measure and print."""
    said: Counter[str] = Counter()
    took = []
    for seed in range(WORKERS):
        rows, held = run(random.Random(seed))
        begun = time.process_time()
        found = of_rows(rows)
        took.append(time.process_time() - begun)
        if found is None:
            said["none"] += 1
        elif held[found[0]] == max(held) > 0:
            said["right"] += 1
        else:
            said["wrong"] += 1
            told = [f"{each / _M:.1f}" for each in held]
            print(f"wrong: worker {seed}, route {found[0]} ({found[1]:.0%}); they hold {', '.join(told)} MiB")
    print(
        f"{WORKERS} workers: {said['right']} right names, {said['none']} without a name, {said['wrong']} wrong names; "
        f"CPU time of one at most {max(took) * 1000:.0f} ms"
    )


def run(lot: random.Random) -> tuple[list[Note], list[float]]:
    """The notes of a worker, and the bytes that each of its routes holds at the end."""
    routes, notes = lot.choice([2, 3, 3, 4, 5, 6, 8]), lot.choice([20, 40, 60, 83, 83, 120, 200])
    rates = [lot.expovariate(1) + 0.05 for _ in range(routes)]
    often = lot.choice([3, 10, 30, 80])
    size = lot.choice([4, 12, 38, 120]) * _K
    chances = {lot.randrange(routes): lot.choice([1.0, 0.6, 0.2]) for _ in range(lot.choice([1, 2]))}
    cached, piece, most = lot.randrange(routes), lot.choice([0.1, 0.3, 1, 3]) * size, 0.0
    if lot.random() < 0.6:
        most = piece * lot.choice([0.3, 0.7, 2.0]) * often * notes * rates[cached] / sum(rates)
    hits = lot.choice([0.3, 1.0])
    garbage, drift = lot.choice([0.3, 1, 4, 10]) * _M, lot.choice([0, 0, 20 * _K, 100 * _K])
    depth = lot.choice([0.0, 0.3, 0.6, 0.9])
    ask = _clients(lot, rates, depth)
    counts, held, filled = [0] * routes, [0.0] * routes, 0.0
    free = drifted = 0.0
    rate: float = often
    rows = []
    for at in range(notes):
        rate = min(3 * often, max(often / 4, rate * math.exp(lot.gauss(0, depth / 2))))
        for _ in range(int(rate + lot.random())):
            route = ask(at)
            counts[route] += 1
            if lot.random() < chances.get(route, 0):
                held[route] += size
            if route == cached and filled < most and lot.random() < hits:
                filled += piece
                held[route] += piece
        free = free * lot.random() if free > garbage else free + garbage / 6
        drifted += lot.gauss(0, drift)
        warm = 6 * _M * (1 - math.exp(-sum(counts) / (4 * often)))
        level = 30 * _M + sum(held) + free + drifted + warm
        rows.append(Note(float(at), int(level) // 4096 * 4096, [*counts, 0]))
    return rows, held


def _clients(lot: random.Random, rates: list[float], depth: float) -> Callable[[int], int]:
    """The route of the next request at a time: by lot, or by clients that each follow a path, or leave it early."""
    kind = lot.choice(["by lot", "by lot", "by lot", "leave", "follow"])
    waves = [(lot.uniform(0, depth), lot.uniform(15, 90), lot.uniform(0, 6)) for _ in rates]
    path = lot.choices(range(len(rates)), rates, k=lot.choice([3, 5, 8]))
    left: list[list[int]] = [[] for _ in range(_CLIENTS)]

    def by_lot(at: int) -> int:
        now = [
            rate * (1 + deep * math.sin(at / long * 6.28 + begin))
            for rate, (deep, long, begin) in zip(rates, waves, strict=True)
        ]
        return lot.choices(range(len(rates)), now)[0]

    def by_path(_: int) -> int:
        mine = left[lot.randrange(_CLIENTS)]
        if not mine:
            mine += path if kind == "follow" else path[: lot.randrange(1, len(path) + 1)]
        return mine.pop(0)

    return by_lot if kind == "by lot" else by_path
