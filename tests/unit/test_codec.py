"""What policy knows, learns and wants, as text and back: nothing is lost, and nothing else is taken for it."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest

from memunit.core import facts as f
from memunit.core import policy
from memunit.core.actions import Action, Journal, Signal
from memunit.core.codec import Codec, dumps, parse
from memunit.core.codec_forms import CodecError
from memunit.core.messages import Message
from memunit.core.model import Cause, Headroom, Phase, Policy, WorkerId
from memunit.core.state import State
from memunit.records import dataclass, field, fields, replace
from tests.support.sim import M, Sim

STATE: Codec[State] = Codec(State)
FACT: Codec[f.Fact] = Codec(f.Fact)
ACTION: Codec[Action] = Codec(Action)

WHO = WorkerId(3, 17)
EACH_INSTANCE_FACT: list[f.Fact] = [
    f.StopRequested(force=True),
    f.Reload((1, 2), Policy(count=2, max_age=math.inf, limit=100 * M), 2),
    f.ReloadRefused((), 'said "no"\n\u2014 \ud83d\ude00'.encode("utf-16", "surrogatepass").decode("utf-16")),
    f.ScaleTo(5),
    f.Adjust({"memory.limit": "500M"}),
    f.Scale(-1),
    f.MemoryAvailable(Headroom(1 << 40, 5, "the machine")),
    f.MemoryPressure(),
    f.Unheard(),
    f.DumpState(),
]
VALUES: dict[Any, Any] = {
    int: 7,
    float: 2.5,
    str: "ÿ\0 text",
    bool: True,
    tuple[tuple[str, float], ...]: (("GET /", 2.5), ("ÿ", 0.0)),
}


def examples() -> list[f.Fact]:
    """One of each kind of fact, each field filled."""
    found: list[f.Fact] = list(EACH_INSTANCE_FACT)
    for kind in f.WORKER_FACTS:
        values = {each.name: VALUES[each.type] for each in fields(kind) if each.name != "id"}
        found.append(kind(id=WHO, **values))
    return found


@pytest.mark.parametrize("fact", examples(), ids=lambda fact: type(fact).__name__)
def test_each_fact_comes_back(fact: f.Fact) -> None:
    text = FACT.dumps(fact)
    assert "\n" not in text
    back = FACT.loads(text)
    assert back == fact
    assert type(back) is type(fact)
    assert repr(back) == repr(fact)
    assert FACT.decode(FACT.encode(fact)) == fact


def test_each_fact_has_its_example() -> None:
    assert {type(fact) for fact in EACH_INSTANCE_FACT} == set(f.InstanceFact.__args__)


def busy() -> Sim:
    """A master in the middle of everything: a leak, a crash loop, a reload, a drainer."""
    sim = Sim(Policy(count=3, limit=100 * M, ceiling=300 * M, patience=1.0, grace=5.0))
    sim.up()
    first, second, third = (worker.id for worker in sim.workers())
    sim.step(
        f.MemoryAvailable(Headroom(2000 * M, 1000 * M, "the machine")), f.StatusText(first, "3 requests")
    )
    for size in (50, 60, 70, 101):
        sim.advance(40.0)
        sim.sample(second, size * M)
    sim.exit(third, "exited", 1)
    sim.reload(Policy(count=3, limit=150 * M), 4)
    sim.advance(0.5)
    sim.ready(sim.workers(Phase.STARTING)[0].id)
    return sim


def test_a_state_comes_back_and_decides_the_same() -> None:
    sim = busy()
    state = STATE.loads(STATE.dumps(sim.state))
    assert state == sim.state
    assert list(state.workers) == list(sim.state.workers)
    for later in (0.0, 3.0, 7.0, 60.0):
        ours, theirs = (policy.step(each, [f.DumpState()], sim.now + later) for each in (state, sim.state))
        assert ours == theirs


def test_each_action_comes_back() -> None:
    seen = set()
    for _, action in busy().history:
        assert ACTION.loads(ACTION.dumps(action)) == action
        seen.add(type(action).__name__)
    assert {"Spawn", "Send", "Measure", "Journal", "NotifyReady", "NotifyReloading"} <= seen


def test_odd_numbers_are_json_of_every_reader() -> None:
    state = replace(busy().state, stepped_at=-math.inf, wake_at=math.inf)
    text = STATE.dumps(state)

    def refuse(word: str) -> None:
        raise AssertionError(word)

    json.loads(text, parse_constant=refuse)
    assert STATE.loads(text) == state


def test_defaults_are_left_out_and_a_true_is_no_one() -> None:
    @dataclass(slots=True)
    class Row:
        number: int = 1
        text: str = ""

    codec: Codec[Row] = Codec(Row)
    assert codec.dumps(Row()) == "{}"
    assert codec.dumps(Row(number=2)) == '{"number":2}'
    with pytest.raises(CodecError, match="whole number"):
        codec.loads('{"number":true}')


class Colour(enum.Enum):
    RED = 1
    NAMED = "1"


class Point(NamedTuple):
    x: float
    colour: Colour


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Contains itself, and what the model may grow to have."""

    point: Point
    pairs: tuple[tuple[int, float], ...] = ()
    either: str | int | None = None
    heap: list[float] = field(default_factory=list)
    under: Mapping[str, Tree] = field(default_factory=dict)
    by_colour: dict[Colour, int] = field(default_factory=dict)
    beside: Tree | None = None
    size: int = field(init=False, default=0, compare=False)


