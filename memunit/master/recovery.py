"""What a master does when it fails, and what it says of it: nobody is killed for the master's sake."""

import contextlib
import errno
import os
import signal
import sys
import time
import traceback
from collections.abc import Collection, Sequence
from typing import Protocol

from memunit import __version__
from memunit.core import facts as f
from memunit.core.actions import Journal
from memunit.core.exitcodes import EX_SOFTWARE
from memunit.core.handover import Handover
from memunit.core.messages import WARNING, Message
from memunit.core.model import WorkerId
from memunit.core.wording import workers
from memunit.master import proctree, reexec
from memunit.master.continuity import HandoverFile, Inherited, passed_on, written
from memunit.master.kept import Course, Passed
from memunit.master.leftovers import leads, strangers
from memunit.master.processes import Processes
from memunit.master.report import Reporter
from memunit.master.setting import Setting
from memunit.master.signals import STOP, Signals

# Seconds in which so many failures are one too many: what is executed anew would fail again.
_SPAN = 60.0
_MOST = 3
# Seconds that PID 1 of a container, whose end is everybody's, waits then before it tries once more.
_PAUSE = 10.0
_LONGEST = 4000


class Able(Protocol):
    """What a master must be able to tell."""

    @property
    def signals(self) -> Signals: ...

    @property
    def serving(self) -> int: ...

    def left(self) -> Handover: ...

    def passed(self, failures: tuple[float, ...], signals: tuple[int, ...]) -> Passed: ...

    def course(self) -> Course | None: ...

    def stop_in_order(self) -> None: ...

    def forget_actions(self) -> None: ...

    def end_examinations(self) -> None: ...


