"""All that policy remembers between two passes of the loop."""

import math

from memunit.core.agenda import Agenda
from memunit.core.model import Cause, Gate, Headroom, Policy, Rollout, Slot, Worker, WorkerId
from memunit.core.roster import Roster
from memunit.core.tally import Tally
from memunit.records import dataclass, field, replace


@dataclass(slots=True, kw_only=True)
class State:
    """Plain values, and two indexes made of them. `step` changes it in place; who wants to keep one takes a copy."""

    policy: Policy
    count: int
    seed: int
    started_at: float
    workers: dict[WorkerId, Worker] = field(default_factory=dict)
    slots: list[Slot] = field(default_factory=list)
    revision: int = 1
    rollout: Rollout | None = None
    gate: Gate = field(default_factory=Gate)
    ready_sent: bool = False
    stopping: bool = False
    finished: bool = False
    exit_code: int = 0
    # Since when nothing serves; infinite while something does. And whether that was moved for a stall.
    idle_since: float = math.inf
    idle_forgiven: bool = False
    stepped_at: float = -math.inf
    wake_at: float = math.inf
    headroom: Headroom | None = None
    ended: dict[Cause, int] = field(default_factory=dict)
    # How often workers have given memory back, and the bytes in all.
    gifts: int = 0
    given: int = 0
    tally: Tally = field(default_factory=Tally)
    # What a person has changed until the next reload, by the paths of the file's keys; the count is among it.
    settings: dict[str, str] = field(default_factory=dict)
    trouble: str = ""
    reload_trouble: str = ""
    baseline_reported: bool = False
    blind_reported: bool = False
    surge_reversed: bool = False
    # When a replacement last did not come up whose predecessor had been stopped before it.
    reversal_failed_at: float = -math.inf
    roster: Roster = field(init=False, compare=False, repr=False)
    agenda: Agenda = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Make the indexes. Each worker is looked at in the next pass, which finds out when it is due."""
        self.roster, self.agenda = Roster(self.workers.values()), Agenda()
        for who in self.workers:
            self.agenda.put(who, -math.inf)

    def copy(self) -> "State":
        """An equal state that shares nothing that changes."""
        return replace(
            self,
            workers={who: replace(worker) for who, worker in self.workers.items()},
            slots=[replace(slot) for slot in self.slots],
            rollout=None if self.rollout is None else replace(self.rollout),
            ended=dict(self.ended),
            tally=self.tally.copy(),
            settings=dict(self.settings),
        )

    @property
    def places(self) -> int:
        """How many slots are to be filled. During a reload none is given up: the old app may have to go on."""
        return self.count if self.rollout is None else max(self.count, self.rollout.previous.count)

    def running(self) -> int:
        """How many workers serve now."""
        return self.roster.serving


def initial(policy: Policy, *, now: float, seed: int = 0, gate: Gate | None = None) -> State:
    """The state of a master that has started nothing yet; `gate` is what its predecessor left behind."""
    gate = gate or Gate()
    # The try that has to wait gets all of start_timeout, or a mended app could be cut off in the middle of it.
    begins = max(now, gate.retry_at)
    return State(
        policy=policy,
        count=policy.count,
        seed=seed,
        started_at=begins,
        idle_since=begins,
        # What an earlier master has counted is over when a worker has served for a while, and not at its READY=1.
        slots=[Slot(index=index, failures=gate.failures) for index in range(policy.count)],
        gate=gate,
    )
