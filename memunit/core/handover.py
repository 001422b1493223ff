"""What a master leaves to the one after it: its workers, as a text of one line.

The same text is the file in the runtime directory, by which a successor finds them after a SIGKILL, and the first line
of what a master that executes itself anew passes on. It names the version of its own form and the boot it is from: a
pid and CLOCK_MONOTONIC mean nothing after the next.
"""

import math
from collections.abc import Mapping

from memunit.core.codec import Codec, dumps, parse
from memunit.core.codec_forms import CodecError
from memunit.records import dataclass, field

VERSION = 1
# More than any instance has, of slots and of processes: the file may be anybody's who has the service's user.
_MOST = 1 << 14
MOST_TAKEOVERS = 1 << 31
"""More are not counted."""
# Seconds since the machine was started: three centuries.
_LATEST = 1e10
# pid_t and the numbers of signals; see pid_max in proc_sys_kernel(5) and signal(7).
_PIDS = range(2, (1 << 22) + 1)
_SIGNALS = range(1, 65)


class Unusable(Exception):
    """There are workers, maybe, and no telling which; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftWorker:
    """One worker. Seconds of CLOCK_MONOTONIC and bytes; `start` is that of proc_pid_stat(5), in clock ticks."""

    slot: int
    generation: int
    pid: int
    start: int
    revision: int
    phase: str
    born: float
    ready_at: float | None
    # When it is ended by force, if it is; when it was told to stop, if it was, and why.
    deadline: float
    stop_at: float | None = None
    reason: str = ""
    # Why it is to be replaced, if somebody has asked for that.
    wants: str = ""
    watchdog: float = math.inf
    grace: float = 30.0
    stop_signal: int = 15
    limit: int | None = None
    ceiling: int | None = None
    # Whether it may be asked to give memory back, when it last was, and what it has given: times, and bytes.
    gives: bool = False
    give_at: float = -math.inf
    gifts: int = 0
    given: int = 0
    # Whether a stop is told to all of its processes.
    whole: bool = False
    # Its line of the scoreboard.
    line: int | None = None
    # Revision and number of the zygote that has forked it.
    zygote: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftZygote:
    """A zygote, or what an ended one has started and workers still use."""

    revision: int
    number: int
    pid: int
    start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """All of it. `generations` are the next of each slot: no name is ever given twice."""

    master: int
    program: str
    stopping: bool
    revision: int
    generations: tuple[int, ...]
    workers: tuple[LeftWorker, ...]
    zygotes: tuple[LeftZygote, ...] = ()
    # State.settings: what a person has changed until the next reload.
    settings: Mapping[str, str] = field(default_factory=dict)
    # Tally.takeovers.
    takeovers: int = 0


_CODEC: Codec[Handover] = Codec(Handover)


def write(handover: Handover, boot: str) -> str:
    """The text."""
    return dumps({"version": VERSION, "boot": boot, "left": _CODEC.encode(handover)})


def read(text: str | bytes, boot: str) -> Handover | None:
    """What a text says; None if it is from another boot, of which nobody lives. Raises Unusable."""
    try:
        found = parse(text)
        if not isinstance(found, dict) or found.keys() != {"version", "boot", "left"}:
            raise Unusable("no master writes such a text")
        if found["version"] != VERSION:
            raise Unusable(f"its version is {str(found['version'])[:20]!r}, and {VERSION} is known here")
        if found["boot"] != boot:
            return None
        handover = _CODEC.decode(found["left"])
    except CodecError as error:
        raise Unusable(str(error)) from None
    _check(handover)
    return handover


def _check(handover: Handover) -> None:
    """Raises Unusable for what can't be: one that was believed once is found again by each successor."""
    workers, zygotes = handover.workers, handover.zygotes
    if not all(map(_can_be, workers)):
        raise Unusable("it has a number that no worker can have")
    if not all(each.pid in _PIDS and each.start >= 0 for each in zygotes):
        raise Unusable("it has a number that no zygote can have")
    if not 0 <= handover.takeovers <= MOST_TAKEOVERS:
        raise Unusable("it counts more dead masters than there can be")
    if max(len(workers), len(zygotes), len(handover.generations)) > _MOST:
        raise Unusable("it has more workers or zygotes than an instance can have")
    pids = {each.pid for each in workers} | {each.pid for each in zygotes}
    names = {(each.slot, each.generation) for each in workers}
    if len(pids) < len(workers) + len(zygotes) or len(names) < len(workers):
        raise Unusable("it names a process or a worker twice")


def _can_be(worker: LeftWorker) -> bool:
    times = [at for at in (worker.born, worker.ready_at, worker.stop_at) if at is not None]
    bounds = [size for size in (worker.limit, worker.ceiling) if size is not None]
    if worker.phase == "running" and worker.ready_at is None:
        return False
    if worker.phase not in ("starting", "running") and worker.stop_at is None:
        return False
    return (
        worker.pid in _PIDS
        and worker.start >= 0
        and 0 <= worker.slot < _MOST
        and worker.generation >= 1
        and worker.stop_signal in _SIGNALS
        and all(abs(at) < _LATEST for at in times)
        and min(bounds, default=1) > 0
        and worker.grace >= 0
        and worker.watchdog > 0
        and worker.deadline > -math.inf
        and worker.phase != "dead"
    )
