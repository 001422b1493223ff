"""Two places that have to say the same: the ping and giving up, what systemd is told and what is waited for, the
entry and what happened.
"""

from __future__ import annotations

import pytest

from memunit.core import facts as f
from memunit.core.actions import NotifyExtend, NotifyReady, Signal
from memunit.core.messages import DEBUG, ERROR
from memunit.core.model import Cause, Gate, Phase, Policy, WorkerId
from memunit.core.policy import healthy, step
from memunit.core.status import sentence
from memunit.records import replace
from tests.support.sim import M, Sim, causes, entries, finished, sent, spawned

LIMIT = 100 * M
POLICY = Policy(count=1, limit=LIMIT, patience=0.0, min_lifetime=10.0, grace=30.0, start_timeout=30.0)
A, A2, A3 = WorkerId(0, 1), WorkerId(0, 2), WorkerId(0, 3)


def serving(policy: Policy = POLICY) -> Sim:
    """All have served for a minute."""
    sim = Sim(policy)
    sim.up()
    sim.advance(60)
    return sim


def test_who_was_granted_time_to_start_is_not_pinged_to_death() -> None:
    """EXTEND_TIMEOUT_USEC moves the end of the master, so the watchdog of systemd has to be fed until then."""
    sim = serving()
    sim.exit(A, "exited", 1)
    sim.advance(1)
    sim.step(f.ExtendTimeout(A2, 300.0))
    sim.advance(299)
    assert finished([a for _, a in sim.history]) is None
    assert healthy(sim.state, sim.now)
    sim.advance(2)
    assert not healthy(sim.state, sim.now)
    assert entries([a for _, a in sim.history], "NOTHING_READY")


def test_a_reload_may_take_as_long_as_those_that_it_replaces_drain() -> None:
    sim = serving(replace(POLICY, count=4, grace=300.0))
    done = sim.reload(replace(POLICY, count=4, grace=1.0), 1)
    (told,) = [action.seconds for action in done if isinstance(action, NotifyExtend)]
    began = sim.now
    while sim.state.rollout is not None:
        sim.up()
        sim.advance(1)
        if sim.state.rollout is not None:
            (old,) = sim.workers(Phase.STOP_SIGTERM)
            sim.advance(299)
            sim.exit(old.id)
    assert sim.now - began > 800
    assert sim.now - began < told


@pytest.mark.parametrize("says_so", [True, False])
def test_who_said_that_it_stops_has_a_handler(says_so: bool) -> None:
    sim = serving()
    if says_so:
        sim.step(f.Stopping(A))
    else:
        sim.step(f.RecycleRequested(A))
        sim.ready(A2)
        sim.step(f.Deaf(A))
    (entry,) = entries(sim.exit(A, "killed", 15), "ENDED")
    assert entry.fields["MEMUNIT_CAUSE"] == "requested"
    assert ("does not handle SIGTERM" in entry.message) is not says_so


@pytest.mark.parametrize(("last", "told"), [("memory-limit", 1), ("crash-signal", 0)])
def test_only_a_recycle_can_have_been_no_help(last: str, told: int) -> None:
    """The worker before has to be the one that was recycled, and not the one before that."""
    sim = serving()
    sim.sample(A, LIMIT)
    sim.ready(A2)
    sim.sample(A2, 10 * M)
    assert causes(sim.exit(A)) == ["memory-limit"]
    heir = A2
    if last == "crash-signal":
        sim.advance(60)
        assert causes(sim.exit(A2, "killed", 11)) == [last]
        heir = A3
        sim.ready(heir)
        sim.sample(heir, 10 * M)
    sim.advance(3)
    sim.sample(heir, LIMIT)
    # Whether it grows on is known only after a while.
    sim.advance(10)
    assert len(entries([a for _, a in sim.history], "RECYCLE_DID_NOT_HELP")) == told


def test_a_stop_while_it_gives_up_is_no_failure() -> None:
    sim = Sim(POLICY)
    sim.advance(30.1)
    assert sim.state.stopping
    sim.step(f.StopRequested(force=False))
    sim.exit(A, "killed", 6)
    assert finished([a for _, a in sim.history]) == 0
    assert entries([a for _, a in sim.history], "MASTER_STOPPING")[0].message == "Stopping"


