"""Metrics: what is counted, how a reply of a master is rendered, and what the few words of HTTP answer."""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from memunit.cli import families as of
from memunit.cli import linked
from memunit.cli.metrics import Asking
from memunit.cli.provider import METRICS, Provider
from memunit.cli.scrapes import MOST_HEAD, Answer, Scrape
from memunit.cli.visits import MOST, Visits
from memunit.core import facts as f
from memunit.core import metrics, varlink
from memunit.core.metrics import measured
from memunit.core.model import Cause, Phase, Policy, WorkerId
from memunit.core.tally import DRAIN_BOUNDS, Tally
from memunit.records import replace
from tests.support.metrics import POLICY, sim, told
from tests.support.sim import M, Sim
from tests.support.wait import DEADLINE

A, B = WorkerId(0, 1), WorkerId(1, 1)


def samples(reply: dict[str, Any] | None) -> dict[str, float]:
    """Each line of the text that is no comment."""
    text, kind = of.rendered(of.families("shop", measured(reply)))
    assert kind.startswith("text/plain; version=0.0.4")
    lines = [line.rpartition(" ") for line in text.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


# -- what is counted -------------------------------------------------------------------------------------------


def test_a_drain_is_counted_from_the_word_to_stop() -> None:
    world = sim()
    world.step(f.RecycleRequested(A))
    world.up()
    world.advance(3.0)
    world.exit(A)
    tally = world.state.tally
    assert sum(tally.drains) == tally.drains[DRAIN_BOUNDS.index(5.0)] == 1
    assert tally.drain_seconds == pytest.approx(3.0)
    # An end that nobody asked for is no drain.
    world.exit(B, "killed", 11)
    assert sum(tally.drains) == 1
    assert world.state.ended == {Cause.REQUESTED: 1, Cause.CRASH_SIGNAL: 1}


def test_a_drain_that_takes_its_bound_is_within_it_and_a_longer_one_than_all_is_counted() -> None:
    tally = Tally()
    for seconds in (0.0, 0.1, 300.0, 301.0, math.inf):
        tally.drained(seconds)
    assert (tally.drains[0], tally.drains[-2], tally.drains[-1]) == (2, 1, 2)


def test_requests_of_ended_workers_are_kept_and_a_page_of_nonsense_is_not_believed() -> None:
    world = sim()
    del world.alive[A], world.alive[B]
    world.step(f.Exited(A, "exited", 1, served=40), f.Exited(B, "exited", 1, served=2))
    assert world.state.tally.served == 42
    world.up()
    world.step(f.Exited(WorkerId(0, 2), "exited", 1, served=1 << 70))
    assert 42 < world.state.tally.served < 1 << 53


def test_reloads_are_counted_by_their_result() -> None:
    world = sim()
    world.reload(replace(POLICY, limit=120 * M))
    for _ in range(8):
        for worker in world.workers(Phase.STARTING):
            world.ready(worker.id)
        world.advance(2.0)
        for worker in world.workers(Phase.STOP_SIGTERM):
            world.exit(worker.id)
    assert (world.state.tally.reloads, world.state.tally.reloads_failed) == (1, 0)
    world.step(f.ReloadRefused((), "a key is wrong"))
    assert (world.state.tally.reloads, world.state.tally.reloads_failed) == (1, 1)


def test_a_copy_shares_nothing_that_changes() -> None:
    world = sim()
    kept = world.state.copy()
    world.step(f.RecycleRequested(A))
    world.up()
    world.exit(A)
    assert sum(world.state.tally.drains) == 1
    assert kept.tally == Tally()


# -- how it is rendered ----------------------------------------------------------------------------------------


def test_a_master_that_does_not_answer_is_one_metric() -> None:
    assert samples(None) == {'memunit_up{name="shop"}': 0}


def test_an_instance() -> None:
    world = sim()
    world.step(f.RecycleRequested(A))
    world.up()
    found = samples(told(world, served=5))
    assert found['memunit_up{name="shop"}'] == 1
    assert found['memunit_info{name="shop",version="1.2.3"}'] == 1
    assert found['memunit_workers{name="shop",phase="running"}'] == 2
    assert found['memunit_workers{name="shop",phase="stop-sigterm"}'] == 1
    assert found['memunit_workers_desired{name="shop"}'] == found['memunit_workers_ready{name="shop"}'] == 2
    assert found['memunit_limit_bytes{name="shop"}'] == 100 * M
    # The new worker of the slot, and not the one that stops.
    assert found['memunit_worker_memory_bytes{name="shop",slot="0"}'] == 10 * M
    assert found['memunit_worker_requests_in_work{name="shop",slot="1"}'] == 2
    assert found['memunit_worker_longest_request_seconds{name="shop",slot="1"}'] == 1.5
    # Those of the one that stops count too.
    assert found['memunit_requests_total{name="shop"}'] == 15
    world.advance(1.0)
    del world.alive[A]
    world.step(f.Exited(A, "exited", 0, served=5))
    after = samples(told(world, served=5))
    assert after['memunit_requests_total{name="shop"}'] == 15
    assert after['memunit_recycles_total{cause="requested",name="shop"}'] == 1
    assert after['memunit_recycles_total{cause="memory-limit",name="shop"}'] == 0
    assert 'memunit_recycles_total{cause="stop",name="shop"}' not in after
    assert after['memunit_drain_seconds_bucket{le="0.5",name="shop"}'] == 0
    assert after['memunit_drain_seconds_bucket{le="1.0",name="shop"}'] == 1
    assert after['memunit_drain_seconds_bucket{le="+Inf",name="shop"}'] == 1
    assert after['memunit_drain_seconds_count{name="shop"}'] == 1
    assert after['memunit_drain_seconds_sum{name="shop"}'] == 1.0


def test_each_series_is_there_once_whatever_a_slot_has() -> None:
    world = sim()
    for _ in range(3):
        world.step(*(f.RecycleRequested(each.id) for each in world.workers(Phase.RUNNING)))
        world.up()
    text, _ = of.rendered(of.families("shop", measured(told(world, served=1))))
    lines = [line.rpartition(" ")[0] for line in text.decode().splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines))
    # With each recycle there would be new ones.
    assert "generation" not in text.decode()
    assert "pid" not in text.decode()


