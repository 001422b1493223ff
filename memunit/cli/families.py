"""What a master tells of its instance as families of metrics, by the client library of Prometheus.

No name of a worker and no pid is a label: with each recycle there would be new series, and the old ones would stay in
the database for as long as it keeps anything. A slot is one, for there are as many as there are workers.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from memunit.core.model import Cause, Phase

Told = Mapping[str, Any]

# Not "instance": that label is Prometheus's own, for the address that it has read.
_NAME = "name"
_PHASES = tuple(phase.value for phase in Phase if phase is not Phase.DEAD)
# The ends that the master counts. Each is there from the start: increase() sees no series that begins with 1.
_CAUSES = tuple(str(cause) for cause in Cause if cause not in (Cause.STOP, Cause.SCALE_DOWN))
_OPEN_METRICS = "application/openmetrics-text"


class _Found:
    """What a registry asks for its metrics."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def rendered(families: Iterable[Metric], accept: str = "") -> tuple[bytes, str]:
    """The text of these, and what it is (Content-Type), by what a client says that it takes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Found(families))
    # The client's own words are not passed on: newer libraries raise at a bad version, and copy it into Content-Type.
    open_metrics = any(each.partition(";")[0].strip() == _OPEN_METRICS for each in accept.split(","))
    encode, kind = choose_encoder(f"{_OPEN_METRICS}; version=1.0.0" if open_metrics else "")
    return encode(registry), kind


def families(instance: str, told: Told | None) -> list[Metric]:
    """Those of a reply of Follow; without one, that the master does not answer.

    Raises KeyError, TypeError or ValueError for a reply that is none.
    """
    found: list[Metric] = [
        _gauge("memunit_up", "Whether the master of the instance has answered.", instance, told is not None)
    ]
    if told is not None:
        found += _of_instance(instance, told["instance"], told["workers"])
        found += _of_slots(instance, told["instance"]["nowMonotonicUSec"], told["workers"])
    return found


def _of_instance(name: str, one: Told, workers: Sequence[Told]) -> Iterator[Metric]:
    info = InfoMetricFamily("memunit", "The version of the master.", labels=(_NAME,))
    info.add_metric((name,), {"version": str(one["version"])})
    yield info
    phases = GaugeMetricFamily("memunit_workers", "Workers by phase.", labels=(_NAME, "phase"))
    for phase in _PHASES:
        phases.add_metric((name, phase), sum(each["phase"] == phase for each in workers))
    yield phases
    yield _gauge("memunit_workers_desired", "How many workers should serve.", name, one["count"])
    yield _gauge("memunit_workers_ready", "How many workers serve.", name, one["ready"])
    yield _gauge("memunit_reloading", "Whether a reload is under way.", name, one["reloading"])
    for what, text in (
        ("limit", "Memory at which a worker is replaced, of workers that are started now."),
        ("ceiling", "Memory at which a worker is killed, of workers that are started now."),
    ):
        if one[what] is not None:
            yield _gauge(f"memunit_{what}_bytes", text, name, one[what])
    if one["memory"] is not None:
        text = "All the memory that the instance may use."
        yield _gauge("memunit_budget_bytes", text, name, one["memory"]["total"])
        text = "What is free of the memory that the instance may use."
        yield _gauge("memunit_budget_free_bytes", text, name, one["memory"]["available"])
    ends = {each["cause"]: each["count"] for each in one["ended"]}
    recycles = CounterMetricFamily(
        "memunit_recycles", "Workers that have ended and are replaced, by cause.", labels=(_NAME, "cause")
    )
    for cause in dict.fromkeys((*_CAUSES, *ends)):
        recycles.add_metric((name, cause), ends.get(cause, 0))
    yield recycles
    # A master of an older version counts less.
    if "tally" in one:
        yield from _of_tally(name, one["tally"], workers)


def _of_tally(name: str, tally: Told, workers: Sequence[Told]) -> Iterator[Metric]:
    text = "Recycles for memory that did not help, or could not help."
    yield _counter("memunit_recycles_unhelpful", text, name, tally["recyclesInVain"])
    reloads = CounterMetricFamily("memunit_reloads", "Reloads by result.", labels=(_NAME, "result"))
    reloads.add_metric((name, "done"), tally["reloads"])
    reloads.add_metric((name, "failed"), tally["reloadsFailed"])
    yield reloads
    text = "How often a new master has taken over the workers of a master that died."
    yield _counter("memunit_master_restarts", text, name, tally["takeovers"])
    known = [each["requests"]["served"] for each in workers if each["requests"] is not None]
    if known or tally["served"]:
        text = "Requests that workers have answered (asgi, wsgi, node)."
        yield _counter("memunit_requests", text, name, tally["served"] + sum(known))
    drains = HistogramMetricFamily(
        "memunit_drain_seconds",
        "How long workers took from the order to stop until their end.",
        labels=(_NAME,),
    )
    bounds = [*(f"{bound / 1e6}" for bound in tally["drains"]["boundsUSec"]), "+Inf"]
    so_far, buckets = 0, []
    for bound, count in zip(bounds, tally["drains"]["counts"], strict=True):
        so_far += count
        buckets.append((bound, so_far))
    drains.add_metric((name,), buckets, tally["drains"]["sumUSec"] / 1e6)
    yield drains


def _of_slots(name: str, now: int, workers: Sequence[Told]) -> Iterator[Metric]:
    """Of each slot the worker that serves in it, or that is about to."""
    serving = {each["slot"]: each for each in sorted(workers, key=_rank)}
    slots = [serving[slot] for slot in sorted(serving)]
    for what, text, value in (
        ("memory_bytes", "Memory of the worker in the slot.", _plain("memory")),
        ("limit_bytes", "Memory at which this worker is replaced.", _plain("limit")),
        ("ceiling_bytes", "Memory at which this worker is killed.", _plain("ceiling")),
        ("age_seconds", "How long ago this worker was started.", _age),
        ("time_to_limit_seconds", "How long until this worker reaches its limit, if it grows on.", _left),
        ("requests_in_work", "Requests that this worker has in work.", _in_work),
        ("longest_request_seconds", "How long the oldest request in work has taken so far.", _longest),
    ):
        family = GaugeMetricFamily(f"memunit_worker_{what}", text, labels=(_NAME, "slot"))
        for each in slots:
            found = value(each, now)
            if found is not None:
                family.add_metric((name, str(each["slot"])), found)
        if family.samples:
            yield family


def _rank(worker: Told) -> tuple[int, int]:
    """The last of a slot counts: one that serves, else one that starts, else one that stops; of these the newest."""
    return {"running": 2, "starting": 1}.get(worker["phase"], 0), worker["generation"]


def _plain(key: str) -> Callable[[Told, int], Any]:
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


def _gauge(metric: str, text: str, name: str, value: float) -> Metric:
    family = GaugeMetricFamily(metric, text, labels=(_NAME,))
    family.add_metric((name,), float(value))
    return family


def _counter(metric: str, text: str, name: str, value: float) -> Metric:
    family = CounterMetricFamily(metric, text, labels=(_NAME,))
    family.add_metric((name,), value)
    return family
