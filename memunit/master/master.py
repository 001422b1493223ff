"""The joint: one loop that gathers facts, lets policy decide, and carries its actions out in order.

Single-threaded, and blocking nowhere but in epoll_wait(2). The master never imports the app and is never on a
request's path.
"""

import math
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from memunit.core import facts as f
from memunit.core import policy, status
from memunit.core.actions import (
    Action,
    ClearGate,
    Finish,
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
from memunit.core.model import Gate, Headroom, Phase, Policy, State, Worker, WorkerId, initial
from memunit.core.protocol import facts_of
from memunit.master import messages, system
from memunit.master.control import ControlServer
from memunit.master.journal import Log
from memunit.master.notify import NotifyListener, Systemd
from memunit.master.registry import Registry
from memunit.master.sampling import Sampler, memory_available
from memunit.master.spawn import Child, Launch
from memunit.master.startlog import LONGEST_HOLD, Record, StartLog, inherited_record

_SIGNALS = {Signal.TERM: signal.SIGTERM, Signal.ABRT: signal.SIGABRT}
_HANDLED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR1,
    signal.SIGCHLD,
)
EX_CONFIG = 78


class ConfigurationError(Exception):
    """A configuration that can't be used; the text names file, key and remedy, a line a problem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One revision of what is to be run: policy's numbers, and what a worker's launch needs."""

    policy: Policy
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str | None
    metric: str
    interval: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where a master runs: what is inherited or made once, and stays the same over reloads."""

    instance: str
    sockets: tuple[tuple[str, int], ...]
    notify_path: str
    control_path: str | None
    log: Log
    systemd: Systemd
    start_log: StartLog
    load: Callable[[], Configuration]
    start: Callable[[Launch], Child]
    parent_death_signal: int = 0
    # False where the process has children of its own, as a program that calls memunit.run may: those are not ours.
    sole: bool = True


class Master:
    """Runs one instance until it is told to stop, or until nothing can be made ready."""

    def __init__(self, setting: Setting, configuration: Configuration) -> None:
        self._at = setting
        self._revisions = {1: configuration}
        self._samplers: dict[str, Sampler] = {}  # by metric
        # Known before the first sample: who scales up in between is told of the machine's bound too.
        self._pending: list[f.Fact] = [f.MemoryAvailable(Headroom(*memory_available()))]
        self._exit_code: int | None = None
        self._epoll = select.epoll()
        self._workers: Registry[WorkerId] = Registry(self._epoll, sole=setting.sole)
        self._notify = NotifyListener(setting.notify_path)
        self._control = ControlServer(setting.control_path) if setting.control_path else None
        self._wakeup, self._wakeup_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._hangup = False
        self._said = ""
        self._next_sample = 0.0
        self._next_ping = math.inf
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
                self._report()
        finally:
            self._disarm()
        return self._exit_code

    def _arm(self) -> None:
        if self._at.sole:
            system.set_child_subreaper()
        self._wakeup_before = signal.set_wakeup_fd(self._wakeup_end, warn_on_full_buffer=False)
        # A handler must exist for the wakeup fd to be written; the loop reads the number from there.
        self._handlers_before = {number: signal.signal(number, _noted) for number in _HANDLED}
        # Whoever started us may have blocked them; a stop that is never heard ends in SIGKILL.
        self._mask_before = signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        self._epoll.register(self._wakeup, select.EPOLLIN)
        self._epoll.register(self._notify.fileno(), select.EPOLLIN)
        if self._control is not None:
            self._epoll.register(self._control.fileno(), select.EPOLLIN)
        if self._at.systemd.watchdog_usec:
            self._next_ping = 0.0
        configuration = self._revisions[1]
        self._extend(configuration.policy.start_timeout + LONGEST_HOLD + 60)
        for warning in configuration.warnings:
            self._log(Journal(kind="CONFIGURATION", message=warning, priority=4))

    def _disarm(self) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask_before)
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._workers.close()
        if self._control is not None:
            self._control.close()
        self._notify.close()
        self._epoll.close()
        os.close(self._wakeup)
        os.close(self._wakeup_end)

    # -- gathering -------------------------------------------------------------------------------------------

    def _wait(self, deadline: float) -> None:
        if self._pending:
            return
        now = time.monotonic()
        # epoll_wait(2) counts milliseconds in an int: a longer wait is made of several.
        until = min(deadline - now, self._next_sample - now, self._next_ping - now, 86400.0)
        # Rounded up: a wake-up a moment too early would find nothing due and spin.
        self._epoll.poll(max(0.0, math.ceil(until * 1000) / 1000))

    def _gather(self) -> list[f.Fact]:
        """Everything that is known by now. Signals before exits (see `step`), a worker's words before its end."""
        facts, self._pending = self._pending, []
        facts += self._signals()
        facts += [f.Executed(who) for who in self._workers.executed()]
        facts += self._notifications()
        facts += self._ends()
        facts += self._reloads()
        facts += self._samples()
        return facts

    def _signals(self) -> list[f.Fact]:
        try:
            received = os.read(self._wakeup, 4096)
        except BlockingIOError:
            return []
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
            who = self._workers.speaker(datagram.pid)
            if who is not None:
                facts += facts_of(who, datagram.payload)
        return facts

    def _ends(self) -> list[f.Fact]:
        facts: list[f.Fact] = []
        for who, end, failure in self._workers.collect():
            for sampler in self._samplers.values():
                sampler.forget(end.pid)
            if failure is not None:
                facts.append(f.SpawnFailed(who, _describe(failure)))
            else:
                facts.append(f.Exited(who, end.code, end.status))
        return facts

    def _reloads(self) -> list[f.Fact]:
        """One reload a pass at most, whoever asked: policy and `_revisions` have to count alike."""
        tokens = []
        for token, command in self._control.requests() if self._control is not None else ():
            if command == "reload":
                tokens.append(token)
            elif self._control is not None:
                self._control.reply(token, 64, f"unknown request {command!r}")
        if not (tokens or self._hangup):
            return []
        self._hangup = False
        try:
            configuration = self._at.load()
        except ConfigurationError as error:
            return [f.ReloadRefused(tuple(tokens), str(error))]
        self._revisions[self._state.last_revision + 1] = configuration
        for warning in configuration.warnings:
            self._log(Journal(kind="CONFIGURATION", message=warning, priority=4))
        return [f.Reload(tuple(tokens), configuration.policy)]

    def _samples(self) -> list[f.Fact]:
        now = time.monotonic()
        if now < self._next_sample:
            return []
        interval = self._revisions[self._state.revision].interval
        self._next_sample = now + interval
        facts: list[f.Fact] = []
        for worker in self._state.workers.values():
            if worker.pid and worker.phase is not Phase.STOP_SIGKILL:
                facts += self._sample(worker)
        if facts:
            facts.append(f.MemoryAvailable(Headroom(*memory_available())))
        return facts

    def _sample(self, worker: Worker) -> list[f.Fact]:
        bounds = [b for b in (worker.limit, worker.ceiling) if b is not None]
        # Judged by the numbers of its own configuration, so measured by its metric too.
        configuration = self._revisions.get(worker.revision, self._revisions[self._state.revision])
        metric = configuration.metric
        if metric not in self._samplers:
            self._samplers[metric] = Sampler(metric)
        sample = self._samplers[metric].sample(worker.pid, min(bounds, default=None))
        return [] if sample is None else [f.Sampled(worker.id, sample.bytes, sample.metric)]

    # -- carrying out ----------------------------------------------------------------------------------------

    def _do(self, action: Action) -> None:
        match action:
            case Spawn():
                self._spawn(action)
            case Send(who, Signal.KILL):
                self._workers.kill(who)
            case Send(who, number):
                self._workers.signal(who, _SIGNALS[number])
            case Measure(who):
                self._pending += self._sample(self._state.workers[who]) if who in self._state.workers else []
            case Journal():
                self._log(action)
            case ReloadResult(tokens, ok, text):
                self._reply(tokens, 0 if ok else EX_CONFIG, text)
            case UseRevision(revision):
                # With a reload in the same pass, the newest one is not in use yet, but will be at once.
                used = {revision, self._state.revision}
                self._revisions = {each: kept for each, kept in self._revisions.items() if each in used}
            case SaveGate(failures, retry_at):
                self._at.start_log.save(Record(failures, retry_at, 0.0))
            case ClearGate():
                self._at.start_log.clear()
            case Finish(exit_code):
                self._finish(exit_code)
            case _:
                self._tell(action)

    def _tell(self, action: Action) -> None:
        match action:
            case NotifyReady():
                self._at.systemd.send("READY=1", f"STATUS={self._sentence()}")
            case NotifyReloading():
                # CLOCK_MONOTONIC, as sd_notify(3) wants it for Type=notify-reload.
                self._at.systemd.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            case NotifyStopping():
                self._at.systemd.send("STOPPING=1")
            case NotifyExtend(seconds):
                self._extend(seconds)
            case _:
                raise AssertionError(f"nobody carries out {action!r}")

    def _extend(self, seconds: float) -> None:
        # An infinite timeout can't be told: systemd's own largest is a year in practice.
        self._at.systemd.send(f"EXTEND_TIMEOUT_USEC={int(min(seconds, 365 * 86400) * 1e6)}")

    def _reply(self, tokens: tuple[int, ...], exit_code: int, text: str) -> None:
        for token in tokens:
            if self._control is not None:
                self._control.reply(token, exit_code, text)

    def _finish(self, exit_code: int) -> None:
        self._exit_code = exit_code
        record = self._at.start_log.load()
        if exit_code and record is not None:
            self._at.start_log.save(replace(record, exited_at=time.monotonic()))

    def _spawn(self, action: Spawn) -> None:
        configuration = self._revisions[action.revision]
        environment = dict(configuration.environment)
        environment["MEMUNIT_INSTANCE"] = self._at.instance
        environment["MEMUNIT_SLOT"] = str(action.id.slot)
        environment["MEMUNIT_GENERATION"] = str(action.id.generation)
        launch = Launch(
            argv=configuration.argv,
            environment=environment,
            directory=configuration.directory,
            sockets=self._at.sockets,
            notify_path=self._at.notify_path,
            watchdog_usec=0 if math.isinf(action.watchdog) else int(action.watchdog * 1e6),
            parent_death_signal=self._at.parent_death_signal,
        )
        try:
            child = self._at.start(launch)
        except OSError as error:
            self._pending.append(f.SpawnFailed(action.id, _describe(error)))
            return
        self._workers.add(action.id, child, await_exec=configuration.policy.ready_on_exec)
        self._pending.append(f.Spawned(action.id, child.pid))

    def _log(self, entry: Journal) -> None:
        kind, _, cause = entry.kind.partition(":")
        message_id = messages.END_BY_CAUSE[cause] if cause else getattr(messages, kind)
        fields = dict(entry.fields)
        heir = None if entry.replacement is None else self._workers.pid(entry.replacement)
        if heir is not None:
            fields["MEMUNIT_REPLACEMENT_PID"] = heir
        self._at.log.send(entry.message, message_id, entry.priority, **fields)

    def _sentence(self) -> str:
        return status.sentence(self._state, time.monotonic())

    def _report(self) -> None:
        """At the end of a finished pass alone: the status if it has changed, the watchdog ping if it is true."""
        said = self._sentence()
        if said != self._said:
            self._said = said
            self._at.systemd.send(f"STATUS={said}")
        now = time.monotonic()
        if now >= self._next_ping:
            self._next_ping = now + self._at.systemd.watchdog_usec / 2e6
            if policy.healthy(self._state, now):
                self._at.systemd.send("WATCHDOG=1")

    def _inherited_gate(self, now: float) -> Gate | None:
        record = inherited_record(self._at.start_log, now)
        return None if record is None else Gate(failures=record.failures, retry_at=record.retry_at)


def _seed(instance: str) -> int:
    """A seed for the jitter that differs between instances and between starts."""
    return int.from_bytes(instance.encode()[-4:], "big") ^ time.monotonic_ns()


def _describe(error: OSError) -> str:
    text = error.strerror or str(error)
    return f"{error.filename}: {text}" if error.filename else text


def _noted(_number: int, _frame: object) -> None:
    """The wakeup fd carries the signal; see `Master._signals`."""
