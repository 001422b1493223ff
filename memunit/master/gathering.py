"""Gathers the facts of a pass. The master waits here, and in no other place."""

import math
import time

from memunit.core import facts as f
from memunit.core.protocol import facts_of, parse
from memunit.core.state import State
from memunit.master.carrying import Carrying
from memunit.master.measuring import available
from memunit.master.parts import Parts


class Gathering:
    """Waits until there is news, and asks each part of the master for it."""

    def __init__(self, parts: Parts, carrying: Carrying) -> None:
        self._parts = parts
        self._carrying = carrying
        self._ready: set[int] = set()

    def wait(self, deadline: float, *, busy: bool) -> None:
        """Until something is ready, or due: for policy at `deadline`, by CLOCK_MONOTONIC.

        Not at all if the master is `busy`, with facts or actions that a pass has left.
        """
        self._ready = set()
        if busy:
            return
        parts = self._parts
        now = time.monotonic()
        # epoll_wait(2) counts milliseconds in an int: a longer wait is made of several.
        due = min(
            deadline,
            parts.measuring.sensors.due,
            parts.report.due,
            parts.processes.due,
            parts.doors.due,
            parts.interface.due,
        )
        until = max(0.0, min(due - now, 86400.0))
        # Rounded up: a wake-up a moment too early would find nothing due and spin.
        self._ready = {descriptor for descriptor, _ in parts.epoll.poll(math.ceil(until * 1000) / 1000)}

    def gather(self, facts: list[f.Fact], state: State) -> None:
        """Add to `facts` all that is known by now. Signals before exits (see `step`), a worker's words before its end.

        Each fact is added as soon as it is known, because a later step may fail.
        """
        parts = self._parts
        facts += parts.doors.lost(self._ready, deciding=time.monotonic() >= state.wake_at)
        facts += parts.asking.by_signals(stopping=state.stopping)
        facts += parts.processes.forks()
        facts += parts.processes.executed()
        self._hear_workers(facts)
        parts.processes.programs.read()
        facts += parts.processes.ends(
            parts.measuring.sensors.forget,
            lambda: self._is_to_stop(facts, state),
            parts.revisions.forget_metrics,
        )
        facts += self._carrying.released(state)
        facts += parts.interface.facts(self._ready, state)
        facts += parts.asking.by_clients(parts.interface.reloads(), state)
        facts += parts.measuring.facts(self._ready, state)
        if _deciding(facts, state):
            facts[:0] = available()

    def _is_to_stop(self, facts: list[f.Fact], state: State) -> bool:
        """Asked once ends are known: systemd stops us and then the workers, and that signal may have come meanwhile."""
        facts += self._parts.asking.by_signals(stopping=state.stopping)
        return state.stopping or any(isinstance(fact, f.StopRequested) for fact in facts)

    def _hear_workers(self, facts: list[f.Fact]) -> None:
        processes = self._parts.processes
        for datagram in self._parts.doors.notify.datagrams():
            who = processes.speaker(datagram.pid, facts)
            if who is not None:
                facts += facts_of(who, datagram.payload)
            else:
                processes.overheard(datagram.pid, parse(datagram.payload).status)


def _deciding(facts: list[f.Fact], state: State) -> bool:
    """Whether a worker may be replaced in this pass: then the free memory has to be known as of now.

    The reading of the last round of samples may be from the middle of an import that has failed since, for want
    of memory: by that, a worker was once stopped before its replacement started, with room for both again.
    """
    idle = (f.Ping, f.StatusText)
    return time.monotonic() >= state.wake_at or any(not isinstance(fact, idle) for fact in facts)
