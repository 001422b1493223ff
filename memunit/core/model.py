"""What policy decides on: workers, slots, and what is known of the instance. The whole of it is state.py.

Times are seconds of CLOCK_MONOTONIC, which stands still while the machine is suspended; sizes are bytes.
"""

import enum
import math
from collections.abc import Mapping
from typing import NamedTuple

from memunit.records import dataclass, field


class Phase(enum.Enum):
    """Where a worker is in its life; systemd's own words for a service's sub-states."""

    STARTING = "starting"
    RUNNING = "running"
    STOP_SIGTERM = "stop-sigterm"
    STOP_SIGKILL = "stop-sigkill"
    DEAD = "dead"


class Cause(enum.StrEnum):
    """Why a worker ended (MEMUNIT_CAUSE), or why it was being stopped (MEMUNIT_STOP_REASON)."""

    MEMORY_LIMIT = "memory-limit"
    MEMORY_CEILING = "memory-ceiling"
    CRASH_EXIT = "crash-exit"
    CRASH_SIGNAL = "crash-signal"
    WATCHDOG = "watchdog"
    START_TIMEOUT = "start-timeout"
    START_FAILED = "start-failed"
    MAX_AGE = "max-age"
    PRESSURE = "pressure"
    ADOPTED = "adopted"
    RELOAD = "reload"
    SCALE_DOWN = "scale-down"
    REQUESTED = "requested"
    STOP = "stop"
    GRACE_EXPIRED = "grace-expired"


ACCIDENTS = frozenset(
    {
        Cause.MEMORY_CEILING,
        Cause.CRASH_EXIT,
        Cause.CRASH_SIGNAL,
        Cause.WATCHDOG,
        Cause.START_TIMEOUT,
        Cause.START_FAILED,
    }
)


# Why a worker is replaced, where it is for what it holds.
FOR_MEMORY = (Cause.MEMORY_LIMIT, Cause.PRESSURE)
# Ends that nobody replaces, and that are no recycles.
UNCOUNTED = (Cause.STOP, Cause.SCALE_DOWN)


class WorkerId(NamedTuple):
    """A worker's name. Never the pid alone: the kernel gives a pid out again."""

    slot: int
    generation: int

    def __str__(self) -> str:
        return f"worker {self.slot}.{self.generation}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The numbers of one instance's file that policy needs. Seconds and bytes; `math.inf` and None mean no bound."""

    count: int
    surge: int = 1
    start_timeout: float = 30.0
    watchdog: float = 30.0
    min_lifetime: float = 10.0
    max_age: float = math.inf
    limit: int | None = None
    ceiling: int | None = None
    patience: float = 2.0
    grace: float = 30.0
    # The number of the signal that tells a worker to stop.
    stop_signal: int = 15
    ready_on_exec: bool = False
    # Whether the workers write their stacks to the journal when they are asked, as those of our Python servers do.
    tells_stacks: bool = False
    # Whether a worker that is at its limit is asked to give memory back, before it is replaced: giving.py.
    give_back: bool = False
    # Whether a unit with its socket stands behind the master: it will be started again, and clients wait meanwhile.
    in_unit: bool = False


