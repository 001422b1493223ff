"""Metrics for systemd-report: the messages of io.systemd.Metrics, and the loop that both forms of metrics share."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from memunit.cli import families as of
from memunit.cli import visits
from memunit.cli.provider import METRICS, Provider
from memunit.cli.visits import Talk, Visits
from memunit.core import facts as f
from memunit.core import varlink
from memunit.core.metrics import ALL, measured
from memunit.core.varlink import Malformed
from tests.support.metrics import sim, told
from tests.support.mutants import mutant
from tests.support.wait import DEADLINE

SECONDS = int(os.environ.get("MEMUNIT_FUZZ", "0"))
CALLS = 600
NAME = "io.memunit.shop"
LIST, DESCRIBE = (varlink.call(f"{METRICS}.{method}", more=True) for method in ("List", "Describe"))
# What systemd-report takes: a family is called as an interface of varlink, and then as a field.
INTERFACE = re.compile(r"[A-Za-z](-?[A-Za-z0-9])*(\.[A-Za-z0-9](-?[A-Za-z0-9])*)+")
FIELD = re.compile(r"[A-Za-z](_?[A-Za-z0-9])*")


def provider(reply: dict[str, Any] | None = None) -> Provider:
    return Provider("shop", NAME, lambda: list(measured(reply)))


def ask(asked: Provider, *messages: bytes) -> list[dict[str, Any]]:
    """What is sent to a client that says this."""
    talk = asked.talk()
    said = b""
    for each in messages:
        talk.feed(each)
        while (answer := talk.take()) is not None:
            said += answer
    assert said.endswith(b"\0") or not said
    return [json.loads(message) for message in said.split(b"\0")[:-1]]


def replies(asked: Provider, message: bytes) -> list[dict[str, Any]]:
    """The parameters of the replies to one call with `more`."""
    found = ask(asked, message)
    assert [each.get("continues", False) for each in found] == [True] * (len(found) - 1) + [False]
    return [each["parameters"] for each in found]


def busy() -> dict[str, Any]:
    """A reply of which nothing is missing."""
    world = sim()
    world.step(f.RecycleRequested(world.workers()[0].id))
    world.up()
    reply = told(world, served=5)
    reply["instance"]["memory"] = {"total": 1 << 30, "available": 1 << 29, "source": "MemoryMax="}
    for each in reply["workers"]:
        each |= {"untilLimitUSec": 90_500_000, "sampledMonotonicUSec": reply["instance"]["nowMonotonicUSec"]}
    return reply


# -- what is told ----------------------------------------------------------------------------------------------


def test_a_list() -> None:
    found = replies(provider(busy()), LIST)
    unit = "memunit@shop.service"
    assert {"name": f"{NAME}.Up", "object": unit, "value": 1} in found
    assert {"name": f"{NAME}.Version", "object": unit, "value": "1.2.3"} in found
    running = {"name": f"{NAME}.Workers", "object": unit, "value": 2, "fields": {"phase": "running"}}
    assert running in found
    left = {
        "name": f"{NAME}.WorkerTimeToLimitSeconds",
        "object": unit,
        "value": 90.5,
        "fields": {"slot": "1"},
    }
    assert left in found
    assert {
        "name": f"{NAME}.DrainSecondsBucket",
        "object": unit,
        "value": 0,
        "fields": {"le": "+Inf"},
    } in found
    reloading = next(each for each in found if each["name"] == f"{NAME}.Reloading")
    # A number, and no truth value.
    assert reloading["value"] is not False
    keys = [json.dumps([each["name"], each.get("fields")], sort_keys=True) for each in found]
    assert len(keys) == len(set(keys))


def test_without_a_master_one_value_says_so() -> None:
    assert replies(provider(), LIST) == [{"name": f"{NAME}.Up", "object": "memunit@shop.service", "value": 0}]


def test_every_family_is_described_and_every_value_is_of_one() -> None:
    described = {each["name"]: each for each in replies(provider(), DESCRIBE)}
    types = {"counter": (int, float), "gauge": (int, float), "string": (str,)}
    found = replies(provider(busy()), LIST)
    assert {each["name"] for each in found} == set(described)
    for each in found:
        assert isinstance(each["value"], types[described[each["name"]]["type"]])
    assert all(each["description"].endswith(".") for each in described.values())


def test_the_names_are_such_as_systemd_report_takes() -> None:
    for each in replies(provider(), DESCRIBE):
        interface, _, field = each["name"].rpartition(".")
        assert interface == NAME
        assert INTERFACE.fullmatch(interface)
        assert FIELD.fullmatch(field)


def test_both_forms_tell_the_same() -> None:
    """Each sample of the page for Prometheus is a value here, and the other way round."""
    reply = busy()
    scraped = {
        (name.removesuffix("_total"), tuple(sorted(set(labels.items()) - {("name", "shop")})), value)
        for metric in of.families("shop", measured(reply))
        for name, labels, value, *_ in metric.samples
        if name != "memunit_info"
    }
    reported = {
        (
            "memunit"
            + re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name.removeprefix(f"{NAME}.")),
            tuple(sorted(each.get("fields", {}).items())),
            each["value"],
        )
        for each in replies(provider(reply), LIST)
        if (name := each["name"]) != f"{NAME}.Version"
    }
    assert scraped == reported


def test_a_full_reply_has_every_family_of_the_table() -> None:
    assert [family for family, _ in measured(busy())] == list(ALL)


@pytest.mark.parametrize(
    ("key", "value"), [("count", "two"), ("version", 3), ("ended", None), ("nowMonotonicUSec", None)]
)
def test_a_reply_that_is_none_is_not_told(key: str, value: object) -> None:
    reply = told(sim())
    reply["instance"][key] = value
    with pytest.raises((KeyError, TypeError, ValueError)):
        list(measured(reply))


# -- how it is asked -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "parameters", "more", "error"),
    [
        (f"{METRICS}.List", {}, False, "org.varlink.service.ExpectedMore"),
        (f"{METRICS}.Describe", {}, False, "org.varlink.service.ExpectedMore"),
        (f"{METRICS}.List", {"name": "x"}, True, "org.varlink.service.InvalidParameter"),
        (f"{METRICS}.Get", {}, True, "org.varlink.service.MethodNotFound"),
        ("io.memunit.Instance.Recycle", {}, False, "org.varlink.service.InterfaceNotFound"),
        ("List", {}, True, "org.varlink.service.InterfaceNotFound"),
        ("org.varlink.service.GetInfo", {"x": 1}, False, "org.varlink.service.InvalidParameter"),
        ("org.varlink.service.GetInterfaceDescription", {}, False, "org.varlink.service.InvalidParameter"),
        (
            "org.varlink.service.GetInterfaceDescription",
            {"interface": "io.memunit.Instance"},
            False,
            "org.varlink.service.InterfaceNotFound",
        ),
    ],
)
def test_what_is_refused(method: str, parameters: dict[str, Any], more: bool, error: str) -> None:
    (said,) = ask(provider(told(sim())), varlink.call(method, parameters, more=more))
    assert said["error"] == error


def test_it_introduces_itself() -> None:
    service = "org.varlink.service"
    (info,) = ask(provider(), varlink.call(f"{service}.GetInfo"))
    assert info["parameters"]["interfaces"] == [service, METRICS]
    for name in info["parameters"]["interfaces"]:
        (said,) = ask(provider(), varlink.call(f"{service}.GetInterfaceDescription", {"interface": name}))
        assert f"\ninterface {name}\n" in said["parameters"]["description"]


def test_calls_come_in_any_pieces() -> None:
    whole = [each["parameters"] for each in ask(provider(), LIST + LIST)]
    assert len(whole) == 2
    pieces = [(LIST + LIST)[at : at + 1] for at in range(2 * len(LIST))]
    assert [each["parameters"] for each in ask(provider(), *pieces)] == whole
    assert ask(provider(), varlink.call(f"{METRICS}.List", oneway=True) + LIST) == ask(provider(), LIST)


@pytest.mark.parametrize("junk", [b"GET / HTTP/1.1\r\n\r\n\0", b"\0", b"[]\0", b"x" * (varlink.LARGEST + 1)])
def test_what_is_no_call(junk: bytes) -> None:
    with pytest.raises(Malformed):
        ask(provider(), junk)


SEEDS = [
    LIST,
    DESCRIBE,
    varlink.call(f"{METRICS}.List", {"name": "x"}, more=True),
    varlink.call("org.varlink.service.GetInterfaceDescription", {"interface": METRICS}),
    varlink.call("org.varlink.service.GetInfo", oneway=True),
]


def test_fuzz() -> None:
    """Whatever comes is answered with whole messages, or is Malformed, and the same in whatever pieces.

    MEMUNIT_FUZZ=300 tests/run unit -- -k "provider and fuzz" is the long form: five minutes.
    """
    begin, number = time.monotonic(), int(os.environ.get("MEMUNIT_SEED", "0"))
    last, reply = number + CALLS, busy()
    while number < last or time.monotonic() - begin < SECONDS:
        sent = mutant(number, SEEDS)
        cut = random.Random(number).randint(0, len(sent))
        assert outcome(reply, sent) == outcome(reply, sent[:cut], sent[cut:]), number
        number += 1


def outcome(reply: dict[str, Any], *blocks: bytes) -> list[bytes | str]:
    talk = provider(reply).talk()
    found: list[bytes | str] = []
    try:
        for block in blocks:
            talk.feed(block)
            while (answer := talk.take()) is not None:
                assert not answer or answer.endswith(b"\0")
                for message in answer.split(b"\0")[:-1]:
                    assert json.loads(message).keys() & {"parameters", "error"}
                found.append(answer)
    except Malformed as error:
        found.append(str(error))
    return found


# -- the loop --------------------------------------------------------------------------------------------------


@dataclass
class Place:
    """A socket where somebody answers until it is to `leave`."""

    path: str
    leaves: float = math.inf

    def leave(self) -> None:
        self.leaves = 0.0
        with connected(self):
            # So that it looks.
            pass


@contextmanager
def visited(folder: Path, talk: Callable[[], Talk]) -> Iterator[Place]:
    """Where this is spoken meanwhile."""
    place = Place(str(folder / NAME))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place.path)
        listener.listen()
        answers = Visits([(listener, talk)], idle=10 * DEADLINE, leaves=lambda: place.leaves)
        thread = threading.Thread(target=answers.run)
        thread.start()
        try:
            yield place
        finally:
            place.leave()
            thread.join(DEADLINE)
            assert not thread.is_alive()


def connected(place: Place) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(DEADLINE)
    made.connect(place.path)
    return made


def hear(client: socket.socket, count: int = 1) -> list[dict[str, Any]]:
    """Messages until so many calls are answered."""
    said = b""
    while _answers(said) < count:
        block = client.recv(1 << 16)
        assert block, said
        said += block
    return [json.loads(each) for each in said.split(b"\0")[:-1]]


def _answers(said: bytes) -> int:
    return sum(b'"continues":true' not in each for each in said.split(b"\0")[:-1])


def test_a_connection_has_as_many_calls_as_it_likes(tmp_path: Path) -> None:
    with visited(tmp_path, provider(busy()).talk) as place, connected(place) as client:
        client.sendall(LIST)
        once = hear(client)
        client.sendall(LIST * 3 + DESCRIBE)
        assert len(hear(client, 4)) == 3 * len(once) + len(replies(provider(), DESCRIBE))
        # Of one that says no more all is answered first.
        client.sendall(LIST * 2)
        client.shutdown(socket.SHUT_WR)
        assert len(hear(client, 2)) == 2 * len(once)
        assert client.recv(1) == b""


def test_who_speaks_no_varlink_is_hung_up_on(tmp_path: Path) -> None:
    with visited(tmp_path, provider().talk) as place, connected(place) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n\0")
        assert client.recv(1) == b""


def test_who_never_stops_asking_does_not_keep_an_old_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it has left its sockets, those who connect wait for the next process, and that for the end of this one."""
    monkeypatch.setattr(visits, "PATIENCE", 0.2)
    with visited(tmp_path, provider().talk) as place, connected(place) as client:
        ends = time.monotonic() + DEADLINE
        client.sendall(LIST)
        hear(client)
        place.leave()
        with contextlib.suppress(OSError):
            while True:
                client.sendall(LIST)
                if not client.recv(1 << 16):
                    break
                assert time.monotonic() < ends


class _Counted:
    """A talk that is asked `takes` times whether there is anything to say."""

    over = False

    def __init__(self, talk: Talk) -> None:
        self._talk, self.takes = talk, 0
        self.feed = talk.feed

    def take(self) -> bytes | None:
        self.takes += 1
        return self._talk.take()


def test_who_asks_and_does_not_read_costs_one_answer(tmp_path: Path) -> None:
    """Its other calls wait with it, and others are answered meanwhile; one that is silent is not looked at."""
    reply = busy()
    # So that an answer is more than a socket takes.
    reply["workers"] = [{**reply["workers"][0], "slot": slot} for slot in range(1000)]
    asked = provider(reply)
    talks: list[_Counted] = []

    def talk() -> Talk:
        talks.append(_Counted(asked.talk()))
        return talks[-1]

    with visited(tmp_path, talk) as place, connected(place) as deaf, connected(place) as client:
        deaf.sendall(LIST * 40)
        client.sendall(LIST)
        assert len(hear(client)) > 1000
        client.sendall(LIST)
        hear(client)
        assert talks[0].takes == 1
        assert talks[1].takes <= 6
