"""The master's side of a zygote: one process that forks workers from an app which it has imported.

The other side is memunit/worker/zygote.py, and the messages are described there.
"""

import contextlib
import math
import os
import signal
import socket
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

from memunit.master import zygote_messages as said
from memunit.master.child import Launch
from memunit.master.held import Child, End, adopt, started_after
from memunit.master.spawn import fork_failure
from memunit.master.zygote_course import RUBBISH, Course
from memunit.master.zygote_events import Apart, Declined, Event, Forked, Imported, Refused, Warned, ZygoteId
from memunit.master.zygote_requests import KeptRequest, Request, Requests
from memunit.records import dataclass, replace

Name = TypeVar("Name", bound=Hashable)

CONTROL = "memunit-zygote"
# Seconds within which a zygote ends that was told to, or answers once somebody can't wait for its worker.
PATIENCE = 10.0
# And one that workers or the end of the master wait for.
SHORT_PATIENCE = 2.0
_LARGEST = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptZygote:
    """A zygote, as it outlives an execve(2) of the master; `control` is a descriptor.

    With `begun` the first of the requests is on its way.
    """

    revision: int
    number: int
    pid: int
    control: int
    course: Course
    begun: bool
    requests: tuple[KeptRequest, ...]


class Zygote(Generic[Name]):
    """One zygote process, and what was asked of it."""

    def __init__(
        self,
        identity: ZygoteId,
        child: Child,
        control: socket.socket,
        course: Course,
        known: Callable[[int], bool],
    ) -> None:
        """One that runs already; `known` is as in `begin`."""
        self.identity = identity
        self.child = child
        # What the import has started beside it serves its workers too, and they may outlive it.
        self.child.spares_group = True
        self.course = course
        self.starved = False
        """Whether the OOM killer has come to it."""
        self._control = control
        self._known = known
        self.requests: Requests[Name] = Requests()

    @classmethod
    def begin(
        cls,
        identity: ZygoteId,
        launch: Launch,
        start: Callable[[Launch], Child],
        *,
        careful: bool = False,
        known: Callable[[int], bool] = lambda _: False,
    ) -> "Zygote[Name]":
        """Start it as `launch` would start a worker by exec: it gets "--zygote" and one more socket.

        If it is `careful` and finds that a fork would break something, it forks nobody and ends. `known` tells of a pid
        whether it is that of a child which the master has already. Raises OSError when there can be no process.
        """
        ours, theirs = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        theirs.setblocking(True)
        try:
            child = start(
                replace(
                    launch,
                    argv=(*launch.argv[:2], "--zygote", *launch.argv[2:]),
                    sockets=(*launch.sockets, (CONTROL, theirs.fileno())),
                    # The page, the pings and the question for memory are for one worker each.
                    board=-1,
                    watchdog_usec=0,
                    pressure_watch="",
                )
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(
            identity, child, ours, Course(death_signal=launch.parent_death_signal, careful=careful), known
        )

    def awaits(self, name: Name) -> bool:
        """Whether a worker of this name was asked for, and is still to come."""
        return any(request.name == name for request in self.requests)

    def may_have_forked(self, pid: int) -> bool:
        """Whether this child of ours may be the worker that was asked for last, and of which nothing was said yet."""
        request = self.requests.begun
        return request is not None and started_after(pid, request.asked_at)

    def kept(self) -> KeptZygote:
        """What a master in the same process has to know of it."""
        return KeptZygote(
            revision=self.identity.revision,
            number=self.identity.number,
            pid=self.child.pid,
            control=self._control.fileno(),
            course=self.course,
            begun=self.requests.begun is not None,
            requests=self.requests.kept(),
        )

    @classmethod
    def resumed(
        cls,
        kept: KeptZygote,
        child: Child,
        naming: Callable[[tuple[int, int]], Name],
        known: Callable[[int], bool],
    ) -> "Zygote[Name]":
        """One that another master in this process has begun. Raises OSError for a socket that is none."""
        control = socket.socket(fileno=kept.control)
        zygote = cls(ZygoteId(kept.revision, kept.number), child, control, kept.course, known)
        zygote.requests = Requests.resumed(kept.requests, naming, begun=kept.begun)
        return zygote

    def fileno(self) -> int:
        """The descriptor to poll for reading, until its course is `over`."""
        return self._control.fileno()

    def request(self, name: Name, environment: Mapping[str, str], launch: Launch) -> None:
        """Ask for a worker with these variables on top of the zygote's own environment, else as `launch` has it."""
        self.course.asked = True
        self.requests.add(name, environment, launch)
        self._ask()

    def signal(self, name: Name, signum: int) -> list[Refused[Name]] | None:
        """A signal for a worker that is not there yet; None if none of this name is awaited.

        One that was not begun does not come. SIGTERM to one that is being forked reaches it when it is there.
        SIGABRT and SIGKILL say that it has taken too long, and it is the zygote that hangs.
        """
        late = signum in (signal.SIGABRT, signal.SIGKILL)
        begun = self.requests.begun
        if begun is not None and begun.name == name:
            begun.signum = signum
            if late:
                self._end(signum)
            else:
                # A fork takes milliseconds, unless a handler of the app's (os.register_at_fork) hangs.
                self._expect()
            return []
        if not self.requests.withdraw(name):
            return None
        if late:
            self._end(signum)
        return [Refused(name, self.course.late if late else "it was told to stop before it was forked")]

    def receive(self) -> list[Event]:
        """What it has said since the last call; adopts the workers that it has forked."""
        events: list[Event] = []
        while not self.course.over:
            try:
                packet = self._control.recv(_LARGEST)
            except BlockingIOError:
                break
            except OSError:
                packet = b""
            message = said.decode(packet)
            if message is not None and self._expected(message):
                events += self._hear(message)
            elif packet:
                # The app runs in there, and may have got at our socket.
                self._end(signal.SIGKILL)
                self.course.last_words = RUBBISH
                events += self._refuse_all(self.course.last_words)
                packet = b""
            self.course.over = not packet
            if self.course.over and not self.course.spent:
                # As it ends, as a rule. The app may have closed our socket as well, or sent an empty packet.
                self.course.spent = True
                self._expect()
        return events

    def overdue(self) -> None:
        """It is past `kill_at`: kill it, with all that it has started if that can't serve a worker."""
        self.course.kill_at = math.inf
        if self.course.forked:
            with contextlib.suppress(PermissionError):
                self.child.signal(signal.SIGKILL)
        else:
            self.child.kill_tree()
        self.course.spent = self.course.hung = True
        late = "the zygote has closed its socket" if self.course.over else self.course.late
        self.course.last_words = self.course.last_words or late

    def ended(self, end: End, failure: OSError | None) -> list[Refused[Name]] | list[Apart[Name]]:
        """It has ended, and receive() has been called since: nothing that was asked for will come from it any more."""
        if self.course.declined:
            return [Apart(each.name, each.whole()) for each in self.requests.withdraw_all()]
        return self._refuse_all(self.course.last_words or self.fate(end, failure))

    def fate(self, end: End, failure: OSError | None) -> str:
        """One clause on how it ended."""
        return self.course.fate(end, failure, starved=self.starved)

    def drop(self) -> None:
        """Let it end: it is not needed any more. What it has forked by then is still to be received."""
        if self.requests.begun is None and not self.course.spent and not self.course.lingers:
            with contextlib.suppress(PermissionError):
                self.child.signal(signal.SIGTERM)
        self.course.spent = True
        if not self.course.lingers or self.requests.begun is not None:
            self._expect()
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)

    def bereaved(self) -> None:
        """The last of its workers has ended. If it lingers for that, it is about to end as well."""
        if self.course.spent:
            self._expect()

    def close(self) -> None:
        """Close the socket; a zygote that still runs ends by that."""
        self._control.close()

    def _end(self, signum: int) -> None:
        """By SIGABRT it can write its stacks to the journal first."""
        self.course.last_words = self.course.late
        if signum == signal.SIGKILL:
            self.overdue()
            return
        with contextlib.suppress(PermissionError):
            self.child.signal(signum)
        self.course.spent = self.course.hung = self.course.aborted = True
        self._expect()

    def _expect(self) -> None:
        self.course.kill_at = min(self.course.kill_at, time.monotonic() + PATIENCE)

    def _ask(self) -> None:
        if not self.course.ready or self.course.declined or self.course.over:
            return
        request = self.requests.begin()
        if request is not None:
            with contextlib.suppress(OSError):  # that it has ended is heard from its pidfd
                request.send(self._control, self.course.death_signal)

    def _expected(self, message: said.Message) -> bool:
        """Whether the zygote may send this message now."""
        match message:
            case said.Ready() | said.Unusable():
                return not self.course.ready
            case said.Failed(number):
                request = self.requests.begun
                return request is not None and number == request.number
            case said.Made(number, pid):
                request = self.requests.begun
                if request is None or number != request.number or self._known(pid) or pid == os.getpid():
                    return False
                # A number that it has made up can be that of a child of ours which serves already, or is a stray.
                return self.may_have_forked(pid)

    def _hear(self, message: said.Message) -> list[Event]:
        events: list[Event] = []
        match message:
            case said.Ready(hazards, notes, lingers):
                self.course.ready, self.course.lingers = True, lingers
                if self.course.careful and hazards:
                    self._decline()
                    return [Declined(hazards)]
                events.append(Imported(self.identity))
                if not self.course.careful:
                    events += [Warned(text) for text in (*hazards, *notes)]
            case said.Unusable(text):
                self.course.last_words = text
                self.course.spent = True
                self._expect()
                events += self._refuse_all(self.course.last_words)
            case said.Made() | said.Failed():
                request = self.requests.answered()
                if not self.course.spent:
                    self.course.kill_at = math.inf
                events.append(self._outcome(request, message))
        self._ask()
        return events

    def _decline(self) -> None:
        """Have it end, and run the clean-up of the import: it may hold a port or a lock that each worker needs."""
        self.course.declined = self.course.spent = True
        self.course.kill_at = min(self.course.kill_at, time.monotonic() + SHORT_PATIENCE)
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)

    def _outcome(self, request: Request[Name], message: said.Made | said.Failed) -> Event:
        if isinstance(message, said.Failed):
            if message.text == "fork" and message.errno:
                return Refused(request.name, fork_failure(message.errno))
            reason = f": {os.strerror(message.errno)}" if message.errno else ""
            return Refused(request.name, f"{message.text}{reason}")
        try:
            child = adopt(message.pid)
        except ChildProcessError:
            why = "it was killed before it began, or the app's import has made its process a child subreaper"
            return Refused(request.name, f"{why} (then say preload = false)")
        except OSError as error:
            os.kill(message.pid, signal.SIGKILL)  # our child, not reaped yet: the number is its own
            return Refused(request.name, f"pidfd_open: {error.strerror}")
        self.course.forked = True
        return Forked(request.name, self.identity, child, request.signum)

    def _refuse_all(self, why: str) -> list[Refused[Name]]:
        refused = [Refused(request.name, why) for request in self.requests]
        self.requests = Requests()
        return refused
