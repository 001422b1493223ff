"""What is told of a decision, where the decision itself is tested elsewhere; and what an account is paid with."""

from __future__ import annotations

import pytest

from memunit.core import facts as f
from memunit.core.actions import NotifyExtend, NotifyReady, Signal
from memunit.core.model import Policy, WorkerId
from memunit.core.status import sentence
from memunit.core.stopping import give_up_at
from memunit.records import replace
from tests.support.sim import M, Sim, entries, results, sent, spawned

POLICY = Policy(count=2, limit=100 * M, ceiling=300 * M, patience=2.0, min_lifetime=10.0, grace=30.0)
A, A2 = WorkerId(0, 1), WorkerId(0, 2)


def serving(policy: Policy = POLICY) -> Sim:
    sim = Sim(policy)
    sim.up()
    sim.advance(60)
    return sim


@pytest.mark.parametrize("before", [True, False], ids=["recycled", "serving"])
def test_a_second_signal_kills_and_the_reason_is_the_first_one(before: bool) -> None:
    """It was being recycled, or stopped: the entry of its end still says which."""
    sim = serving()
    if before:
        sim.step(f.RecycleRequested(A))
        sim.ready(A2)
    sim.step(f.StopRequested())
    sim.step(f.StopRequested(force=True))
    (entry,) = entries(sim.exit(A, "killed", 9), "ENDED")
    assert entry.fields["MEMUNIT_CAUSE"] == "grace-expired"
    assert entry.fields["MEMUNIT_STOP_REASON"] == ("requested" if before else "stop")


def test_one_signal_that_will_not_wait_is_a_stop_too() -> None:
    sim = serving()
    sim.step(f.StopRequested(force=True))
    (entry,) = entries(sim.exit(A, "killed", 9), "ENDED")
    assert entry.fields["MEMUNIT_STOP_REASON"] == "stop"


def test_a_reload_that_fails_has_its_entry_and_its_answer() -> None:
    sim = serving()
    sim.reload(replace(POLICY, count=2), 7)
    done = [*sim.exit(A2, "exited", 1), *sim.advance(1)]
    done += sim.exit(WorkerId(0, 3), "exited", 1)
    (entry,) = entries(done, "RELOAD_FAILED")
    assert entry.fields["MEMUNIT_RESULT"] == "failed"
    (answer,) = results(done)
    assert (answer.tokens, answer.ok) == ((7,), False)
    assert answer.text == entry.message
    # Without READY=1 `systemctl reload` waits until systemd's own time-out, at which systemd ends the service.
    assert done.count(NotifyReady()) == 1


def test_a_reload_that_is_done_has_its_entry_and_its_answer() -> None:
    sim = serving(replace(POLICY, count=1))
    done = sim.reload(replace(POLICY, count=1), 7)
    done += sim.ready(A2) + sim.advance(1)
    (entry,) = entries(done, "RELOAD_DONE")
    assert entry.fields["MEMUNIT_RESULT"] == "done"
    assert " is ready after 1.0 s" in entry.message
    assert [(answer.tokens, answer.ok) for answer in results(done)] == [((7,), True)]
    assert done.count(NotifyReady()) == 1


def test_how_long_a_stop_took_is_counted_of_who_was_asked_alone() -> None:
    sim = serving()
    sim.step(f.RecycleRequested(A))
    sim.ready(A2)
    sim.advance(3)
    sim.exit(A)
    assert (sum(sim.state.tally.drains), sim.state.tally.drain_seconds) == (1, 3.0)
    sim.exit(WorkerId(1, 1), "killed", 11)
    sim.step(f.Stopping(A2))
    sim.exit(A2)
    assert sum(sim.state.tally.drains) == 1


@pytest.mark.parametrize("stalls", [0.0, 40.0])
def test_a_stall_at_its_start_is_no_reason_to_blame_it_for_one_after_it(stalls: float) -> None:
    """The master did not run, twice: the worker's watchdog is moved the second time, too."""
    sim = Sim(replace(POLICY, count=1, watchdog=30.0))
    sim.step(f.Ping(A))
    sim.now += stalls
    sim.step()
    sim.ready(A)
    sim.sample(A, 10 * M)
    sim.advance(5)
    sim.now += 40
    assert sent(sim.step(), Signal.ABRT) == []


def test_who_has_tried_for_the_longest_says_what_is_waited_for() -> None:
    """A try that has just begun may wait for what is there in a moment."""
    sim = Sim(replace(POLICY, count=1))
    sim.advance(20)
    sim.step(f.Scale(+1))
    sim.step(f.StatusText(A, "waiting for the database"), f.StatusText(WorkerId(1, 1), "importing the app"))
    (entry,) = entries(sim.advance(10), "NOTHING_READY")
    assert "worker 0 was not ready in time: waiting for the database" in entry.message