def test_ready_counts_from_the_first_start_and_not_from_the_wait_before_it() -> None:
    wait = POLICY.start_timeout + 7
    sim = Sim(replace(POLICY, count=4), gate=Gate(failures=9, retry_at=1000.0 + wait))
    assert spawned(sim.advance(wait)) == [A]
    assert NotifyReady() not in sim.ready(A)
    assert NotifyReady() in sim.ready()


def test_what_is_cut_short_in_the_end_does_not_hide_why() -> None:
    sim = Sim(POLICY)
    sim.step(f.SpawnFailed(A, "cannot import shop: ModuleNotFoundError"))
    assert sent(sim.advance(30.1), Signal.ABRT) == [A2]
    sim.step(f.SpawnFailed(A2, "the app was not imported in time"))
    history = [a for _, a in sim.history]
    assert [entry.priority for entry in entries(history, "LAUNCH_FAILED")] == [ERROR, DEBUG]
    (told,) = entries(history, "NOTHING_READY")
    assert told.message.startswith(
        "No worker has served for 30 s: worker 0 can't be started: cannot import shop: "
    )
    # With nothing said before it, it is the reason.
    sim = Sim(POLICY)
    sim.advance(30.1)
    sim.step(f.SpawnFailed(A, "the app was not imported in time"))
    (entry,) = entries([a for _, a in sim.history], "LAUNCH_FAILED")
    assert entry.priority == ERROR


@pytest.mark.parametrize(("failed", "cause"), [(20.0, "stop"), (28.0, "stop"), (5.0, "start-timeout")])
def test_a_start_that_giving_up_cuts_short_did_not_take_too_long(failed: float, cause: str) -> None:
    """The try before it failed after so many seconds, and then this one began."""
    sim = Sim(POLICY)
    sim.advance(failed)
    sim.exit(A, "exited", 3)
    while not sim.state.stopping:
        sim.advance(0.1)
    (last,) = sim.workers()
    assert last.deadline <= sim.now + 10.0
    sim.exit(last.id, "killed", 15 if cause == "stop" else 6)
    ends = entries([a for _, a in sim.history], "ENDED")
    assert [end.fields["MEMUNIT_CAUSE"] for end in ends] == ["start-failed", cause]


def test_giving_up_on_a_worker_that_never_failed_says_what_it_waits_for() -> None:
    """A Node program that never listens: "no worker was ready in time" was all that anybody could read."""
    sim = Sim(POLICY)
    sim.step(f.Spawned(A, 100))
    sim.step(f.StatusText(A, "waiting until the app listens on /x.sock"))
    sim.advance(30.1)
    (told,) = entries([a for _, a in sim.history], "NOTHING_READY")
    what = "worker 0 was not ready in time: waiting until the app listens on /x.sock"
    assert f": {what}. Giving up" in told.message
    assert what in sentence(sim.state, sim.now)


def test_an_end_of_which_nobody_knows_how_is_an_accident_unless_it_was_asked_for() -> None:
    sim = serving()
    (entry,) = entries(sim.exit(A, "unknown"), "ENDED")
    assert entry.fields["MEMUNIT_CAUSE"] == Cause.CRASH_EXIT
    assert "another process has waited for it" in entry.message
    sim.ready(A2)
    sim.step(f.StopRequested(force=False))
    assert causes(sim.exit(A2, "unknown")) == ["stop"]


@pytest.mark.parametrize("later", [0.0, 1.0])
def test_of_two_that_are_as_urgent_the_same_comes_first_in_a_state_that_was_read_back(later: float) -> None:
    """The order was that of an index: a replay, or the master executed anew, has made it in another order."""
    sim = Sim(replace(POLICY, count=3))
    sim.up()
    sim.advance(60)
    first, low, high = WorkerId(0, 1), WorkerId(1, 1), WorkerId(2, 1)
    sim.step(f.RecycleRequested(first))
    sim.step(f.RecycleRequested(high))
    sim.now += later
    sim.step(f.RecycleRequested(low))
    sim.ready(WorkerId(0, 2))
    twin = sim.state.copy()
    end = f.Exited(first, "exited", 0)
    _, done, _ = step(twin, [end], sim.now)
    assert spawned(list(done)) == spawned(sim.exit(first)) == [WorkerId(2 if later else 1, 2)]
