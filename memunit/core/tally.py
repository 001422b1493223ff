"""What is counted for those who watch an instance, and decides nothing: it only rises, until the state is a new one."""

from bisect import bisect_left

from memunit.records import dataclass, field

# Upper bounds of how long stops take, in seconds; one more count is for those that take longer. From what a worker
# without connections needs to the grace that people give to uploads.
DRAIN_BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
# A worker can write any number on its page: of one that has scribbled over it, no more than this is believed.
_MOST_SERVED = 1 << 40


@dataclass(slots=True, kw_only=True)
class Tally:
    """Since the master was started. State.ended, which the status line tells too, has the ends by their causes."""

    # How many stops took no longer than each bound, and than the bound before it not, and the seconds of all.
    drains: list[int] = field(default_factory=lambda: [0] * (len(DRAIN_BOUNDS) + 1))
    drain_seconds: float = 0.0
    # Requests that workers which have ended had answered.
    served: int = 0
    reloads: int = 0
    reloads_failed: int = 0
    # Recycles for memory that did not help, or could not have.
    in_vain: int = 0
    # How often a master had died, and this one or one before it has taken its workers over.
    takeovers: int = 0

    def drained(self, seconds: float) -> None:
        """A worker has ended so long after it was told to stop."""
        seconds = max(0.0, seconds)
        self.drains[bisect_left(DRAIN_BOUNDS, seconds)] += 1
        self.drain_seconds += seconds

    def has_served(self, requests: int) -> None:
        """A worker that has ended had answered so many requests, by its own account."""
        self.served += min(max(0, requests), _MOST_SERVED)

    def copy(self) -> "Tally":
        """An equal one that shares nothing that changes."""
        return Tally(
            drains=list(self.drains),
            drain_seconds=self.drain_seconds,
            served=self.served,
            reloads=self.reloads,
            reloads_failed=self.reloads_failed,
            in_vain=self.in_vain,
            takeovers=self.takeovers,
        )
