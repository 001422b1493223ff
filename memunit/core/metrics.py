"""What is measured of an instance: one table of families, from which each form of its metrics is made.

The values come of a reply of Follow (interfaces.py). cli/families.py writes them for Prometheus, cli/provider.py for
systemd-report(1).

No name of a worker and no pid is a label: with each recycle there would be new series, and the old ones would stay in
a database for as long as it keeps anything. A slot is one, for there are as many as there are workers.
"""

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from memunit.core.model import UNCOUNTED, Cause, Phase
from memunit.records import dataclass

Told = Mapping[str, Any]


class Kind(enum.Enum):
    """What a family's values are. Counters only rise, until a master begins anew."""

    COUNTER = "counter"
    GAUGE = "gauge"
    TEXT = "text"
    HISTOGRAM = "histogram"


class Histogram(NamedTuple):
    """How many were no larger than each bound, with those of smaller bounds; the last bound is infinite."""

    buckets: Sequence[tuple[str, int]]
    sum: float


class Value(NamedTuple):
    """One value of a family; `labels` has as many words as the family has labels."""

    value: float | str | Histogram
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """A reply of Follow. `slots` has of each slot the worker that serves in it, or that is about to."""

    instance: Told
    workers: Sequence[Told]
    slots: Sequence[Told]

    @property
    def now(self) -> int:
        """Microseconds of CLOCK_MONOTONIC, as of the reply."""
        return int(self.instance["nowMonotonicUSec"])


Values = Callable[[Seen], Iterable[Value]]


@dataclass(frozen=True, slots=True)
class Family:
    """Values that mean the same. `name` ends in its unit; each form has a prefix of its own before it."""

    name: str
    kind: Kind
    text: str
    values: Values
    labels: tuple[str, ...] = ()


Measure = tuple[Family, list[Value]]


_TYPES = {
    Kind.COUNTER: (int, float),
    Kind.GAUGE: (int, float),
    Kind.TEXT: (str,),
    Kind.HISTOGRAM: (Histogram,),
}
_UP = Family("up", Kind.GAUGE, "Whether the master of the instance has answered.", lambda _: ())


def measured(told: Told | None) -> Iterator[Measure]:
    """Each family that has values, of a reply of Follow; without one, that the master does not answer.

    Raises KeyError, TypeError or ValueError for a reply that is none.
    """
    yield _UP, [Value(int(told is not None))]
    if told is None:
        return
    serving = {each["slot"]: each for each in sorted(told["workers"], key=_rank)}
    seen = Seen(told["instance"], told["workers"], [serving[slot] for slot in sorted(serving)])
    for family in FAMILIES:
        values = list(family.values(seen))
        if not all(isinstance(each.value, _TYPES[family.kind]) for each in values):
            raise TypeError(family.name)
        if values:
            yield family, values


def _rank(worker: Told) -> tuple[int, int]:
    """The last of a slot counts: one that serves, else one that starts, else one that stops; of these the newest."""
    return {"running": 2, "starting": 1}.get(worker["phase"], 0), worker["generation"]


# -- the instance ----------------------------------------------------------------------------------------------


def _of_instance(key: str) -> Values:
    """Not there where the master says that there is none."""
    return lambda seen: () if seen.instance[key] is None else (Value(seen.instance[key]),)


def _of_memory(key: str) -> Values:
    return lambda seen: () if seen.instance["memory"] is None else (Value(seen.instance["memory"][key]),)


def _of_tally(key: str) -> Values:
    """A master of an older version counts less."""
    return lambda seen: (Value(seen.instance["tally"][key]),) if "tally" in seen.instance else ()


def _phases(seen: Seen) -> Iterator[Value]:
    for phase in (each.value for each in Phase if each is not Phase.DEAD):
        yield Value(sum(each["phase"] == phase for each in seen.workers), (phase,))


def _recycles(seen: Seen) -> Iterator[Value]:
    """Each cause is there from the start: Prometheus' increase() sees no series that begins with 1."""
    ends = {each["cause"]: each["count"] for each in seen.instance["ended"]}
    for cause in dict.fromkeys((*(str(each) for each in Cause if each not in UNCOUNTED), *ends)):
        yield Value(ends.get(cause, 0), (cause,))


def _reloads(seen: Seen) -> Iterator[Value]:
    if "tally" in seen.instance:
        yield Value(seen.instance["tally"]["reloads"], ("done",))
        yield Value(seen.instance["tally"]["reloadsFailed"], ("failed",))


def _requests(seen: Seen) -> Iterator[Value]:
    if "tally" in seen.instance:
        ended = seen.instance["tally"]["served"]
        known = [each["requests"]["served"] for each in seen.workers if each["requests"] is not None]
        if known or ended:
            yield Value(ended + sum(known))