class Recovery:
    """Keeps what a successor needs, and has the master begin anew in its own process when it fails."""

    def __init__(self, at: Setting, report: Reporter, inherited: Inherited) -> None:
        self._at = at
        self._report = report
        self._inherited = inherited
        # Workers that are told of their master's death have no successor.
        self._lasts = at.directory is not None and not at.parent_death_signal
        self._file = HandoverFile(at.directory if self._lasts else None)
        self._told = False
        self._failures = () if inherited.passed is None else inherited.passed.failures
        self._facts: Sequence[f.Fact] = ()

    def save(self, left: Handover) -> None:
        """Keep this for a successor."""
        if not self._lasts:
            return
        self._file.save(written(left))
        trouble = self._file.trouble
        # A directory that is gone is told of by the sockets that were in it.
        if trouble is not None and trouble.errno != errno.ENOENT and not self._told:
            text = f"{trouble.filename or self._at.directory}: {trouble.strerror}"
            self._report.warn(
                Message.CONFIGURATION,
                f"The file that tells a successor of the workers can't be written: {text}. If the master is killed "
                "now, its successor replaces workers that it does not know. memunit tries again",
            )
        self._told = trouble is not None

    def lost(self) -> bool:
        """Whether what was kept for a successor has to be saved once more."""
        return self._file.lost()

    def remove(self) -> None:
        """Nobody is left for a successor."""
        self._file.remove()

    def begins(self, facts: Sequence[f.Fact]) -> None:
        """These are the facts of a pass: they are told of if it fails."""
        if facts:
            self._facts = tuple(facts)

    def failed(self, master: Able, error: Exception, flight: str | None = None) -> int | None:
        """A pass has failed. Becomes another program, or returns an exit code with which the master ends; None where
        it can only go on. `flight` is where the recorder has what policy was told.
        """
        now = time.monotonic()
        self._failures = (*(each for each in self._failures if now - each < _SPAN), now)
        often = len(self._failures)
        _print(error, self._facts)
        fact = f"memunit itself has failed: {type(error).__name__}: {error} ({_place(error)})"
        if flight:
            fact += f"; memunit replay {flight} shows what led to it"
        if not self._at.sole:
            self._go_on(master, error, fact, often)
            return None
        if often >= _MOST and os.getpid() != 1:
            self._tell(f"{fact}, {often} times within a minute. {self._end(master)}")
            return EX_SOFTWARE
        self._tell(
            f"{fact}. This ends no worker: the master executes itself anew, and "
            f"{_serve(master.serving)}. The traceback stands above"
        )
        if often >= _MOST:
            _pause()
        why = self.execute(master, whole=often == 1)
        self._tell(f"The master can't execute itself anew: {why}. {self._end(master)}")
        return EX_SOFTWARE

    def failed_to_take(self, error: Exception) -> int:
        """The workers of another master can't be taken over; returns an exit code. Each later master would fail in the
        same way: so from now on the file says only that.
        """
        _print(error, ())
        self._file.save("A master has failed to take over the workers that this file named")
        self._tell(
            f"memunit itself has failed while it took workers over: {type(error).__name__}: {error} "
            f"({_place(error)}). The master ends with exit status {EX_SOFTWARE}; the next one starts clean, and the "
            "workers that are there serve until new workers serve"
        )
        return EX_SOFTWARE

    def _go_on(self, master: Able, error: Exception, fact: str, often: int) -> None:
        if often > 2 * _MOST:
            raise error
        if often >= _MOST:
            self._tell(f"{fact}, {often} times within a minute. The workers are told to stop")
            master.stop_in_order()
        else:
            if often > 1:
                master.forget_actions()
            self._tell(f"{fact}. This ends no worker. The traceback stands above")

    def _end(self, master: Able) -> str:
        if self._at.parent_death_signal:
            after = "its workers finish their requests and end, because no other master can take them over"
        elif self._at.directory is None:
            after = "its workers go on serving, and nobody replaces them"
        else:
            after = f"{_serve(master.serving)}, and a successor takes them over"
        self._at.systemd.send(f"STATUS=memunit itself has failed, see the journal; {after}")
        return f"The master ends with exit status {EX_SOFTWARE}; {after}"

    def _tell(self, text: str) -> None:
        with contextlib.suppress(Exception):
            self._report.entry(Journal(kind=Message.MASTER_FAILED, message=text))

    def execute(self, master: Able, *, whole: bool = True) -> str:
        """Execute this process anew; returns only if that can't be done, why.

        Without `whole`, policy begins anew too: its state may be what it has failed of.
        """
        passed = course = None
        signals: tuple[int, ...] = ()
        try:
            with contextlib.suppress(Exception):
                master.end_examinations()
            text = written(master.left())
            with contextlib.suppress(Exception):
                signals = tuple(master.signals.held())
                passed = master.passed(self._failures, signals)
                course = master.course() if whole else None
            self._file.save(text)
            # All of the watchdog's time for the start of the program.
            self._at.systemd.send("WATCHDOG=1")
            descriptors = [] if passed is None else [*passed.descriptors()]
            descriptors += [descriptor for _, descriptor in self._at.sockets]
            asked = () if passed is None else passed.asking()
            reexec.execute(passed_on(text, passed, course), descriptors, self._variables(), asked)
        except Exception as error:
            master.signals.release(signals)
            return f"{type(error).__name__}: {error}"

    def _variables(self) -> dict[str, str]:
        """The variables that systemd gives to a process: an older version without adoption can start with them."""
        systemd, sockets = self._at.systemd, self._at.sockets
        own = str(os.getpid())
        said = {} if not systemd.address else {"NOTIFY_SOCKET": systemd.address}
        if systemd.watchdog_usec:
            said |= {"WATCHDOG_USEC": str(systemd.watchdog_usec), "WATCHDOG_PID": own}
        if [descriptor for _, descriptor in sockets] == list(range(3, 3 + len(sockets))):
            names = ":".join(name for name, _ in sockets)
            said |= {"LISTEN_FDS": str(len(sockets)), "LISTEN_PID": own, "LISTEN_FDNAMES": names}
        return said

    # -- the one after it ------------------------------------------------------------------------------------

    def unclaimed(self, processes: Processes) -> list[int]:
        """The pids of processes that are there and that no file names. None of them is cut off.

        With a usable file, such a process was forked in the moment before the master's end, and may serve by now.
        """
        if not self._at.sole:
            return []
        if self._at.tree is not None:
            return sorted(processes.strangers())
        if self._inherited.left is None and not (self._inherited.trouble or self._has_company()):
            return []
        return sorted(self._strangers(processes))

    def _has_company(self) -> bool:
        """Whether our unit has processes that are not ours: somebody may have removed the file that names them."""
        if self._at.directory is None:
            return False
        return not all(map(_is_ours, proctree.unit_members()))

    def _strangers(self, processes: Processes) -> set[int]:
        held = strangers(self._at.notify_path, processes.pids())
        for pidfd in held.values():
            os.close(pidfd)
        if self._inherited.unread and self._inherited.left is None:
            return set(held)
        if self._inherited.passed is None and not self._inherited.unread:
            # A zygote may have been started ahead of this (early.py), and is no predecessor's.
            return {pid for pid in held if not _is_ours(pid)}
        # Of ours, what a worker has left lives on; what leads a group of its own was to be a worker.
        return {pid for pid in held if leads(pid) and not processes.may_be_awaited(pid)}

    def told(self, there: Collection[WorkerId], unknown: int) -> list[Journal]:
        """What is to be said of what was found."""
        left, passed, trouble = self._inherited.left, self._inherited.passed, self._inherited.trouble
        entries = []
        if left is not None and (passed is not None or self._inherited.unread):
            priority = WARNING if passed is None else None
            text = self.anew(there, unknown)
            entries.append(Journal(kind=Message.MASTER_REEXECUTED, message=text, priority=priority))
        elif left is not None:
            text = f"The master before this one (pid {left.master}) ended unexpectedly. {took(len(there))}"
            entries.append(
                Journal(kind=Message.MASTER_SUCCEEDED, message=text + unnamed(unknown, bool(there)))
            )
        if trouble or (left is None and unknown):
            why = trouble or "No file says which workers an earlier master has left"
            text = f"{why[0].upper()}{why[1:]}. {_clean(unknown)}"
            entries.append(Journal(kind=Message.STATE_UNUSABLE, message=text))
        return entries

    def anew(self, there: Collection[WorkerId], unknown: int) -> str:
        """What an entry says of the execve(2), and the answer to who has asked for it. Arguments as of told()."""
        left = self._inherited.left
        before = __version__ if left is None else left.program
        version = f" (version {before} before)" if before != __version__ else ""
        text = f"The master has executed itself anew, version {__version__}{version}"
        if not self._inherited.unread:
            return f"{text}: {workers(len(there))} kept"
        text += ", and can't read what the master before it has passed on. "
        if left is None:
            return text + _clean(unknown)
        return text + took(len(there), why="") + unnamed(unknown, bool(there))


