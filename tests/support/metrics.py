"""A simulated instance with two workers, and what its master would reply to those who want its metrics."""

from __future__ import annotations

from typing import Any

from memunit.core import shown
from memunit.core.model import Policy
from tests.support.sim import M, Sim

POLICY = Policy(count=2, limit=100 * M, ceiling=200 * M, patience=2.0, min_lifetime=0.0)


def sim() -> Sim:
    made = Sim(POLICY)
    made.up()
    return made


def told(of_it: Sim, served: int | None = None) -> dict[str, Any]:
    """A reply of Follow, as the master makes it."""
    now = of_it.now
    instance = shown.instance(of_it.state, now, name="shop", version="1.2.3", pid=7)
    requests = None if served is None else {"served": served, "inWork": 2, "longestUSec": 1_500_000}
    workers = [{**each, "requests": requests} for each in shown.workers(of_it.state)]
    return {"instance": {**instance, "nowMonotonicUSec": shown.usec(now)}, "workers": workers}
