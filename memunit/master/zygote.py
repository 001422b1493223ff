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
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from memunit.master.spawn import Child, End, Launch, adopt

Name = TypeVar("Name", bound=Hashable)

CONTROL = "memunit-zygote"
# Seconds within which a zygote ends that was told to, or answers once somebody can't wait for its worker.
PATIENCE = 10.0
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
class Warned:
    """The app's import has left something behind that a fork does not get along with."""

    text: str


Event = Forked[Any] | Refused[Any] | Warned


@dataclass(slots=True)
class _Request(Generic[Name]):
    name: Name
    environment: Mapping[str, str]
    watchdog_usec: int
    cgroup: str
    signum: int = 0


class Zygote(Generic[Name]):
    """One zygote process, and what was asked of it. One request is on its way at a time, so no send blocks."""

    def __init__(self, identity: ZygoteId, launch: Launch, start: Callable[[Launch], Child]) -> None:
        """Start it as `launch` would start a worker by exec: it gets "--zygote" and one more socket.

        Raises OSError when there can be no process.
        """
        self.identity = identity
        self.ready = False
        self.starved = False
        """Whether the OOM killer has come to it."""
        self.forked = False
        """Whether a worker of its has come to be."""
        self.asked = False
        """Whether it was ever asked for a worker: whoever asked is told what becomes of it."""
        self.over = False
        """Whether it has closed its end: it has ended, or is about to."""
        self._death_signal = launch.parent_death_signal
        self._waiting: deque[_Request[Name]] = deque()
        self._asked: _Request[Name] | None = None
        self._last_words = ""
        self.spent = False
        """Whether it is asked for no more, though it may live: it was dropped, its import failed, or it hung."""
        self.kill_at = math.inf
        """When it is killed if it has not ended or answered by then, in seconds of CLOCK_MONOTONIC."""
        self._hung = False
        self._control, theirs = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        theirs.setblocking(True)
        try:
            self.child = start(
                replace(
                    launch,
                    argv=(*launch.argv[:2], "--zygote", *launch.argv[2:]),
                    sockets=(*launch.sockets, (CONTROL, theirs.fileno())),
                    watchdog_usec=0,
                )
            )
        except OSError:
            self._control.close()
            raise
        finally:
            theirs.close()
        # What the import has started beside it serves its workers too, and they may outlive it.
        self.child.spares_group = True

    def fileno(self) -> int:
        """The descriptor to poll for reading, until it is `over`."""
        return self._control.fileno()

    def request(self, name: Name, environment: Mapping[str, str], watchdog_usec: int, cgroup: str) -> None:
        """Ask for a worker with these variables on top of the zygote's own environment; `cgroup` as in Launch."""
        self.asked = True
        self._waiting.append(_Request(name, environment, watchdog_usec, cgroup))
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
                    Refused(name, _late(self.ready) if late else "it was told to stop before it was forked")
                ]
        return None

    def receive(self) -> list[Event]:
        """What it has said since the last call; adopts the workers that it has forked."""
        events: list[Event] = []
        while not self.over:
            try:
                packet = self._control.recv(_LARGEST)
            except BlockingIOError:
                break
            except OSError:
                packet = b""
            try:
                events += self._hear(json.loads(packet)) if packet else []
            except (ValueError, LookupError, TypeError, AttributeError):
                # The app runs in there, and may have got at our socket.
                self._end(signal.SIGKILL)
                self._last_words = "the zygote has sent what is no message of its"
                events += self._refuse_all(self._last_words)
                packet = b""
            self.over = not packet
            if self.over and not self.spent:
                # As it ends, as a rule. The app may have closed our socket as well, or sent an empty packet.
                self.spent = True
                self._expect()
        return events

    def overdue(self) -> None:
        """It is past `kill_at`: kill it, with all that it has started if that can't serve a worker."""
        self.kill_at = math.inf
        if self.forked:
            with contextlib.suppress(PermissionError):
                self.child.signal(signal.SIGKILL)
        else:
            self.child.kill_tree()
        self.spent = self._hung = True
        late = "the zygote has closed its socket" if self.over else _late(self.ready)
        self._last_words = self._last_words or late

    def ended(self, end: End, failure: OSError | None) -> list[Refused[Name]]:
        """It has ended, and receive() has been called since: nothing that was asked for will come any more."""
        return self._refuse_all(self._last_words or self.fate(end, failure))

    def fate(self, end: End, failure: OSError | None) -> str:
        """One clause on how it ended."""
        if self._last_words and not self.ready:
            return f"the zygote has failed: {self._last_words}"
        if failure is not None:
            return f"{failure.filename}: {failure.strerror}" if failure.filename else str(failure.strerror)
        how = f"exited with status {end.status}"
        if end.code != "exited" and self.starved:
            how = "was killed by the OOM killer, for want of memory"
        elif end.code != "exited":
            how = ("did not answer and " if self._hung else "") + f"was killed by {_signal_name(end.status)}"
        return f"the zygote {how}" + ("" if self.ready else " while it imported the app")

    def drop(self) -> None:
        """Let it end: it is not needed any more. What it has forked by then is still to be received."""
        if self._asked is None and not self.spent:
            with contextlib.suppress(PermissionError):
                self.child.signal(signal.SIGTERM)
        self.spent = True
        self._expect()
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket; a zygote that still runs ends by that."""
        self._control.close()

    def _end(self, signum: int) -> None:
        """By SIGABRT it can write its stacks to the journal first."""
        self._last_words = _late(self.ready)
        if signum == signal.SIGKILL:
            self.overdue()
            return
        with contextlib.suppress(PermissionError):
            self.child.signal(signum)
        self.spent = self._hung = True
        self._expect()

    def _expect(self) -> None:
        self.kill_at = min(self.kill_at, time.monotonic() + PATIENCE)

    def _ask(self) -> None:
        if not self.ready or self._asked is not None or not self._waiting or self.over:
            return
        self._asked = request = self._waiting.popleft()
        message = {
            "id": id(request),
            "environment": dict(request.environment),
            "watchdog_usec": request.watchdog_usec,
            "cgroup": request.cgroup,
            "parent": os.getpid(),
            "parent_death_signal": int(self._death_signal),
        }
        with contextlib.suppress(OSError):  # that it has ended is heard from its pidfd
            self._control.send(json.dumps(message).encode(), socket.MSG_NOSIGNAL)

    def _hear(self, message: Mapping[str, Any]) -> list[Event]:
        events: list[Event] = []
        if "ready" in message:
            self.ready = True
            events += [Warned(text) for text in message["warnings"]]
        elif "unusable" in message:
            self._last_words = message["unusable"]
            self.spent = True
            self._expect()
            events += self._refuse_all(self._last_words)
        elif message["id"] == id(self._asked) and self._asked is not None:
            request, self._asked = self._asked, None
            if not self.spent:
                self.kill_at = math.inf
            events.append(self._outcome(request, message))
        self._ask()
        return events

    def _outcome(self, request: _Request[Name], message: Mapping[str, Any]) -> Event:
        if "pid" not in message:
            reason = f": {os.strerror(message['errno'])}" if message["errno"] else ""
            return Refused(request.name, f"{message['error']}{reason}")
        try:
            child = adopt(message["pid"])
        except ChildProcessError:
            why = "it was killed before it began, or the app's import has made its process a child subreaper"
            return Refused(request.name, f"{why} (then say preload = false)")
        except OSError as error:
            os.kill(message["pid"], signal.SIGKILL)  # our child, not reaped yet: the number is its own
            return Refused(request.name, f"pidfd_open: {error.strerror}")
        self.forked = True
        return Forked(request.name, self.identity, child, request.signum)

    def _refuse_all(self, why: str) -> list[Refused[Name]]:
        asked = [] if self._asked is None else [self._asked]
        refused = [Refused(request.name, why) for request in (*asked, *self._waiting)]
        self._asked = None
        self._waiting.clear()
        return refused


def _late(ready: bool) -> str:
    return "the zygote does not answer" if ready else "the app was not imported in time"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
