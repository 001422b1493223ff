"""The ways to fail, each a way of life of a slot's workers."""

import math

from tests.exploration.simulation import BASE, M, Way

LIMIT, CEILING = 200 * M, 400 * M
NEVER = math.inf
KIND = Way(name="serves")
WAYS: tuple[Way, ...] = (
    Way(name="can't be forked", forks=False),
    Way(name="exits while it starts", ready=NEVER, exits=0.5),
    Way(name="exits while it starts, after 20 s", ready=NEVER, exits=20.0),
    Way(name="is never ready", ready=NEVER),
    Way(name="is never ready, and deaf to SIGABRT", ready=NEVER, aborts=False),
    Way(name="is never ready, and asks for an hour", ready=NEVER, extends=3600.0),
    Way(name="exits right after READY=1", exits=0.1),
    Way(name="exits right after READY=1, status 0", exits=0.1, status=0),
    Way(name="crashes after 9 s", exits=9.0, code="dumped", status=11),
    Way(name="crashes after 11 s", exits=11.0, code="dumped", status=11),
    Way(name="crashes after 29 s", exits=29.0, code="dumped", status=11),
    Way(name="crashes after 31 s", exits=31.0, code="dumped", status=11),
    Way(name="READY=1, STOPPING=1, exits", stopping=0.1, exits=0.2),
    Way(name="READY=1, STOPPING=1, lingers", stopping=0.1),
    Way(name="STOPPING=1 after 11 s, exits 0", stopping=11.0, exits=11.1, status=0),
    Way(name="hangs right after READY=1", hangs=0.05),
    Way(name="hangs right after READY=1, deaf to SIGABRT", hangs=0.05, aborts=False),
    Way(name="WATCHDOG=trigger right after READY=1", trigger=0.1),
    Way(name="over the ceiling from READY=1", base=CEILING),
    Way(name="over the ceiling at its first request", leap=CEILING),
    Way(name="over the limit from READY=1", base=LIMIT),
    Way(name="over the limit at its first request", leap=LIMIT),
    Way(name="over the limit at its first request, drains all grace", leap=LIMIT, drain=NEVER),
    Way(name="leaks, at its limit after 15 s", growth=(LIMIT - BASE) / 15),
    Way(name="leaks, at its limit after a minute", growth=(LIMIT - BASE) / 60),
)
