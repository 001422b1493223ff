"""The ends of workers are in the journal however much an app prints (FIELD B15); journald's rate limit is on."""

from __future__ import annotations

import pytest

from memunit.core.messages import Message
from tests.booted.support import Instance, ended, kind

pytestmark = pytest.mark.native
# Debian's own limit is 10000 in 30 s; this one is reached before the first reload.
LIMIT = "LogRateLimitBurst=10\nLogRateLimitIntervalSec=10min\n"
# Each starts beside one that takes all of a processor, and journald the rest.
WORKERS = '[workers]\ncount = 1\nstart_timeout = "5min"\n'
FLOOD = f"""
[app]
command = ["sh", "-c", "systemd-notify --ready; exec yes flooding the journal"]
{WORKERS}"""
LINES = f"""
[app]
command = ["sh", "-c", "systemd-notify --ready; i=0; while :; do echo \\"line $i\\"; i=$((i + 1)); done"]
{WORKERS}"""
RELOADS = 5


def _ends_are_told(instance: Instance) -> None:
    instance.listen()
    instance.systemctl("start")
    for _ in range(RELOADS):
        instance.systemctl("reload")
    instance.systemctl("stop")
    told = instance.journal.until(ended(), RELOADS + 1)
    assert [entry["MEMUNIT_CAUSE"] for entry in told] == ["reload"] * RELOADS + ["stop"]
    assert [entry["MEMUNIT_GENERATION"] for entry in told] == [str(n) for n in range(1, RELOADS + 2)]
    # Else this test proves nothing: the limit has dropped what is no end.
    assert len(instance.journal.find(kind(Message.WORKER_READY.id))) < RELOADS + 1


def test_each_end_of_a_worker_that_floods_the_journal_is_there() -> None:
    with Instance("flood", FLOOD, service=LIMIT) as instance:
        _ends_are_told(instance)


def test_line_by_line_too() -> None:
    with Instance("lines", LINES, service=LIMIT) as instance:
        _ends_are_told(instance)
