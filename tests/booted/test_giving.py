"""A worker at its limit gives memory back, where the kernel is the sensor: a C program on sd-event, and Python's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from memunit.core.messages import Message
from tests.booted.support import LIGHT, ended, kind, run, under_load
from tests.booted.support_groups import Instance

# Built by packaging/lib/booted.py where there is a compiler.
BUILT = Path("/payload/generous")
BOUNDS = '[memory]\nlimit = "60M"\nceiling = "400M"\npatience = "10min"\ninterval = "1h"\n'


def version() -> int:
    """Of systemd."""
    return int(run("systemctl", "--version").stdout.split()[1])


def test_a_c_program_on_sd_event_gives_back() -> None:
    """It knows nothing of memunit: sd_event_add_memory_pressure(3) with no callback of its own."""
    if version() < 254:
        pytest.skip("sd_event_add_memory_pressure() came with systemd 254")
    if not BUILT.exists():
        pytest.skip("there was no compiler to build the program")
    program = LIGHT.parent / "generous"
    program.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(BUILT, program)
    file = f'[app]\ncommand = ["{program}"]\n[workers]\ncount = 1\nmin_lifetime = 0\n{BOUNDS}'
    with Instance("sdevent", file) as instance:
        instance.start()
        pid = instance.workers()[0]
        environment = Path(f"/proc/{pid}/environ").read_text().split("\0")
        (watched,) = [each for each in environment if each.startswith("MEMORY_PRESSURE_WATCH=")]
        assert watched == "MEMORY_PRESSURE_WATCH=/run/memunit/sdevent/pressure/0.1"
        with under_load(instance.load(clients=1, rate=5)):
            instance.ask("/fragment")
            (entry,) = instance.journal.until(kind(Message.GAVE_BACK.id))
        assert int(entry["MEMUNIT_MEMORY_BYTES"]) < 60 << 20
        assert int(entry["MEMUNIT_GIVEN_BYTES"]) > 20 << 20
        assert "gave back" in instance.settle()
        assert instance.workers() == {0: pid}
        assert instance.journal.find(ended()) == []
