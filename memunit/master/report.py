"""What the master tells: entries to the journal; readiness, status and watchdog pings to the service manager."""

import math
import time
from collections.abc import Sequence

from memunit.core import policy, status
from memunit.core.actions import (
    Action,
    Journal,
    NotifyExtend,
    NotifyReady,
    NotifyReloading,
    NotifyStopping,
)
from memunit.core.messages import ENDS, WARNING, Message
from memunit.core.state import State
from memunit.master.journal import Log
from memunit.master.notify import Systemd

# LOG_WARNING. journald's rate limit has a pool for each unit and each of five sorts of priorities; what apps print is
# in that of LOG_NOTICE and LOG_INFO, and a flood of it has taken the entries of ends along.
_ASSURED = 4
# Seconds between two sentences of the status: building one looks at each worker.
_STATUS_REST = 1.0
# So long before that it is told in a pass that happens anyway: samples are taken each second too, and a wake-up for the
# status alone, a few milliseconds after each of them, doubled the passes of an idle master.
_STATUS_EARLY = 0.05
# Seconds until what PID 1 did not take is sent again. Each try may block for a fifth of one.
_AGAIN = 1.0


class Reporter:
    """The one mouth of a master."""

    def __init__(self, log: Log, systemd: Systemd, unsent: Sequence[str] = (), level: int = 7) -> None:
        """`unsent` is what a predecessor in this process has not got rid of, by its `unsent`."""
        self._journal = log
        self._systemd = systemd
        self.level = level
        """What matters less than this level of syslog(3) is not written; the ends of workers are."""
        self._said = ""
        # A READY=1 that is lost is a start timeout, a lost STOPPING=1 an unexpected end: each stays due until it is
        # taken, in order. Of STATUS= the last one does, by `_said`.
        self._unsent = list(unsent)
        # When to say again what was not taken; infinite while nothing was refused.
        self._again_at = -math.inf if unsent else math.inf
        # When a sentence of the status was last built, and when the next one is due: not before something has happened.
        self._built_at = -math.inf
        self._status_due = -math.inf
        self._settings: dict[str, str] = {}
        # When the next ping is due, in seconds of CLOCK_MONOTONIC; never if nobody expects one.
        self._next_ping = 0.0 if systemd.watchdog_usec else math.inf

    @property
    def due(self) -> float:
        """When `finished_pass` has something to do of itself, in seconds of CLOCK_MONOTONIC."""
        return min(self._next_ping, self._again_at, self._status_due)

    @property
    def unsent(self) -> tuple[str, ...]:
        """What the service manager has not taken yet, in order."""
        return tuple(self._unsent)

    def entry(self, entry: Journal, heir: int | None = None) -> None:
        """Write an entry; `heir` is the pid of the worker that took over, where there is one."""
        priority = entry.kind.priority if entry.priority is None else entry.priority
        if entry.kind in ENDS:
            if self._journal.native:
                # In the journal never less, however planned it was: see docs/journal.md.
                priority = min(priority, _ASSURED)
        elif priority > self.level:
            return
        fields = dict(entry.fields)
        if heir is not None:
            fields["MEMUNIT_REPLACEMENT_PID"] = heir
        self._journal.send(entry.message, entry.kind.id, priority, **fields)

    def warn(self, kind: Message, text: str) -> None:
        """An entry of this kind that nothing in the state stands for."""
        self.entry(Journal(kind=kind, message=text, priority=WARNING))

    def tell(self, action: Action, state: State) -> None:
        """Carry out what is for the service manager alone."""
        match action:
            case NotifyReady():
                self._send(f"READY=1\nSTATUS={_sentence(state)}")
            case NotifyReloading():
                # CLOCK_MONOTONIC, as sd_notify(3) wants it for Type=notify-reload.
                self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
            case NotifyStopping():
                self._send("STOPPING=1")
            case NotifyExtend(seconds):
                self.extend(seconds)
            case _:
                raise AssertionError(f"nobody carries out {action!r}")

    def extend(self, seconds: float) -> None:
        """Have the running start, reload or stop time out no earlier than this from now."""
        # An infinite timeout can't be told: systemd's own largest is a year in practice.
        self._send(f"EXTEND_TIMEOUT_USEC={int(min(seconds, 365 * 86400) * 1e6)}")

    def finished_pass(self, state: State, *, news: bool = True, asked: bool = False) -> None:
        """At the end of a finished pass alone: the status if it has changed, the watchdog ping if it is true.

        Without `news`, the status is the same; with them, it is told within a second, and at once if a person has
        `asked`: what SIGUSR1 writes to the journal and the status of the unit agree. What a person has set is told at
        once too: `memunit status` shows it.
        """
        now = time.monotonic()
        self._flush(now)
        if news and math.isinf(self._status_due):
            self._status_due = self._built_at + _STATUS_REST
        if asked or state.settings != self._settings:
            self._status_due, self._settings = now, dict(state.settings)
        if now >= self._status_due - _STATUS_EARLY or state.stopping:
            self._built_at, self._status_due = now, math.inf
            said = _sentence(state)
            if said != self._said:
                if self._say(now, f"STATUS={said}"):
                    self._said = said
                else:
                    self._status_due = self._again_at
        if now >= self._next_ping:
            self._next_ping = now + self._systemd.watchdog_usec / 2e6
            if policy.healthy(state, now):
                self._systemd.send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        self._unsent.append(text)
        self._flush(time.monotonic())

    def _flush(self, now: float) -> None:
        """Say what is due, as far as it is taken."""
        while self._unsent and self._say(now, self._unsent[0]):
            del self._unsent[0]

    def _say(self, now: float, text: str) -> bool:
        """Whether it was taken, or nobody is there to take it."""
        if now < self._again_at < math.inf:
            return False
        taken = not self._systemd.enabled or self._systemd.send(*text.split("\n"))
        self._again_at = math.inf if taken else time.monotonic() + _AGAIN
        return taken


def _sentence(state: State) -> str:
    return status.sentence(state, time.monotonic())
