"""The program of examine.command: when it is run against a worker, and what is told of it.

memunit knows no requests of a command, so it can't know when one has none left. What it knows is that another worker
serves in its place: so the program runs then, and the signal to stop waits until the program has ended, for
examine.time at most. The worker still takes requests meanwhile, and loses none. After the signal it may be gone at any
moment: a server without open requests ends sooner than a program can look at it.
"""

from typing import Any

from memunit.core import program
from memunit.core.model import Worker, WorkerId
from memunit.master.child import Launch
from memunit.master.programs import Programs
from memunit.master.setting import Configuration, Setting
from memunit.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a program has found."""

    clause: str
    """One sentence, without its full stop."""
    line: str
    """The first line of its output."""
    details: dict[str, Any]


class Examiners:
    """Those of one master."""

    def __init__(self, at: Setting, programs: Programs[WorkerId]) -> None:
        self._at = at
        self._programs = programs
        self._seconds: dict[WorkerId, float] = {}
        self._waiting: set[WorkerId] = set()

    def begin(self, worker: Worker, configuration: Configuration) -> bool:
        """Start it against a worker that is about to be told to stop; whether the signal waits for `released`.

        It does not where the replacement waits for this worker's end, nor where the worker would reach its ceiling.
        """
        seconds = configuration.command_time
        label = f"{worker.id.slot}.{worker.id.generation}"
        told = {
            "MEMUNIT_INSTANCE": self._at.instance,
            "MEMUNIT_PID": str(worker.pid),
            "MEMUNIT_SLOT": str(worker.id.slot),
            "MEMUNIT_GENERATION": str(worker.id.generation),
            "MEMUNIT_CAUSE": str(worker.reason or ""),
        }
        launch = Launch(
            argv=configuration.examine_command,
            environment={**configuration.environment, **told},
            directory=configuration.directory,
            # By this variable a successor knows what a program has started and left (leftovers.py).
            notify_path=self._at.notify_path,
        )
        self._seconds[worker.id] = seconds
        memory = configuration.examine_memory
        self._programs.begin(worker.id, label, launch, seconds=seconds, memory=memory)
        waits = (
            self._programs.runs(worker.id) and worker.heir is not None and program.may_wait(worker, seconds)
        )
        if waits:
            self._waiting.add(worker.id)
        return waits

    def released(self) -> list[WorkerId]:
        """The workers whose signal need not wait any longer, each once."""
        found = sorted(who for who in self._waiting if not self._programs.runs(who))
        self._waiting.difference_update(found)
        return found

    def stop(self) -> None:
        """Nobody waits any longer: all are killed."""
        for who in self._seconds:
            self._programs.stop(who, "stop")

    def told(self, who: WorkerId) -> Told | None:
        """What the program of a worker that has ended has found; None if there was no program."""
        self._programs.stop(who, "worker")
        self._waiting.discard(who)
        time = self._seconds.pop(who, 0.0)
        run = self._programs.finished(who)
        if run is None:
            return None
        outcome = program.Outcome(
            output=run.output,
            cut=run.cut,
            code=run.code,
            status=run.status,
            seconds=run.seconds,
            failure=run.failure,
            killed=run.killed,
        )
        return Told(
            clause=program.clause(outcome, time=time, memory=run.memory),
            line=program.first_line(outcome),
            details=program.details(outcome, time=time, memory=run.memory),
        )
