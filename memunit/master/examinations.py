"""Which worker is examined at its end, how much that may take, and what is told of it."""

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Container, Iterable
from functools import partial

from memunit.core import footprint_verdict, leak, v8
from memunit.core.actions import Journal
from memunit.core.board import Board, Reason, Stage, reason_of
from memunit.core.exitcodes import EX_UNAVAILABLE
from memunit.core.footprint import Footprint
from memunit.core.growth import afar
from memunit.core.messages import Message
from memunit.core.model import Phase, Worker, WorkerId
from memunit.master import footprint as kernel
from memunit.master import leakfiles
from memunit.master.doors import Doors
from memunit.master.examiners import Examiners, Told
from memunit.master.report import Reporter
from memunit.master.setting import Configuration
from memunit.master.witnesses import Witnesses, how_to_read

# So many reports that say the same, one after the other, and then only each EACH-th recycle is examined, or the first
# one after AGAIN seconds.
_ALIKE = 3
_EACH = 8
_AGAIN = 3600.0
# What of the room under its ceiling a worker may take for its examination.
_OF_ROOM = 2
# Seconds after which a program that never says READY=1 has become what it is: as long as its probation at a reload.
_SETTLED = 1.0
_EXAMINED = (Reason.MEMORY_LIMIT, Reason.PRESSURE, Reason.EXAMINE)
_WITH_FILES = ("rss", "pss")


