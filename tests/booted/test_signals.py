"""`systemctl kill -s HUP` and the like, to every process of the unit (FIELD C1)."""

from __future__ import annotations

import pytest

from memunit.core.messages import Message
from tests.booted.support import Instance, asgi, ended, kind, run

pytestmark = pytest.mark.native


def test_a_signal_for_the_master_to_the_whole_unit_is_no_outage() -> None:
    with Instance("killed", asgi()) as instance:
        instance.start()
        instance.settle()
        before = instance.workers()
        for name in ("USR1", "USR2"):
            run("systemctl", "kill", "-s", name, instance.service)
        instance.settle()
        assert instance.workers() == before
        run("systemctl", "kill", "-s", "HUP", instance.service)
        instance.journal.until(kind(Message.RELOAD_DONE.id))
        told = instance.journal.until(ended(), 2)
        assert {entry["MEMUNIT_CAUSE"] for entry in told} == {"reload"}
        assert instance.journal.find(kind(Message.ZYGOTE_LOST.id)) == []
        instance.ask()
        assert instance.property("NRestarts") == "0"
