"""Carries out what policy has decided: each action becomes system calls, messages to systemd, or a journal entry."""

import time
from collections.abc import Sequence

from memunit.core import facts as f
from memunit.core.actions import (
    Action,
    Bound,
    ClearGate,
    Finish,
    GiveBack,
    Journal,
    Measure,
    NotifyStopping,
    ReloadResult,
    SaveGate,
    Send,
    Signal,
    Spawn,
    UseRevision,
)
from memunit.core.exitcodes import EX_CONFIG
from memunit.core.messages import ENDS
from memunit.core.model import Worker, WorkerId
from memunit.core.state import State
from memunit.master.parts import Parts
from memunit.master.setting import Configuration
from memunit.master.startlog import Record
from memunit.records import replace


class Carrying:
    """Carries out the actions of one master. Results that are known at once are returned, as facts of the next pass."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.exit_code: int | None = None
        """With which the master ends once its last process has; None while it goes on."""

    def do(self, action: Action, state: State) -> Sequence[f.Fact]:
        """Carry out one action of the pass that led to `state`."""
        parts = self._parts
        match action:
            case Spawn(who, revision):
                worker, configuration = state.workers[who], parts.revisions[revision]
                profile = parts.witnesses.path(*who) if configuration.profiler else ""
                return parts.processes.spawn(action, worker, configuration, profile)
            case Send(who, number):
                if number is not Signal.KILL:
                    parts.measuring.sensors.draining(who)
                if number is not Signal.TERM or not self._order(who, state):
                    return parts.processes.signal(who, number)
            case Measure(who):
                return parts.measuring.measure(who, state)
            case GiveBack(who):
                return parts.processes.belongings.ask_back(who)
            case Bound(who, ceiling):
                parts.groups.bound_one(who, ceiling)
            case Journal():
                self._enter(action)
            case ReloadResult(tokens, ok, text):
                parts.doors.reply(tokens, 0 if ok else EX_CONFIG, text)
                parts.interface.reloaded(tokens, text, ok=ok)
            case UseRevision(revision):
                # With a reload in the same pass, the newest one is not in use yet, but will be at once.
                used = {revision, state.revision}
                parts.revisions.keep(used)
                parts.processes.keep(used)
                self.use(parts.revisions[revision], state)
            case SaveGate(failures, since, retry_at):
                parts.setting.start_log.save(Record(failures, retry_at, 0.0, since))
            case ClearGate():
                parts.setting.start_log.clear()
            case Finish(exit_code):
                self._finish(exit_code)
            case NotifyStopping():
                parts.processes.keep(())
                parts.report.tell(action, state)
                return self.end_examinations(state)
            case _:
                parts.report.tell(action, state)
        return ()

    def use(self, configuration: Configuration, state: State) -> None:
        """Put those settings of a configuration into effect that are the master's own."""
        self._parts.recorder.use(configuration.recorder, state)
        self._parts.doors.admit(configuration.read_group)

    def released(self, state: State) -> list[f.Fact]:
        """Tell those to stop whose signal has waited for a program: their grace begins now."""
        facts: list[f.Fact] = []
        for who in self._parts.examinations.released():
            worker = state.workers.get(who)
            if worker is not None:
                self._parts.processes.resume(who)
                facts += [
                    f.ExtendTimeout(who, worker.grace),
                    *self._parts.processes.signal(who, Signal.TERM),
                ]
        return facts

    def end_examinations(self, state: State) -> list[f.Fact]:
        """End the programs that examine workers. A worker whose signal waits for its program gets the signal now."""
        self._parts.examinations.stop()
        return self.released(state)

    def begin_accounts(self, facts: Sequence[f.Fact], state: State) -> None:
        """Note the memory of each worker that has just become ready or was sampled, to compare with at its end."""
        examinations = self._parts.examinations
        for fact in facts:
            # Each worker is sampled each second, and only the first samples begin anything.
            if not isinstance(fact, f.Ready | f.Sampled) or fact.id in examinations.begun:
                continue
            worker = state.workers.get(fact.id)
            if worker is not None:
                examinations.begin(
                    worker,
                    self._configuration(worker, state),
                    self._parts.groups.path(fact.id),
                    ready=isinstance(fact, f.Ready),
                )

    def _enter(self, entry: Journal) -> None:
        parts = self._parts
        heir = entry.replacement
        pid = entry.replacement_pid or (None if heir is None else parts.processes.pid(heir))
        parts.report.entry(entry, pid)
        if entry.kind in ENDS:
            parts.examinations.tell(entry, parts.processes.belongings.last_board)
            parts.interface.ended(entry, time.monotonic())

    def _order(self, who: WorkerId, state: State) -> bool:
        """Before its SIGTERM: why it is told, and whether it is to be examined. True if the signal has to wait."""
        parts = self._parts
        worker = state.workers.get(who)
        if worker is None:
            return False
        configuration = self._configuration(worker, state)
        path, program = parts.groups.path(who), not state.stopping
        waits = parts.examinations.end(worker, configuration, path, program=program)
        parts.processes.belongings.tell(who, *parts.examinations.order(worker, configuration))
        return waits

    def _configuration(self, worker: Worker, state: State) -> Configuration:
        return self._parts.revisions.of(worker, state.revision)

    def _finish(self, exit_code: int) -> None:
        self.exit_code = exit_code
        start_log = self._parts.setting.start_log
        record = start_log.load()
        if exit_code and record is not None:
            start_log.save(replace(record, exited_at=time.monotonic()))
