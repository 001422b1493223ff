"""The kernel as the sensor, beside sampling: tests/run booted -- tests/booted/bench_memory.py -s

How soon a crossing of the limit is known, and what the master costs while 64 workers are idle. Both on one machine
in one run; the figures are printed, and nothing is asserted of them. MEMUNIT_CROSSINGS has how many crossings (100),
MEMUNIT_IDLE the idle seconds (600).
"""

from __future__ import annotations

import os
import select
import socket
import statistics
from pathlib import Path

from memunit.core.flight import FlightCodec
from memunit.core.messages import Message
from memunit.core.replay import Replay
from memunit.master.recorder import NAME
from tests.booted.support import SECONDS, Entry, Instance, at, ended, kind, light, say

CROSSINGS = int(os.environ.get("MEMUNIT_CROSSINGS", "100"))
PAUSE = 0.03  # seconds
IDLE = float(os.environ.get("MEMUNIT_IDLE", "600"))
SAMPLED = "Delegate=no\n"


def test_how_soon_a_crossing_is_known() -> None:
    for name in ("kernel", "sampled"):
        crossings(name, CROSSINGS)


def crossings(name: str, count: int) -> list[float]:
    """Milliseconds from crossing the limit to the replacement's pid, so many times.

    Each worker leaks with each request until it is replaced. A worker that reaches its limit in one step and grows no
    further is no leak: from the second such worker on, the master waits a quarter of a second to see whether it grows.
    Between two requests the only processor is idle, as on a machine that is not overloaded.
    """
    more = '[memory]\nlimit = "48M"\npatience = 0\n'
    service, told = ("", "--grouped") if name == "kernel" else (SAMPLED, "--timed")
    with Instance(name, light(told, more=more, count=1), service=service) as instance:
        instance.start()
        took, crossed = [], []
        for number in range(1, count + 1):
            pid = _leak(instance)
            while _leak(instance) == pid:
                select.select([], [], [], PAUSE)
            instance.journal.until(kind(Message.WORKER_READY.id), number + 1)
            started = instance.journal.find(kind(Message.WORKER_STARTING.id))[number]
            end = instance.journal.until(ended(), number)[-1]
            crossed.append(_crossed(instance, end))
            took.append(1e3 * (at(started) - crossed[-1]))
        born = _born(name)
        decided = [1e3 * (born[number + 1] - when) for number, when in enumerate(crossed, 1)]
        say(f"{name}: from crossing 48M to the order to start the replacement, {_spread(decided)}")
        say(f"{name}: from crossing 48M to the replacement's pid, {_spread(took)}")
        return took


def _born(name: str) -> dict[int, float]:
    """When policy had the worker of each generation started, by the flight recorder."""
    born: dict[int, float] = {}
    codec = FlightCodec()
    with Path(f"/run/memunit/{name}/{NAME}").open() as lines:
        replay = Replay(codec.parse_head(lines.readline()).state, codec)
        for done in replay.run(codec.parse_steps(lines)):
            born |= {who.generation: worker.born for who, worker in done.state.workers.items()}
    return born


def _leak(instance: Instance) -> int:
    """Half a mebibyte: the pid of the worker that has it."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(SECONDS)
        client.connect(instance.target)
        client.sendall(b"GET /leak?kb=512 HTTP/1.1\r\n\r\n")
        answer = b""
        while block := client.recv(4096):
            answer += block
    return int(answer.split()[-1])


def test_what_an_idle_master_costs() -> None:
    file = '[app]\ncommand = ["sleep", "infinity"]\nready = "exec"\n[workers]\ncount = 64\n[memory]\nlimit = "8M"\n'
    with Instance("kernel", file) as kernel, Instance("sampled", file, service=SAMPLED) as sampled:
        for instance in (kernel, sampled):
            instance.start()
            instance.settle()
        before = {each.name: _ticks(each.master()) for each in (kernel, sampled)}
        select.select([], [], [], IDLE)  # what is measured is time in which nothing happens
        for each in (kernel, sampled):
            seconds = (_ticks(each.master()) - before[each.name]) / os.sysconf("SC_CLK_TCK")
            say(
                f"{each.name}: {seconds:.2f} s of CPU in {IDLE:.0f} s, {100 * seconds / IDLE:.2f} % of a processor"
            )


def _crossed(instance: Instance, end: Entry) -> float:
    """When this worker had its limit, by what it told block by block, and as the master counts.

    By memory.current it had it a request earlier, in half of all cases: there the kernel counts page cache, and what it
    has charged ahead.
    """

    def told(entry: Entry) -> bool:
        words = str(entry.get("MESSAGE", "")).split()
        its = words[:1] == ["grown"] and entry["_PID"] == end["MEMUNIT_WORKER_PID"]
        return its and int(words[1]) >= int(end["MEMUNIT_LIMIT_BYTES"])

    # It may come later than the entry about its end: by another way.
    return float(instance.journal.until(told)[0]["MESSAGE"].split()[2])


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _spread(values: list[float]) -> str:
    ordered = sorted(values)
    p90 = ordered[int(0.9 * (len(ordered) - 1))]
    middle = f"median {statistics.median(ordered):.1f}, p90 {p90:.1f}"
    return f"{len(ordered)} crossings: least {ordered[0]:.1f}, {middle}, most {ordered[-1]:.1f} ms"
