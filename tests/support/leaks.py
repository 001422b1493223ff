"""Series of notes as workers with one leaking route make them, and as workers do that leak otherwise, or not at all."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from memunit.worker.routes import Note

K, M = 1 << 10, 1 << 20


@dataclass
class Worker:
    """What a worker serves, and what it holds of it. All is in requests and bytes a note."""

    rates: list[float]
    """Requests of each route."""
    notes: int = 160
    leaks: dict[int, float] = field(default_factory=dict)
    """Bytes that each request of a route leaves behind."""
    sometimes: float = 1.0
    """The part of such requests that leave something, and the more."""
    background: float = 0.0
    """Bytes that a note's time leaves behind."""
    warm: float = 12 * M
    garbage: float = 1 * M
    walk: float = 0.0
    cache: tuple[int, float, float] | None = None
    """A route whose requests fill a cache: its bytes, and those of a request."""
    shadow: tuple[int, int] | None = None
    """The second of these routes is asked for with each request of the first one, and with no other."""
    waves: float = 0.7

    def run(self, seed: int) -> list[Note]:
        """The notes."""
        chance = random.Random(seed)
        waves = [
            (chance.uniform(0, self.waves), chance.uniform(15, 90), chance.uniform(0, 6)) for _ in self.rates
        ]
        total = sum(self.rates)
        counts = [0] * len(self.rates)
        held = garbage = drift = 0.0
        rows = []
        for at in range(self.notes):
            for route, rate in enumerate(self.rates):
                depth, length, phase = waves[route]
                done = _poisson(chance, rate * (1 + depth * math.sin(at / length * 2 * math.pi + phase)))
                if self.shadow is not None and route == self.shadow[1]:
                    done = counts[self.shadow[0]] - counts[route]
                counts[route] += done
                leak = self.leaks.get(route, 0.0)
                if leak and self.sometimes < 1:
                    done = sum(chance.random() < self.sometimes for _ in range(done))
                held += done * leak / self.sometimes
            garbage = garbage * chance.random() if garbage > self.garbage else garbage + self.garbage / 6
            drift += chance.gauss(0, self.walk)
            held += self.background
            warm = self.warm * (1 - math.exp(-sum(counts) / (4 * total)))
            cached = 0.0 if self.cache is None else min(self.cache[1], counts[self.cache[0]] * self.cache[2])
            level = 60 * M + held + garbage + drift + warm + cached
            rows.append(Note(2.0 * at, int(level) // (64 * K) * 64 * K, [*counts, 0]))
        return rows


def zipf(routes: int, total: float) -> list[float]:
    """The rates of so many routes, the first the most frequent."""
    weights = [1 / (place + 1) for place in range(routes)]
    return [total * weight / sum(weights) for weight in weights]


def _poisson(chance: random.Random, mean: float) -> int:
    if mean > 50:
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    bound, count, product = math.exp(-max(mean, 0.0)), 0, chance.random()
    while product > bound:
        product *= chance.random()
        count += 1
    return count
