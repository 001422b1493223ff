"""What happened can be read back from the journal: by a person, and by a program."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from memunit.core.messages import Message
from tests.booted.support import Instance, at, ended, kind, light, run

MEMORY = '[memory]\nlimit = "32M"\nceiling = "200M"\npatience = 0\ninterval = "200ms"\n'
MIB = 1 << 20


def test_the_end_of_a_worker_has_every_field_and_its_explanation() -> None:
    with Instance("told", light("--chatty", more=MEMORY, count=1)) as instance:
        instance.start()
        instance.ask("/leak?kb=40000")
        instance.journal.until(ended())

        # By the instance's own field, as a program would ask.
        text = run("journalctl", "-o", "json", "MEMUNIT_INSTANCE=told", f"_PID={instance.master()}").stdout
        entries = [json.loads(line) for line in text.splitlines()]
        (end,) = (entry for entry in entries if ended()(entry))
        assert end["MESSAGE_ID"] == Message.ENDED_MEMORY_LIMIT.id
        assert end["MEMUNIT_CAUSE"] == "memory-limit"
        assert "MEMUNIT_STOP_REASON" not in end
        assert (end["MEMUNIT_SLOT"], end["MEMUNIT_GENERATION"]) == ("0", "1")
        assert (end["EXIT_CODE"], end["EXIT_STATUS"]) == ("exited", "0")
        assert end["MEMUNIT_METRIC"] in ("cgroup", "uss")
        assert int(end["MEMUNIT_CEILING_BYTES"]) == 200 * MIB
        assert 0.95 * 32 * MIB <= int(end["MEMUNIT_LIMIT_BYTES"]) <= 32 * MIB
        assert int(end["MEMUNIT_LIMIT_BYTES"]) <= int(end["MEMUNIT_MEMORY_BYTES"]) < 80 * MIB
        assert int(end["MEMUNIT_UPTIME_USEC"]) > int(end["MEMUNIT_DRAIN_USEC"]) > 0
        assert end["MEMUNIT_RECYCLES"] == "1"
        assert end["PRIORITY"] == "4"
        first, second = (entry for entry in entries if kind(Message.WORKER_READY.id)(entry))
        assert end["MEMUNIT_WORKER_PID"] == first["MEMUNIT_WORKER_PID"]
        assert end["MEMUNIT_REPLACEMENT_PID"] == second["MEMUNIT_WORKER_PID"]
        (stopping,) = (entry for entry in entries if kind(Message.WORKER_STOPPING.id)(entry))
        assert at(second) < at(stopping) < at(end)
        for entry in entries:
            assert entry["_SYSTEMD_UNIT"] == instance.service
            assert entry["SYSLOG_IDENTIFIER"] == "memunit@told"

        # What workers print stands under the unit too.
        said = instance.journal.until(lambda entry: entry.get("MESSAGE") == "the light worker is there", 2)
        assert {entry["_PID"] for entry in said} == {
            first["MEMUNIT_WORKER_PID"],
            second["MEMUNIT_WORKER_PID"],
        }
        assert {entry["_SYSTEMD_UNIT"] for entry in said} == {instance.service}

        text = run("journalctl", "-x", "--no-pager", "-n", "1", f"MESSAGE_ID={end['MESSAGE_ID']}").stdout
        assert end["MESSAGE"] in text
        # The mark before each line depends on the locale.
        explained = " ".join(line.lstrip("-\N{LIGHT SHADE} ") for line in text.splitlines())
        for line in (
            "Subject: Worker of memunit instance told was recycled at its memory limit",
            "Support: man:memunit(1)",
            f"used {end['MEMUNIT_MEMORY_BYTES']} bytes ({end['MEMUNIT_METRIC']}) and was over its limit of",
            '"memunit leaks told" says what grows. Bound that, or raise memory.limit in /etc/memunit/told.toml.',
        ):
            assert line in explained


def test_every_kind_that_the_master_writes_is_in_the_catalog() -> None:
    ids = {message.id for message in Message}
    assert len(ids) > 15
    listed = {line.split()[0] for line in run("journalctl", "--list-catalog").stdout.splitlines()}
    assert ids <= listed


JOURNALD = ("systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald.service")


@pytest.mark.native
def test_a_service_that_starts_while_journald_is_stopped_has_entries_later() -> None:
    """systemd gives it /dev/null for standard error then, and its master was silent for life."""
    with Instance("mute", light()) as instance:
        # The socket of audit may start it again, where there is one.
        run("systemctl", "stop", *JOURNALD, "systemd-journald-audit.socket", check=False)
        try:
            instance.start()
            assert Path(f"/proc/{instance.master()}/fd/2").readlink() == Path(os.devnull)
        finally:
            run("systemctl", "start", *JOURNALD)
        run("memunit", "recycle", instance.name)
        ends = instance.journal.until(ended(), 2)
        assert {end["MEMUNIT_CAUSE"] for end in ends} == {"requested"}
