"""A flight file through `step` again: the same decisions, what is wrong with them, and each in words."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import NamedTuple

from memunit import records
from memunit.core import facts as f
from memunit.core import wording
from memunit.core.actions import (
    Action,
    Bound,
    ClearGate,
    Finish,
    GiveBack,
    Journal,
    Measure,
    NotifyExtend,
    NotifyReady,
    NotifyReloading,
    NotifyStopping,
    ReloadResult,
    SaveGate,
    Send,
    Signal,
    Spawn,
    UseRevision,
)
from memunit.core.flight import FlightCodec, Step
from memunit.core.invariants import broken
from memunit.core.model import Phase, WorkerId
from memunit.core.policy import step
from memunit.core.quantity import format_size
from memunit.core.seen import Pass, Snapshot, snapshot
from memunit.core.state import State

# They come all the time, and nothing need come of them.
_IDLE = (f.Ping, f.StatusText)
_WORDS = {
    f.Ready: "READY=1",
    f.Ping: "WATCHDOG=1",
    f.WatchdogTrigger: "WATCHDOG=trigger",
    f.Stopping: "STOPPING=1",
    f.Executed: "is executed",
    f.Unwatched: "does not read what it was told to watch",
    f.RecycleRequested: "is to be replaced, somebody asks",
    f.MemoryPressure: "workers wait for memory",
    f.Unheard: "workers may have gone unheard",
    f.DumpState: "SIGUSR1",
}

_DECIDED = {
    NotifyReady: "tell systemd: READY=1",
    NotifyReloading: "tell systemd: RELOADING=1",
    NotifyStopping: "tell systemd: STOPPING=1",
    ClearGate: "forget the failed tries",
    UseRevision: "forget other configurations",
}


class Replayed(NamedTuple):
    """A pass that was done again."""

    step: Step
    actions: Sequence[Action]
    state: State
    """The state after it; the next pass may change it."""
    differs: bool
    """Whether it wanted something else than it did then."""
    broken: Sequence[tuple[str, str]]
    """The invariants that it does not keep, and what is wrong."""


class Replay:
    """Runs passes from a state on."""

    def __init__(self, state: State, codec: FlightCodec) -> None:
        self.state = state
        self._codec = codec
        self._before: Snapshot | None = None

    def run(self, steps: Iterable[Step]) -> Iterator[Replayed]:
        """Do each pass again. What `step` raises comes through: then it did so then."""
        for each in steps:
            before = self._before or snapshot(self.state)
            self.state, actions, deadline = step(self.state, each.facts, each.now)
            differs = each.did is not None and self._codec.mark(actions) != each.did
            wrong: Sequence[tuple[str, str]] = ()
            if actions or not all(isinstance(fact, _IDLE) for fact in each.facts):
                self._before = snapshot(self.state)
                wrong = list(broken(Pass(before, each.facts, each.now, self._before, actions, deadline)))
            else:
                # A ping moves a watchdog, and nothing that an invariant looks at.
                self._before = before
            yield Replayed(each, actions, self.state, differs, wrong)


class Row(NamedTuple):
    """A line of the table, without its time."""

    fact: str
    decision: str
    why: str


def rows(done: Replayed, *, everything: bool = False) -> Iterator[Row]:
    """The lines of a pass: what was decided, and the facts that it is about; or `everything`."""
    decisions = list(_decisions(done, everything))
    about = {who for action in done.actions for who in [_who(action)] if who is not None}
    facts = [
        told(fact)
        for fact in done.step.facts
        if everything
        or (isinstance(fact, f.WorkerFact) and fact.id in about)
        or (isinstance(fact, f.InstanceFact) and not isinstance(fact, f.MemoryAvailable) and decisions)
    ]
    if decisions and not facts:
        facts = ["time"]
    for fact, decision in zip_longest(facts, decisions):
        yield Row(fact or "", *(decision or ("", "")))


def told(fact: f.Fact) -> str:
    """What was learned, in words."""
    text = _WORDS.get(type(fact)) or _said(fact)
    return f"{fact.id} {text}" if isinstance(fact, f.WorkerFact) else text


def _said(fact: f.Fact) -> str:
    match fact:
        case f.Spawned():
            return f"is pid {fact.pid}"
        case f.SpawnFailed():
            return f"can't be started: {fact.error}"
        case f.StatusText():
            return f"STATUS={fact.text}"
        case f.ExtendTimeout():
            return f"EXTEND_TIMEOUT_USEC= of {fact.seconds:g} s"
        case f.Sampled():
            return f"has {format_size(fact.memory)} ({fact.metric})"
        case f.OomKilled():
            return "met the OOM killer" + (" at its ceiling" if fact.own else "")
        case f.InWork():
            return f"had {wording.requests(fact.count, fact.longest)}"
        case f.Exited():
            return wording.how(fact.code, fact.status, ran=True)
        case f.StopRequested():
            return "stop" + (", at once" if fact.force else "")
        case f.Reload():
            return "reload"
        case f.ReloadRefused():
            return f"reload, refused: {fact.text}"
        case f.Scale():
            return f"scale by {fact.delta:+d}"
        case f.ScaleTo():
            return f"scale to {fact.count}"
        case f.Adjust():
            return "set " + ", ".join(f"{path}={text}" for path, text in fact.settings.items())
        case f.MemoryAvailable():
            return f"{format_size(fact.headroom.available)} of {format_size(fact.headroom.total)} are free"
        case _:
            values = {
                each.name: getattr(fact, each.name) for each in records.fields(fact) if each.name != "id"
            }
            return f"{type(fact).__name__} {values}"


def _decisions(done: Replayed, everything: bool) -> Iterator[tuple[str, str]]:
    """What was wanted, and why: what the journal says of the same worker, or what stands in the state."""
    entries = [action for action in done.actions if isinstance(action, Journal)]
    for action in done.actions:
        if isinstance(action, Journal) or (isinstance(action, Measure) and not everything):
            continue
        who = _who(action)
        own = next((entry for entry in entries if who is not None and _who(entry) == who), None)
        if own is not None:
            entries.remove(own)
        why = own.message if own is not None else _why(action, done.state)
        yield decided(action), why
    for entry in entries:
        yield "entry", entry.message


def decided(action: Action) -> str:
    """What was wanted, in words."""
    match action:
        case Spawn():
            return f"start {action.id}"
        case Send():
            word = "ask for its stacks" if action.signal is Signal.STACKS else action.signal.value
            return f"{word} to {action.id}" if word.startswith("SIG") else f"{action.id}: {word}"
        case Measure():
            return f"measure {action.id}"
        case GiveBack():
            return f"ask {action.id} to give memory back"
        case Bound():
            return f"bound {action.id} to {format_size(action.ceiling)}"
        case NotifyExtend():
            return f"tell systemd: {action.seconds:.0f} s more"
        case ReloadResult():
            return f"answer the reload: {'done' if action.ok else 'failed'}"
        case SaveGate():
            return f"leave {action.failures} failed tries to a successor"
        case Finish():
            return f"leave with exit code {action.exit_code}"
        case _:
            return _DECIDED.get(type(action)) or type(action).__name__


def _why(action: Action, state: State) -> str:
    if not isinstance(action, Spawn):
        return ""
    here = [w for w in state.workers.values() if w.id.slot == action.id.slot and w.id != action.id]
    for old in here:
        if old.phase is Phase.RUNNING:
            return f"{wording.name(old)} is to be replaced: {old.wants or 'reload'}"
    return "nobody serves in its slot"


def _who(action: Action) -> WorkerId | None:
    if isinstance(action, Spawn | Send | Measure | GiveBack | Bound):
        return action.id
    if isinstance(action, Journal) and {"MEMUNIT_SLOT", "MEMUNIT_GENERATION"} <= action.fields.keys():
        return WorkerId(int(action.fields["MEMUNIT_SLOT"]), int(action.fields["MEMUNIT_GENERATION"]))
    return None