def _drains(seen: Seen) -> Iterator[Value]:
    if "tally" in seen.instance:
        drains = seen.instance["tally"]["drains"]
        bounds = [*(f"{bound / 1e6}" for bound in drains["boundsUSec"]), "+Inf"]
        so_far, buckets = 0, []
        for bound, count in zip(bounds, drains["counts"], strict=True):
            so_far += count
            buckets.append((bound, so_far))
        yield Value(Histogram(buckets, drains["sumUSec"] / 1e6))


# -- its slots -------------------------------------------------------------------------------------------------


def _of_slots(name: str, text: str, value: Callable[[Told, int], float | None]) -> Family:
    """`value` gives that of a worker, at a time in microseconds; None where it is not known."""

    def values(seen: Seen) -> Iterator[Value]:
        for worker in seen.slots:
            found = value(worker, seen.now)
            if found is not None:
                yield Value(found, (str(worker["slot"]),))

    return Family(f"worker_{name}", Kind.GAUGE, text, values, ("slot",))


def _plain(key: str) -> Callable[[Told, int], float | None]:
    return lambda worker, _: worker[key]


def _age(worker: Told, now: int) -> float:
    return float(max(0, now - worker["startedMonotonicUSec"])) / 1e6


def _left(worker: Told, now: int) -> float | None:
    left, since = worker["untilLimitUSec"], worker["sampledMonotonicUSec"]
    return None if left is None or since is None else float(max(0, since + left - now)) / 1e6


def _in_work(worker: Told, _: int) -> int | None:
    return None if worker["requests"] is None else int(worker["requests"]["inWork"])


def _longest(worker: Told, _: int) -> float | None:
    if worker["requests"] is None:
        return None
    return float(worker["requests"]["longestUSec"] or 0) / 1e6


# -- the table -------------------------------------------------------------------------------------------------

FAMILIES = (
    Family("version", Kind.TEXT, "The version of the master.", _of_instance("version")),
    Family("workers", Kind.GAUGE, "Workers by phase.", _phases, ("phase",)),
    Family("workers_desired", Kind.GAUGE, "How many workers should serve.", _of_instance("count")),
    Family("workers_ready", Kind.GAUGE, "How many workers serve.", _of_instance("ready")),
    Family("reloading", Kind.GAUGE, "Whether a reload is under way.", _of_instance("reloading")),
    Family(
        "limit_bytes",
        Kind.GAUGE,
        "Memory at which a worker is replaced, of workers that are started now.",
        _of_instance("limit"),
    ),
    Family(
        "ceiling_bytes",
        Kind.GAUGE,
        "Memory at which a worker is killed, of workers that are started now.",
        _of_instance("ceiling"),
    ),
    Family("budget_bytes", Kind.GAUGE, "All the memory that the instance may use.", _of_memory("total")),
    Family(
        "budget_free_bytes",
        Kind.GAUGE,
        "Free part of the memory that the instance may use.",
        _of_memory("available"),
    ),
    Family(
        "recycles",
        Kind.COUNTER,
        "Workers that have ended and are replaced, by cause.",
        _recycles,
        ("cause",),
    ),
    Family(
        "recycles_unhelpful",
        Kind.COUNTER,
        "Recycles for memory that did not help, or could not help.",
        _of_tally("recyclesInVain"),
    ),
    Family("reloads", Kind.COUNTER, "Reloads by result.", _reloads, ("result",)),
    Family(
        "master_restarts",
        Kind.COUNTER,
        "How often a new master has taken over the workers of a master that died.",
        _of_tally("takeovers"),
    ),
    Family("requests", Kind.COUNTER, "Requests that workers have answered (asgi, wsgi, node).", _requests),
    Family(
        "drain_seconds",
        Kind.HISTOGRAM,
        "How long workers took from the order to stop until their end.",
        _drains,
    ),
    _of_slots("memory_bytes", "Memory of the worker in the slot.", _plain("memory")),
    _of_slots("limit_bytes", "Memory at which this worker is replaced.", _plain("limit")),
    _of_slots("ceiling_bytes", "Memory at which this worker is killed.", _plain("ceiling")),
    _of_slots("age_seconds", "How long ago this worker was started.", _age),
    _of_slots(
        "time_to_limit_seconds", "How long until this worker reaches its limit, if it grows on.", _left
    ),
    _of_slots("requests_in_work", "Requests that this worker has in work.", _in_work),
    _of_slots("longest_request_seconds", "How long the oldest request in work has taken so far.", _longest),
)
"""All families but whether there is a master that answers."""
ALL = (_UP, *FAMILIES)
"""All families, in the order in which they are told."""
