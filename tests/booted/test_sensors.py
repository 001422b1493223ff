"""What both sensors have to do, the kernel's trip-wire and sampling: policy cannot tell them apart, nor can a user."""

from __future__ import annotations

import re
import time

import pytest

from memunit.core.messages import Message
from tests.booted.support import SECONDS, Instance, ended, kind, light, run, say

MIB = 1 << 20
# How the service is made to have each, and what it then says that it counts.
SENSORS = {"kernel": ("", "cgroup"), "sampled": ("Delegate=no\n", "uss")}


@pytest.fixture(params=SENSORS)
def sensor(request: pytest.FixtureRequest) -> tuple[str, str]:
    return SENSORS[request.param]


def bounds(patience: str = "0", ceiling: str = "infinity") -> str:
    return f'[memory]\nlimit = "48M"\nceiling = "{ceiling}"\npatience = "{patience}"\ninterval = "200ms"\n'


def test_over_the_limit_is_recycled(sensor: tuple[str, str]) -> None:
    service, metric = sensor
    with Instance("over", light(more=bounds(), count=1), service=service) as instance:
        instance.start()
        instance.ask("/leak?kb=60000")
        (end,) = instance.journal.until(ended())
        assert (end["MEMUNIT_CAUSE"], end["MEMUNIT_METRIC"]) == ("memory-limit", metric)
        assert (
            0.95 * 48 * MIB <= int(end["MEMUNIT_LIMIT_BYTES"]) <= int(end["MEMUNIT_MEMORY_BYTES"]) < 90 * MIB
        )
        instance.journal.until(kind(Message.WORKER_READY.id), 2)
        assert "1 memory-limit" in instance.status()


def test_a_spike_is_no_leak(sensor: tuple[str, str]) -> None:
    """It falls before patience is over, and the next one finds a worker that is watched still.

    Patience ends when the test says so, for only then no machine is too slow for it.
    """
    service, _ = sensor
    with Instance("spike", light(more=bounds(patience="1h"), count=1), service=service) as instance:
        instance.start()
        for _ in range(3):
            instance.ask("/spike?kb=60000")
            deadline = time.monotonic() + SECONDS
            while _last_seen(instance) < 48:
                assert time.monotonic() < deadline
            instance.ask("/fall")
        run("memunit", "set", "spike", "memory.patience=0")
        assert "to be replaced" not in instance.settle()
        assert instance.journal.find(ended()) == []
        instance.ask("/leak?kb=60000")
        (end,) = instance.journal.until(ended())
        assert end["MEMUNIT_CAUSE"] == "memory-limit"


def _last_seen(instance: Instance) -> float:
    """MiB of the worker, when the master looked last."""
    found = re.search(r", memory ([\d.]+)M of ", instance.settle())
    return float(found[1]) if found else 0.0


def test_over_the_ceiling_is_killed(sensor: tuple[str, str]) -> None:
    service, metric = sensor
    with Instance("ceiling", light(more=bounds(ceiling="96M"), count=2), service=service) as instance:
        instance.start()
        doomed = instance.load(clients=1, requests=1, path="/grab?kb=400000").start()
        (end,) = instance.journal.until(ended())
        doomed.join()
        assert end["MEMUNIT_CAUSE"] == "memory-ceiling"
        assert (end["EXIT_CODE"], end["EXIT_STATUS"]) == ("killed", "9")
        assert end["PRIORITY"] == "4"
        most = int(end.get("MEMUNIT_PEAK_BYTES") or end["MEMUNIT_MEMORY_BYTES"])
        say(f"{metric}: {most / MIB:.0f} MiB were seen of a worker with a ceiling of 96 MiB")
        instance.journal.until(kind(Message.WORKER_READY.id), 3)
        instance.ask()
        assert len(instance.journal.find(ended())) == 1
