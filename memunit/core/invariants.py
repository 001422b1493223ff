"""What holds in each pass of policy, whatever the world does: the exploration checks it, and so does `memunit replay`.

Each invariant is a function with a name and a sentence. It looks at one pass (seen.py), and answers with what is wrong:
"" if it holds.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from memunit.core import facts as f
from memunit.core.actions import Finish, GiveBack, Journal, ReloadResult, Send, Signal
from memunit.core.giving import REST
from memunit.core.messages import ENDS, Message
from memunit.core.model import FOR_MEMORY, UNCOUNTED, Cause, Phase, WorkerId
from memunit.core.seen import STOPS, Look, Pass

# Where a worker may go from each phase; from each it may end too.
_NEXT = {
    Phase.STARTING: (Phase.RUNNING, *STOPS),
    Phase.RUNNING: STOPS,
    Phase.STOP_SIGTERM: (Phase.STOP_SIGKILL,),
    Phase.STOP_SIGKILL: (),
}

Invariant = Callable[[Pass], str]


def deadline_is_to_come(done: Pass) -> str:
    """The next deadline is not in the past: the loop would spin."""
    return "" if done.deadline >= done.now else f"it is {done.now - done.deadline:g} s ago"


def one_of_each_in_a_slot(done: Pass) -> str:
    """At most one worker of a slot starts, and at most one serves."""
    for phase in (Phase.STARTING, Phase.RUNNING) if done.changed or done.new else ():
        slots = done.slots(phase)
        if len(set(slots)) < len(slots):
            return f"two are {phase.value} in one slot"
    return ""


def phases_go_forward(done: Pass) -> str:
    """A worker never comes back to an earlier phase."""
    for who, then, now in done.changed:
        if now.phase is not then.phase and now.phase not in _NEXT[then.phase]:
            return f"{who} went from {then.phase.value} to {now.phase.value}"
    return ""


def names_are_given_once(done: Pass) -> str:
    """A new worker has a generation that is higher than each that its slot has."""
    for who in done.started:
        if any(
            other.slot == who.slot and other.generation >= who.generation for other in done.before.workers
        ):
            return f"{who} is no new name"
    if len(set(done.started)) < len(done.started):
        return "one name is given twice"
    strangers = done.new - set(done.started)
    return f"{min(strangers)} was never started" if strangers else ""


def each_end_is_told_once(done: Pass) -> str:
    """A worker that is gone has one entry of its end, and one that is there has none."""
    told = Counter(
        WorkerId(int(entry.fields["MEMUNIT_SLOT"]), int(entry.fields["MEMUNIT_GENERATION"]))
        for entry in done.of(Journal)
        if entry.kind in ENDS or entry.kind is Message.LAUNCH_FAILED
    )
    gone = done.gone | (set(done.started) - done.after.workers.keys())
    for who in told.keys() | gone:
        if told[who] != (who in gone):
            return f"{who} has {told[who]} entries"
    return ""


def nobody_is_started_while_it_stops(done: Pass) -> str:
    """Once the instance stops, nobody is started."""
    return f"{done.started[0]} was started" if done.after.stopping and done.started else ""


def finish_is_the_end(done: Pass) -> str:
    """The master leaves once, and only when it stops and every worker is gone."""
    finishes = len(done.of(Finish))
    if finishes and (done.before.finished or finishes > 1):
        return "it leaves twice"
    if finishes and (done.after.workers or not done.after.stopping):
        return "it leaves workers behind"
    if done.after.stopping and not done.after.workers and not (finishes or done.before.finished):
        return "nobody is left, and it stays"
    return ""


def replacement_first(done: Pass) -> str:
    """One that serves is told to stop when another serves in its slot, or there is no room for two, or for good."""
    spoke = {fact.id for fact in done.facts if isinstance(fact, f.Stopping)}
    for who, then, now in done.changed:
        if then.phase is not Phase.RUNNING or now.phase is not Phase.STOP_SIGTERM:
            continue
        allowed = now.holds_slot or now.force or who in spoke or now.reason in UNCOUNTED
        if not (allowed or _gives_way(done, who, now) or who.slot in done.slots(Phase.RUNNING)):
            return f"{who} was told to stop for {now.reason}, and nobody serves in its slot"
    return ""


def the_last_that_serves_stays(done: Pass) -> str:
    """The last worker that serves is told to stop only for a stop, or where surge 0 or memory lets no other start.

    Even there it stays while another worker starts, unless it would reach its ceiling, or use up the free memory,
    before the other one serves. A worker in a slot that is given up stops only if a worker of a remaining slot serves,
    or if as many workers as are wanted serve on.
    """
    spoke = {fact.id for fact in done.facts if isinstance(fact, f.Stopping)}
    if done.after.stopping:
        return ""
    for who, then, now in done.changed:
        if then.phase is not Phase.RUNNING or now.phase is not Phase.STOP_SIGTERM:
            continue
        if now.force or who in spoke or _gives_way(done, who, now):
            continue
        serving = done.slots(Phase.RUNNING)
        if now.holds_slot:
            if not serving and _may_wait(done, now):
                return f"{who} was told to stop for {now.reason} while another one starts, and nobody serves"
            continue
        enough = who.slot >= done.after.places and len(serving) >= done.after.places
        if not enough and not any(slot < done.after.places for slot in serving):
            return f"{who} was told to stop for {now.reason}, and nobody serves"
    return ""


def _gives_way(done: Pass, who: WorkerId, now: Look) -> bool:
    """Whether it was replaced for its memory, and holds what its replacement needs to start."""
    return done.after.reversed and now.reason in FOR_MEMORY and who.slot in done.slots(Phase.STARTING)


def _may_wait(done: Pass, now: Look) -> bool:
    """Whether another one starts in its time, and this one has memory until then."""
    due = done.starting()
    if not due or now.memory is None or now.steady_pace <= 0:
        return bool(due)
    end = min(math.inf if now.ceiling is None else now.ceiling, now.memory + done.after.free)
    return now.memory + now.steady_pace * (max(due) - now.sampled_at) < end


def no_surge_is_none(done: Pass) -> str:
    """With surge 0 nobody is started beside another of its slot that lives, unless SIGKILL has not ended that one."""
    for started in done.started if done.after.surge == 0 else ():
        for who, looked in done.after.workers.items():
            stuck = looked[0] is Phase.STOP_SIGKILL and math.isinf(looked[1])
            if who.slot == started.slot and who != started and not stuck:
                return f"{started} was started beside {who}, which is {looked[0].value}"
    return ""


def surge_is_bounded(done: Pass) -> str:
    """A replacement is started only if, with it, no more than `surge` replacements are under way."""
    serving = done.slots(Phase.RUNNING) if done.started else []
    replacing = [who for who in done.started if who.slot in serving]
    if not replacing:
        return ""
    bound = max(1, done.after.surge)
    # One that has asked for more time (EXTEND_TIMEOUT_USEC=) keeps no other from being replaced once its own is over.
    extra = sum(
        looked[0] is Phase.STARTING and who.slot in serving and done.now < looked[2]
        for who, looked in done.after.workers.items()
    )
    return f"with {replacing[0]} there are {extra} of {bound}" if extra > bound else ""


def backoff_is_waited_for(done: Pass) -> str:
    """Nobody is started in a slot before its backoff is over, nor while nothing serves before the gate opens.

    The gate does not hold back a replacement for which the old worker was stopped.
    """
    if not done.started or any(isinstance(fact, f.Reload) for fact in done.facts):
        return ""
    runs = bool(done.slots(Phase.RUNNING))
    for who in done.started:
        # What has failed in this pass counts, and what a success or a person has forgiven in it does not.
        late = done.after.retry_at[who.slot] - done.now
        if late > 0:
            return f"{who} was started {late:g} s too early"
        late = done.after.gate_retry_at - done.now
        if not runs and done.after.gate_failures and late > 0 and not done.after.replacing[who.slot]:
            return f"{who} was started {late:g} s before the gate opens"
    return ""


def kill_deadlines_stand_still(done: Pass) -> str:
    """The time at which a stopping worker is killed moves by nothing but its own EXTEND_TIMEOUT_USEC=."""
    asked = {fact.id for fact in done.facts if isinstance(fact, f.ExtendTimeout)} if done.changed else set()
    for who, then, now in done.changed:
        same = then.phase in STOPS and now.phase is then.phase and now.force is then.force
        if same and who not in asked and then.deadline < now.deadline < math.inf:
            return f"that of {who} was moved by {now.deadline - then.deadline:g} s"
    return ""


def nobody_outlives_a_deadline(done: Pass) -> str:
    """Once a worker's time to end is over, it has been sent the next signal, or is given up."""
    for who, deadline in done.stopping():
        if deadline < done.now:
            return f"{who} is there {done.now - deadline:g} s after its time"
    return ""


