"""A reload on its way: its begin, its success, and the way back."""

from memunit.core import failures, phases, recycle, retirement, wording
from memunit.core.actions import NotifyExtend, NotifyReady, NotifyReloading, ReloadResult, UseRevision
from memunit.core.adjusting import COUNT, cannot_scale
from memunit.core.facts import Reload
from memunit.core.messages import WARNING, Message
from memunit.core.model import Cause, Phase, Rollout
from memunit.core.passes import Pass
from memunit.core.state import State
from memunit.records import replace


def begin(p: Pass, fact: Reload) -> None:
    """Use the new configuration from now on, if it turns out to work."""
    state, before = p.state, p.state.rollout
    if state.stopping:
        p.do(ReloadResult(fact.tokens, False, "Reload not begun: the service is being stopped"))
        return
    if before is None and state.ready_sent:
        p.do(NotifyReloading())
    state.rollout = Rollout(
        # Whoever waits for one that this supersedes wants what is in the file to be served: so it will be, or not.
        tokens=fact.tokens if before is None else (*before.tokens, *fact.tokens),
        previous=replace(state.policy, count=state.count) if before is None else before.previous,
        previous_count=state.policy.count if before is None else before.previous_count,
        previous_revision=state.revision if before is None else before.previous_revision,
        began=p.now,
        previous_settings=dict(state.settings) if before is None else before.previous_settings,
    )
    state.settings = {}
    state.policy, state.count, state.revision = fact.policy, fact.policy.count, fact.revision
    state.baseline_reported, state.reload_trouble = False, ""
    start = max(fact.policy.start_timeout, phases.PROBATION)
    # Those that are replaced drain by the grace that they were started with, and each replacement waits for that.
    grace = max([fact.policy.grace, *(worker.grace for worker in state.workers.values())])
    p.do(NotifyExtend(fact.policy.count * (start + grace) + 60))
    _change_revision(p)
    if before is not None:
        # The superseded configuration starts no worker any more. Its import would take memory that the new one needs.
        p.do(UseRevision(before.previous_revision))
    failures.forgive_all(p)


def refuse(p: Pass, tokens: tuple[int, ...], why: str) -> None:
    """The new configuration can't be used at all."""
    alone = p.state.rollout is None
    kept = "the old configuration goes on serving" if alone else "the one under way goes on"
    said = f"Reload refused, {kept}: {why}"
    p.journal(Message.RELOAD_FAILED, said, {"MEMUNIT_RESULT": "refused"})
    p.state.tally.reloads_failed += 1
    p.state.reload_trouble = why.splitlines()[0] if why else "invalid configuration"
    if p.state.ready_sent and not p.state.stopping and alone:
        p.do(NotifyReloading())
        p.do(NotifyReady())
    p.do(ReloadResult(tokens, False, said))


def give_back(p: Pass) -> None:
    """Go back to the configuration before the reload, if this one is broken; what serves goes on serving."""
    state, rollout = p.state, p.state.rollout
    if rollout is None or not rollout.broken:
        return
    scaled = rollout.previous.count
    state.settings = dict(rollout.previous_settings)
    state.policy, state.count = replace(rollout.previous, count=rollout.previous_count), scaled
    _note_count(state, scaled)
    state.revision, state.rollout = rollout.previous_revision, None
    state.reload_trouble = rollout.why
    state.tally.reloads_failed += 1
    _change_revision(p)
    # What has failed was the new app, and the old one has no part in it.
    for slot in state.slots:
        slot.failures, slot.retry_at = 0, min(slot.retry_at, p.now)
    text = f"Reload failed, the old configuration goes on serving: {rollout.why}"
    p.journal(Message.RELOAD_FAILED, text, {"MEMUNIT_RESULT": "failed"})
    p.do(UseRevision(rollout.previous_revision))
    if state.ready_sent:
        p.do(NotifyReady())
    p.do(ReloadResult(rollout.tokens, False, text))


def finish(p: Pass) -> None:
    """It is done when each slot serves by the new configuration."""
    state, rollout = p.state, p.state.rollout
    if rollout is None or state.running() < state.count:
        return
    if any(w.wants is Cause.RELOAD and w.id.slot < state.count for w in state.roster.wanting.values()):
        return
    fresh = {
        w.id.slot for w in state.roster.running if w.revision == state.revision and w.id.slot < state.count
    }
    if len(fresh) < state.count:
        return
    state.rollout, state.trouble, state.reload_trouble = None, "", ""
    state.tally.reloads += 1
    verb = "is" if state.count == 1 else "are"
    took = p.now - rollout.began
    text = (
        f"Reloaded: {wording.workers(state.count)} of the new configuration {verb} ready after {took:.1f} s"
    )
    p.journal(Message.RELOAD_DONE, text, {"MEMUNIT_RESULT": "done"})
    p.do(UseRevision(state.revision))
    if state.ready_sent:
        p.do(NotifyReady())
    p.do(ReloadResult(rollout.tokens, True, text))


def scale(p: Pass, count: int) -> None:
    """So many workers from now on, within one worker and the memory there is; until the next reload."""
    state = p.state
    why = cannot_scale(state, count)
    if why:
        what = "down" if count < state.count else "up"
        p.journal(Message.SCALE, f"Not scaled {what}: {why}", priority=WARNING)
        return
    delta, state.count = count - state.count, count
    _note_count(state, count)
    if state.rollout is not None:
        # Asked of the instance, not of the configuration on trial: a reload that fails takes nothing of it back.
        previous = state.rollout.previous
        state.rollout.previous = replace(previous, count=max(1, previous.count + delta))
    text = f"Scaled to {wording.workers(count)}"
    kept = retirement.kept(state, p.now)
    p.journal(Message.SCALE, f"{text}; {kept}" if kept else text, {"MEMUNIT_COUNT": count})


def _note_count(state: State, count: int) -> None:
    """The number is said where it is not that of the file."""
    if count == state.policy.count:
        state.settings.pop(COUNT, None)
    else:
        state.settings[COUNT] = str(count)


def _change_revision(p: Pass) -> None:
    """Who serves by another configuration is to be replaced; who starts by one has nothing to give any more."""
    for worker in list(p.state.workers.values()):
        stale = worker.revision != p.state.revision
        if worker.phase is Phase.STARTING and stale:
            phases.stop(p, worker, Cause.RELOAD)
        elif worker.phase is Phase.RUNNING and worker.wants in (None, Cause.RELOAD):
            recycle.want(p, worker, None)
