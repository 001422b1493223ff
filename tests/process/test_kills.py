"""The master is killed at random moments, while workers start, are recycled, reloaded, scaled and killed, under load.

MEMUNIT_KILLS=200 is the long form. Where a file of the random numbers is wanted: MEMUNIT_SEED.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import time
from collections import Counter
from pathlib import Path

from tests.support.harness import Entry, Service, Unit
from tests.support.load import Load

pytest_plugins = ["tests.support.units"]

KILLS = int(os.environ.get("MEMUNIT_KILLS", "20"))
# Seconds for one answer: they bound a failure.
PATIENCE = 900.0
SEED = int(os.environ.get("MEMUNIT_SEED", "12"))


def ours(unit: Unit) -> set[int]:
    """The pids of all that was started with this instance's notify socket, and has not ended."""
    wanted = f"NOTIFY_SOCKET={unit.runtime}/notify".encode()
    found = set()
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
    return found


def disturb(chance: random.Random, service: Service, unit: Unit) -> None:
    """One of the things that happen to a service."""
    what = chance.choice(["reload", "more", "fewer", "worker", "nothing"])
    if what == "reload":
        service.send(signal.SIGHUP)
    elif what == "more" and len(service.serving()) < 4:
        service.send(signal.SIGTTIN)
    elif what == "fewer":
        service.send(signal.SIGTTOU)
    elif what == "worker":
        # Asked to stop by somebody else: it finishes what it has.
        for pid in list(service.serving().values())[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def test_a_master_that_is_killed_at_any_moment_costs_nobody_anything(unit: Unit) -> None:
    chance = random.Random(SEED)
    unit.write(app={"run": "plain:app"}, workers={"count": 2, "min_lifetime": 0}, stop={"grace": "20s"})
    began = time.monotonic()
    service = unit.serve().ready()
    # Twice the time of a start: else nobody would ever be ready on a busy machine, and clients wait in vain.
    span = max(0.6, 2 * (time.monotonic() - began))
    entries: list[Entry] = []
    # The load lasts as long as the kills. Several kills in a row may each come before anybody is ready again: a client
    # that waits meanwhile has lost nothing, however slow the machine is.
    with Load(unit.target, clients=3, path="/slow?s=0.05", expect_prefix="ok ", timeout=PATIENCE) as load:
        for _ in range(KILLS):
            disturb(chance, service, unit)
            # The moment is what is random here: the pidfd is readable if the master has ended by itself.
            select.select([service.pidfd], [], [], chance.random() * span)
            service.send(signal.SIGKILL)
            assert service.exit_code() == -signal.SIGKILL
            entries += service.entries("ended")
            service = unit.serve()
            service.expect(
                r"of its workers (is|are) taken over|None of its workers is left|Starting \d", source="output"
            )
        service.ready()
        service.until(lambda: len(service.serving()) >= 1 or None, "workers that serve")
    report = load.report()
    # A successor keeps the number that somebody has asked for: until the next reload.
    service.send(signal.SIGHUP)
    service.expect("Reloaded: 2 workers", source="output")
    settle(service, unit)
    entries += service.entries("ended")
    told = Counter(entry.pid for entry in entries)
    said = "\n--\n".join(map(str, unit.services))
    assert report.lost == 0, f"seed {SEED}\n{report}\n{said}"
    assert report.ok > KILLS
    assert not {pid: often for pid, often in told.items() if often > 1}, f"seed {SEED}"
    serving = service.serving()
    assert len(serving) == 2, serving
    assert service.stop() == 0
    assert ours(unit) == set()
    assert sorted(path.name for path in unit.runtime.iterdir() if path.suffix == ".new") == []
    assert not (unit.runtime / "workers.json").exists()


def settle(service: Service, unit: Unit) -> None:
    """Until two serve, and nobody else of the instance is there but its zygote."""
    deadline = time.monotonic() + 180

    def settled() -> bool | None:
        service.pass_by()
        assert time.monotonic() < deadline, f"{ours(unit)}\n{service}"
        serving = set(service.serving().values())
        return (len(serving) == 2 and serving <= ours(unit) and len(ours(unit)) <= 3) or None

    while not settled():
        service.mark  # noqa: B018  takes what was said