def recycles_rest_on_a_sample(done: Pass) -> str:
    """Nobody is recycled for its memory by a sample that is older than the decision."""
    for who, then, now in done.changed:
        if then.wants is None and now.wants is Cause.MEMORY_LIMIT and now.sampled_at < done.now:
            return f"{who} is to be recycled, and was measured {done.now - now.sampled_at:g} s ago"
    return ""


def who_serves_is_asked_now_and_then(done: Pass) -> str:
    """A worker is asked to give memory back while it serves, and not twice within a minute."""
    for action in done.of(GiveBack):
        then = done.before.workers.get(action.id)
        there = done.after.workers.get(action.id)
        if there is None or (
            there[0] is not Phase.RUNNING and (then is None or then[0] is not Phase.RUNNING)
        ):
            return f"{action.id} does not serve, and is asked"
        if then is not None and done.now - Look._make(then).give_at < REST:
            return f"{action.id} was asked {done.now - Look._make(then).give_at:g} s ago"
    return ""


def reloads_are_answered_once(done: Pass) -> str:
    """Whoever asks for a reload is told how it went, once."""
    waiting = Counter(done.before.tokens)
    for fact in done.facts:
        if isinstance(fact, f.Reload | f.ReloadRefused):
            waiting.update(fact.tokens)
    if not waiting and not done.after.tokens:
        return ""
    waiting.subtract(done.after.tokens)
    waiting.subtract(token for answer in done.of(ReloadResult) for token in answer.tokens)
    wrong = [token for token, count in waiting.items() if count]
    return f"token {wrong[0]} is owed {waiting[wrong[0]]} answers" if wrong else ""


