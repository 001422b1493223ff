"""The place of one revision's zygote: how it is started, which one is there, and when the next is due after a loss."""

import math
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from memunit.master.child import Launch
from memunit.master.zygote import Zygote
from memunit.records import dataclass

Name = TypeVar("Name", bound=Hashable)
# A zygote that has lived this long was no part of a row of failures, in seconds.
STABLE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCradle:
    """The place of one revision's zygote, as it outlives an execve(2) of the master."""

    revision: int
    launch: Launch
    careful: bool
    declined: bool
    zygote: int | None
    number: int
    born: float
    failures: int
    retry_at: float


@dataclass(slots=True)
class Cradle(Generic[Name]):
    """The place of one revision's zygote. Times are seconds of CLOCK_MONOTONIC."""

    launch: Launch
    careful: bool = False
    declined: bool = False
    zygote: Zygote[Name] | None = None
    number: int = 0
    born: float = -math.inf
    failures: int = 0
    retry_at: float = math.inf

    @classmethod
    def resumed(cls, kept: KeptCradle, zygote: Zygote[Name] | None) -> "Cradle[Name]":
        """That of another master in this process; without its `zygote` the next one is due at once."""
        lost = kept.zygote is not None and zygote is None
        return cls(
            launch=kept.launch,
            careful=kept.careful,
            declined=kept.declined,
            zygote=zygote,
            number=kept.number,
            born=kept.born,
            failures=kept.failures,
            retry_at=-math.inf if lost else kept.retry_at,
        )

    def kept(self, revision: int) -> KeptCradle:
        """What a master in the same process has to know."""
        return KeptCradle(
            revision=revision,
            launch=self.launch,
            careful=self.careful,
            declined=self.declined,
            zygote=None if self.zygote is None else self.zygote.identity.number,
            number=self.number,
            born=self.born,
            failures=self.failures,
            retry_at=self.retry_at,
        )

    def begun(self, zygote: Zygote[Name], now: float) -> None:
        """A zygote was started."""
        self.zygote, self.number = zygote, self.number + 1
        self.born, self.retry_at = now, math.inf

    def not_begun(self, now: float, delay: Callable[[int], float]) -> None:
        """None could be started. `delay` gives the seconds to wait after so many losses in a row."""
        self.failures += 1
        self.retry_at = now + max(delay(self.failures), 1.0)

    def lost(self, now: float, delay: Callable[[int], float], *, ready: bool) -> float | None:
        """One has ended unasked, `ready` or not; in how many seconds the next is due, None if it is there already."""
        # An import that fails may take as long as it likes.
        stable = ready and now - self.born >= STABLE
        self.failures = 1 if stable else self.failures + 1
        if self.zygote is not None:
            return None
        wait = delay(self.failures)
        self.retry_at = now + wait
        return wait
