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

from memunit.core import backoff, policy, status
from memunit.core import facts as f
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
from memunit.master.nursery import Forked, Lost, Nursery, Refused, Started, Warned, ZygoteId
from memunit.master.registry import Registry
from memunit.master.sampling import Sampler, memory_available
from memunit.master.spawn import Child, Launch
from memunit.master.startlog import LONGEST_HOLD, Record, StartLog, inherited_record

_SIGNALS = {Signal.TERM: signal.SIGTERM, Signal.ABRT: signal.SIGABRT, Signal.KILL: signal.SIGKILL}
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
    preload: bool = False
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
        self._workers: Registry[WorkerId | ZygoteId] = Registry(self._epoll, sole=setting.sole)
        self._nursery: Nursery[WorkerId] = Nursery(self._epoll, setting.start, self._zygote_delay)
        self._notify = NotifyListener(setting.notify_path)
        self._control = ControlServer(setting.control_path) if setting.control_path else None
        self._wakeup, self._wakeup_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._hangup = False
        self._lost: list[Lost] = []
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
        self._nursery.close()
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
        due = min(deadline, self._next_sample, self._next_ping, self._nursery.due)
        until = max(0.0, min(due - now, 86400.0))
        # Rounded up: a wake-up a moment too early would find nothing due and spin.
        self._epoll.poll(math.ceil(until * 1000) / 1000)

    def _gather(self) -> list[f.Fact]:
        """Everything that is known by now. Signals before exits (see `step`), a worker's words before its end."""
        facts, self._pending = self._pending, []
        facts += self._signals()
        facts += self._forks()
        facts += [f.Executed(who) for who in self._workers.executed() if isinstance(who, WorkerId)]
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

    def _forks(self) -> list[f.Fact]:
        """What came of the requests to zygotes, and of the zygotes themselves."""
        facts: list[f.Fact] = []
        for event in self._nursery.events():
            match event:
                case Started(identity, child):
                    self._workers.add(identity, child, await_exec=False)
                case Forked(who, child, signum):
                    self._workers.add(who, child, await_exec=False)
                    if signum:
                        self._workers.signal(who, signum)
                    facts.append(f.Spawned(who, child.pid))
                case Refused(who, why):
                    facts.append(f.SpawnFailed(who, why))
                case Warned(text):
                    self._log(
                        Journal(
                            kind="PRELOAD_UNSAFE", message=f"Preloading may not be safe: {text}", priority=4
                        )
                    )
                case Lost():
                    self._lost.append(event)
        return facts

    def _notifications(self) -> list[f.Fact]:
        facts: list[f.Fact] = []
        for datagram in self._notify.datagrams():
            who = self._workers.speaker(datagram.pid)
            if who is None:
                # A worker speaks only after its zygote has told its pid, but that may be a moment ago.
                facts += self._forks()
                who = self._workers.speaker(datagram.pid)
            if isinstance(who, WorkerId):
                facts += facts_of(who, datagram.payload)
        return facts

    def _ends(self) -> list[f.Fact]:
        facts: list[f.Fact] = []
        ends = self._workers.collect(lambda: facts.extend(self._forks()))
        for who, end, failure in ends:
            for sampler in self._samplers.values():
                sampler.forget(end.pid)
            if isinstance(who, ZygoteId):
                self._nursery.ended(who, end, failure)
                facts += self._forks()
            elif failure is not None:
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
            case Send(who, number) if self._nursery.signal(who, _SIGNALS[number]):
                self._pending += self._forks()
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
                self._nursery.keep(used)
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
                self._nursery.keep(())
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
        own = {"MEMUNIT_SLOT": str(action.id.slot), "MEMUNIT_GENERATION": str(action.id.generation)}
        launch = Launch(
            argv=configuration.argv,
            environment={**configuration.environment, "MEMUNIT_INSTANCE": self._at.instance},
            directory=configuration.directory,
            sockets=self._at.sockets,
            notify_path=self._at.notify_path,
            watchdog_usec=0 if math.isinf(action.watchdog) else int(action.watchdog * 1e6),
            parent_death_signal=self._at.parent_death_signal,
        )
        if configuration.preload:
            self._nursery.request(action.revision, launch, action.id, own, launch.watchdog_usec)
            self._pending += self._forks()
            return
        try:
            child = self._at.start(replace(launch, environment={**launch.environment, **own}))
        except OSError as error:
            self._pending.append(f.SpawnFailed(action.id, _describe(error)))
            return
        self._workers.add(action.id, child, await_exec=configuration.policy.ready_on_exec)
        self._pending.append(f.Spawned(action.id, child.pid))

    def _zygote_delay(self, failures: int) -> float:
        return backoff.delay(failures, seed=self._state.seed, slot=-2)

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
        # Not before: a stop of the unit reaches zygotes too, and such an end is no loss.
        for lost in self._lost if not self._state.stopping else ():
            self._log(_lost(lost))
        self._lost.clear()
        self._nursery.renew()
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


def _lost(event: Lost) -> Journal:
    text = f"{event.how[0].upper()}{event.how[1:]} (pid {event.pid}). Its workers go on serving"
    after = f" in {event.retry:.1f} s" if event.retry else ""
    fields = {"MEMUNIT_ZYGOTE_PID": event.pid}
    return Journal(
        kind="ZYGOTE_LOST", message=f"{text}; another is started{after}", priority=4, fields=fields
    )


def _seed(instance: str) -> int:
    """A seed for the jitter that differs between instances and between starts."""
    return int.from_bytes(instance.encode()[-4:], "big") ^ time.monotonic_ns()


def _describe(error: OSError) -> str:
    text = error.strerror or str(error)
    return f"{error.filename}: {text}" if error.filename else text


def _noted(_number: int, _frame: object) -> None:
    """The wakeup fd carries the signal; see `Master._signals`."""