def test_every_kind_of_type() -> None:
    codec: Codec[Tree] = Codec(Tree)
    leaf = Tree(point=Point(math.nan, Colour.NAMED), either="7")
    tree = Tree(
        point=Point(-math.inf, Colour.RED),
        pairs=((1, math.inf), (2, 0.1)),
        either=7,
        heap=[3.0, 1e300],
        under={"": leaf},
        by_colour={Colour.NAMED: 1, Colour.RED: 2},
        beside=replace(leaf, point=Point(1.0, Colour.RED)),
    )
    back = codec.loads(codec.dumps(tree))
    assert repr(back) == repr(tree)
    assert type(back.heap) is list
    assert type(back.pairs[0]) is tuple


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('["Ping",[0,1],5]', "Ping"),
        ('["Ping"]', "Ping"),
        ('["Ping",[0]]', r"Ping\.id"),
        ('["Ping",[0,1.5]]', r"Ping\.id\[1\]"),
        ('["Ping",[0,true]]', r"Ping\.id\[1\]"),
        ('["Sampled",[0,1],"5","uss"]', r"Sampled\.memory"),
        ('["Worker",[0,1]]', "Worker"),
        ('["WorkerFact",[0,1]]', "WorkerFact"),
        ('{"id":[0,1]}', "id"),
        ("[]", r"\[\]"),
        ("null", "None"),
        ('["Reload",[1],{"count":1,"colour":2},2]', r"Reload\.policy: Policy knows no field 'colour'"),
        ('["Reload",[1],{},2]', r"Reload\.policy: Policy has no 'count'"),
        ('["Reload",[1],{"count":1,"grace":"soon"},2]', r"Reload\.policy\.grace"),
        ('["MemoryAvailable",[1,2]]', "headroom"),
        ("", "no JSON"),
        ("[" * 60000, "no JSON"),
        ("\0", "no JSON"),
        ("1" * 5000, "no JSON"),
    ],
)
def test_what_is_no_fact_is_refused_with_the_place(text: str, place: str) -> None:
    with pytest.raises(CodecError, match=place):
        FACT.loads(text)


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(CodecError, match="no JSON"):
        FACT.loads(b"\xff\xfe\xfd")


def test_the_place_in_a_state_is_named() -> None:
    data = parse(STATE.dumps(busy().state))
    data["workers"][1][1]["phase"] = "asleep"
    with pytest.raises(CodecError, match=r"workers\[\[.*\]\]\.phase: 'asleep' is no Phase") as caught:
        STATE.decode(data)
    assert caught.value.path.endswith(".phase")
    data["workers"][1] = data["workers"][0]
    with pytest.raises(CodecError, match="twice"):
        STATE.decode(data)


def test_another_type_is_another_version() -> None:
    def version(kind: Any, *default: Any) -> str:
        contents = {"__annotations__": {"number": kind}} | ({"number": default[0]} if default else {})
        return Codec[Any](dataclass(slots=True)(type("Row", (), contents))).version

    versions = {
        version(int),
        version(int, 1),
        version(int, 2),
        version(float),
        version(Phase),
        version(Point),
    }
    assert len(versions) == 6
    assert version(Point) == version(Point)
    assert Codec[Any](Phase).version != Codec[Any](Cause).version != Codec[Any](Signal).version
    assert STATE.version == Codec[State](State).version


@pytest.mark.parametrize("kind", [object, set[int], bytes, dict, Any])
def test_what_can_not_be_written_is_known_at_once(kind: Any) -> None:
    with pytest.raises(TypeError, match="can't be written as JSON"):
        Codec(kind)


def test_a_number_that_json_lacks_is_not_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        dumps([math.inf])


def test_a_value_that_its_class_refuses_is_no_value() -> None:
    @dataclass(slots=True)
    class Even:
        number: int

        def __post_init__(self) -> None:
            if self.number % 2:
                raise ValueError("odd")

    with pytest.raises(CodecError, match="odd"):
        Codec[Even](Even).loads('{"number":3}')


def test_a_journal_entry_keeps_what_is_text_and_what_is_number() -> None:
    entry = Journal(kind=Message.SCALE, message="m", priority=3, fields={"A": "1", "B": 1}, replacement=WHO)
    assert ACTION.loads(ACTION.dumps(entry)) == entry
    assert repr(ACTION.loads(ACTION.dumps(entry))) == repr(entry)
