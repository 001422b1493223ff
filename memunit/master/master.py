"""The joint: one loop that gathers facts, lets policy decide, and carries its actions out in order.

Single-threaded, and blocking nowhere but in epoll_wait(2), and for a fifth of a second at most where systemd does not
read. The master never imports the app and is never on a request's path.
"""

import math
import os
import select
import signal
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from memunit import __version__
from memunit.core import backoff, policy
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
from memunit.core.adoption import adopted
from memunit.core.exitcodes import EX_CONFIG, EX_OSERR
from memunit.core.handover import Handover
from memunit.core.messages import ENDS, Message
from memunit.core.model import Gate, Worker, WorkerId
from memunit.core.protocol import facts_of, parse
from memunit.core.state import State, initial
from memunit.core.wording import begins, treeless
from memunit.master import system
from memunit.master.asking import Asking
from memunit.master.continuity import Inherited, again, first_revision, reconciled
from memunit.master.doors import Doors
from memunit.master.dumps import Dumps
from memunit.master.examinations import Examinations
from memunit.master.examiners import Examiners
from memunit.master.groups import Groups
from memunit.master.interface import Interface
from memunit.master.kept import Course, Passed
from memunit.master.measuring import Measuring, available
from memunit.master.processes import Processes
from memunit.master.recorder import Recorder
from memunit.master.recovery import Recovery
from memunit.master.report import Reporter
from memunit.master.revisions import Revisions
from memunit.master.sensors import CGROUP
from memunit.master.setting import Configuration, Setting
from memunit.master.signals import Signals
from memunit.master.startlog import LONGEST_HOLD, Record, inherited_record
from memunit.master.witnesses import Witnesses


