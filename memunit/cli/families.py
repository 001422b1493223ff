"""The metrics of an instance for Prometheus (core/metrics.py), by its client library."""

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from memunit.core.metrics import Family, Histogram, Kind, Measure, Value

_PREFIX = "memunit"
# Not "instance": that label is Prometheus's own, for the address that it has read.
_NAME = "name"
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


def families(instance: str, measures: Iterable[Measure]) -> list[Metric]:
    """What core/metrics.py has measured, as the library has it."""
    return [_metric(instance, family, values) for family, values in measures]


def _metric(instance: str, family: Family, values: Sequence[Value]) -> Metric:
    metric = f"{_PREFIX}_{family.name}"
    labels = (_NAME, *family.labels)
    if family.kind is Kind.TEXT:
        # A text can't be a value there: it is a label of memunit_info.
        info = InfoMetricFamily(_PREFIX, family.text, labels=labels)
        for each in values:
            info.add_metric((instance, *each.labels), {family.name: str(each.value)})
        return info
    if family.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(metric, family.text, labels=labels)
        for each in values:
            assert isinstance(each.value, Histogram)
            histogram.add_metric((instance, *each.labels), list(each.value.buckets), each.value.sum)
        return histogram
    kind = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
    plain = kind(metric, family.text, labels=labels)
    for each in values:
        plain.add_metric((instance, *each.labels), float(each.value))  # type: ignore[arg-type]  # by its kind
    return plain
