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

from memunit import __version__
from memunit.core import facts as f
from memunit.core import policy
from memunit.core.actions import Action, Journal, Spawn
from memunit.core.adoption import adopted
from memunit.core.exitcodes import EX_OSERR, OK
from memunit.core.handover import Handover
from memunit.core.messages import ENDS, Message
from memunit.core.model import Gate, WorkerId
from memunit.core.state import State, initial
from memunit.core.wording import begins, treeless
from memunit.master import proctree, system
from memunit.master.carrying import Carrying
from memunit.master.continuity import Inherited, again, first_revision, reconciled
from memunit.master.control import hang_up
from memunit.master.gathering import Gathering
from memunit.master.kept import Course, Passed
from memunit.master.measuring import available
from memunit.master.parts import Parts, seed_of
from memunit.master.revisions import Revisions
from memunit.master.sensors import CGROUP
from memunit.master.setting import Configuration, Setting
from memunit.master.signals import Signals
from memunit.master.startlog import LONGEST_HOLD, inherited_record


class Master:
    """Runs one instance until it is told to stop, or until nothing can be made ready."""

    def __init__(
        self, setting: Setting, configuration: Configuration, inherited: Inherited | None = None
    ) -> None:
        """`configuration` is the one to begin with, if nothing else is `inherited`."""
        self._at = setting
        self._inherited = inherited or Inherited()
        self._revisions = Revisions(first_revision(configuration, self._inherited))
        # Known before the first sample: who scales up in between is told of the machine's bound too.
        self._facts: list[f.Fact] = available()
        self._actions: deque[Action] = deque()
        self._deadline = -math.inf
        # While policy changes its state, that is no state that anybody could go on with.
        self._stepping = False
        self._state: State = self._begin(configuration, time.monotonic())
        self._revisions.reserve([each.revision for each in self._state.workers.values()])
        told = [each.id for each in self._state.workers.values() if each.stop_at is not None]
        self._parts = Parts(setting, self._revisions, self._inherited, told)
        self._carrying = Carrying(self._parts)
        self._gathering = Gathering(self._parts, self._carrying)

    def _begin(self, configuration: Configuration, now: float) -> State:
        course, left = self._inherited.course, self._inherited.left
        if course is not None:
            self._facts += course.facts
            self._actions += course.actions
            return course.state
        policy_now = configuration.policy
        if left is not None and left.revision in self._revisions and self._inherited.passed is not None:
            policy_now = self._revisions[left.revision].policy
        state = initial(policy_now, now=now, seed=seed_of(self._at.instance), gate=self._inherited_gate(now))
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
            return self._parts.recovery.failed_to_take(error)
        self._carrying.use(self._revisions.nearest(self._state.revision), self._state)
        while self._carrying.exit_code is None or self._parts.processes.lingering:
            try:
                self._turn()
            except Exception as error:
                code = self._parts.recovery.failed(self, error, self._parts.recorder.keep())
                if code is not None:
                    return code
        self._parts.close()
        return self._carrying.exit_code

    def _turn(self) -> None:
        """One pass. Facts and actions that it has not reached stay, for the master that goes on."""
        self._gathering.wait(self._deadline, busy=bool(self._facts or self._actions))
        self._gathering.gather(self._facts, self._state)
        facts, now = tuple(self._facts), time.monotonic()
        self._parts.recovery.begins(facts)
        self._parts.recorder.begins(now, facts, self._state)
        self._stepping = True
        self._state, actions, self._deadline = policy.step(self._state, facts, now)
        self._stepping = False
        self._parts.recorder.did(actions)
        self._facts.clear()
        self._actions += actions
        self._carrying.begin_accounts(facts, self._state)
        changed = bool(actions)
        if changed and not any(map(_tells_an_end, actions)):
            # Before anybody is told: a master that is killed right after READY=1 has ready workers.
            self._parts.recovery.save(self.left())
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
                self._parts.recovery.save(self.left())
        self._parts.processes.end_pass(stopping=self._state.stopping, serving=self._state.running() > 0)
        if changed:
            self._parts.measuring.sensors.changed = True
        if changed or self._parts.recovery.lost():
            self._parts.recovery.save(self.left())
        news = changed or not all(isinstance(fact, f.Ping) for fact in facts)
        asked = any(isinstance(fact, f.DumpState) for fact in facts)
        self._parts.report.finished_pass(self._state, news=news, asked=asked)
        self._parts.interface.finished_pass(self._state, news=news)
        if self._parts.asking.reexecuters:
            self._reexecute()

    def _do(self, action: Action) -> None:
        self._facts += self._carrying.do(action, self._state)

    def _arm(self) -> None:
        if self._at.sole:
            system.set_child_subreaper()
        self._parts.signals.arm()
        self._parts.epoll.register(self._parts.signals.fileno(), select.EPOLLIN)
        self._parts.doors.arm()
        if self._inherited.passed is None:
            configuration = self._revisions[1]
            self._parts.report.extend(configuration.policy.start_timeout + LONGEST_HOLD + 60)
            if self._inherited.left is None:
                text = begins(configuration.policy, self._state.gate, time.monotonic())
                self._parts.report.entry(Journal(kind=Message.MASTER_STARTED, message=text))
            for warning in configuration.warnings:
                self._parts.report.warn(Message.CONFIGURATION, warning)
            bounded = configuration.policy.limit is not None or configuration.policy.ceiling is not None
            if self._at.treeless and bounded and configuration.metric == CGROUP:
                text = treeless(self._at.treeless, configuration.interval)
                self._parts.report.entry(Journal(kind=Message.SENSOR, message=text))
        self._take()
        self._parts.recovery.save(self.left())

    def _take(self) -> None:
        """Go on with the workers that are there."""
        inherited = self._inherited
        there: set[WorkerId] = set()
        if inherited.left is not None:
            kept = None if inherited.passed is None else inherited.passed.processes
            there = self._parts.processes.inheritance.take(
                inherited.left, kept, proctree.unit_members, self._state.workers
            )
            for each in inherited.left.workers:
                if WorkerId(each.slot, each.generation) not in there:
                    self._revisions.forget_metrics(each.pid)
            self._facts += reconciled(self._state, self._facts, self._actions, self._parts.processes, there)
            if inherited.course is None:
                self._actions += again(self._state)
                if inherited.passed is not None and inherited.left.stopping:
                    self._facts.append(f.StopRequested())
        others = self._parts.recovery.unclaimed(self._parts.processes)
        # A file that can't be written any more names workers that have ended long since: then the others serve.
        stops = inherited.left is not None and inherited.left.stopping
        many = self._parts.processes.inheritance.clear(
            others, self._state.policy.grace, at_once=bool(there) or stops
        )
        for entry in self._parts.recovery.told(there, many):
            self._parts.report.entry(entry)
        if inherited.passed is not None:
            askers = inherited.passed.askers
            if askers:
                self._parts.doors.reply(askers, OK, self._parts.recovery.anew(there, many))
            if inherited.course is None:
                self._parts.doors.abandon()
        for asker in inherited.askers:
            hang_up(asker, OK, self._parts.recovery.anew(there, many))

    def _reexecute(self) -> None:
        """Somebody has asked for it. Returns only where it can't be done."""
        why = self._parts.recovery.execute(self)
        askers, self._parts.asking.reexecuters = tuple(self._parts.asking.reexecuters), []
        self._parts.doors.reply(
            askers, EX_OSERR, f"The master can't execute itself anew: {why}; it goes on as it was"
        )

    # -- what outlives it ------------------------------------------------------------------------------------

    def left(self) -> Handover:
        """What a successor needs to go on with the workers."""
        workers, zygotes = self._parts.processes.inheritance.left(self._state.workers.values())
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

    def passed(self, failures: tuple[float, ...], signals: tuple[int, ...]) -> Passed:
        """What it passes on to itself besides."""
        return Passed(
            configurations=self._revisions.known(),
            doors=self._parts.doors.kept(),
            processes=self._parts.processes.inheritance.kept(),
            failures=failures,
            unsent=self._parts.report.unsent,
            signals=(*signals, *((signal.SIGHUP,) if self._parts.asking.hangup else ())),
            level=self._parts.report.level,
            askers=tuple(self._parts.asking.reexecuters),
            place=self._at.place,
            examined_for=self._parts.examinations.asked,
            witnesses=self._parts.witnesses.wanted,
        )

    def course(self) -> Course | None:
        """Where policy is: its state, what it has not heard, and what it wants done and is not; None in mid-change."""
        if self._stepping:
            return None
        return Course(state=self._state, facts=tuple(self._facts), actions=tuple(self._actions))

    @property
    def signals(self) -> Signals:
        """Those that it waits for."""
        return self._parts.signals

    @property
    def serving(self) -> int:
        """How many workers serve now."""
        return self._state.running()

    def stop_in_order(self) -> None:
        """As at a signal."""
        self._facts.append(f.StopRequested())

    def end_examinations(self) -> None:
        """End the programs that examine workers. A worker whose signal waits for its program gets the signal now."""
        self._facts += self._carrying.end_examinations(self._state)

    def forget_actions(self) -> None:
        """What is not done is not tried again."""
        self._actions.clear()

    def _inherited_gate(self, now: float) -> Gate | None:
        record = inherited_record(self._at.start_log, now)
        if record is None:
            return None
        return Gate(failures=record.failures, since=record.since, retry_at=record.retry_at)


def _tells_an_end(action: Action) -> bool:
    return isinstance(action, Journal) and action.kind in ENDS
