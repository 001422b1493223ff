"""The state that policy decides on: workers, slots and the instance, as immutable values.

Times are seconds of CLOCK_MONOTONIC, which stands still while the machine is suspended; sizes are bytes.
"""

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


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
    ready_on_exec: bool = False
    # Whether a unit with its socket stands behind the master: it will be started again, and clients wait meanwhile.
    in_unit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One process in one phase. `timer` is what ends the phase by force: the start timeout or the kill timer."""

    id: WorkerId
    revision: int
    phase: Phase
    born: float
    since: float
    timer: float
    limit: int | None
    # Those of the configuration that it was started with: a reload must not judge it by what it was never told.
    ceiling: int | None = None
    watchdog: float = math.inf
    grace: float = 30.0
    pid: int = 0
    ready_at: float | None = None
    stop_at: float | None = None
    # It has become its program, which will not say READY=1.
    executed: bool = False
    watchdog_at: float = math.inf
    pings: bool = False
    status: str = ""
    memory: int | None = None
    metric: str = ""
    baseline: int | None = None
    # Samples of its life, thinned out, and the bytes a second that they grow by: forecast.py.
    history: tuple[tuple[float, int], ...] = ()
    growth: float = 0.0
    over_since: float | None = None
    wants: Cause | None = None
    decided_memory: int | None = None
    reason: Cause | None = None
    force: Cause | None = None
    holds_slot: bool = False
    oom: str = ""
    """Who had too little memory when the kernel's OOM killer ended it: "own" for its ceiling, or "outside"."""
    peak: int = 0
    # It has said STOPPING=1 since it was told to stop: it handles SIGTERM.
    told_stopping: bool = False

    @property
    def on_probation(self) -> bool:
        """True while it has to live on to count as ready: `timer` is when it has."""
        return self.phase is Phase.STARTING and self.executed and not self.told_stopping

    @property
    def ran(self) -> bool:
        """Whether its own program has run, as far as is known: what it ends with is its own."""
        return self.ready_at is not None or self.executed

    @property
    def serving(self) -> bool:
        """True while it serves or is about to: it fills its slot."""
        return self.phase in (Phase.STARTING, Phase.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One of the `count` places for a serving worker. `failures` counts accidents in a row."""

    index: int
    next_generation: int = 1
    failures: int = 0
    retry_at: float = -math.inf
    futile: int = 0
    # Its last worker that served was recycled for its memory; and it was told that this did not help.
    recycled: bool = False
    unhelped: bool = False


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A reload on its way: what was asked, and what to go back to if the new app does not come up."""

    tokens: tuple[int, ...]
    previous: Policy
    previous_revision: int
    began: float
    failures: int = 0


class Headroom(NamedTuple):
    """Memory in bytes: the total this instance may use, what of it is free, and whose bound it is."""

    total: int
    available: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that policy remembers between two passes of the loop."""

    policy: Policy
    count: int
    seed: int
    started_at: float
    workers: Mapping[WorkerId, Worker] = field(default_factory=dict)
    slots: tuple[Slot, ...] = ()
    revision: int = 1
    last_revision: int = 1
    rollout: Rollout | None = None
    gate: Gate = Gate()
    ready_sent: bool = False
    stopping: bool = False
    finished: bool = False
    exit_code: int = 0
    last_running: float = -math.inf
    stepped_at: float = -math.inf
    wake_at: float = math.inf
    headroom: Headroom | None = None
    ended: Mapping[Cause, int] = field(default_factory=dict)
    trouble: str = ""
    reload_trouble: str = ""
    baseline_reported: bool = False
    blind_reported: bool = False
    surge_reversed: bool = False

    def running(self) -> int:
        """How many workers serve now."""
        return sum(worker.phase is Phase.RUNNING for worker in self.workers.values())


def initial(policy: Policy, *, now: float, seed: int = 0, gate: Gate | None = None) -> State:
    """The state of a master that has started nothing yet; `gate` is what its predecessor left behind."""
    gate = gate or Gate()
    return State(
        policy=policy,
        count=policy.count,
        seed=seed,
        started_at=max(now, gate.retry_at),
        # The try that has to wait gets all of start_timeout, or a mended app could be cut off in the middle of it.
        last_running=max(now, gate.retry_at),
        # What an earlier master has counted is over when a worker has served for a while, and not at its READY=1.
        slots=tuple(Slot(index=i, failures=gate.failures) for i in range(policy.count)),
        gate=gate,
    )