@pytest.mark.parametrize("served", [10.0, 30.0, 60.0])
@pytest.mark.parametrize("asks", [True, False], ids=["stops by itself", "crashes"])
def test_what_stops_by_itself_after_a_while_is_no_trouble(asks: bool, served: float) -> None:
    """As by a limit on its requests: a matter of course. A crash is none, however late."""
    sim = Sim(POLICY)
    sim.up()
    sim.advance(served)
    if asks:
        sim.step(f.Stopping(A))
    else:
        sim.exit(A, "killed", 11)
    assert ("; worker 0 " in sentence(sim.state, sim.now)) is not (asks and served >= 30)


@pytest.mark.parametrize(("for_memory", "left"), [(True, 1), (False, 0)])
def test_a_recycle_for_memory_pays_for_its_own_replacement_first(for_memory: bool, left: int) -> None:
    """Forty seconds of service are worth one failure, and none if a recycle for memory has to be paid for too."""
    sim = Sim(replace(POLICY, count=1))
    sim.exit(A, "exited", 1)
    sim.ready(A2)
    sim.sample(A2, 10 * M)
    sim.advance(40)
    assert sim.state.slots[0].failures == 1
    if for_memory:
        sim.sample(A2, 150 * M)
        sim.advance(2)
        sim.sample(A2, 150 * M)
    else:
        sim.step(f.RecycleRequested(A2))
    sim.ready(WorkerId(0, 3))
    assert str(sim.state.workers[A2].reason) == ("memory-limit" if for_memory else "requested")
    assert sim.state.slots[0].failures == left


@pytest.mark.parametrize(("served", "left"), [(20.0, 4), (65.0, 2), (300.0, 0)])
def test_service_takes_recycles_of_no_help_from_the_account(served: float, left: int) -> None:
    """One for each half minute, as it takes failures, and no more than there are."""
    sim = Sim(replace(POLICY, count=1))
    sim.up()
    sim.state.slots[0].futile = sim.state.slots[0].failures = 4
    sim.advance(served)
    sim.step(f.RecycleRequested(A))
    sim.ready(A2)
    assert (sim.state.slots[0].futile, sim.state.slots[0].failures) == (left, left)


def test_a_stall_puts_giving_up_off_by_its_own_length_and_once() -> None:
    sim = Sim(replace(POLICY, count=1, start_timeout=30.0))
    began = sim.now
    sim.advance(20)
    sim.step()
    # The next pass was to come at 30 s.
    sim.now += 13.0
    sim.step()
    assert give_up_at(sim.state) == pytest.approx(began + 30.0 + 13.0)
    assert not sim.state.stopping
    sim.now += 13.0
    sim.step()
    assert sim.state.stopping


@pytest.mark.parametrize("starts", [True, False], ids=["starting", "silent"])
def test_a_second_stall_without_a_sign_of_life_is_not_forgiven(starts: bool) -> None:
    sim = Sim(POLICY)
    sim.ready(WorkerId(1, 1), *([] if starts else [A]))
    if not starts:
        sim.step(f.Ping(A))
    for forgiven in (True, False):
        worker = sim.state.workers[A]
        due = min(worker.deadline, worker.watchdog_at)
        sim.advance(due - 1.0 - sim.now)
        sim.step()
        sim.now = due + 2.0
        assert sent(sim.step(), Signal.ABRT) == ([] if forgiven else [A])


def test_systemd_is_told_how_long_a_start_may_take_and_a_minute_more() -> None:
    sim = Sim(replace(POLICY, start_timeout=30.0))
    sim.advance(10)
    done = sim.step(f.ExtendTimeout(A, 100.0))
    assert [action.seconds for action in done if isinstance(action, NotifyExtend)] == [160.0]


def test_a_replacement_that_asks_for_time_moves_no_timeout_of_systemd() -> None:
    """The start of the service is over: systemd would take it for that of a reload."""
    sim = Sim(replace(POLICY, start_timeout=30.0))
    sim.up()
    (replacement,) = spawned(sim.step(f.RecycleRequested(A)))
    done = sim.step(f.ExtendTimeout(replacement, 100.0))
    assert not [action for action in done if isinstance(action, NotifyExtend)]


def test_each_start_has_an_entry_with_its_pid() -> None:
    sim = Sim(POLICY)
    told = entries([action for _, action in sim.history], "WORKER_STARTING")
    assert [(each.fields["MEMUNIT_SLOT"], each.message) for each in told] == [
        (0, "Worker 0.1 (pid 101) was started"),
        (1, "Worker 1.1 (pid 102) was started"),
    ]


