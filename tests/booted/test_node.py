"""A Node program in the hardened unit: it serves on the unit's socket, leaks, and is replaced without a loss."""

from __future__ import annotations

import shutil
from pathlib import Path

from memunit.core.messages import Message
from tests.booted.support import SECONDS, Instance, Wanted, at, ended, kind, say, under_load

PROGRAM = Path(__file__).resolve().parents[2] / "examples" / "node"
SHOP = Path("/srv/node")
RECYCLES = 2


def test_a_program_that_leaks_is_recycled_and_loses_nothing() -> None:
    shutil.copytree(PROGRAM, SHOP, dirs_exist_ok=True)
    file = (SHOP / "node.toml").read_text().replace("/srv/memunit-examples/node", str(SHOP))
    file = file.replace("count = 2\n", 'count = 2\nstart_timeout = "3min"\nwatchdog = "2min"\n')
    with Instance("node", file) as instance:
        instance.start()
        recycled = ended(MEMUNIT_CAUSE="memory-limit")
        loads = [
            instance.load(clients=2, rate=20, path="/leak?kb=512", keep_alive=kept) for kept in (True, False)
        ]
        with under_load(*loads) as reports:
            ends = instance.journal.until(recycled, RECYCLES, 2 * SECONDS)
        for report in reports:
            say(str(report))
        for end in ends:
            old, new = end["MEMUNIT_WORKER_PID"], end["MEMUNIT_REPLACEMENT_PID"]
            (ready,) = instance.journal.find(kind(Message.WORKER_READY.id, MEMUNIT_WORKER_PID=new))
            (stopping,) = instance.journal.find(kind(Message.WORKER_STOPPING.id, MEMUNIT_WORKER_PID=old))
            assert at(ready) < at(stopping) < at(end)
            # The kernel has told of it.
            assert end["MEMUNIT_METRIC"] == "cgroup"
            assert (end["EXIT_CODE"], end["EXIT_STATUS"]) == ("exited", "0")
            instance.journal.until(_cleaned(old))
        (serving, *_) = instance.workers().values()
        instance.systemctl("stop")
        instance.journal.until(_cleaned(str(serving)))
        assert instance.show("Result", "NRestarts") == {"Result": "success", "NRestarts": "0"}


def _cleaned(pid: str) -> Wanted:
    return lambda entry: str(entry.get("MESSAGE", "")).startswith(f"clean: {pid} keeps ")
