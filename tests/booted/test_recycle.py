"""The claim of the whole: workers that leak are replaced, reloads go on, and no request is lost."""

from __future__ import annotations

import re

from memunit.core.messages import Message
from tests.booted.support import SECONDS, Instance, asgi, at, emulated, ended, kind, say, under_load

RECYCLES = 20
RELOADS = 3

WORKERS = 'count = 3\nsurge = 2\nmin_lifetime = "1s"\nstart_timeout = "2min"\n'
MEMORY = '[memory]\nlimit = "32M"\nceiling = "400M"\npatience = 0\ninterval = "500ms"\n'


def test_recycles_and_reloads_under_load_lose_nothing() -> None:
    with Instance("recycle", asgi(workers=WORKERS, more=MEMORY), listen="127.0.0.1:8021") as instance:
        instance.start()
        journal = instance.journal
        recycled = ended(MEMUNIT_CAUSE="memory-limit")
        rate = 25 if emulated() else 80
        load = instance.load(clients=8, keep_alive=False, path="/leak?kb=256", rate=rate)
        with under_load(load) as reports:
            for reload in range(RELOADS):
                journal.until(recycled, (reload + 1) * RECYCLES // (RELOADS + 1), 2 * SECONDS)
                instance.systemctl("reload")
            journal.until(recycled, RECYCLES, 2 * SECONDS)
        say(str(reports[0]))
        known = len(journal.find(recycled))
        # Another recycle may end meanwhile: what the status counts, the journal tells.
        told = re.search(r"(\d+) memory-limit", instance.status())
        assert told
        assert int(told[1]) >= known >= RECYCLES
        ends = journal.until(recycled, int(told[1]))
        assert len(journal.find(kind(Message.RELOAD_DONE.id))) == RELOADS
        for end in ends:
            old, new = end["MEMUNIT_WORKER_PID"], end["MEMUNIT_REPLACEMENT_PID"]
            (ready,) = journal.find(kind(Message.WORKER_READY.id, MEMUNIT_WORKER_PID=new))
            # A second one would tell of a SIGKILL or SIGABRT that found the worker at its end already.
            stopping = journal.find(kind(Message.WORKER_STOPPING.id, MEMUNIT_WORKER_PID=old))[0]
            assert stopping["MEMUNIT_STOP_REASON"] == "memory-limit"
            assert at(ready) < at(stopping) < at(end)
            assert journal.entries.index(ready) < journal.entries.index(stopping)
            assert ready["MEMUNIT_SLOT"] == stopping["MEMUNIT_SLOT"] == end["MEMUNIT_SLOT"]
        # Nothing else has ended, nobody was replaced twice, and only workers that were ready have answered: or were
        # about to say so when the reload came, which ends who starts. Such a one drains as any other.
        # A reload whose import takes long finds all of them over the limit: then none ends by `reload`.
        assert {end["MEMUNIT_CAUSE"] for end in journal.find(ended())} <= {"memory-limit", "reload"}
        ready_pids = {int(e["MEMUNIT_WORKER_PID"]) for e in journal.find(kind(Message.WORKER_READY.id))}
        # A reload also ends what was still starting with the old configuration: that had no place to give up.
        served = [end for end in journal.find(ended()) if int(end["MEMUNIT_WORKER_PID"]) in ready_pids]
        assert len({end["MEMUNIT_REPLACEMENT_PID"] for end in served}) == len(served)
        early = {int(end["MEMUNIT_WORKER_PID"]) for end in journal.find(ended(MEMUNIT_CAUSE="reload"))}
        assert set(reports[0].pids) <= ready_pids | early
        drains = sorted(int(end["MEMUNIT_DRAIN_USEC"]) / 1e6 for end in ends)
        say(f"{len(ends)} recycles, drained in {drains[0]:.2f} to {drains[-1]:.2f} s")
