"""A pass of policy for one fact: it is to cost the same with two workers and with a thousand."""

import itertools
import statistics
import time

from memunit.core import facts as f
from memunit.core.model import Headroom, Policy, WorkerId
from memunit.core.policy import step
from tests.support.sim import M, Sim

COUNTS = (2, 64, 256, 1024)
ROUNDS, PASSES = 30, 100
POLICY = Policy(count=2, limit=100 * M, ceiling=200 * M, max_age=7 * 86400.0)
ROOM = f.MemoryAvailable(Headroom(1 << 40, 1 << 39, "the machine"))
KINDS = ("a ping", "a status", "a sample", "a sample of each", "a replacement")


def serving(count: int) -> Sim:
    """All have been ready for a minute, and ping."""
    sim = Sim(Policy(count=count, limit=POLICY.limit, ceiling=POLICY.ceiling, max_age=POLICY.max_age))
    sim.step(*[f.Ready(worker.id) for worker in sim.workers()])
    sim.step(*[f.Sampled(worker.id, 10 * M, "uss") for worker in sim.workers()])
    sim.advance(60)
    sim.step(*[f.Ping(worker.id) for worker in sim.workers()])
    return sim


def facts_of(kind: str, who: WorkerId, every: list[WorkerId]) -> list[f.Fact]:
    """What a pass of this kind is told."""
    match kind:
        case "a ping":
            return [f.Ping(who)]
        case "a status":
            return [f.StatusText(who, "3 requests")]
        case "a sample":
            return [ROOM, f.Sampled(who, 11 * M, "uss")]
        case "a sample of each":
            return [ROOM, *[f.Sampled(each, 11 * M, "uss") for each in every]]
        case _:
            return [ROOM, f.RecycleRequested(who)]


def measure(sim: Sim, kind: str) -> float:
    """Microseconds a pass, CPU time, on the average of a round."""
    spent = 0
    turn = itertools.cycle([worker.id.slot for worker in sim.workers()])
    passes = 3 if kind == "a sample of each" else PASSES
    for _ in range(passes):
        sim.now += 0.01
        slot = next(turn)
        who = max(worker.id for worker in sim.state.roster.in_slot(slot))
        facts = facts_of(kind, who, [*sim.state.workers])
        began = time.process_time_ns()
        sim.state, _, sim.deadline = step(sim.state, facts, sim.now)
        spent += time.process_time_ns() - began
        if kind == KINDS[-1]:
            heir = max(worker.id for worker in sim.state.roster.in_slot(slot))
            sim.step(f.Ready(heir), f.Sampled(heir, 10 * M, "uss"), f.Ping(heir))
            sim.step(f.Exited(who, "exited", 0))
    return spent / passes / 1000


def main() -> None:
    """Print the medians, the counts measured in turn."""
    for kind in KINDS:
        found: dict[int, list[float]] = {count: [] for count in COUNTS}
        sims = {count: serving(count) for count in COUNTS}
        for _ in range(ROUNDS if kind != KINDS[-1] else 3):
            for count, sim in sims.items():
                found[count].append(measure(sim, kind))
        print(f"{kind:20}", *(f"{count:5}: {statistics.median(found[count]):8.1f} us" for count in COUNTS))