class Master:
    """Runs one instance until it is told to stop, or until nothing can be made ready."""

    def __init__(
        self, setting: Setting, configuration: Configuration, inherited: Inherited | None = None
    ) -> None:
        """`configuration` is the one to begin with, if nothing else is `inherited`."""
        self._at = setting
        self._inherited = inherited or Inherited()
        passed = self._inherited.passed
        self._revisions = Revisions(first_revision(configuration, self._inherited))
        # Known before the first sample: who scales up in between is told of the machine's bound too.
        self._facts: list[f.Fact] = available()
        self._actions: deque[Action] = deque()
        self._exit_code: int | None = None
        self._deadline = -math.inf
        # While policy changes its state, that is no state that anybody could go on with.
        self._stepping = False
        self._epoll = select.epoll()
        self._groups: Groups[WorkerId] = Groups(setting.tree, self._epoll)
        self._ready: set[int] = set()
        self._signals = Signals(() if passed is None else passed.signals)
        unsent, level = ((), 7) if passed is None else (passed.unsent, passed.level)
        self._report = Reporter(setting.log, setting.systemd, unsent, level)
        self._doors = Doors(
            setting.notify_path,
            setting.control_path,
            setting.interface_path,
            self._epoll,
            self._report,
            None if passed is None else passed.doors,
        )
        self._measuring = Measuring(self._groups, self._revisions, self._report)
        self._dumps = Dumps()
        self._recorder = Recorder(setting.directory, setting.instance, self._warn_of_recorder)
        self._processes = Processes(setting, self._epoll, self._groups, self._report, self._zygote_delay)
        examiners = Examiners(setting, self._processes.programs)
        self._interface = Interface(
            setting, self._doors.interface, self._dumps, self._report, self._processes.belongings.glance
        )
        self._recovery = Recovery(setting, self._report, self._inherited)
        now = time.monotonic()
        self._state: State = self._begin(configuration, now)
        told = [each.id for each in self._state.workers.values() if each.stop_at is not None]
        self._witnesses = Witnesses(setting.state_directory)
        self._examinations = Examinations(
            self._report, self._doors, setting.state_directory, examiners, self._witnesses, told
        )
        self._asking = Asking(
            setting,
            self._signals,
            self._doors,
            self._examinations,
            self._witnesses,
            self._revisions,
            self._report,
        )
        self._revisions.reserve([each.revision for each in self._state.workers.values()])

    def _begin(self, configuration: Configuration, now: float) -> State:
        course, left = self._inherited.course, self._inherited.left
        if course is not None:
            self._facts += course.facts
            self._actions += course.actions
            return course.state
        policy_now = configuration.policy
        if left is not None and left.revision in self._revisions and self._inherited.passed is not None:
            policy_now = self._revisions[left.revision].policy
        state = initial(policy_now, now=now, seed=_seed(self._at.instance), gate=self._inherited_gate(now))
        if left is None:
            return state
        return adopted(state, left, now=now, afresh=self._inherited.passed is None)

    def run(self) -> int:
        """Serve until the end; returns the exit code (0 after a stop, 69 if nothing ever became ready).

        After a failure of our own, that is 70, and the workers go on (continuity.py).
        """
        try:
            self._arm()
        except Exception as error:
            if self._inherited.left is None or self._inherited.passed is not None:
                # A successor has the file, and takes over in another way.
                raise
            return self._recovery.failed_to_take(error)
        self._use(self._revisions.nearest(self._state.revision))
        while self._exit_code is None or self._processes.lingering:
            try:
                self._turn()
            except Exception as error:
                code = self._recovery.failed(self, error, self._recorder.keep())
                if code is not None:
                    return code
        self._disarm()
        return self._exit_code

    def _turn(self) -> None:
        """One pass. What it has not come to stays, facts and actions, for whoever goes on."""
        self._wait()
        self._gather()
        facts, now = tuple(self._facts), time.monotonic()
        self._recovery.begins(facts)
        self._recorder.begins(now, facts, self._state)
        self._stepping = True
        self._state, actions, self._deadline = policy.step(self._state, facts, now)
        self._stepping = False
        self._recorder.did(actions)
        self._facts.clear()
        self._actions += actions
        self._begin_accounts(facts)
        changed = bool(actions)
        if changed and not any(map(_tells_an_end, actions)):
            # Before anybody is told: a master that is killed right after READY=1 has ready workers.
            self._recovery.save(self.left())
        while self._actions:
            done = self._actions[0]
            if isinstance(done, Spawn):
                # Not tried twice: it may be there, and who goes on finds out (continuity.reconciled).
                self._actions.popleft()
                self._do(done)
            else:
                self._do(done)
                self._actions.popleft()
            if isinstance(done, Spawn) or _tells_an_end(done):
                # At once: who is told of twice, or is not known, is what a SIGKILL at this moment would leave.
                self._recovery.save(self.left())
        self._processes.end_pass(stopping=self._state.stopping, serving=self._state.running() > 0)
        if changed:
            self._measuring.sensors.changed = True
            self._recovery.save(self.left())
        news = changed or not all(isinstance(fact, f.Ping) for fact in facts)
        asked = any(isinstance(fact, f.DumpState) for fact in facts)
        self._report.finished_pass(self._state, news=news, asked=asked)
        self._interface.finished_pass(self._state, news=news)
        if self._asking.reexecuter:
            self._reexecute()

    def _arm(self) -> None:
        if self._at.sole:
            system.set_child_subreaper()
        self._signals.arm()
        self._epoll.register(self._signals.fileno(), select.EPOLLIN)
        self._doors.arm()
        if self._inherited.passed is None:
            configuration = self._revisions[1]
            self._report.extend(configuration.policy.start_timeout + LONGEST_HOLD + 60)
            if self._inherited.left is None:
                text = begins(configuration.policy, self._state.gate, time.monotonic())
                self._report.entry(Journal(kind=Message.MASTER_STARTED, message=text))
            for warning in configuration.warnings:
                self._report.warn(Message.CONFIGURATION, warning)
            bounded = configuration.policy.limit is not None or configuration.policy.ceiling is not None
            if self._at.treeless and bounded and configuration.metric == CGROUP:
                text = treeless(self._at.treeless, configuration.interval)
                self._report.entry(Journal(kind=Message.SENSOR, message=text))
        self._take()
        self._recovery.save(self.left())

    def _use(self, configuration: Configuration) -> None:
        """What is the master's own of a configuration, and in effect with it."""
        self._recorder.use(configuration.recorder, self._state)
        self._doors.admit(configuration.read_group)

    def _take(self) -> None:
        """Go on with the workers that are there."""
        inherited = self._inherited
        there: set[WorkerId] = set()
        if inherited.left is not None:
            kept = None if inherited.passed is None else inherited.passed.processes
            there = self._processes.take(inherited.left, kept, system.unit_members)
            for each in inherited.left.workers:
                if WorkerId(each.slot, each.generation) not in there:
                    self._revisions.forget_metrics(each.pid)
            self._facts += reconciled(self._state, self._facts, self._processes, there)
            if inherited.course is None:
                self._actions += again(self._state)
                if inherited.passed is not None and inherited.left.stopping:
                    self._facts.append(f.StopRequested())
        others = self._recovery.unclaimed(self._processes)
        many = self._processes.clear(others, self._state.policy.grace, at_once=inherited.left is not None)
        for entry in self._recovery.told(there, many):
            self._report.entry(entry)
        if inherited.passed is not None:
            asker = inherited.passed.asker
            if asker:
                self._doors.reply((asker,), 0, self._recovery.answer(there))
            if inherited.course is None:
                self._doors.abandon()

    def _reexecute(self) -> None:
        """Somebody has asked for it. Returns only where it can't be done."""
        asker, self._asking.reexecuter = self._asking.reexecuter, 0
        why = self._recovery.execute(self, asker=asker)
        self._doors.reply(
            (asker,), EX_OSERR, f"The master can't execute itself anew: {why}; it goes on as it was"
        )

    # -- what outlives it ------------------------------------------------------------------------------------

    def left(self) -> Handover:
        """What a successor needs to go on with the workers."""
        workers, zygotes = self._processes.left(self._state.workers.values())
        return Handover(
            master=os.getpid(),
            program=__version__,
            stopping=self._state.stopping,
            revision=self._state.revision,
            generations=tuple(slot.next_generation for slot in self._state.slots),
            workers=workers,
            zygotes=zygotes,
            settings=dict(self._state.settings),
            takeovers=self._state.tally.takeovers,
        )

    def passed(self, failures: tuple[float, ...], asker: int, signals: tuple[int, ...]) -> Passed:
        """What it passes on to itself besides."""
        return Passed(
            configurations=self._revisions.known(),
            doors=self._doors.kept(),
            processes=self._processes.kept(),
            failures=failures,
            unsent=self._report.unsent,
            signals=(*signals, *((signal.SIGHUP,) if self._asking.hangup else ())),
            level=self._report.level,
            asker=asker,
            place=self._at.place,
        )

    def course(self) -> Course | None:
        """Where policy is: its state, what it has not heard, and what it wants done and is not; None in mid-change."""
        if self._stepping:
            return None
        return Course(state=self._state, facts=tuple(self._facts), actions=tuple(self._actions))

    @property
    def signals(self) -> Signals:
        """Those that it waits for."""
        return self._signals

    @property
    def serving(self) -> int:
        """How many workers serve now."""
        return self._state.running()

    def stop_in_order(self) -> None:
        """As at a signal."""
        self._facts.append(f.StopRequested())

    def end_examinations(self) -> None:
        """Of the programs that examine a worker, none outlives this master: whose signal waits for one gets it now."""
        self._examinations.stop()
        self._facts += self._released()

    def forget_actions(self) -> None:
        """What is not done is not tried again."""
        self._actions.clear()

    def _disarm(self) -> None:
        self._signals.disarm(ends=self._at.sole)
        self._recorder.close()
        self._processes.close()
        self._dumps.close()
        self._doors.close()
        self._epoll.close()
        self._recovery.remove()

    # -- gathering -------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        self._ready = set()
        if self._facts or self._actions:
            return
        now = time.monotonic()
        # epoll_wait(2) counts milliseconds in an int: a longer wait is made of several.
        due = min(
            self._deadline,
            self._measuring.sensors.due,
            self._report.due,
            self._processes.due,
            self._doors.due,
        )
        due = min(due, self._interface.due)
        until = max(0.0, min(due - now, 86400.0))
        # Rounded up: a wake-up a moment too early would find nothing due and spin.
        self._ready = {descriptor for descriptor, _ in self._epoll.poll(math.ceil(until * 1000) / 1000)}

    def _gather(self) -> None:
        """Everything that is known by now. Signals before exits (see `step`), a worker's words before its end.

        Each is kept as soon as it is known: what comes after it may fail.
        """
        facts = self._facts
        facts += self._doors.lost(self._ready, deciding=time.monotonic() >= self._state.wake_at)
        facts += self._asking.by_signals(stopping=self._state.stopping)
        facts += self._processes.forks()
        facts += self._processes.executed()
        self._hear_workers(facts)
        self._processes.programs.read()
        facts += self._processes.ends(
            self._measuring.sensors.forget,
            lambda: self._is_to_stop(facts),
            self._revisions.forget_metrics,
        )
        facts += self._released()
        facts += self._interface.facts(self._ready, self._state)
        facts += self._asking.by_clients(self._interface.reloads(), self._state)
        facts += self._measuring.facts(self._ready, self._state)
        if self._deciding(facts):
            facts[:0] = available()

    def _deciding(self, facts: list[f.Fact]) -> bool:
        """Whether somebody may be replaced in this pass: then what is free is to be known as it is now.

        The reading of the last round of samples may be from the middle of an import that has failed since, for want
        of memory: by that, a worker was once stopped before its replacement started, with room for both again.
        """
        idle = (f.Ping, f.StatusText)
        return time.monotonic() >= self._state.wake_at or any(not isinstance(fact, idle) for fact in facts)

    def _is_to_stop(self, facts: list[f.Fact]) -> bool:
        """Asked once ends are known: systemd stops us and then the workers, and that signal may have come meanwhile."""
        facts += self._asking.by_signals(stopping=self._state.stopping)
        return self._state.stopping or any(isinstance(fact, f.StopRequested) for fact in facts)

    def _hear_workers(self, facts: list[f.Fact]) -> None:
        for datagram in self._doors.notify.datagrams():
            who = self._processes.speaker(datagram.pid, facts)
            if who is not None:
                facts += facts_of(who, datagram.payload)
            else:
                self._processes.overheard(datagram.pid, parse(datagram.payload).status)

    # -- carrying out ----------------------------------------------------------------------------------------

    def _do(self, action: Action) -> None:
        match action:
            case Spawn(who, revision):
                worker, configuration = self._state.workers[who], self._revisions[revision]
                profile = self._witnesses.path(*who) if configuration.profiler else ""
                self._facts += self._processes.spawn(action, worker, configuration, profile)
            case Send(who, number):
                if number is not Signal.KILL:
                    self._measuring.sensors.draining(who)
                if number is not Signal.TERM or not self._order(who):
                    self._facts += self._processes.signal(who, number)
            case Measure(who):
                self._facts += self._measuring.measure(who, self._state)
            case GiveBack(who):
                self._facts += self._processes.belongings.ask_back(who)
            case Bound(who, ceiling):
                self._groups.bound_one(who, ceiling)
            case Journal():
                heir = action.replacement
                pid = action.replacement_pid or (None if heir is None else self._processes.pid(heir))
                self._report.entry(action, pid)
                if action.kind in ENDS:
                    self._examinations.tell(action, self._processes.belongings.last_board)
                    self._interface.ended(action, time.monotonic())
            case ReloadResult(tokens, ok, text):
                self._doors.reply(tokens, 0 if ok else EX_CONFIG, text)
                self._interface.reloaded(tokens, text, ok=ok)
            case UseRevision(revision):
                # With a reload in the same pass, the newest one is not in use yet, but will be at once.
                used = {revision, self._state.revision}
                self._revisions.keep(used)
                self._processes.keep(used)
                self._use(self._revisions[revision])
            case SaveGate(failures, since, retry_at):
                self._at.start_log.save(Record(failures, retry_at, 0.0, since))
            case ClearGate():
                self._at.start_log.clear()
            case Finish(exit_code):
                self._finish(exit_code)
            case _:
                if isinstance(action, NotifyStopping):
                    self._processes.keep(())
                    self.end_examinations()
                self._report.tell(action, self._state)

    def _order(self, who: WorkerId) -> bool:
        """Before its SIGTERM: why it is told, and whether it is to be examined. True if the signal has to wait."""
        worker = self._state.workers.get(who)
        if worker is None:
            return False
        configuration = self._configuration(worker)
        path, program = self._groups.path(who), not self._state.stopping
        waits = self._examinations.end(worker, configuration, path, program=program)
        self._processes.belongings.tell(who, *self._examinations.order(worker, configuration))
        return waits

    def _released(self) -> list[f.Fact]:
        """Tell those to stop whose signal has waited for a program: their grace begins now."""
        facts: list[f.Fact] = []
        for who in self._examinations.released():
            worker = self._state.workers.get(who)
            if worker is not None:
                self._processes.resume(who)
                facts += [f.ExtendTimeout(who, worker.grace), *self._processes.signal(who, Signal.TERM)]
        return facts

    def _begin_accounts(self, facts: Sequence[f.Fact]) -> None:
        """What is known of a worker from its start: of each that has become ready, or was sampled."""
        for fact in facts:
            if isinstance(fact, f.Ready | f.Sampled) and fact.id in self._state.workers:
                worker = self._state.workers[fact.id]
                ready = isinstance(fact, f.Ready)
                path = self._groups.path(fact.id)
                self._examinations.begin(worker, self._configuration(worker), path, ready=ready)

    def _configuration(self, worker: Worker) -> Configuration:
        return self._revisions.of(worker, self._state.revision)

    def _finish(self, exit_code: int) -> None:
        self._exit_code = exit_code
        record = self._at.start_log.load()
        if exit_code and record is not None:
            self._at.start_log.save(replace(record, exited_at=time.monotonic()))

    def _warn_of_recorder(self, text: str) -> None:
        self._report.warn(Message.CONFIGURATION, text)

    def _zygote_delay(self, failures: int) -> float:
        return backoff.delay(failures, seed=self._state.seed, slot=-2)

    def _inherited_gate(self, now: float) -> Gate | None:
        record = inherited_record(self._at.start_log, now)
        if record is None:
            return None
        return Gate(failures=record.failures, since=record.since, retry_at=record.retry_at)


def _tells_an_end(action: Action) -> bool:
    return isinstance(action, Journal) and action.kind in ENDS


def _seed(instance: str) -> int:
    """A seed for the jitter that differs between instances and between starts."""
    return int.from_bytes(os.fsencode(instance)[-4:], "big") ^ time.monotonic_ns()
