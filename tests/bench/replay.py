"""The flight recorder: what it costs the master a fact, and how long a day of 64 workers takes to replay.

The day is a simulation: 64 workers that ping every 10 s and are measured every 10 s, as the kernel path has it; each
ping has a pass of its own. One in eight leaks, and one in 32 crashes now and then. MEMUNIT_HOURS=1 makes an hour of it.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from memunit.core import facts as f
from memunit.core.actions import Action
from memunit.core.flight import FlightCodec, Head
from memunit.core.model import Policy, WorkerId
from memunit.master.recorder import Recorder
from tests.exploration.kernel import State
from tests.exploration.simulation import Simulation, Way
from tests.exploration.ways import CEILING, LIMIT

SLOTS = 64
HOURS = float(os.environ.get("MEMUNIT_HOURS", "24"))
KIND = Way(name="serves")
LEAK = Way(name="leaks", growth=LIMIT / 7200)
CRASH = Way(name="crashes", exits=3000.0)


class _Recorded(Simulation):
    """Each pass is recorded as the master does it."""

    codec: FlightCodec
    lines: list[str]

    def decide(self, facts: list[f.Fact]) -> tuple[State, tuple[Action, ...], float]:
        if not hasattr(self, "lines"):
            self.codec, self.lines = FlightCodec(), []
            head = Head(
                version="",
                instance="day",
                boot="",
                monotonic=self.now,
                realtime=1e9,
                follows=False,
                state=self.state,
            )
            self.lines.append(self.codec.head(head))
        self.lines.append(self.codec.facts(self.now, facts))
        state, actions, deadline = super().decide(facts)
        self.lines.append(self.codec.did(actions))
        return state, actions, deadline


def main() -> None:
    """Measure and print."""
    _recorder()
    policy = Policy(count=SLOTS, limit=LIMIT, ceiling=CEILING)

    def way(who: WorkerId) -> Way:
        kind = LEAK if who.slot % 8 == 0 else CRASH if who.slot % 32 == 1 else KIND
        # Not ready in the same moment, so that each ping has a pass of its own.
        return replace(kind, ready=0.5 + who.slot * 0.149)

    simulation = _Recorded(policy, way, interval=10.0)
    began = time.process_time()
    simulation.run(simulation.now + HOURS * 3600)
    spent = time.process_time() - began
    text = "".join(simulation.lines)
    print(
        f"{HOURS:g} h of {SLOTS} workers: {simulation.facts} facts in {simulation.passes} passes, "
        f"{len(simulation.starts)} starts, {len(text) / 2**20:.0f} MiB; made in {spent:.0f} s of CPU"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flight.jsonl"
        path.write_text(text)
        before = os.times()
        done = subprocess.run(
            [sys.executable, "-m", "memunit", "replay", "--summary", str(path)],
            check=False,
            stdout=subprocess.PIPE,
            text=True,
        )
        after = os.times()
    print(done.stdout, end="")
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    print(f"replayed and checked in {spent:.1f} s of CPU; exit code {done.returncode}")


def _recorder() -> None:
    """What a pass with one fact costs, with the write; the least of several runs."""
    facts = {"a ping": f.Ping(WorkerId(3, 17)), "a sample": f.Sampled(WorkerId(3, 17), 123_456_789, "cgroup")}
    for name, fact in facts.items():
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            simulation = Simulation(Policy(count=1), lambda _: KIND)
            recorder = Recorder(folder, "bench", print)
            recorder.use(64 << 20, simulation.state)
            least = min(_cost(recorder, fact, simulation.state) for _ in range(9))
            recorder.close()
        print(f"the recorder takes {least:.1f} us of CPU for a pass with {name}")


def _cost(recorder: Recorder, fact: f.Fact, state: State) -> float:
    count, told, began = 2000, [fact], time.process_time()
    for number in range(count):
        recorder.begins(12345.678901234 + number, told, state)
        recorder.did(())
    return (time.process_time() - began) / count * 1e6
