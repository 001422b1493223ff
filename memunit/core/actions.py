"""What policy wants done, in order. The master carries each out; one that fails comes back as a fact."""

import enum
from collections.abc import Mapping

from memunit.core.messages import Message
from memunit.core.model import WorkerId
from memunit.records import dataclass, field


class Signal(enum.Enum):
    """The ways to end a worker, and to ask what it waits for; the mechanism knows their numbers."""

    TERM = "SIGTERM"
    ABRT = "SIGABRT"
    KILL = "SIGKILL"
    STACKS = "stacks"


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a worker of this revision of the configuration; `watchdog` in seconds, infinite for none."""

    id: WorkerId
    revision: int
    watchdog: float


@dataclass(frozen=True, slots=True)
class Send:
    """Send a signal to one worker; KILL goes to its whole process tree. STACKS has it write its stacks to stderr."""

    id: WorkerId
    signal: Signal


@dataclass(frozen=True, slots=True)
class Measure:
    """Sample this worker now and not only at the next interval."""

    id: WorkerId


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Ask this worker to give memory back, by what it was told to watch (MEMORY_PRESSURE_WATCH)."""

    id: WorkerId


@dataclass(frozen=True, slots=True)
class Bound:
    """Have the kernel keep this worker under so many bytes from now on; None for no bound."""

    id: WorkerId
    ceiling: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """One journal entry. `replacement` becomes MEMUNIT_REPLACEMENT_PID; without a `priority` it has that of its kind.

    `replacement_pid` is its pid where that was known earlier, for it may have ended since; else 0.
    """

    kind: Message
    message: str
    priority: int | None = None
    fields: Mapping[str, str | int] = field(default_factory=dict)
    replacement: WorkerId | None = None
    replacement_pid: int = 0


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
    """From now on only this revision of the configuration is needed for new workers, and the one that is being tried if
    there is one: others may be forgotten.
    """

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
    | GiveBack
    | Bound
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
