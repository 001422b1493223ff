"""The metrics of an instance for systemd-report(1): core/metrics.py by the varlink interface io.systemd.Metrics.

What systemd-report wants of a name: the family's begins with the name of the socket in /run/systemd/report and a dot.
A histogram, which that interface does not have, is three families of counters.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from memunit import __version__
from memunit.core import varlink
from memunit.core.interfaces import SERVICE_TEXT
from memunit.core.metrics import ALL, Family, Histogram, Kind, Measure, Value
from memunit.core.varlink import SERVICE, Call, Refused, invalid

METRICS = "io.systemd.Metrics"
# As systemd 260 has it. 262 says "any" of values, a type that python3-varlink does not know.
_TEXT = """\
# The metrics of a memunit instance, for systemd-report(1).
interface io.systemd.Metrics

# Whether the values of a family only rise, rise and fall, or are texts.
type MetricFamilyType (counter, gauge, string)

# Returns each value in a reply of its own; needs `more`.
# `object` is the unit of the instance; `fields` tell the values of a family apart.
method List() -> (name: string, value: object, object: ?string, fields: ?[string]object)

# Returns each family in a reply of its own; needs `more`.
method Describe() -> (name: string, description: string, type: MetricFamilyType)

error NoSuchMetric()
"""
_DESCRIPTIONS = {SERVICE: SERVICE_TEXT, METRICS: _TEXT}
_KINDS = {Kind.COUNTER: "counter", Kind.GAUGE: "gauge", Kind.TEXT: "string"}
# What a histogram is told as, and what of it that is.
_PARTS = {
    "bucket": "Of these, how many took `le` seconds at most.",
    "count": "Of these, how many there were.",
    "sum": "Of these, the seconds of all together.",
}


class Provider:
    """What one instance is asked by this interface; `measures` gives what there is to tell."""

    def __init__(self, instance: str, name: str, measures: Callable[[], Sequence[Measure]]) -> None:
        """`name` is that of the socket: "io.memunit.shop"."""
        self._instance, self._name, self._measures = instance, name, measures

    def talk(self) -> "_Questions":
        """What is said on one connection (visits.Talk)."""
        return _Questions(self.answer)

    def answer(self, call: Call) -> bytes:
        """The messages of all replies. Raises Refused."""
        methods = {
            f"{SERVICE}.GetInfo": self._info,
            f"{SERVICE}.GetInterfaceDescription": self._description,
            f"{METRICS}.List": self._list,
            f"{METRICS}.Describe": self._describe,
        }
        if call.interface not in _DESCRIPTIONS:
            raise Refused(f"{SERVICE}.InterfaceNotFound", {"interface": call.interface})
        if call.method not in methods:
            raise Refused(f"{SERVICE}.MethodNotFound", {"method": call.method})
        if call.interface == METRICS:
            if call.parameters:
                raise invalid(next(iter(call.parameters))[:255])
            if not call.more:
                raise Refused(f"{SERVICE}.ExpectedMore")
        return methods[call.method](call.parameters)

    def _info(self, parameters: Mapping[str, Any]) -> bytes:
        if parameters:
            raise invalid(next(iter(parameters))[:255])
        return varlink.reply(
            {
                "vendor": "memunit",
                "product": f"memunit metrics of {self._instance}",
                "version": __version__,
                "url": "https://example.org/memunit",
                "interfaces": list(_DESCRIPTIONS),
            }
        )

    def _description(self, parameters: Mapping[str, Any]) -> bytes:
        name = parameters.get("interface")
        if not isinstance(name, str) or len(parameters) > 1:
            raise invalid(next((each for each in parameters if each != "interface"), "interface")[:255])
        if name not in _DESCRIPTIONS:
            raise Refused(f"{SERVICE}.InterfaceNotFound", {"interface": name[:255]})
        return varlink.reply({"description": _DESCRIPTIONS[name]})

    def _list(self, _: Mapping[str, Any]) -> bytes:
        return _messages(list(self._values()))

    def _values(self) -> Iterator[dict[str, Any]]:
        unit = f"memunit@{self._instance}.service"
        for family, values in self._measures():
            for each in values:
                for name, value, more in _told_of(family, each):
                    fields = {**dict(zip(family.labels, each.labels, strict=True)), **more}
                    one: dict[str, Any] = {"name": f"{self._name}.{name}", "object": unit, "value": value}
                    yield {**one, "fields": fields} if fields else one

    def _describe(self, _: Mapping[str, Any]) -> bytes:
        return _messages(
            [
                {"name": f"{self._name}.{name}", "description": text, "type": kind}
                for family in ALL
                for name, text, kind in _described(family)
            ]
        )


class _Questions:
    """The calls of one connection. It stays until the client closes it, or does not speak for a while."""

    over = False

    def __init__(self, answer: Callable[[Call], bytes]) -> None:
        self._answer = answer
        self._frames = varlink.Frames()

    def feed(self, block: bytes) -> None:
        """Some bytes. Raises Malformed."""
        self._frames.feed(block)

    def take(self) -> bytes | None:
        """What the next call gets. Raises Malformed."""
        message = self._frames.take()
        if message is None:
            return None
        call = varlink.parse(message)
        try:
            answer = self._answer(call)
        except Refused as refused:
            answer = varlink.error(refused)
        return b"" if call.oneway else answer


def _messages(replies: Sequence[Mapping[str, Any]]) -> bytes:
    """All continue but the last."""
    last = len(replies) - 1
    return b"".join(varlink.reply(each, continues=at < last) for at, each in enumerate(replies))


def _told_of(family: Family, found: Value) -> Iterator[tuple[str, int | float | str, dict[str, str]]]:
    """The name of each value, the value, and what more tells it apart."""
    if isinstance(found.value, Histogram):
        for bound, count in found.value.buckets:
            yield _camel(family.name, "bucket"), count, {"le": bound}
        yield _camel(family.name, "count"), found.value.buckets[-1][1], {}
        yield _camel(family.name, "sum"), _number(found.value.sum), {}
    else:
        yield _camel(family.name), found.value if isinstance(found.value, str) else _number(found.value), {}


def _described(family: Family) -> Iterator[tuple[str, str, str]]:
    """Of each name, what it is, and its type."""
    if family.kind is Kind.HISTOGRAM:
        for part, text in _PARTS.items():
            yield _camel(family.name, part), f"{family.text} {text}", "counter"
    else:
        yield _camel(family.name), family.text, _KINDS[family.kind]


def _camel(*names: str) -> str:
    """ "LimitBytes" for "limit_bytes", as systemd has its own."""
    return "".join(word.capitalize() for word in "_".join(names).split("_"))


def _number(value: float) -> int | float:
    """A whole one without a point, also of a truth value."""
    return int(value) if float(value).is_integer() else value