def signals_meet_the_living(done: Pass) -> str:
    """A signal goes to a worker that is there, and SIGKILL only to one that is then stop-sigkill."""
    for action in done.of(Send):
        there = done.after.workers.get(action.id)
        if action.id not in done.before.workers and there is None:
            return f"{action.id} is nobody"
        if action.signal is Signal.KILL and there is not None and there[0] is not Phase.STOP_SIGKILL:
            return f"{action.id} is killed and {there[0].value}"
    return ""


def _named(*invariants: Invariant) -> dict[str, Invariant]:
    return {each.__name__.replace("_", "-"): each for each in invariants}


INVARIANTS: Mapping[str, Invariant] = _named(
    deadline_is_to_come,
    one_of_each_in_a_slot,
    phases_go_forward,
    names_are_given_once,
    each_end_is_told_once,
    nobody_is_started_while_it_stops,
    finish_is_the_end,
    replacement_first,
    the_last_that_serves_stays,
    surge_is_bounded,
    backoff_is_waited_for,
    nobody_outlives_a_deadline,
    reloads_are_answered_once,
    signals_meet_the_living,
    no_surge_is_none,
    kill_deadlines_stand_still,
    recycles_rest_on_a_sample,
    who_serves_is_asked_now_and_then,
)


def broken(done: Pass) -> Iterator[tuple[str, str]]:
    """The name of each invariant that this pass does not keep, and what is wrong."""
    for name, invariant in INVARIANTS.items():
        wrong = invariant(done)
        if wrong:
            yield name, wrong
