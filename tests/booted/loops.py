"""Two instances that can't start, in their crash loop from the first test that asks for them to the last: as fixtures.

What happens in minutes is judged at the end (test_crash_loops.py); the tests in between need no time of their own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from memunit.core.messages import Message
from tests.booted.support import (
    SECONDS,
    Instance,
    asgi,
    at,
    emulated,
    kind,
    light,
    lossless,
    run,
    say,
)
from tests.support.load import Load

# An emulated processor beside another guest was seen to take over ten seconds for an import that is well.
START_TIMEOUT = 30.0 if emulated() else 10.0
# How long a crash loop is watched, from its first try on. MEMUNIT_WATCHED=3600 is the long form.
WATCHED = float(os.environ.get("MEMUNIT_WATCHED", "150"))
# To wait for what comes after it, the tests of other failures in between.
SETTLED = 60.0
BOUND = WATCHED + 4 * SECONDS
# The clients wait for as long as the tests in between take: on a busy machine that was more than 18 minutes.
CLIENTS_WAIT = 7200.0

BROKEN = Path("/opt/memunit-tests/broken")
WHOLE = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    headers = [(b"content-length", b"9")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok mended"})
"""


@dataclass
class Loop:
    """An instance in its crash loop, and the clients that have waited in its socket from the start."""

    instance: Instance
    clients: Load
    began: float
    meter: Meter


class Meter:
    """The processor time of an instance over its restarts: that of a slice of its own."""

    def __init__(self, instance: Instance) -> None:
        group = instance.show("ControlGroup", unit=instance.property("Slice"))["ControlGroup"]
        self._file = Path(f"/sys/fs/cgroup{group}/cpu.stat")
        self._began, self._before = time.monotonic(), self._used()

    def _used(self) -> float:
        fields = dict(line.split() for line in self._file.read_text().splitlines())
        return int(fields["usage_usec"]) / 1e6

    def share(self) -> float:
        """Of one processor, since it was made."""
        return (self._used() - self._before) / (time.monotonic() - self._began)


def served(clients: Load, instance: Instance) -> None:
    """All that have waited are answered, and new ones are."""
    report = lossless(clients.join())
    assert report.ok == 3
    instance.ask()


@pytest.fixture(scope="session")
def import_error() -> Iterator[Loop]:
    """An app that fails at import; its start was asked for by name, and has failed."""
    BROKEN.mkdir(parents=True, exist_ok=True)
    (BROKEN / "web.py").write_text("import not_there_at_all\n" + WHOLE)
    file = asgi(folder=BROKEN, app="web:app", workers=f'count = 2\nstart_timeout = "{START_TIMEOUT:.0f}s"\n')
    with Instance("looping", file, service="Slice=looping.slice\n") as instance:
        began = time.monotonic()
        started = run("systemctl", "start", instance.service, check=False)
        took = time.monotonic() - began
        say(f"systemctl start of an app that fails at import: {took:.1f} s of {START_TIMEOUT:.0f} s")
        assert started.returncode != 0
        # From the start of the master on; before that, systemd and Python take their time.
        (given_up,) = instance.journal.until(kind(Message.NOTHING_READY.id))
        first = instance.journal.find(kind(Message.LAUNCH_FAILED.id))[0]
        assert at(given_up) - at(first) < 2 * START_TIMEOUT
        assert took < 2 * START_TIMEOUT + 30
        clients = instance.load(clients=3, requests=3, timeout=CLIENTS_WAIT).start()
        yield Loop(instance, clients, at(first), Meter(instance))


@pytest.fixture(scope="session")
def bad_file() -> Iterator[Loop]:
    """A file that can't be used; the first client has started it."""
    with Instance(
        "unusable", light().replace("count", "cuont"), service="Slice=unusable.slice\n"
    ) as instance:
        instance.listen()
        clients = instance.load(clients=3, requests=3, timeout=CLIENTS_WAIT).start()
        first = instance.journal.until(kind(Message.CONFIGURATION.id))[0]
        yield Loop(instance, clients, at(first), Meter(instance))