class Examinations:
    """The examinations of one master. A client that waits for an examination gets its answer after a reexec too."""

    def __init__(
        self,
        report: Reporter,
        doors: Doors,
        directory: str | None,
        examiners: Examiners,
        witnesses: Witnesses,
        told: Collection[WorkerId] = (),
        asked: Iterable[tuple[int, int, int]] = (),
    ) -> None:
        """Reports are kept in `directory`, if there is one. Those in `told` were told to stop before this master, and
        those in `asked` are what `asked` has given there.
        """
        self._report = report
        self._doors = doors
        self._directory = directory
        self._asked: dict[WorkerId, list[int]] = {}
        for slot, generation, token in asked:
            self._asked.setdefault(WorkerId(slot, generation), []).append(token)
        self._rate = _Rate()
        self._examiners = examiners
        self._witnesses = witnesses
        self._told = frozenset(told)
        # That of the examiners: a program may be dear.
        self._their_rate = _Rate()
        self._unwritable = False
        # Of commands and Node programs: what the kernel has told at their start, and at their end.
        self._begun: dict[WorkerId, Footprint] = {}
        self._accounts: dict[WorkerId, Callable[..., footprint_verdict.Account]] = {}

    @property
    def asked(self) -> tuple[tuple[int, int, int], ...]:
        """Slot and generation of each worker that is to be examined for a client, and the client's token."""
        return tuple(
            (who.slot, who.generation, each) for who, tokens in self._asked.items() for each in tokens
        )

    @property
    def begun(self) -> Container[WorkerId]:
        """The workers that have been looked at."""
        return self._begun

    def begin(self, worker: Worker, configuration: Configuration, folder: str, *, ready: bool) -> None:
        """Look at a worker, in its control group at `folder`, that has just become `ready` or was sampled.

        One that does not say when it is ready is looked at when it has settled, and one that was taken over when this
        master sees it first.
        """
        if not configuration.accounts or worker.phase is not Phase.RUNNING:
            return
        since = _since_ready(worker)
        if ready or since >= _SETTLED:
            found = kernel.read(worker.pid, folder)
            if found is not None:
                self._begun[worker.id] = Footprint(**found, at=since)

    def end(self, worker: Worker, configuration: Configuration, folder: str, *, program: bool) -> bool:
        """Look at a worker that is told to stop now: after that it may be gone at any time. With `program`, have
        examine.command look at it too.

        True if the signal has to wait until the worker is among the `released`.
        """
        reason = self._reason(worker)
        if not configuration.accounts or reason not in _EXAMINED:
            return False
        found = kernel.read(worker.pid, folder)
        if found is None:
            return False
        begun, files = self._begun.get(worker.id), configuration.metric in _WITH_FILES
        ended = Footprint(**found, at=_since_ready(worker))
        wanted = footprint_verdict.wants_files(begun, ended, files=files)
        mapped = kernel.mapped(worker.pid) if wanted else None
        self._accounts[worker.id] = partial(
            footprint_verdict.account, begun, ended, files=files, mapped=mapped
        )
        if not (program and configuration.examine_command) or worker.id in self._told:
            return False
        due = reason is Reason.EXAMINE or self._their_rate.due(time.monotonic())
        return due and self._examiners.begin(worker, configuration)

    def released(self) -> list[WorkerId]:
        """Those whose signal need not wait any longer; each of them once."""
        return self._examiners.released()

    def stop(self) -> None:
        """The master stops, or executes itself anew: nobody's signal waits."""
        self._examiners.stop()

    def ask(self, worker: Worker, configuration: Configuration, token: int) -> str:
        """Somebody wants this worker replaced and examined, and its result at `token`; why that can't be, or ""."""
        if not (configuration.examine_time or configuration.accounts):
            return "workers of this instance are not examined: examine.time is 0"
        self._asked.setdefault(worker.id, []).append(token)
        return ""

    def order(self, worker: Worker, configuration: Configuration) -> tuple[Reason, float, int]:
        """Why this worker is told to stop, and the seconds and bytes for its examination; 0 for none."""
        reason = self._reason(worker)
        seconds = configuration.examine_time
        wanted = reason is Reason.EXAMINE or (
            reason in (Reason.MEMORY_LIMIT, Reason.PRESSURE) and self._rate.due(time.monotonic())
        )
        if not (wanted and seconds):
            return reason, 0.0, 0
        memory = configuration.examine_memory
        if worker.ceiling is not None and worker.memory is not None:
            memory = min(memory, max(0, worker.ceiling - worker.memory) // _OF_ROOM)
        return reason, seconds, memory

    def tell(self, end: Journal, board_of: Callable[[WorkerId], Board | None]) -> None:
        """A worker has ended, as the entry `end` has told; `board_of` gives what stood on its page."""
        slot, generation = int(end.fields["MEMUNIT_SLOT"]), int(end.fields["MEMUNIT_GENERATION"])
        who = WorkerId(slot, generation)
        board, tokens = board_of(who), self._asked.pop(who, [])
        name = f"{slot}.{generation} (pid {end.fields['MEMUNIT_WORKER_PID']})"
        report = b"" if board is None or board.report is None else board.report
        account_with, _ = self._accounts.pop(who, None), self._begun.pop(who, None)
        # A worker that the kernel tells of writes what V8 tells, or nothing; each other one its own report.
        far = afar(end.fields)
        account = None if account_with is None else account_with(heaps=v8.decode(report), far=far)
        found = leak.decode(report) if account is None else account.leak
        seen = self._examiners.told(who)
        profile = self._witnesses.found(slot, generation, str(end.fields["MEMUNIT_WORKER_PID"]))
        if account is not None:
            text = footprint_verdict.sentence(account, name)
            if seen is not None:
                text += f" {seen.clause}."
                self._their_rate.note(account.leak)
        elif found is not None:
            text = leak.sentence(found, name, far=far)
        else:
            text = leak.nothing(name, examining=board is not None and board.stage is Stage.EXAMINING)
        if profile:
            text = f"Worker {name} has ended." if found is None else text
            text += f" It was a witness: its profile is {profile}{how_to_read(profile)}"
        gave_up = board is not None and board.stage in (Stage.EXAMINING, Stage.GAVE_UP)
        if found is not None or profile or gave_up:
            known = ("MEMUNIT_SLOT", "MEMUNIT_GENERATION", "MEMUNIT_WORKER_PID")
            fields = {field: end.fields[field] for field in known}
            if found is not None:
                fields |= {**leak.fields(found), **self._save(end, found, seen)}
                if seen is not None:
                    fields["MEMUNIT_LEAK_COMMAND"] = seen.line
                if account is None:
                    self._rate.note(found)
            if profile:
                fields["MEMUNIT_LEAK_WITNESS"] = profile
            self._report.entry(Journal(kind=Message.EXAMINED, message=text, fields=fields))
        self._doors.reply(tokens, EX_UNAVAILABLE if found is None else 0, text)

    def _reason(self, worker: Worker) -> Reason:
        return Reason.EXAMINE if worker.id in self._asked else reason_of(worker.reason)

    def _save(self, end: Journal, found: leak.Leak, seen: Told | None) -> dict[str, str]:
        """Keep the whole of a report; the field that tells where."""
        if self._directory is None:
            return {}
        worker = f"{end.fields['MEMUNIT_SLOT']}.{end.fields['MEMUNIT_GENERATION']}"
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        known = {
            "worker": worker,
            "pid": end.fields["MEMUNIT_WORKER_PID"],
            "cause": end.fields["MEMUNIT_CAUSE"],
            "uptime_usec": end.fields["MEMUNIT_UPTIME_USEC"],
            "ended": int(time.time()),
        }
        try:
            command = {} if seen is None else {"command": seen.details}
            path = leakfiles.save(self._directory, f"{stamp}-{worker}", {**found.details, **known, **command})
        except OSError as error:
            if not self._unwritable:
                why = f"{error.filename or self._directory}: {error.strerror}"
                text = f"memunit can't keep the reports of what grew: {why}"
                self._report.warn(Message.CONFIGURATION, text)
            self._unwritable = True
            return {}
        self._unwritable = False
        return {"MEMUNIT_LEAK_REPORT": path}


class _Rate:
    """Examines fewer of those that are all alike."""

    def __init__(self) -> None:
        self._last: deque[leak.Leak] = deque(maxlen=_ALIKE)
        self._left_out = 0
        self._at = -math.inf

    def note(self, found: leak.Leak) -> None:
        """One was examined, and this was found."""
        self._last.append(found)
        self._at = time.monotonic()

    def due(self, now: float) -> bool:
        """Whether the next one is to be."""
        alike = len(self._last) == _ALIKE and all(leak.same(each, self._last[0]) for each in self._last)
        self._left_out += 1
        if alike and self._left_out < _EACH and now - self._at < _AGAIN:
            return False
        self._left_out = 0
        return True


def _since_ready(worker: Worker) -> float:
    return max(0.0, time.monotonic() - (worker.born if worker.ready_at is None else worker.ready_at))
