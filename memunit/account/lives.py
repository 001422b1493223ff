"""The lives of an instance's workers, put together from its entries."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

from memunit.account.entries import Entry
from memunit.account.text import clean
from memunit.core.messages import DEBUG
from memunit.records import dataclass, field

# Ends that nobody need look at.
PLANNED = ("reload", "stop", "scale-down", "requested", "max-age", "adopted")
CAUSES = (
    "memory-limit",
    "memory-ceiling",
    "watchdog",
    "crash-exit",
    "crash-signal",
    "start-failed",
    "start-timeout",
    "grace-expired",
    "pressure",
    "max-age",
    "requested",
    "adopted",
    "reload",
    "scale-down",
    "stop",
)
# Entries that are not about the life of a worker, and that a finding may rest on.
NOTES = (
    "BASELINE_OVER_LIMIT",
    "RECYCLE_DID_NOT_HELP",
    "RELOAD_FAILED",
    "RELOAD_DONE",
    "SURGE_REVERSED",
    "SOCKET_LOST",
    "SENSOR",
    "UNMEASURED",
    "CONFIGURATION",
    "ZYGOTE_LOST",
    "PRELOAD_DECLINED",
    "PRELOAD_UNSAFE",
    "NOTHING_READY",
    "LAUNCH_FAILED",
    "EXAMINED",
    "SCALE",
    "MASTER_FAILED",
    "MASTER_SUCCEEDED",
)


@dataclass(slots=True)
class Life:
    """One worker. Times are seconds of CLOCK_REALTIME, None what has not been, or is not in the journal any more;
    `seen` is that of its first entry.

    Sizes are bytes. `in_work` is how many requests an accident has cut off, `longest` the route of the longest and
    `longest_age` its seconds. `lost` says that the master began anew, and the journal has no end of it.
    """

    slot: int
    generation: int
    pid: int
    seen: float
    started: float | None = None
    ready: float | None = None
    stopping: float | None = None
    ended: float | None = None
    lost: bool = False
    stop_reason: str = ""
    cause: str = ""
    memory: int | None = None
    limit: int | None = None
    ceiling: int | None = None
    peak: int | None = None
    metric: str = ""
    growth: int | None = None
    drain: float | None = None
    uptime: float | None = None
    message: str = ""
    said: str = ""
    exit_code: str = ""
    exit_status: int | None = None
    replacement: int | None = None
    in_work: int | None = None
    longest: str = ""
    longest_age: float | None = None
    samples: list[tuple[float, int]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """ "0.6": its slot and generation."""
        return f"{self.slot}.{self.generation}"

    @property
    def first(self) -> float:
        """When the journal first has it."""
        return self.seen if self.started is None else min(self.seen, self.started)

    @property
    def phase(self) -> str:
        """Where it is in its life by the journal; systemd's words."""
        if self.ended is not None or self.lost:
            return "dead"
        if self.stopping is not None:
            return "stop-sigterm"
        return "starting" if self.ready is None else "running"


@dataclass(slots=True)
class Account:
    """All that the journal has of one instance in a time. Lives in the order of their starts, entries as they came."""

    instance: str
    since: float
    until: float
    lives: list[Life] = field(default_factory=list)
    notes: list[Entry] = field(default_factory=list)
    manager: list[Entry] = field(default_factory=list)

    def ended(self, *causes: str, since: float = 0.0) -> list[Life]:
        """Those that have ended, for one of these causes if any are said; the oldest end first."""
        found = [life for life in self.lives if life.ended is not None and life.ended >= since]
        found = [life for life in found if not causes or life.cause in causes]
        return sorted(found, key=lambda life: life.ended or 0.0)

    def counts(self, since: float = 0.0) -> dict[str, int]:
        """How many ended by each cause, the most frequent first; the stop of the service is none of them."""
        counted = Counter(life.cause for life in self.ended(since=since) if life.cause != "stop")
        return dict(sorted(counted.items(), key=lambda item: (-item[1], _order(item[0]))))

    def drains(self, since: float = 0.0) -> list[float]:
        """Seconds from the order to stop to the end, of each that was given one."""
        return [life.drain for life in self.ended(since=since) if life.drain is not None]

    def last_note(self, *kinds: str, since: float = 0.0) -> Entry | None:
        """The newest entry of one of these kinds."""
        found = [entry for entry in self.notes if entry.kind in kinds and entry.at >= since]
        return found[-1] if found else None


