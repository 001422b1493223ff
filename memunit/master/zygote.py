"""The master's side of a zygote: one process that forks workers from an app which it has imported.

The other side is memunit/worker/zygote.py, and the messages are described there.
"""

import contextlib
import json
import math
import os
import signal
import socket
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

from memunit.master import zygote_messages as said
from memunit.master.spawn import Child, End, Launch, adopt, fork_failure, started_after

Name = TypeVar("Name", bound=Hashable)

CONTROL = "memunit-zygote"
# Seconds within which a zygote ends that was told to, or answers once somebody can't wait for its worker.
PATIENCE = 10.0
# And one that workers or the end of the master wait for.
SHORT_PATIENCE = 2.0
RUBBISH = "the zygote has sent what is no message of its"
_LARGEST = 65536


@dataclass(frozen=True, slots=True)
class ZygoteId:
    """The `number`th zygote of a revision of the configuration."""

    revision: int
    number: int


@dataclass(frozen=True, slots=True)
class Forked(Generic[Name]):
    """A worker that was asked for is our child now."""

    name: Name
    zygote: ZygoteId
    child: Child
    signum: int
    """A signal that was meant for it meanwhile, 0 for none."""


@dataclass(frozen=True, slots=True)
class Refused(Generic[Name]):
    """A worker that was asked for will not come."""

    name: Name
    why: str


@dataclass(frozen=True, slots=True)
class Apart(Generic[Name]):
    """A worker that was asked for is to be started by exec, and imports the app for itself."""

    name: Name
    launch: Launch


@dataclass(frozen=True, slots=True)
class Declined:
    """The app's import has left behind what a fork breaks: no worker is forked from it."""

    hazards: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Warned:
    """The app's import has left something behind that a fork does not get along with."""

    text: str


Event = Forked[Any] | Refused[Any] | Apart[Any] | Declined | Warned


@dataclass(slots=True, kw_only=True)
class Request(Generic[Name]):
    """A worker that was asked for. `number` is never used twice, and `asked_at` in seconds of CLOCK_BOOTTIME."""

    name: Name
    environment: Mapping[str, str]
    launch: Launch
    number: int
    asked_at: float = 0.0
    signum: int = 0


@dataclass(slots=True, kw_only=True)
class Course:
    """How far a zygote has come: all that outlives an execve(2) of the master, but for its process and socket."""

    death_signal: int = 0
    careful: bool = False
    declined: bool = False
    lingers: bool = False
    aborted: bool = False
    ready: bool = False
    status: str = ""
    forked: bool = False
    asked: bool = False
    over: bool = False
    spent: bool = False
    hung: bool = False
    last_words: str = ""
    kill_at: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRequest:
    """A request, as it outlives an execve(2) of the master."""

    name: tuple[int, int]
    environment: Mapping[str, str]
    launch: Launch
    number: int
    asked_at: float
    signum: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptZygote:
    """A zygote likewise; `control` is a descriptor, and with `begun` the first of the requests is on its way."""

    revision: int
    number: int
    pid: int
    control: int
    course: Course
    begun: bool
    requests: tuple[KeptRequest, ...]


