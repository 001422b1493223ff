"""What the master tells: entries to the journal; readiness, status and watchdog pings to the service manager."""

import math
import time

from memunit.core import policy, status
from memunit.core.actions import (
    Action,
    Journal,
    NotifyExtend,
    NotifyReady,
    NotifyReloading,
    NotifyStopping,
)
from memunit.core.model import State
from memunit.master import messages
from memunit.master.journal import Log
from memunit.master.notify import Systemd


class Reporter:
    """The one mouth of a master."""

    def __init__(self, log: Log, systemd: Systemd) -> None:
        self._journal = log
        self._systemd = systemd
        self._said = ""
        # When the next ping is due, in seconds of CLOCK_MONOTONIC; never if nobody expects one.
        self.next_ping = 0.0 if systemd.watchdog_usec else math.inf

    def entry(self, entry: Journal, heir: int | None = None) -> None:
        """Write an entry; `heir` is the pid of the worker that took over, where there is one."""
        kind, _, cause = entry.kind.partition(":")
        message_id = messages.END_BY_CAUSE[cause] if cause else getattr(messages, kind)
        fields = dict(entry.fields)
        if heir is not None:
            fields["MEMUNIT_REPLACEMENT_PID"] = heir
        self._journal.send(entry.message, message_id, entry.priority, **fields)

    def warn(self, kind: str, text: str) -> None:
        """An entry of this kind that nothing in the state stands for."""
        self.entry(Journal(kind=kind, message=text, priority=4))

    def tell(self, action: Action, state: State) -> None:
        """Carry out what is for the service manager alone."""
        match action:
            case NotifyReady():
                self._systemd.send("READY=1", f"STATUS={_sentence(state)}")
            case NotifyReloading():
                # CLOCK_MONOTONIC, as sd_notify(3) wants it for Type=notify-reload.
                self._systemd.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            case NotifyStopping():
                self._systemd.send("STOPPING=1")
            case NotifyExtend(seconds):
                self.extend(seconds)
            case _:
                raise AssertionError(f"nobody carries out {action!r}")

    def extend(self, seconds: float) -> None:
        """Have the running start, reload or stop time out no earlier than this from now."""
        # An infinite timeout can't be told: systemd's own largest is a year in practice.
        self._systemd.send(f"EXTEND_TIMEOUT_USEC={int(min(seconds, 365 * 86400) * 1e6)}")

    def finished_pass(self, state: State) -> None:
        """At the end of a finished pass alone: the status if it has changed, the watchdog ping if it is true."""
        said = _sentence(state)
        if said != self._said:
            self._said = said
            self._systemd.send(f"STATUS={said}")
        now = time.monotonic()
        if now >= self.next_ping:
            self.next_ping = now + self._systemd.watchdog_usec / 2e6
            if policy.healthy(state, now):
                self._systemd.send("WATCHDOG=1")


def _sentence(state: State) -> str:
    return status.sentence(state, time.monotonic())