def test_who_was_not_heard_is_not_looked_at_when_its_watchdog_would_have_been_over() -> None:
    sim = Sim(replace(POLICY, count=1))
    sim.up()
    sim.advance(60)
    sim.step(f.Ping(A))
    assert sim.deadline == sim.state.workers[A].watchdog_at == sim.now + 30.0
    sim.step(f.Unheard())
    assert sim.deadline > sim.now + 30.0


def test_a_reload_that_fails_gives_back_what_was_set_before_it() -> None:
    sim = serving()
    sim.state.settings = {"memory.limit": "90M"}
    sim.reload(replace(POLICY, count=2), 7)
    assert sim.state.settings == {}
    sim.exit(A2, "exited", 1)
    sim.advance(1)
    sim.exit(WorkerId(0, 3), "exited", 1)
    assert sim.state.rollout is None
    assert sim.state.settings == {"memory.limit": "90M"}


@pytest.mark.parametrize("starts_in", [0.0, 3.25])
def test_who_is_ready_is_told_with_how_long_it_took(starts_in: float) -> None:
    """The second that it has to live on before anybody relies on it is none of its start."""
    sim = Sim(POLICY)
    sim.advance(starts_in)
    done = sim.ready(A) + sim.advance(5)
    (entry,) = entries(done, "WORKER_READY")
    assert entry.message == f"Worker 0.1 (pid {sim.alive[A]}) is ready after {starts_in:.2f} s"


def test_a_reload_that_comes_in_the_stop_is_answered() -> None:
    """Whoever waits for it, of memunit reload, would wait for ever."""
    sim = serving()
    sim.step(f.StopRequested())
    (answer,) = results(sim.reload(POLICY, 4, 5))
    assert (answer.tokens, answer.ok) == ((4, 5), False)
    assert answer.text == "Reload not begun: the service is being stopped"


@pytest.mark.parametrize("pings", [True, False])
def test_who_pinged_while_it_started_is_watched_from_ready_on(pings: bool) -> None:
    sim = Sim(replace(POLICY, watchdog=20.0))
    if pings:
        sim.step(f.Ping(A))
    ready = sim.ready(A) + sim.advance(3)
    assert not sent(ready, Signal.ABRT)
    assert sent(sim.advance(20), Signal.ABRT) == ([A] if pings else [])


@pytest.mark.parametrize("again", [True, False])
def test_who_starts_unheard_has_its_time_anew_but_once(again: bool) -> None:
    """Its READY=1 may have been lost. A path that is lost again and again lets nobody start for ever."""
    sim = Sim(replace(POLICY, start_timeout=30.0))
    sim.ready(WorkerId(1, 1))
    sim.advance(20)
    sim.step(f.Unheard())
    assert not sent(sim.advance(20), Signal.ABRT)
    if again:
        sim.step(f.Unheard())
    assert sent(sim.advance(10), Signal.ABRT) == [A]


def test_the_place_of_one_that_asks_for_more_time_is_the_next_ones_when_its_own_is_over() -> None:
    """One slot at a time without a surge. Its start has half a minute, and it has asked for an hour."""
    sim = serving(replace(POLICY, surge=0, start_timeout=30.0))
    other = WorkerId(1, 1)
    sim.step(f.RecycleRequested(A))
    sim.exit(A)
    sim.step(f.ExtendTimeout(A2, 3600.0), f.RecycleRequested(other))
    assert sent(sim.advance(29.5), Signal.TERM) == []
    assert sent(sim.advance(0.5), Signal.TERM) == [other]


def test_who_hangs_and_then_ends_has_failed_once() -> None:
    sim = Sim(replace(POLICY, watchdog=20.0))
    sim.up()
    sim.advance(5)
    sim.step(f.Ping(A))
    assert sent(sim.advance(20), Signal.ABRT) == [A]
    assert sim.state.slots[0].failures == 1
    sim.exit(A, "dumped", 6)
    assert sim.state.slots[0].failures == 1


def test_a_reload_does_not_wait_for_what_is_replaced_for_another_cause() -> None:
    sim, other = serving(), WorkerId(1, 1)
    sim.reload(POLICY, 7)
    for old, new in ((A, A2), (other, WorkerId(1, 2))):
        assert new in sim.alive
        done = sim.ready(new) + sim.advance(1)
        if old is A:
            sim.step(f.RecycleRequested(A2))
        done += sim.exit(old)
    assert [answer.ok for answer in results(done)] == [True]
    assert WorkerId(0, 3) in sim.alive