def _clean(unknown: int) -> str:
    verb = "is" if unknown == 1 else "are"
    after = (
        f"{unknown} of its processes {verb} told to stop when new workers serve"
        if unknown
        else "none is there"
    )
    return f"Started clean: {after}"


def took(many: int, why: str = ", because systemd has removed its /tmp") -> str:
    """What a successor says of the workers that it found."""
    why = f"replaced in its turn{why}"
    if many == 0:
        return "None of its workers is left; new ones are started"
    if many == 1:
        return f"1 of its workers is taken over; it is {why}"
    return f"{many} of its workers are taken over; each is {why}"


def unnamed(many: int, others: bool) -> str:
    """What happens to the processes that the file did not name; `others` serve."""
    if not many:
        return ""
    when = "" if others else " when new workers serve"
    if many == 1:
        return f". 1 process that its file does not name is told to stop{when}"
    return f". {many} processes that its file does not name are told to stop{when}"


def _is_ours(pid: int) -> bool:
    """Whether it is this process, or one that it has started."""
    return proctree.is_descendant(pid, (os.getpid(),)) is not None


def _serve(many: int) -> str:
    return f"{workers(many)} {'goes' if many == 1 else 'go'} on serving" if many else "no worker served"


def _print(error: Exception, facts: Sequence[f.Fact]) -> None:
    with contextlib.suppress(Exception):
        traceback.print_exception(error)
        sys.stderr.write(f"memunit: the facts of the last pass were {repr(facts)[:_LONGEST]}\n")
        sys.stderr.flush()


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{os.path.basename(frames[-1].filename)}, line {frames[-1].lineno}" if frames else "nowhere"


def _pause() -> None:
    """Wait, but not for longer than somebody wants it to stop."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
    try:
        deadline = time.monotonic() + _PAUSE
        while not signal.sigpending() & STOP and time.monotonic() < deadline:
            got = signal.sigtimedwait(STOP, deadline - time.monotonic())
            if got is not None:
                os.kill(os.getpid(), got.si_signo)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
