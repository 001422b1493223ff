"""What a person asks of a running instance: other settings, and another number of workers, until the next reload."""

from __future__ import annotations

import pytest

from memunit.core import facts as f
from memunit.core import failures, memory
from memunit.core.actions import Bound, Journal, Measure, Signal, Spawn
from memunit.core.adjusting import FIELDS, CantSet, adjusted, cannot_scale
from memunit.core.adoption import adopted
from memunit.core.budget import needed
from memunit.core.handover import Handover
from memunit.core.model import Cause, Gate, Headroom, Policy, WorkerId
from memunit.core.policy import step
from memunit.core.schema import MOST_WORKERS
from memunit.core.state import initial
from memunit.core.status import sentence
from memunit.records import replace
from tests.support.sim import M, Sim, entries, sent, spawned

POLICY = Policy(count=2, limit=300 * M, ceiling=500 * M)


def serving(policy: Policy = POLICY) -> Sim:
    """All its workers serve."""
    sim = Sim(policy)
    sim.ready()
    return sim


def test_a_limit_is_that_of_the_workers_that_are_there_too() -> None:
    sim = serving()
    actions = sim.step(f.Adjust({"memory.limit": "200M"}))
    assert sim.state.policy.limit == 200 * M
    assert all(190 * M <= (each.limit or 0) <= 200 * M for each in sim.workers())
    assert len([each for each in actions if isinstance(each, Measure)]) == 2
    assert not [each for each in actions if isinstance(each, Bound)]
    assert "until the next reload memory.limit = 200M" in sentence(sim.state, sim.now)
    (said,) = entries(actions, "SETTINGS")
    assert said.message == "Until the next reload: memory.limit = 200M"


def test_another_limit_is_judged_anew_and_another_patience_is_not() -> None:
    """Else a limit that is too low as well is never told, and a slot waits an hour for what the old limit did."""
    sim = serving(replace(POLICY, count=1))
    who = WorkerId(0, 1)
    told = entries(sim.sample(who, 350 * M), "BASELINE_OVER_LIMIT")
    assert [each.fields["MEMUNIT_LIMIT_BYTES"] for each in told] == [sim.workers()[0].limit]
    later = sim.step(f.Adjust({"memory.patience": "9s"})) + sim.sample(who, 350 * M)
    assert entries(later, "BASELINE_OVER_LIMIT") == []
    assert sim.state.tally.in_vain == 1
    assert failures.least_age(sim.state.policy, sim.state.slots[0]) > POLICY.min_lifetime
    later = sim.step(f.Adjust({"memory.limit": "320M"})) + sim.sample(who, 350 * M)
    told = entries(later, "BASELINE_OVER_LIMIT")
    assert [each.fields["MEMUNIT_LIMIT_BYTES"] for each in told] == [sim.workers()[0].limit]
    sim.step(f.Adjust({"memory.limit": "450M"}))
    assert failures.least_age(sim.state.policy, sim.state.slots[0]) == POLICY.min_lifetime


def test_who_is_at_the_new_limit_is_over_it_since_then() -> None:
    """Its patience does not begin anew, as it would for one that is under the new limit."""
    sim = serving(replace(POLICY, count=1, patience=60.0))
    who = WorkerId(0, 1)
    sim.sample(who, 10 * M)
    sim.advance(100.0)
    at = memory.effective_limit(replace(POLICY, limit=400 * M), sim.state.seed, who)
    assert at is not None
    sim.sample(who, at)
    since = sim.now
    sim.advance(30.0)
    sim.step(f.Adjust({"memory.limit": "400M"}))
    assert sim.workers()[0].over_since == since
    sim.sizes[who] = at - M
    sim.step(f.Adjust({"memory.limit": "401M"}))
    assert sim.workers()[0].over_since is None


def test_who_has_a_process_is_measured_and_only_for_a_bound() -> None:
    state, actions, _ = step(initial(POLICY, now=1.0), [], 1.0)
    assert [each.id for each in actions if isinstance(each, Spawn)] == [WorkerId(0, 1), WorkerId(1, 1)]
    state, actions, _ = step(state, [f.Spawned(WorkerId(0, 1), 100), f.Adjust({"memory.limit": "200M"})], 1.1)
    assert [each.id for each in actions if isinstance(each, Measure)] == [WorkerId(0, 1)]
    state, actions, _ = step(state, [f.Adjust({"memory.patience": "9s"})], 1.2)
    assert [each for each in actions if isinstance(each, Measure)] == []


