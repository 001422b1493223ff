"""Requests to the master, as facts: by signals, over the control socket, and over the interface for a reload."""

import signal

from memunit.core import facts as f
from memunit.core import shown
from memunit.core.exitcodes import EX_USAGE
from memunit.core.messages import Message
from memunit.core.model import Worker
from memunit.core.state import State
from memunit.master.doors import Doors
from memunit.master.examinations import Examinations
from memunit.master.report import Reporter
from memunit.master.revisions import Revisions
from memunit.master.setting import ConfigurationError, Setting
from memunit.master.signals import STOP, Signals
from memunit.master.witnesses import Witnesses, no_witness, witness_told


class Asking:
    """Requests that are no facts yet stay here: a reload by SIGHUP, and an execution anew."""

    def __init__(
        self,
        setting: Setting,
        signals: Signals,
        doors: Doors,
        examinations: Examinations,
        witnesses: Witnesses,
        revisions: Revisions,
        report: Reporter,
    ) -> None:
        self._at, self._signals, self._doors, self._report = setting, signals, doors, report
        self._examinations, self._witnesses, self._revisions = examinations, witnesses, revisions
        self.hangup = False
        """Whether SIGHUP has asked for a reload that has not begun."""
        self.reexecuters: list[int] = []
        """The clients of the control socket that have asked the master to execute itself anew."""

    def by_signals(self, *, stopping: bool) -> list[f.Fact]:
        """What the signals since the last call have asked for."""
        received = self._signals.received()
        numbers = received.keys()
        self.hangup = self.hangup or signal.SIGHUP in numbers
        facts: list[f.Fact] = []
        if numbers & STOP:
            facts.append(f.StopRequested(force=stopping and signal.SIGINT in numbers))
        facts += [f.Scale(+1)] * received.get(signal.SIGTTIN, 0)
        facts += [f.Scale(-1)] * received.get(signal.SIGTTOU, 0)
        if signal.SIGUSR1 in numbers:
            facts.append(f.DumpState())
        return facts

    def by_clients(self, tokens: list[int], state: State) -> list[f.Fact]:
        """What clients have asked for: one reload a pass at most, whoever asked. `tokens` are of the interface."""
        facts: list[f.Fact] = []
        for token, command in self._doors.requests():
            word, _, slot = command.partition(" ")
            if command == "reload":
                tokens.append(token)
            elif command == "reexec" and self._at.sole:
                self.reexecuters.append(token)
            elif word == "examine":
                facts += self._examine(slot, token, state)
            elif word == "witness":
                facts += self._witness(slot, token, state)
            else:
                self._doors.reply((token,), EX_USAGE, f"unknown request {command!r}")
        if not (tokens or self.hangup):
            return facts
        self.hangup = False
        try:
            configuration = self._at.load()
        except ConfigurationError as error:
            return [*facts, f.ReloadRefused(tuple(tokens), str(error))]
        revision = self._revisions.add(configuration)
        for warning in configuration.warnings:
            self._report.warn(Message.CONFIGURATION, warning)
        return [*facts, f.Reload(tuple(tokens), configuration.policy, revision)]

    def _examine(self, slot: str, token: int, state: State) -> list[f.Fact]:
        """Replace the worker that serves in a slot, and have it say what grew in it."""
        worker = self._asked_for(slot, token, state)
        if worker is None:
            return []
        why = self._examinations.ask(worker, self._revisions.of(worker, state.revision), token)
        if why:
            self._doors.reply((token,), EX_USAGE, why)
            return []
        return [f.RecycleRequested(worker.id)]

    def _witness(self, slot: str, token: int, state: State) -> list[f.Fact]:
        """Replace the worker that serves in a slot, the lowest unless said, by one that samples what it allocates."""
        serving = [each.id.slot for each in state.roster.running if each.id.slot < state.places]
        worker = self._asked_for(slot or str(min(serving, default=0)), token, state)
        if worker is None:
            return []
        # The witness will be of the configuration that is in effect.
        profiler = self._revisions[state.revision].profiler
        why = no_witness(profiler) or self._witnesses.want(worker.id.slot)
        if why:
            self._doors.reply((token,), EX_USAGE, why)
            return []
        self._doors.reply((token,), 0, witness_told(worker.id.slot, profiler))
        return [f.RecycleRequested(worker.id)]

    def _asked_for(self, slot: str, token: int, state: State) -> Worker | None:
        """The worker that serves in a slot; None if there is none to replace, and then `token` gets the reason."""
        number = int(slot) if slot.isascii() and slot.isdigit() and len(slot) < 6 else -1
        worker = state.roster.running_in(number)
        if worker is None:
            self._doors.reply((token,), EX_USAGE, f"no worker serves in slot {slot!r}")
            return None
        if number >= state.places:
            self._doors.reply((token,), EX_USAGE, shown.given_up(number))
            return None
        return worker
