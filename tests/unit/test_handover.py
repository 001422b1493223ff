"""What a master leaves: read back as it was, or refused with a reason, whatever stands there."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from memunit.core import handover
from memunit.core.handover import Handover, LeftWorker, LeftZygote, Unusable

BOOT = "this boot"
WORKER = LeftWorker(
    slot=0,
    generation=3,
    pid=4711,
    start=12345,
    revision=1,
    phase="running",
    born=10.0,
    ready_at=11.0,
    deadline=math.inf,
    watchdog=30.0,
    limit=100,
    ceiling=200,
    line=0,
    zygote=(1, 2),
)
STOPPING = LeftWorker(
    slot=1,
    generation=1,
    pid=4712,
    start=12346,
    revision=1,
    phase="stop-sigterm",
    born=10.0,
    ready_at=None,
    deadline=50.0,
    stop_at=20.0,
    reason="reload",
)
LEFT = Handover(
    master=4000,
    program="1.0",
    stopping=False,
    revision=1,
    generations=(4, 2),
    workers=(WORKER, STOPPING),
    zygotes=(LeftZygote(revision=1, number=2, pid=4001, start=12344),),
)


def test_it_is_read_as_it_was_written() -> None:
    assert handover.read(handover.write(LEFT, BOOT), BOOT) == LEFT


def test_the_largest_pid_is_one() -> None:
    """The kernel gives out those below PID_MAX_LIMIT (proc_pid_max(5))."""
    assert handover.read(changed(worker(pid=(1 << 22) - 1)), BOOT) is not None


def test_of_another_boot_nobody_lives() -> None:
    assert handover.read(handover.write(LEFT, "the one before"), BOOT) is None


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    found = json.loads(handover.write(LEFT, BOOT))
    change(found)
    return json.dumps(found)


def worker(**fields: object) -> Callable[[dict[str, Any]], object]:
    return lambda found: found["left"]["workers"][0].update(fields)


def zygote(**fields: object) -> Callable[[dict[str, Any]], object]:
    return lambda found: found["left"]["zygotes"][0].update(fields)


@pytest.mark.parametrize(
    "change",
    [
        worker(pid=1),
        worker(pid=-5),
        worker(pid=10**30),
        worker(start=-1),
        worker(slot=-1),
        worker(slot=10**9),
        worker(generation=0),
        worker(stop_signal=0),
        worker(stop_signal=9999),
        worker(grace=-1.0),
        worker(grace="nan"),
        worker(grace=10**400),
        worker(watchdog=0),
        worker(watchdog="nan"),
        worker(born="inf"),
        worker(born=1e305),
        worker(stop_at=-1e305),
        worker(born=math.nan),
        worker(ready_at="-inf"),
        worker(ready_at=None),
        worker(deadline="nan"),
        worker(deadline="-inf"),
        worker(limit=0),
        worker(ceiling=-1),
        worker(phase="dead"),
        worker(phase="stop-sigterm"),
        worker(phase="stop-sigkill"),
        worker(zygote=[1]),
        # Two that are one: in one slot, and with one pid.
        worker(slot=1, generation=1),
        worker(pid=4712),
        zygote(pid=4711),
        zygote(pid=1),
        zygote(pid=10**30),
        zygote(start=-1),
        lambda found: found["left"].update(generations=[1] * 100_000),
        lambda found: found.update(version=2),
        lambda found: found.update(more=1),
        lambda found: found.pop("left"),
    ],
)
def test_what_can_not_be_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    """Each of them would be found again by each successor: one that fails of it fails for ever."""
    with pytest.raises(Unusable):
        handover.read(changed(change), BOOT)


@pytest.mark.parametrize(
    "text", ["", "{", "null", "[]", "[" * 100_000, "7" * 5000, b"\xff\xfe", '{"version":1}']
)
def test_what_is_no_such_text_is_refused(text: str | bytes) -> None:
    with pytest.raises(Unusable):
        handover.read(text, BOOT)
