"""A world for the pure core: a clock that moves when told, workers that do what a test says.

It keeps no rules of its own about policy; it carries actions out and reports facts, as the master would.
"""

import math
from typing import Any

from memunit.core import facts as f
from memunit.core.actions import Action, Finish, Journal, Measure, ReloadResult, Send, Signal, Spawn
from memunit.core.model import Gate, Phase, Policy, Worker, WorkerId
from memunit.core.policy import step
from memunit.core.state import State, initial

M = 1024 * 1024


def worker(slot: int = 0, generation: int = 1, phase: Phase = Phase.RUNNING, **more: Any) -> Worker:
    """One worker in its phase, as policy knows it; `more` are other fields of it."""
    known = {"revision": 1, "born": 0.0, "since": 0.0, "deadline": 1.0, "yields_at": 1.0, "limit": None}
    return Worker(id=WorkerId(slot, generation), phase=phase, **{**known, **more})


class Sim:
    """Drives `step` with a fake clock and remembers every action with its time."""

    def __init__(self, policy: Policy, *, gate: Gate | None = None, seed: int = 7) -> None:
        self.now = 1000.0
        self.state: State = initial(policy, now=self.now, seed=seed, gate=gate)
        self.history: list[tuple[float, Action]] = []
        self.alive: dict[WorkerId, int] = {}
        self.deadline = self.now
        self.actions: tuple[Action, ...] = ()
        self.sizes: dict[WorkerId, int] = {}
        self._pid = 100
        self._revision = 1
        self._pending: list[f.Fact] = []
        self.step()

    def step(self, *facts: f.Fact) -> list[Action]:
        """One pass now, and further ones as long as actions report facts at once.

        A worker that was measured once has that size until it is measured anew.
        """
        done: list[Action] = []
        self.sizes |= {fact.id: fact.memory for fact in facts if isinstance(fact, f.Sampled)}
        todo = list(facts)
        while True:
            told, todo, self._pending = self._pending + todo, [], []
            self.decide(told)
            for action in self.actions:
                self.history.append((self.now, action))
                if isinstance(action, Spawn):
                    self._pid += 1
                    self.alive[action.id] = self._pid
                    self._pending.append(f.Spawned(action.id, self._pid))
                if isinstance(action, Measure) and action.id in self.sizes:
                    self._pending.append(f.Sampled(action.id, self.sizes[action.id], "uss"))
            done += self.actions
            if not self._pending:
                return done

    def decide(self, facts: list[f.Fact]) -> None:
        """The pass itself."""
        self.state, self.actions, self.deadline = step(self.state, facts, self.now)

    def advance(self, seconds: float) -> list[Action]:
        """Let time pass, with a pass of policy at each deadline on the way."""
        end, done = self.now + seconds, list[Action]()
        for _ in range(10_000):
            if self.deadline > end:
                break
            assert self.deadline >= self.now
            self.now = self.deadline
            done += self.step()
        else:
            raise AssertionError("policy spins: ten thousand deadlines in one stretch of time")
        self.now = end
        return done

    def workers(self, phase: Phase | None = None) -> list[Worker]:
        """The workers of policy's state in a phase, by name."""
        found = [w for w in self.state.workers.values() if phase is None or w.phase is phase]
        return sorted(found, key=lambda w: w.id)

    def ready(self, *ids: WorkerId) -> list[Action]:
        """These workers say READY=1; all that start, if none is named."""
        names = ids or tuple(w.id for w in self.workers(Phase.STARTING))
        return self.step(*[f.Ready(i) for i in names])

    def exit(self, who: WorkerId, code: str = "exited", status: int = 0) -> list[Action]:
        """This worker's process ends."""
        del self.alive[who]
        return self.step(f.Exited(who, code, status))

    def sample(self, who: WorkerId, size: int) -> list[Action]:
        """This worker's memory is measured, in bytes."""
        return self.step(f.Sampled(who, size, "uss"))

    def reload(self, policy: Policy, *tokens: int) -> list[Action]:
        """A reload with this configuration."""
        self._revision += 1
        return self.step(f.Reload(tokens, policy, self._revision))

    def up(self) -> None:
        """Bring every starting worker up with a small baseline."""
        for worker in self.workers(Phase.STARTING):
            self.ready(worker.id)
            self.sample(worker.id, 10 * M)


def spawned(actions: list[Action]) -> list[WorkerId]:
    """Who was started."""
    return [a.id for a in actions if isinstance(a, Spawn)]


def sent(actions: list[Action], signal: Signal) -> list[WorkerId]:
    """Who was sent this signal."""
    return [a.id for a in actions if isinstance(a, Send) and a.signal is signal]


def entries(actions: list[Action], kind: str) -> list[Journal]:
    """The journal entries of a kind ("ENDED" for all ends)."""
    return [a for a in actions if isinstance(a, Journal) and a.kind.name.startswith(kind)]


def causes(actions: list[Action]) -> list[str]:
    """The causes of the ends among these actions."""
    return [str(e.fields["MEMUNIT_CAUSE"]) for e in entries(actions, "ENDED")]


def finished(actions: list[Action]) -> int | None:
    """The exit code, if the master is to leave."""
    codes = [a.exit_code for a in actions if isinstance(a, Finish)]
    return codes[0] if codes else None


def results(actions: list[Action]) -> list[ReloadResult]:
    """How reloads went."""
    return [a for a in actions if isinstance(a, ReloadResult)]


NEVER = math.inf
