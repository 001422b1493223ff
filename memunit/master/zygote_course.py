"""How far a zygote has come, and the sentence about a zygote that came no further."""

import math
import signal

from memunit.master.held import End
from memunit.master.spawn import describe
from memunit.records import dataclass

RUBBISH = "the zygote has sent a message that no zygote sends"


@dataclass(slots=True, kw_only=True)
class Course:
    """How far a zygote has come: all that outlives an execve(2) of the master, but for its process and socket."""

    death_signal: int = 0
    careful: bool = False
    declined: bool = False
    """Whether what it has imported is not to be forked: who was asked for comes Apart, once it has ended."""
    lingers: bool = False
    """Whether it ends after its workers, and by itself, when nobody needs it any more."""
    aborted: bool = False
    """Whether it was sent SIGABRT, and writes its stacks."""
    ready: bool = False
    """Whether it has imported the app."""
    status: str = ""
    forked: bool = False
    asked: bool = False
    """Whether it was ever asked for a worker: whoever asked is told what becomes of it."""
    over: bool = False
    """Whether it has closed its end: it has ended, or is about to."""
    spent: bool = False
    """Whether it is asked for no more, though it may live: it was dropped, its import failed, or it hung."""
    hung: bool = False
    last_words: str = ""
    kill_at: float = math.inf
    """When it is killed if it has not ended or answered by then, in seconds of CLOCK_MONOTONIC."""

    @property
    def late(self) -> str:
        """One clause on what it has not done in time."""
        return "the zygote does not answer" if self.ready else "the app was not imported in time"

    def fate(self, end: End, failure: OSError | None, *, starved: bool) -> str:
        """One clause on how it ended; `starved` if the OOM killer has come to it."""
        if self.last_words == RUBBISH:
            return (
                f"{RUBBISH}, and was killed: something in the app writes to the socket that is memunit's own"
            )
        if self.last_words and not self.ready:
            return f"the zygote has failed: {self.last_words}"
        if failure is not None:
            return describe(failure)
        how = f"exited with status {end.status}"
        if end.code != "exited" and starved:
            how = "was killed by the OOM killer, because memory ran out"
        elif end.code != "exited":
            how = ("did not answer and " if self.hung else "") + f"was killed by {_signal_name(end.status)}"
        if self.ready:
            return f"the zygote {how}"
        return f"the zygote {how} while it imported the app" + (
            f"; last status: {self.status}" if self.status else ""
        )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
