"""What policy wants done, in order. The master carries each out; one that fails comes back as a fact."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from memunit.core.model import WorkerId


class Signal(enum.Enum):
    """The three ways to end a worker; the mechanism knows their numbers."""

    TERM = "SIGTERM"
    ABRT = "SIGABRT"
    KILL = "SIGKILL"


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a worker of this revision of the configuration; `watchdog` in seconds, infinite for none."""

    id: WorkerId
    revision: int
    watchdog: float


@dataclass(frozen=True, slots=True)
class Send:
    """Send a signal to one worker; KILL goes to its whole process tree."""

    id: WorkerId
    signal: Signal


@dataclass(frozen=True, slots=True)
class Measure:
    """Sample this worker now and not only at the next interval."""

    id: WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """One journal entry. `kind` names a constant of messages.py; `replacement` becomes MEMUNIT_REPLACEMENT_PID."""

    kind: str
    message: str
    priority: int
    fields: Mapping[str, str | int] = field(default_factory=dict)
    replacement: WorkerId | None = None


@dataclass(frozen=True, slots=True)
class NotifyReady:
    """READY=1 to systemd: after the start, and at the end of each reload, also of one that failed."""


@dataclass(frozen=True, slots=True)
class NotifyReloading:
    """RELOADING=1 with MONOTONIC_USEC to systemd."""


@dataclass(frozen=True, slots=True)
class NotifyStopping:
    """STOPPING=1 to systemd."""


@dataclass(frozen=True, slots=True)
class NotifyExtend:
    """EXTEND_TIMEOUT_USEC to systemd, here in seconds from now."""

    seconds: float


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """Tell those who wait for a reload how it went."""

    tokens: tuple[int, ...]
    ok: bool
    text: str


@dataclass(frozen=True, slots=True)
class UseRevision:
    """From now on only this revision of the configuration is needed for new workers: others may be forgotten."""

    revision: int


@dataclass(frozen=True, slots=True)
class SaveGate:
    """Leave the count of failed starts to a successor, with when the first was and when the next try is due.

    Both in seconds of CLOCK_MONOTONIC.
    """

    failures: int
    since: float
    retry_at: float


@dataclass(frozen=True, slots=True)
class ClearGate:
    """Forget the failed starts: something is ready, or a person has acted."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Every worker is gone: leave with this exit code."""

    exit_code: int


Action = (
    Spawn
    | Send
    | Measure
    | Journal
    | NotifyReady
    | NotifyReloading
    | NotifyStopping
    | NotifyExtend
    | ReloadResult
    | UseRevision
    | SaveGate
    | ClearGate
    | Finish
)
