"""The datagrams of sd_notify(3): what each field means, and that whatever else a worker sends means nothing."""

from __future__ import annotations

import math
import os
import random
import time

import pytest

from memunit.core import facts as f
from memunit.core.invariants import broken
from memunit.core.model import Policy, WorkerId
from memunit.core.policy import step
from memunit.core.protocol import Notification, facts_of, parse
from memunit.core.seen import Pass, snapshot
from tests.support.mutants import mutant
from tests.support.sim import Sim

SECONDS = int(os.environ.get("MEMUNIT_FUZZ", "0"))
DATAGRAMS = 4000
WHO = WorkerId(0, 1)
SEEDS = [
    b"READY=1\nSTATUS=serves\n",
    b"WATCHDOG=1",
    b"WATCHDOG=trigger\n",
    b"STOPPING=1\nSTATUS=3 requests",
    b"EXTEND_TIMEOUT_USEC=5000000\n",
    b"MAINPID=1\nERRNO=2\nBUSERROR=a.b\nFDSTORE=1\nBARRIER=1\n",
]
PIECES = [
    b"=", b"\n", b"\0", b"\r", b"\xff", b"\xc3", b"\xe2\x80\xae", b"\x1b[2J", b"1" * 25, b"-1", b"1e9", b"\xd9\xa3",
    b"inf", b"READY", b"STATUS=", b"EXTEND_TIMEOUT_USEC=", b"EXTEND_TIMEOUT_USEC=18446744073709551615",
    b"WATCHDOG_USEC=1",
]  # fmt: skip


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"READY=1", Notification(ready=True)),
        (b"READY=0\nSTOPPING=yes\nWATCHDOG=", Notification()),
        (b"STOPPING=1\nREADY=1\n", Notification(ready=True, stopping=True)),
        (b"WATCHDOG=trigger", Notification(watchdog_trigger=True)),
        (b"STATUS=", Notification(status="")),
        # An entry of the journal is one line, and no terminal is to be told anything.
        (b"STATUS= a\x1b[2Jb\rc\xffd ", Notification(status="a [2Jb c\ufffdd")),
        (b"STATUS=" + b"x" * 5000, Notification(status="x" * 400)),
        (b"EXTEND_TIMEOUT_USEC=1500000", Notification(extend=1.5)),
        (b"EXTEND_TIMEOUT_USEC=0", Notification(extend=0.0)),
        *[
            (b"EXTEND_TIMEOUT_USEC=" + text, Notification())
            for text in (b"", b"-1", b"1e9", b"1.5", b" 1", b"9" * 20, "\u0663".encode(), b"infinity")
        ],
        # The last one of two holds, as in systemd; what is no assignment is passed over.
        (b"STATUS=a\nSTATUS=b\nready\n=1\n\n", Notification(status="b")),
        (b"\0READY=1", Notification()),
    ],
)
def test_what_a_datagram_says(payload: bytes, said: Notification) -> None:
    assert parse(payload) == said


def test_fuzz() -> None:
    """No datagram raises, and policy keeps its invariants whatever a worker says.

    MEMUNIT_FUZZ=300 tests/run unit -- -k "protocol and fuzz" is the long form: five minutes.
    """
    begin, number = time.monotonic(), int(os.environ.get("MEMUNIT_SEED", "0"))
    last = number + DATAGRAMS
    while number < last or time.monotonic() - begin < SECONDS:
        sim = Sim(Policy(count=2, watchdog=10.0))
        rng, number = random.Random(number), number + 1
        while sim.state.workers and rng.random() < 0.95:
            who = rng.choice(list(sim.state.workers))
            facts = facts_of(who, mutant(number, SEEDS, PIECES))
            number += 1
            for fact in facts:
                if isinstance(fact, f.StatusText):
                    assert fact.text.isprintable(), number
                    assert len(fact.text) <= 400, number
                if isinstance(fact, f.ExtendTimeout):
                    assert 0 <= fact.seconds < math.inf, number
            sim.now += rng.choice([0.0, 1.0, 20.0])
            before = snapshot(sim.state)
            state, actions, deadline = step(sim.state, facts, sim.now)
            assert not list(broken(Pass(before, facts, sim.now, snapshot(state), actions, deadline))), number
