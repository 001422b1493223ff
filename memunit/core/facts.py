"""What the loop has learned since the last pass. Facts carry no behaviour; transitions.py decides on each."""

from collections.abc import Mapping

from memunit.core.model import Headroom, Policy, WorkerId
from memunit.records import dataclass


@dataclass(frozen=True, slots=True)
class WorkerFact:
    """A fact about one worker; one about a worker that is gone already is dropped."""

    id: WorkerId


@dataclass(frozen=True, slots=True)
class Spawned(WorkerFact):
    """fork(2) gave it a pid."""

    pid: int


@dataclass(frozen=True, slots=True)
class SpawnFailed(WorkerFact):
    """fork, chdir or exec failed: there is no process, or it never became the app."""

    error: str


@dataclass(frozen=True, slots=True)
class Executed(WorkerFact):
    """execve(2) succeeded: what `ready = "exec"` takes for READY=1, as systemd's Type=exec does."""


@dataclass(frozen=True, slots=True)
class Ready(WorkerFact):
    """It said READY=1."""


@dataclass(frozen=True, slots=True)
class Ping(WorkerFact):
    """It said WATCHDOG=1."""


@dataclass(frozen=True, slots=True)
class WatchdogTrigger(WorkerFact):
    """It said WATCHDOG=trigger: it asks to be treated as hung."""


@dataclass(frozen=True, slots=True)
class Stopping(WorkerFact):
    """It said STOPPING=1."""


@dataclass(frozen=True, slots=True)
class Deaf(WorkerFact):
    """It has no handler for the signal to stop that is sent to it now."""


@dataclass(frozen=True, slots=True)
class StatusText(WorkerFact):
    """It said STATUS=text."""

    text: str


@dataclass(frozen=True, slots=True)
class ExtendTimeout(WorkerFact):
    """It said EXTEND_TIMEOUT_USEC; here in seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Sampled(WorkerFact):
    """Its memory, in bytes by `metric`."""

    memory: int
    metric: str


@dataclass(frozen=True, slots=True)
class Unwatched(WorkerFact):
    """It was asked to give memory back, and no process of it reads what it was told to watch."""


@dataclass(frozen=True, slots=True)
class Exited(WorkerFact):
    """It ended and was reaped: code is "exited", "killed" or "dumped" as in waitid(2), status the number with it.

    Both are of its first process; `outlived` says that others of it went on, as behind a shell that does not exec, or
    were told to stop with it. `served` are the requests that it had answered, by its own account.
    """

    code: str
    status: int
    outlived: bool = False
    served: int = 0


@dataclass(frozen=True, slots=True)
class OomKilled(WorkerFact):
    """The kernel's OOM killer has ended it, `own` for reaching its ceiling and else for want of memory elsewhere.

    Comes right before its Exited. `peak` is the most it ever held, in bytes, 0 if unknown.
    """

    own: bool
    peak: int


@dataclass(frozen=True, slots=True)
class InWork(WorkerFact):
    """The requests that it had when it ended: how many, and of the longest ones the route and the seconds since it
    began.

    Comes right before its Exited.
    """

    count: int
    longest: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class RecycleRequested(WorkerFact):
    """Somebody asked for its replacement."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """SIGTERM or SIGINT; `force` when the person asked a second time and does not want to wait."""

    force: bool = False


@dataclass(frozen=True, slots=True)
class Reload:
    """A reload whose new configuration was read and is valid, and is called `revision` from now on.

    `tokens` name who waits for the result.
    """

    tokens: tuple[int, ...]
    policy: Policy
    revision: int


@dataclass(frozen=True, slots=True)
class ReloadRefused:
    """A reload whose new configuration is not valid; the old one goes on."""

    tokens: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Scale:
    """SIGTTIN (+1) or SIGTTOU (-1)."""

    delta: int


@dataclass(frozen=True, slots=True)
class ScaleTo:
    """Somebody asked for so many workers."""

    count: int


@dataclass(frozen=True, slots=True)
class Adjust:
    """Somebody asked for other settings until the next reload: {"memory.limit": "500M"}."""

    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class MemoryAvailable:
    """The memory that this instance may use, measured whenever a decision may be due."""

    headroom: Headroom


@dataclass(frozen=True, slots=True)
class MemoryPressure:
    """The workers have had to wait for memory (PSI), whoever has taken it."""


@dataclass(frozen=True, slots=True)
class Unheard:
    """What workers have said in the last moments may not have arrived, for a reason that is the master's own."""


@dataclass(frozen=True, slots=True)
class DumpState:
    """SIGUSR1: write the state to the journal."""


InstanceFact = (
    StopRequested
    | Reload
    | ReloadRefused
    | Scale
    | ScaleTo
    | Adjust
    | MemoryAvailable
    | MemoryPressure
    | Unheard
    | DumpState
)
Fact = WorkerFact | InstanceFact

WORKER_FACTS: tuple[type[WorkerFact], ...] = (
    Spawned,
    SpawnFailed,
    Executed,
    Ready,
    Ping,
    WatchdogTrigger,
    Stopping,
    Deaf,
    StatusText,
    ExtendTimeout,
    Sampled,
    Unwatched,
    OomKilled,
    InWork,
    Exited,
    RecycleRequested,
)