def test_a_ceiling_is_the_kernels_to_keep() -> None:
    sim = serving()
    bounds = [each for each in sim.step(f.Adjust({"memory.ceiling": "1G"})) if isinstance(each, Bound)]
    assert {each.id for each in bounds} == {each.id for each in sim.workers()}
    assert {each.ceiling for each in bounds} == {1 << 30}
    # Where no kernel does, a sample tells.
    assert sent(sim.sample(WorkerId(0, 1), 600 * M), Signal.KILL) == []
    assert sent(sim.sample(WorkerId(0, 1), 1 << 30), Signal.KILL) == [WorkerId(0, 1)]


def test_nobody_is_killed_for_a_number() -> None:
    sim = serving()
    sim.step(f.Sampled(WorkerId(0, 1), 250 * M, "uss"))
    with pytest.raises(CantSet, match=r"worker 0\.1 holds 250M and would be killed; set memory\.limit first"):
        adjusted(sim.state, {"memory.ceiling": "255M", "memory.limit": "200M"})
    assert adjusted(sim.state, {"memory.ceiling": "400M"})[0].ceiling == 400 * M
    # A ceiling only a little above what the worker holds is refused too.
    sim.step(f.Sampled(WorkerId(0, 1), 380 * M, "uss"))
    with pytest.raises(CantSet, match=r"holds 380M and would be killed"):
        adjusted(sim.state, {"memory.ceiling": "400M"})


@pytest.mark.parametrize(
    ("path", "text"),
    [("memory.limit", "200M"), ("memory.patience", "9s"), ("workers.max_age", "1h"), ("workers.surge", "2")],
)
def test_what_is_set_is_told_as_the_file_says_it(path: str, text: str) -> None:
    policy, told = adjusted(serving().state, {path: text})
    assert told == {path: text}
    assert getattr(policy, FIELDS[path]) in (200 * M, 9.0, 3600.0, 2)


@pytest.mark.parametrize("settings", [{"memory.patience": "3s"}, {"workers.max_age": "5m"}])
def test_who_is_due_sooner_by_what_is_set_is_recycled_then(settings: dict[str, str]) -> None:
    """It was to be looked at in more than a minute, or never."""
    sim = serving(replace(POLICY, count=1, patience=600.0))
    who = WorkerId(0, 1)
    sim.sample(who, 10 * M)
    sim.advance(250.0)
    if "memory.patience" in settings:
        sim.sample(who, 310 * M)
    assert spawned(sim.step(f.Adjust(settings)) + sim.advance(2.0)) == []
    assert spawned(sim.advance(60.0))[0] == WorkerId(0, 2)


def test_of_several_the_one_that_can_not_be_is_named() -> None:
    state = serving().state
    for settings, named in (
        ({"memory.patience": "9s", "memory.limit": "600M"}, "memory.limit"),
        ({"memory.patience": "9s", "memory.ceiling": "none"}, "memory.ceiling"),
        ({"memory.ceiling": "200M"}, "memory.ceiling"),
    ):
        with pytest.raises(CantSet) as caught:
            adjusted(state, settings)
        assert caught.value.setting == named


def test_a_setting_has_what_waits_tried_at_once() -> None:
    """A person has acted, perhaps because nothing starts."""
    gate = Gate(failures=9, retry_at=1020.0)
    sim = Sim(replace(POLICY, count=1), gate=gate)
    assert spawned([action for _, action in sim.history]) == []
    assert spawned(sim.step(f.Adjust({"workers.start_timeout": "60s"}))) == [WorkerId(0, 1)]


def test_who_drains_keeps_the_bounds_it_had() -> None:
    """It is not asked whether the new ceiling has room for it, and its requests would be lost."""
    sim = serving()
    old, new = WorkerId(0, 1), WorkerId(0, 2)
    sim.sample(old, 450 * M)
    sim.step(f.RecycleRequested(old))
    sim.ready(new)
    done = sim.step(f.Adjust({"memory.ceiling": "400M"}))
    assert {each.id for each in done if isinstance(each, Bound)} == {new, WorkerId(1, 1)}
    assert sim.state.workers[old].ceiling == 500 * M