@dataclass(slots=True, kw_only=True)
class Worker:
    """One process in one phase. `deadline` is what ends the phase by force: the start timeout or the kill deadline."""

    id: WorkerId
    revision: int
    phase: Phase
    born: float
    since: float
    deadline: float
    # Until when it takes a place from others: its deadline, as it was before the worker asked for more time.
    yields_at: float
    limit: int | None
    # Those of the configuration that it was started with: a reload must not judge it by what it was never told.
    ceiling: int | None = None
    watchdog: float = math.inf
    grace: float = 30.0
    stop_signal: int = 15
    tells_stacks: bool = False
    pid: int = 0
    ready_at: float | None = None
    stop_at: float | None = None
    # It has to live until `deadline` to count as ready.
    probation: bool = False
    watchdog_at: float = math.inf
    pings: bool = False
    # It was given the time of a stall, since its last sign of life.
    forgiven: bool = False
    status: str = ""
    memory: int | None = None
    metric: str = ""
    sampled_at: float = -math.inf
    # When it was to be measured for a decision.
    asked_at: float = -math.inf
    baseline: int | None = None
    # Samples of its life, thinned out, and the bytes a second that they grow by: forecast.py.
    history: tuple[tuple[float, int], ...] = ()
    growth: float = 0.0
    # Bytes a second between the last two samples, and between the two before them at the same time, if that is less.
    pace: float = 0.0
    steady_pace: float = 0.0
    over_since: float | None = None
    # It was told where to watch for the question to give memory back; when it was last asked; the bytes that it held
    # then, while what it gives is not known; and that it gave too little to be asked again.
    gives: bool = False
    give_at: float = -math.inf
    give_from: int | None = None
    spent: bool = False
    # How often it has given back, the bytes in all, and when an entry last said so.
    gifts: int = 0
    given: int = 0
    gift_said_at: float = -math.inf
    wants: Cause | None = None
    wants_since: float = math.inf
    decided_memory: int | None = None
    reason: Cause | None = None
    force: Cause | None = None
    # Its failure is in the account (failures.py); and that it was at its limit too early.
    counted: bool = False
    in_vain: bool = False
    # It was recycled before it was known whether it leaks; the next sample tells.
    undecided: bool = False
    # Its slot waits until it has gone.
    holds_slot: bool = False
    oom: str = ""
    """Who had too little memory when the kernel's OOM killer ended it: "own" for its ceiling, or "outside"."""
    peak: int = 0
    # The requests that it had when it ended, and of the longest the route and the seconds.
    requests: int = 0
    longest: tuple[tuple[str, float], ...] = ()
    # It has said STOPPING=1; and it did so without having been told to stop.
    told_stopping: bool = False
    unasked: bool = False
    # It had no handler for the signal to stop when that was sent.
    deaf: bool = False
    # Others of its processes went on when its first one had ended, or were told to stop with it.
    outlived: bool = False
    # Who served in its place when it was told to stop, and that worker's pid: it may be gone before this one is.
    heir: "tuple[WorkerId, int] | None" = None

    @property
    def on_probation(self) -> bool:
        """True while it has to live on to count as ready: `deadline` is when it has."""
        return self.phase is Phase.STARTING and self.probation and not self.told_stopping

    @property
    def ran(self) -> bool:
        """Whether its own program has run, as far as is known: what it ends with is its own."""
        return self.ready_at is not None or self.probation

    @property
    def serving(self) -> bool:
        """True while it serves or is about to: it fills its slot."""
        return self.phase in (Phase.STARTING, Phase.RUNNING)

    @property
    def stuck(self) -> bool:
        """True when it has outlived its SIGKILL, in an uninterruptible sleep: nothing waits for it."""
        return self.phase is Phase.STOP_SIGKILL and math.isinf(self.deadline)


@dataclass(slots=True, kw_only=True)
class Slot:
    """One of the `count` places for a serving worker. What its failures are is in failures.py."""

    index: int
    next_generation: int = 1
    # The level of its account of failures, and when its next start is due by it.
    failures: int = 0
    retry_at: float = -math.inf
    # Recycles for memory in a row that did not help; whether the last worker was recycled so; whether that was said.
    futile: int = 0
    recycled: bool = False
    unhelped: bool = False
    # Its worker was stopped before its replacement was started, and that one has not come up yet.
    replacing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Holds back starts while nothing serves at all, so that a broken app costs one try at a time.

    It outlives the master (startlog.py): a successor does not start from zero. `since` is when the first of these
    failures was.
    """

    failures: int = 0
    since: float = math.inf
    failed_at: float = -math.inf
    retry_at: float = -math.inf
    # Whether the last to fail had served.
    served: bool = False


@dataclass(slots=True, kw_only=True)
class Rollout:
    """A reload on its way: what was asked, and what to go back to if the new app does not come up."""

    tokens: tuple[int, ...]
    # With the number of workers that there was, and that of the file.
    previous: Policy
    previous_count: int
    previous_revision: int
    began: float
    # State.settings before it.
    previous_settings: Mapping[str, str] = field(default_factory=dict)
    failures: int = 0
    # It can't succeed any more; and the last failure in a clause.
    broken: bool = False
    why: str = ""
    # A worker of the new configuration has passed its probation.
    proven: bool = False


class Headroom(NamedTuple):
    """Memory in bytes: the total this instance may use, what of it is free, and whose bound it is."""

    total: int
    available: int
    source: str