def build(instance: str, entries: Iterable[Entry], since: float, until: float) -> Account:
    """The account of one instance; `entries` are in the order of the journal, other instances' are passed over."""
    account = Account(instance, since, until)
    lives: dict[tuple[int, int, int], Life] = {}
    opened: list[tuple[int, int, int]] = []
    for entry in entries:
        if entry.instance != instance:
            continue
        if entry.kind.startswith("UNIT_"):
            account.manager.append(entry)
            continue
        if entry.kind == "MASTER_STARTED":
            account.manager.append(entry)
            for key in opened:
                lives[key].lost = True
            opened.clear()
            continue
        if entry.kind in NOTES and not _cut_short(entry):
            account.notes.append(entry)
        if entry.slot < 0 or entry.pid < 0 or entry.kind == "LAUNCH_FAILED":
            continue
        key = (entry.slot, entry.generation, entry.pid)
        life = lives.get(key)
        if life is None or (life.ended is not None and entry.kind == "WORKER_STARTING"):
            # The same name and pid a second time is another worker: names begin anew with each master.
            if life is not None:
                account.lives.append(life)
            life = lives[key] = Life(*key, entry.at)
            opened.append(key)
        life.lost = False
        _tell(life, entry)
        if life.ended is not None and key in opened:
            opened.remove(key)
    account.lives += lives.values()
    account.lives.sort(key=lambda life: (life.first, life.slot, life.generation))
    return account


def _cut_short(entry: Entry) -> bool:
    """A try that the end of its master cut short: the tries before it have said why no worker can be started."""
    return entry.kind == "LAUNCH_FAILED" and entry.fields.get("PRIORITY") == str(DEBUG)


def _tell(life: Life, entry: Entry) -> None:
    if entry.kind == "WORKER_STARTING":
        life.started = entry.at
    elif entry.kind == "WORKER_READY":
        life.ready = entry.at
    elif entry.kind == "WORKER_STOPPING":
        # A second one tells of the SIGKILL or SIGABRT.
        life.stopping = entry.at if life.stopping is None else life.stopping
        life.stop_reason = life.stop_reason or entry.reason
    memory = entry.number("MEMUNIT_MEMORY_BYTES")
    limit, ceiling = entry.number("MEMUNIT_LIMIT_BYTES"), entry.number("MEMUNIT_CEILING_BYTES")
    life.limit = limit if limit is not None else life.limit
    life.ceiling = ceiling if ceiling is not None else life.ceiling
    if memory is not None and not entry.cause:
        life.samples.append((entry.at, memory))
    if entry.cause:
        _end(life, entry, memory)


def _end(life: Life, entry: Entry, memory: int | None) -> None:
    life.ended, life.cause, life.message = entry.at, entry.cause, entry.message
    life.stop_reason = entry.reason or life.stop_reason
    life.memory, life.metric = memory, entry.fields.get("MEMUNIT_METRIC", "")
    life.peak = entry.number("MEMUNIT_PEAK_BYTES")
    life.growth = entry.number("MEMUNIT_GROWTH_BYTES_PER_HOUR")
    life.said = entry.fields.get("MEMUNIT_WORKER_STATUS", "")
    life.exit_code = entry.fields.get("EXIT_CODE", "")
    life.exit_status = entry.number("EXIT_STATUS")
    life.replacement = entry.number("MEMUNIT_REPLACEMENT_PID")
    life.in_work = entry.number("MEMUNIT_IN_WORK")
    life.longest = clean(entry.fields.get("MEMUNIT_IN_WORK_ROUTE", ""), 120)
    age = entry.number("MEMUNIT_IN_WORK_USEC")
    life.longest_age = None if age is None else age / 1e6
    drain, uptime = entry.number("MEMUNIT_DRAIN_USEC"), entry.number("MEMUNIT_UPTIME_USEC")
    life.drain = None if drain is None else drain / 1e6
    life.uptime = None if uptime is None else uptime / 1e6
    if life.started is None and life.uptime is not None:
        # Its start is older than what was asked for, or than the journal.
        life.started = entry.at - life.uptime
    if memory is not None:
        # The value of the decision, where there was one; the end comes after the drain.
        decided = life.stopping if life.cause in ("memory-limit", "pressure") and life.stopping else entry.at
        life.samples.append((max(decided, life.samples[-1][0] if life.samples else decided), memory))
    if life.peak is not None and (memory is None or life.peak > memory):
        life.samples.append((entry.at, life.peak))


def _order(cause: str) -> int:
    return CAUSES.index(cause) if cause in CAUSES else len(CAUSES)


def middle(values: Sequence[float]) -> float:
    """The median; 0 of nothing."""
    return statistics.median(values) if values else 0.0


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of all does not exceed (the nearest rank); 0 of nothing."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
