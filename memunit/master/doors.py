"""The master's own sockets in the file system, and what is done when one of them vanishes.

rm, a `rm -r` of the runtime directory, or systemd-tmpfiles that finds a socket in /tmp old, once had all healthy
workers aborted: the pings of all were lost at the same moment, and the master took its own trouble for theirs.
"""

import contextlib
import fcntl
import math
import os
import select
import time
from collections.abc import Collection

from memunit.core import facts as f
from memunit.core.actions import Journal
from memunit.core.exitcodes import EX_SOFTWARE
from memunit.core.messages import Message
from memunit.core.varlink import DENIED, Frames, Refused, error
from memunit.master.clients import Clients
from memunit.master.control import ControlServer, KeptControl
from memunit.master.inotify import Watch
from memunit.master.notify import NotifyListener
from memunit.master.report import Reporter
from memunit.records import dataclass

# Seconds from one time that a socket is made again to the next, for somebody may remove it in a loop. Each has its own:
# rm(1) removes one after the other, and what workers said to the last was lost for a second more.
_REST = 1.0
# Seconds between two tries to make one where that can't be done, and between two looks where nothing tells of removals.
_AGAIN = 10.0
# How often one is bound at once, where its directory vanishes each time.
_TRIES = 5
# So many entries about a socket tell of every loss; then there is one in so many seconds, until none is lost that long.
_MOST_TOLD = 8
_QUIET = 60.0
_REFUSAL = error(Refused(DENIED))


@dataclass(slots=True)
class _Losses:
    """How often a socket was lost, what of it is in the journal, and when it may be made again.

    Somebody may remove it once a second for days.
    """

    told: int = 0
    untold: int = 0
    told_at: float = -math.inf
    lost_at: float = -math.inf
    deaf: bool = False
    """Whether it was told that it can't be made again."""
    rest_until: float = -math.inf
    """Not bound again before this time of CLOCK_MONOTONIC."""

    def made(self, now: float) -> int | None:
        """It was lost and made again: how many losses before are untold; None if this one is not to be told either."""
        if now - self.lost_at >= _QUIET:
            self.told = 0
        self.lost_at = now
        if self.told >= _MOST_TOLD and now - self.told_at < _QUIET:
            self.untold += 1
            return None
        untold, self.untold = self.untold, 0
        self.told, self.told_at = self.told + 1, now
        return untold


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDoors:
    """The sockets, as they outlive an execve(2) of the master."""

    notify: tuple[int, ...] = ()
    control: KeptControl | None = None
    # Its listening descriptor alone.
    interface: int | None = None


Door = NotifyListener | ControlServer | Clients