def test_what_is_not_known_is_not_there() -> None:
    world = Sim(Policy(count=1))
    found = samples(told(world))
    names = {name.partition("{")[0] for name in found}
    assert not [name for name in names if "limit" in name or "ceiling" in name]
    assert not [
        name for name in found if name.startswith(("memunit_requests_total", "memunit_worker_memory"))
    ]


class _Master:
    """A link to a master that counts what it is asked."""

    asked = 0

    def __enter__(self) -> _Master:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def call(self, _: str) -> dict[str, Any]:
        self.asked += 1
        return told(sim(), served=1)


def test_the_table_is_evaluated_once_for_each_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the look at a new reply nor a second form of the metrics evaluates it again."""
    evaluated: list[str] = []

    def counting(family: metrics.Family) -> metrics.Family:
        def values(seen: metrics.Seen) -> Iterator[metrics.Value]:
            evaluated.append(family.name)
            yield from family.values(seen)

        return replace(family, values=values)

    master = _Master()
    table = [counting(each) for each in metrics.FAMILIES]
    monkeypatch.setattr(metrics, "FAMILIES", table)
    monkeypatch.setattr(linked, "connected", lambda *_: master)
    asking = Asking("shop")
    assert asking.answer("").body.startswith(b"# HELP memunit_up ")
    assert asking.answer("application/openmetrics-text").body.endswith(b"# EOF\n")
    listed = Provider("shop", "io.memunit.shop", asking.measures).answer(
        varlink.Call(method=f"{METRICS}.List", parameters={}, more=True)
    )
    assert listed.count(b"io.memunit.shop.")
    # More than one where more than a second has passed.
    assert evaluated == [each.name for each in table] * master.asked


def test_an_older_master_tells_less() -> None:
    reply = told(sim())
    del reply["instance"]["tally"]
    found = samples(reply)
    assert found['memunit_workers_ready{name="shop"}'] == 2
    assert not [name for name in found if name.startswith("memunit_drain")]


@pytest.mark.parametrize(
    "accept",
    ["text/plain; version=x.y", "application/openmetrics-text; version=abc\n", '*/*;version="1"', "\n"],
)
def test_whatever_a_client_takes_is_answered(accept: str) -> None:
    text, kind = of.rendered(of.families("shop", measured(None)), accept)
    assert text.startswith(b"# HELP memunit_up")
    assert "abc" not in kind
    assert "\n" not in kind


def test_openmetrics_for_who_takes_it() -> None:
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    text, kind = of.rendered(of.families("shop", measured(told(sim(), served=1))), accept)
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


# -- the few words of HTTP -------------------------------------------------------------------------------------


@contextmanager
def serving(answer: Answer = Answer(b"memunit_up 1\n")) -> Iterator[str]:  # noqa: B008  it is frozen
    """The address of scrapes that are answered meanwhile."""
    with socket.create_server(("127.0.0.1", 0), backlog=2 * MOST) as listener:
        over = [math.inf]
        talks = [(listener, lambda: Scrape(lambda _: answer))]
        visits = Visits(talks, idle=10 * DEADLINE, leaves=lambda: over[0])
        thread = threading.Thread(target=visits.run)
        thread.start()
        host, port = listener.getsockname()
        try:
            yield f"{host}:{port}"
        finally:
            over[0] = 0.0
            # So that it looks.
            with socket.create_connection((host, port), DEADLINE):
                pass
            thread.join(DEADLINE)
            assert not thread.is_alive()


def ask(target: str, request: bytes) -> bytes:
    host, _, port = target.rpartition(":")
    with socket.create_connection((host, int(port)), DEADLINE) as client:
        client.sendall(request)
        found = b""
        while block := client.recv(65536):
            found += block
        return found


def test_a_scrape() -> None:
    with serving() as target:
        said = ask(target, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = said.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nContent-Length: 13" in head
        assert body == b"memunit_up 1\n"
        assert ask(target, b"HEAD /metrics HTTP/1.1\r\n\r\n").endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /secret HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 405),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * (2 * MOST_HEAD), 431),
    ],
)
def test_what_is_no_scrape(request_: bytes, status: int) -> None:
    with serving() as target:
        assert ask(target, request_).startswith(b"HTTP/1.1 %d " % status)


def test_who_says_nothing_makes_room() -> None:
    with serving() as target:
        host, _, port = target.rpartition(":")
        silent = [socket.create_connection((host, int(port)), DEADLINE) for _ in range(MOST + 5)]
        try:
            assert ask(target, b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 200 ")
            silent[0].settimeout(DEADLINE)
            assert silent[0].recv(1) == b""
        finally:
            for each in silent:
                each.close()


def test_a_large_answer_to_who_reads_slowly_is_whole() -> None:
    with serving(Answer(b"x" * (4 << 20))) as target:
        assert len(ask(target, b"GET / HTTP/1.1\r\n\r\n")) > 4 << 20


def test_it_ends_when_nobody_asks() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        Visits([(listener, lambda: Scrape(lambda _: Answer(b"")))], idle=0.0).run()