class Zygote(Generic[Name]):
    """One zygote process, and what was asked of it. One request is on its way at a time, so no send blocks."""

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
        self._asked: Request[Name] | None = None
        self._waiting: list[Request[Name]] = []

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

    @property
    def declined(self) -> bool:
        """Whether what it has imported is not to be forked: who was asked for comes Apart, once it has ended."""
        return self.course.declined

    @property
    def lingers(self) -> bool:
        """Whether it ends after its workers, and by itself, when nobody needs it any more."""
        return self.course.lingers

    @property
    def aborted(self) -> bool:
        """Whether it was sent SIGABRT, and writes its stacks."""
        return self.course.aborted

    @property
    def ready(self) -> bool:
        """Whether it has imported the app."""
        return self.course.ready

    @property
    def asked(self) -> bool:
        """Whether it was ever asked for a worker: whoever asked is told what becomes of it."""
        return self.course.asked

    @property
    def over(self) -> bool:
        """Whether it has closed its end: it has ended, or is about to."""
        return self.course.over

    @property
    def spent(self) -> bool:
        """Whether it is asked for no more, though it may live: it was dropped, its import failed, or it hung."""
        return self.course.spent

    @property
    def kill_at(self) -> float:
        """When it is killed if it has not ended or answered by then, in seconds of CLOCK_MONOTONIC."""
        return self.course.kill_at

    def awaits(self, name: Name) -> bool:
        """Whether a worker of this name was asked for, and is still to come."""
        return any(request.name == name for request in self._requests)

    @property
    def _requests(self) -> list[Request[Name]]:
        return [*([] if self._asked is None else [self._asked]), *self._waiting]

    def kept(self) -> KeptZygote:
        """What a master in the same process has to know of it."""
        requests = [
            KeptRequest(
                name=cast("tuple[int, int]", each.name),
                environment=each.environment,
                launch=each.launch,
                number=each.number,
                asked_at=each.asked_at,
                signum=each.signum,
            )
            for each in self._requests
        ]
        return KeptZygote(
            revision=self.identity.revision,
            number=self.identity.number,
            pid=self.child.pid,
            control=self._control.fileno(),
            course=self.course,
            begun=self._asked is not None,
            requests=tuple(requests),
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
        zygote._waiting = [
            Request(
                name=naming(each.name),
                environment=each.environment,
                launch=each.launch,
                number=each.number,
                asked_at=each.asked_at,
                signum=each.signum,
            )
            for each in kept.requests
        ]
        zygote._asked = zygote._waiting.pop(0) if kept.begun and zygote._waiting else None
        return zygote

    def fileno(self) -> int:
        """The descriptor to poll for reading, until it is `over`."""
        return self._control.fileno()

    def request(self, name: Name, environment: Mapping[str, str], launch: Launch) -> None:
        """Ask for a worker with these variables on top of the zygote's own environment, else as `launch` has it."""
        self.course.asked = True
        self._waiting.append(
            Request(name=name, environment=environment, launch=launch, number=time.monotonic_ns())
        )
        self._ask()

    def signal(self, name: Name, signum: int) -> list[Refused[Name]] | None:
        """A signal for a worker that is not there yet; None if none of this name is awaited.

        One that was not begun does not come. SIGTERM to one that is being forked reaches it when it is there.
        SIGABRT and SIGKILL say that it has taken too long, and it is the zygote that hangs.
        """
        late = signum in (signal.SIGABRT, signal.SIGKILL)
        if self._asked is not None and self._asked.name == name:
            self._asked.signum = signum
            if late:
                self._end(signum)
            else:
                # A fork takes milliseconds, unless a handler of the app's (os.register_at_fork) hangs.
                self._expect()
            return []
        for request in self._waiting:
            if request.name == name:
                self._waiting.remove(request)
                if late:
                    self._end(signum)
                return [
                    Refused(
                        name, _late(self.course.ready) if late else "it was told to stop before it was forked"
                    )
                ]
        return None

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
        late = "the zygote has closed its socket" if self.course.over else _late(self.course.ready)
        self.course.last_words = self.course.last_words or late

    def ended(self, end: End, failure: OSError | None) -> list[Refused[Name]] | list[Apart[Name]]:
        """It has ended, and receive() has been called since: nothing that was asked for will come from it any more."""
        if self.course.declined:
            apart = [Apart(each.name, _whole(each)) for each in self._waiting]
            self._waiting.clear()
            return apart
        return self._refuse_all(self.course.last_words or self.fate(end, failure))

    def fate(self, end: End, failure: OSError | None) -> str:
        """One clause on how it ended."""
        if self.course.last_words == RUBBISH:
            return (
                f"{RUBBISH}, and was killed: something in the app writes to the socket that is memunit's own"
            )
        if self.course.last_words and not self.course.ready:
            return f"the zygote has failed: {self.course.last_words}"
        if failure is not None:
            return f"{failure.filename}: {failure.strerror}" if failure.filename else str(failure.strerror)
        how = f"exited with status {end.status}"
        if end.code != "exited" and self.starved:
            how = "was killed by the OOM killer, because memory ran out"
        elif end.code != "exited":
            how = (
                "did not answer and " if self.course.hung else ""
            ) + f"was killed by {_signal_name(end.status)}"
        if self.course.ready:
            return f"the zygote {how}"
        return f"the zygote {how} while it imported the app" + (
            f"; last status: {self.course.status}" if self.course.status else ""
        )

    def drop(self) -> None:
        """Let it end: it is not needed any more. What it has forked by then is still to be received."""
        if self._asked is None and not self.course.spent and not self.course.lingers:
            with contextlib.suppress(PermissionError):
                self.child.signal(signal.SIGTERM)
        self.course.spent = True
        if not self.course.lingers or self._asked is not None:
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
        self.course.last_words = _late(self.course.ready)
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
        if not self.course.ready or self._asked is not None or not self._waiting or self.course.over:
            return
        self._asked = request = self._waiting.pop(0)
        request.asked_at = time.clock_gettime(time.CLOCK_BOOTTIME)
        message = {
            "id": request.number,
            "environment": dict(request.environment),
            "watchdog_usec": request.launch.watchdog_usec,
            "cgroup": request.launch.cgroup,
            "parent": os.getpid(),
            "parent_death_signal": int(self.course.death_signal),
        }
        page = request.launch.board
        with contextlib.suppress(OSError):  # that it has ended is heard from its pidfd
            socket.send_fds(
                self._control,
                [json.dumps(message).encode()],
                [page] if page >= 0 else [],
                socket.MSG_NOSIGNAL,
            )

    def _expected(self, message: said.Message) -> bool:
        """Whether this is what it has to say now."""
        match message:
            case said.Ready() | said.Unusable():
                return not self.course.ready
            case said.Failed(number):
                return self._asked is not None and number == self._asked.number
            case said.Made(number, pid):
                request = self._asked
                if request is None or number != request.number or self._known(pid) or pid == os.getpid():
                    return False
                # A number that it has made up can be that of a child of ours which serves already, or is a stray.
                return started_after(pid, request.asked_at)

    def _hear(self, message: said.Message) -> list[Event]:
        events: list[Event] = []
        match message:
            case said.Ready(hazards, notes, lingers):
                self.course.ready, self.course.lingers = True, lingers
                if self.course.careful and hazards:
                    self._decline()
                    return [Declined(hazards)]
                if not self.course.careful:
                    events += [Warned(text) for text in (*hazards, *notes)]
            case said.Unusable(text):
                self.course.last_words = text
                self.course.spent = True
                self._expect()
                events += self._refuse_all(self.course.last_words)
            case said.Made() | said.Failed():
                assert self._asked is not None
                request, self._asked = self._asked, None
                if not self.course.spent:
                    self.course.kill_at = math.inf
                events.append(self._outcome(request, message))
        self._ask()
        return events

    def _decline(self) -> None:
        """Have it end, with what the import wants done at its end: it may hold what each worker wants to take."""
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
        refused = [Refused(request.name, why) for request in self._requests]
        self._asked = None
        self._waiting.clear()
        return refused


def _whole(request: Request[Name]) -> Launch:
    """How it is started by exec."""
    return replace(request.launch, environment={**request.launch.environment, **request.environment})


def _late(ready: bool) -> str:
    return "the zygote does not answer" if ready else "the app was not imported in time"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