class Doors:
    """The notify socket, and the sockets for commands and of the interface where there are such.

    Raises OSError when they can't be made.
    """

    def __init__(
        self,
        notify_path: str,
        control_path: str | None,
        interface_path: str | None,
        epoll: select.epoll,
        report: Reporter,
        kept: KeptDoors | None = None,
    ) -> None:
        kept = kept or KeptDoors()
        self.notify = NotifyListener(notify_path, kept.notify)
        try:
            self.control = ControlServer(control_path, kept.control) if control_path else None
        except OSError:
            self.notify.close()
            raise
        try:
            self.interface = (
                Clients(interface_path, Frames, kept.interface, _REFUSAL)
                if interface_path is not None
                else None
            )
        except OSError:
            self.notify.close()
            if self.control is not None:
                self.control.close()
            raise
        self.due = math.inf
        """When `lost` has something to do of itself, in seconds of CLOCK_MONOTONIC."""
        self._directory = os.path.dirname(notify_path)
        self._epoll = epoll
        self._report = report
        self._losses = {each: _Losses() for each in self._all}
        self._lock = -1
        self._watch = Watch(())

    @property
    def _all(self) -> list[Door]:
        return [each for each in (self.notify, self.control, self.interface) if each is not None]

    def kept(self) -> KeptDoors:
        """What a successor in this process goes on with."""
        control = None if self.control is None else self.control.kept()
        interface = None if self.interface is None else self.interface.kept()
        return KeptDoors(notify=self.notify.kept(), control=control, interface=interface)

    def admit(self, read_group: int | None) -> None:
        """Members of this group may read the interface; None for nobody."""
        if self.interface is not None:
            self.interface.admit(read_group)

    def arm(self) -> None:
        """From now on, the epoll tells of what is said here, and of what is removed."""
        for each in self._all:
            self._epoll.register(each.fileno(), select.EPOLLIN)
        self._attend()
        self.due = self._next_look()

    def lost(self, ready: Collection[int], *, deciding: bool) -> list[f.Fact]:
        """Make again what has vanished. `deciding` says that somebody's time may be over in this pass.

        The fact says that workers were not heard for a while: none is to be ended for its silence.
        """
        if not (deciding or self._watch.fileno() in ready or time.monotonic() >= self.due):
            return []
        self._watch.clear()
        missing = [each for each in self._all if not each.reachable()]
        for each in self._all:
            self._losses[each].deaf &= each in missing
        if not missing:
            self.due = self._next_look()
            return []
        silent: list[f.Fact] = [f.Unheard()] if self.notify in missing else []
        now = time.monotonic()
        for each in missing:
            if now >= self._losses[each].rest_until:
                self._make(each)
        self.due = min(self._losses[each].rest_until for each in missing)
        return silent

    def requests(self) -> list[tuple[int, str]]:
        """As ControlServer.requests()."""
        return [] if self.control is None else self.control.requests()

    def reply(self, tokens: Collection[int], exit_code: int, text: str) -> None:
        """Answer each of these requests."""
        for token in tokens:
            if self.control is not None:
                self.control.reply(token, exit_code, text)

    def abandon(self) -> None:
        """Tell all clients that wait for an answer that there will be none."""
        if self.control is not None:
            text = "The master has failed and has begun anew, and may not have done what you asked for; see the journal"
            for token in self.control.waiting():
                self.control.reply(token, EX_SOFTWARE, text)

    def _make(self, socket: Door) -> None:
        now = time.monotonic()
        losses = self._losses[socket]
        what = "notify" if socket is self.notify else "control" if socket is self.control else "interface"
        try:
            before = socket.fileno()
            _renew(socket)
            if socket.fileno() != before:
                self._epoll.register(socket.fileno(), select.EPOLLIN)
        except OSError as error:
            losses.rest_until = now + _AGAIN
            if not losses.deaf:
                self._report.entry(_not_made(what, socket.path, error))
            losses.deaf = True
            return
        losses.rest_until = now + _REST
        self._attend()
        losses.deaf = False
        untold = losses.made(now)
        if untold is not None:
            self._report.entry(_made(what, socket.path, untold))

    def _next_look(self) -> float:
        """Where no watch can be had, somebody has to look: a lost control socket runs into no deadline."""
        return math.inf if self._watch.whole else time.monotonic() + _AGAIN

    def _attend(self) -> None:
        """Watch the directory that is there now, and keep systemd-tmpfiles out of it by a lock (tmpfiles.d(5))."""
        self._watch.close()
        # Its own name is in the one above: with DynamicUser= that is a link, and a link may be removed alone.
        self._watch = Watch((self._directory, os.path.dirname(self._directory)))
        if self._watch.fileno() >= 0:
            self._epoll.register(self._watch.fileno(), select.EPOLLIN)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        with contextlib.suppress(OSError):
            self._lock = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        """Close them and take their paths away."""
        for each in self._all:
            each.close()
        self._watch.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _renew(socket: Door) -> None:
    """Bind it anew, at once again if its directory has gone meanwhile: somebody removes that piece by piece just now.

    Ten seconds until the next try were seen to cost a reload, whose worker had said READY=1 to nobody.
    """
    for _ in range(_TRIES - 1):
        with contextlib.suppress(FileNotFoundError):
            socket.renew()
            return
    socket.renew()


def _made(what: str, path: str, untold: int) -> Journal:
    lost = {
        "notify": "Messages that workers sent meanwhile are lost, and no worker is ended because of that",
        "control": "Commands that were given meanwhile have failed",
        "interface": "Commands that were given meanwhile have failed",
    }[what]
    often = f" ({untold} times more since the entry before)" if untold else ""
    fact = f"The {what} socket {path} was removed, and has been made again{often}"
    text = f"{fact}. {lost}; find what removes files there"
    return Journal(kind=Message.SOCKET_LOST, message=text, fields={"MEMUNIT_PATH": path})


def _not_made(what: str, path: str, error: OSError) -> Journal:
    after = {
        "notify": "The master can't hear workers: those that serve go on unwatched, and no new worker becomes ready",
        "control": "memunit reload can't reach the master; SIGHUP does",
        "interface": "memunit status, top, recycle, scale, set and stacks can't reach the master",
    }[what]
    why = error.strerror or str(error)
    remedy = "restart the service"
    if isinstance(error, IsADirectoryError):
        # A restart leaves it there (RuntimeDirectoryPreserve=restart).
        remedy = "remove the directory that is in its place"
    text = f"The {what} socket {path} was removed, and can't be made again: {why}. {after}; {remedy}"
    return Journal(kind=Message.SOCKET_LOST, message=text, priority=3, fields={"MEMUNIT_PATH": path})
