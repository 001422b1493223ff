"""The joint: one loop that gathers facts, lets policy decide, and carries its actions out in order.

Single-threaded, and blocking nowhere but in epoll_wait(2). The master never imports the app and is never on a
request's path.
"""

import math
import os
import select
import signal
import time
from dataclasses import replace

from memunit.core import backoff, policy
from memunit.core import facts as f
from memunit.core.actions import (
    Action,
    ClearGate,
    Finish,
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
from memunit.core.exitcodes import EX_CONFIG, EX_USAGE
from memunit.core.model import Gate, Headroom, Phase, Policy, State, Worker, WorkerId, initial
from memunit.core.protocol import facts_of
from memunit.core.quantity import format_size
from memunit.core.wording import squeezed, workers
from memunit.master import system
from memunit.master.control import ControlServer
from memunit.master.groups import Groups
from memunit.master.notify import NotifyListener
from memunit.master.processes import Processes
from memunit.master.report import Reporter
from memunit.master.sampling import Sample, memory_available
from memunit.master.sensors import CGROUP, Sensors, Watched
from memunit.master.setting import Configuration, ConfigurationError, Setting
from memunit.master.signals import Signals
from memunit.master.startlog import LONGEST_HOLD, Record, inherited_record

# Seconds for which a start is held back from which on that is said.
HELD = 5.0


class Master:
    """Runs one instance until it is told to stop, or until nothing can be made ready."""

    def __init__(self, setting: Setting, configuration: Configuration) -> None:
        self._at = setting
        self._revisions = {1: configuration}
        # Known before the first sample: who scales up in between is told of the machine's bound too.
        self._pending: list[f.Fact] = _available()
        self._exit_code: int | None = None
        self._epoll = select.epoll()
        self._groups: Groups[WorkerId] = Groups(setting.tree, self._epoll)
        self._sensors: Sensors[WorkerId] = Sensors(self._groups)
        self._ready: set[int] = set()
        self._notify = NotifyListener(setting.notify_path)
        self._control = ControlServer(setting.control_path) if setting.control_path else None
        self._signals = Signals()
        self._hangup = False
        self._report = Reporter(setting.log, setting.systemd)
        self._processes = Processes(setting, self._epoll, self._groups, self._report, self._zygote_delay)
        now = time.monotonic()
        self._state: State = initial(
            configuration.policy, now=now, seed=_seed(setting.instance), gate=self._inherited_gate(now)
        )

    def run(self) -> int:
        """Serve until the end; returns the exit code (0 after a stop, 69 if nothing ever became ready)."""
        self._arm()
        try:
            deadline = time.monotonic()
            while self._exit_code is None:
                self._wait(deadline)
                facts = self._gather()
                self._state, actions, deadline = policy.step(self._state, facts, time.monotonic())
                for action in actions:
                    self._do(action)
                self._processes.end_pass(stopping=self._state.stopping)
                self._report.finished_pass(self._state)
        finally:
            self._disarm()
        return self._exit_code

    def _arm(self) -> None:
        if self._at.sole:
            system.set_child_subreaper()
        self._signals.arm()
        self._epoll.register(self._signals.fileno(), select.EPOLLIN)
        self._epoll.register(self._notify.fileno(), select.EPOLLIN)
        if self._control is not None:
            self._epoll.register(self._control.fileno(), select.EPOLLIN)
        configuration = self._revisions[1]
        self._report.extend(configuration.policy.start_timeout + LONGEST_HOLD + 60)
        self._report.entry(_started(configuration.policy, self._state.gate, time.monotonic()))
        for warning in configuration.warnings:
            self._report.warn("CONFIGURATION", warning)
        bounded = configuration.policy.limit is not None or configuration.policy.ceiling is not None
        if self._at.treeless and bounded and configuration.metric == CGROUP:
            self._report.entry(_treeless(self._at.treeless, configuration))

    def _disarm(self) -> None:
        self._signals.disarm(ends=self._at.sole)
        self._processes.close()
        if self._control is not None:
            self._control.close()
        self._notify.close()
        self._epoll.close()

    # -- gathering -------------------------------------------------------------------------------------------

    def _wait(self, deadline: float) -> None:
        self._ready = set()
        if self._pending:
            return
        now = time.monotonic()
        # epoll_wait(2) counts milliseconds in an int: a longer wait is made of several.
        due = min(deadline, self._sensors.due, self._report.next_ping, self._processes.due)
        until = max(0.0, min(due - now, 86400.0))
        # Rounded up: a wake-up a moment too early would find nothing due and spin.
        self._ready = {descriptor for descriptor, _ in self._epoll.poll(math.ceil(until * 1000) / 1000)}

    def _gather(self) -> list[f.Fact]:
        """Everything that is known by now. Signals before exits (see `step`), a worker's words before its end."""
        facts, self._pending = self._pending, []
        facts += self._requests()
        facts += self._processes.forks()
        facts += self._processes.executed()
        facts += self._notifications()
        facts += self._processes.ends(self._sensors.forget)
        facts += self._reloads()
        facts += self._samples()
        if self._deciding(facts):
            facts = _available() + facts
        return facts

    def _deciding(self, facts: list[f.Fact]) -> bool:
        """Whether somebody may be replaced in this pass: then what is free is to be known as it is now.

        The reading of the last round of samples may be from the middle of an import that has failed since, for want
        of memory: by that, a worker was once stopped before its replacement started, with room for both again.
        """
        idle = (f.Ping, f.StatusText)
        return time.monotonic() >= self._state.wake_at or any(not isinstance(fact, idle) for fact in facts)

    def _requests(self) -> list[f.Fact]:
        received = self._signals.received()
        numbers = set(received)
        self._hangup = signal.SIGHUP in numbers
        facts: list[f.Fact] = []
        if numbers & {signal.SIGTERM, signal.SIGINT}:
            facts.append(f.StopRequested(force=self._state.stopping and signal.SIGINT in numbers))
        facts += [f.Scale(+1)] * received.count(signal.SIGTTIN)
        facts += [f.Scale(-1)] * received.count(signal.SIGTTOU)
        if signal.SIGUSR1 in numbers:
            facts.append(f.DumpState())
        return facts

    def _notifications(self) -> list[f.Fact]:
        facts: list[f.Fact] = []
        for datagram in self._notify.datagrams():
            who = self._processes.speaker(datagram.pid, facts)
            if who is not None:
                facts += facts_of(who, datagram.payload)
        return facts

    def _reloads(self) -> list[f.Fact]:
        """One reload a pass at most, whoever asked: policy and `_revisions` have to count alike."""
        tokens = []
        for token, command in self._control.requests() if self._control is not None else ():
            if command == "reload":
                tokens.append(token)
            elif self._control is not None:
                self._control.reply(token, EX_USAGE, f"unknown request {command!r}")
        if not (tokens or self._hangup):
            return []
        self._hangup = False
        try:
            configuration = self._at.load()
        except ConfigurationError as error:
            return [f.ReloadRefused(tuple(tokens), str(error))]
        self._revisions[self._state.last_revision + 1] = configuration
        for warning in configuration.warnings:
            self._report.warn("CONFIGURATION", warning)
        return [f.Reload(tuple(tokens), configuration.policy)]

    def _samples(self) -> list[f.Fact]:
        workers = self._state.workers.values()
        watched = [
            self._watched(each) for each in workers if each.pid and each.phase is not Phase.STOP_SIGKILL
        ]
        interval = self._revisions[self._state.revision].interval
        facts = _sampled(self._sensors.look(watched, self._ready, interval))
        if self._sensors.bound is not None:
            self._report.warn("CONFIGURATION", squeezed(self._sensors.bound))
        return [*facts, f.MemoryPressure()] if self._sensors.pressed else facts

    def _watched(self, worker: Worker) -> Watched[WorkerId]:
        # Judged by the numbers of its own configuration, so measured by its metric too.
        configuration = self._revisions.get(worker.revision, self._revisions[self._state.revision])
        return Watched(
            name=worker.id,
            pid=worker.pid,
            limit=worker.limit,
            ceiling=worker.ceiling,
            metric=configuration.metric,
            interval=configuration.interval,
            over=worker.over_since is not None,
            draining=worker.phase is Phase.STOP_SIGTERM,
        )

    # -- carrying out ----------------------------------------------------------------------------------------

    def _do(self, action: Action) -> None:
        match action:
            case Spawn(who, revision):
                worker, configuration = self._state.workers[who], self._revisions[revision]
                self._pending += self._processes.spawn(action, worker, configuration)
            case Send(who, number):
                if number is not Signal.KILL:
                    self._sensors.draining(who)
                self._pending += self._processes.signal(who, number)
            case Measure(who):
                if who in self._state.workers:
                    watched = self._watched(self._state.workers[who])
                    self._pending += _sampled(self._sensors.measure(watched))
            case Journal():
                heir = action.replacement
                self._report.entry(action, None if heir is None else self._processes.pid(heir))
            case ReloadResult(tokens, ok, text):
                self._reply(tokens, 0 if ok else EX_CONFIG, text)
            case UseRevision(revision):
                # With a reload in the same pass, the newest one is not in use yet, but will be at once.
                used = {revision, self._state.revision}
                self._revisions = {each: kept for each, kept in self._revisions.items() if each in used}
                self._processes.keep(used)
            case SaveGate(failures, since, retry_at):
                self._at.start_log.save(Record(failures, retry_at, 0.0, since))
            case ClearGate():
                self._at.start_log.clear()
            case Finish(exit_code):
                self._finish(exit_code)
            case _:
                if isinstance(action, NotifyStopping):
                    self._processes.keep(())
                self._report.tell(action, self._state)

    def _reply(self, tokens: tuple[int, ...], exit_code: int, text: str) -> None:
        for token in tokens:
            if self._control is not None:
                self._control.reply(token, exit_code, text)

    def _finish(self, exit_code: int) -> None:
        self._exit_code = exit_code
        record = self._at.start_log.load()
        if exit_code and record is not None:
            self._at.start_log.save(replace(record, exited_at=time.monotonic()))

    def _zygote_delay(self, failures: int) -> float:
        return backoff.delay(failures, seed=self._state.seed, slot=-2)

    def _inherited_gate(self, now: float) -> Gate | None:
        record = inherited_record(self._at.start_log, now)
        if record is None:
            return None
        return Gate(failures=record.failures, since=record.since, retry_at=record.retry_at)


def _sampled(samples: list[tuple[WorkerId, Sample]]) -> list[f.Fact]:
    return [f.Sampled(who, sample.bytes, sample.metric) for who, sample in samples]


def _available() -> list[f.Fact]:
    room = memory_available()
    # Nothing could be read, as with ProcSubset=pid: then nothing is known, and that is not "none is free".
    return [f.MemoryAvailable(Headroom(*room))] if room.total else []


def _treeless(why: str, configuration: Configuration) -> Journal:
    text = (
        f"Memory is looked at every {configuration.interval:g} s and not told by the kernel: {why}. "
        "A worker that runs away may take memory from the others until it is seen"
    )
    return Journal(kind="SENSOR", message=text, priority=5)


def _started(policy: Policy, gate: Gate, now: float) -> Journal:
    bounds = f"limit {format_size(policy.limit)}, ceiling {format_size(policy.ceiling)}"
    text = f"Starting {workers(policy.count)}: {bounds}"
    if gate.retry_at >= now + HELD:
        wait = f"{gate.retry_at - now:.0f} s"
        text += (
            f"; the first in {wait}, for the last {gate.failures} tries have failed; a restart tries at once"
        )
    return Journal(kind="MASTER_STARTED", message=text, priority=6)


def _seed(instance: str) -> int:
    """A seed for the jitter that differs between instances and between starts."""
    return int.from_bytes(os.fsencode(instance)[-4:], "big") ^ time.monotonic_ns()