@pytest.mark.parametrize(
    ("path", "text", "why"),
    [
        ("memory.limit", "600M", "is over the memory.ceiling of 500M"),
        ("memory.limit", "500M", "is the same as the memory.ceiling"),
        ("memory.limit", "0", "no process runs in 0 bytes"),
        ("memory.limit", "", "is not a size"),
        ("workers.surge", "-1", "a whole number"),
        ("workers.surge", "many", "a whole number"),
        ("workers.start_timeout", "infinity", "can't be infinity"),
        ("memory.patience", "soon", "is not a time"),
        ("workers.count", "5", "memunit scale"),
        ("app.run", "x:y", "change the file and reload"),
        ("memory.limits", "5G", "did you mean memory.limit?"),
        ("app.comand", "x", "did you mean app.command?"),
        ("x" * 500, "5G", "there is no such setting"),
    ],
)
def test_what_can_not_be_set(path: str, text: str, why: str) -> None:
    sim = serving()
    with pytest.raises(CantSet) as caught:
        adjusted(sim.state, {path: text})
    assert why in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_limit_that_all_workers_do_not_fit_in_is_refused() -> None:
    sim = serving()
    sim.step(f.MemoryAvailable(Headroom(800 * M, 400 * M, "the machine")))
    with pytest.raises(CantSet, match=r"2 x 450M and 25M for memunit is more than the 800M of the machine"):
        adjusted(sim.state, {"memory.limit": "450M"})
    assert cannot_scale(sim.state, 3) == "3 x 300M and 25M for memunit is more than the 800M of the machine"


def test_what_is_asked_alone_is_judged() -> None:
    """Else the remedy for a limit that does not fit, or for a worker that is close to its ceiling, is refused too."""
    sim = serving()
    sim.step(f.MemoryAvailable(Headroom(500 * M, 400 * M, "the machine")))
    sim.step(f.Sampled(WorkerId(0, 1), 499 * M, "uss"))
    assert adjusted(sim.state, {"memory.patience": "9s"})[0].patience == 9.0
    assert adjusted(sim.state, {"memory.limit": "200M"})[0].limit == 200 * M
    assert [cannot_scale(sim.state, count) for count in (1, 2)] == ["", ""]


def test_the_most_that_can_be_had_can_be_had() -> None:
    sim = serving()
    assert cannot_scale(sim.state, MOST_WORKERS) == ""
    assert cannot_scale(sim.state, MOST_WORKERS + 1) == f"{MOST_WORKERS} workers are the most"
    room = needed(3, 300 * M)
    sim.step(f.MemoryAvailable(Headroom(room, room, "the machine")))
    assert cannot_scale(sim.state, 3) == ""
    sim.step(f.MemoryAvailable(Headroom(room - 1, room - 1, "the machine")))
    assert cannot_scale(sim.state, 3).startswith("3 x 300M and 25M for memunit is more than")


def test_a_reload_ends_it_and_one_that_fails_does_not() -> None:
    sim = serving()
    sim.step(f.Adjust({"memory.patience": "9s"}), f.ScaleTo(1))
    kept = {"memory.patience": "9s", "workers.count": "1"}
    assert sim.state.settings == kept
    sim.step(f.Reload((5,), POLICY, 2))
    assert sim.state.settings == {}
    assert sim.state.policy.patience == POLICY.patience
    for _ in range(4):
        for worker in [each for each in sim.workers() if each.revision == 2]:
            sim.step(f.Exited(worker.id, "exited", 1))
        sim.advance(0.2)
    assert sim.state.rollout is None
    assert sim.state.settings == kept
    assert (sim.state.policy.patience, sim.state.count, sim.state.policy.count) == (9.0, 1, 2)


def test_back_to_the_number_of_the_file_is_nothing_to_tell() -> None:
    sim = serving()
    sim.step(f.Scale(+1))
    assert sim.state.settings == {"workers.count": "3"}
    sim.step(f.ScaleTo(2))
    assert sim.state.settings == {}


def test_what_can_not_be_had_is_said_and_changes_nothing() -> None:
    sim = serving()
    for fact, text in (
        (f.ScaleTo(0), "Not scaled down: one worker"),
        (f.Adjust({"a.b": "1"}), "Not set: a.b"),
    ):
        said = [each for each in sim.step(fact) if isinstance(each, Journal)]
        assert said[0].message.startswith(text)
    assert sim.state.settings == {}


def test_a_successor_keeps_it_as_far_as_the_file_allows() -> None:
    def left(**settings: str) -> Handover:
        return Handover(
            master=5, program="1", stopping=False, revision=1, generations=(2,), workers=(), settings=settings
        )

    before = initial(POLICY, now=1.0)
    state = adopted(before, left(**{"workers.count": "4", "memory.limit": "400M"}), now=2.0, afresh=True)
    assert (state.count, state.policy.count, state.policy.limit) == (4, 2, 400 * M)
    # The file has another ceiling by now; and what no master writes.
    state = adopted(before, left(**{"memory.limit": "900M", "workers.count": "none"}), now=2.0, afresh=True)
    assert (state.count, state.policy.limit, state.settings) == (2, 300 * M, {})


def test_who_is_to_be_replaced_by_request_is_so_for_a_new_master() -> None:
    sim = serving()
    sim.step(f.RecycleRequested(WorkerId(0, 1)))
    assert {each.wants for each in sim.workers() if each.id == WorkerId(0, 1)} == {Cause.REQUESTED}
