"""A master may end at any moment. What the next master needs is in a file, or is passed on over an execve(2).

There is one way back for all that can happen. After a SIGKILL or a hang, a successor reads the file. After an
exception, and for an upgrade, the master executes itself anew and finds the same text, and with it what an execve(2)
keeps.
"""

import contextlib
import errno
import math
import os
import time
from collections.abc import Collection, Iterable, Sequence

from memunit.core import facts as f
from memunit.core import handover
from memunit.core.actions import Action, Send, Signal, Spawn
from memunit.core.adoption import texts_are_known
from memunit.core.codec_forms import CodecError
from memunit.core.exitcodes import EX_SOFTWARE
from memunit.core.handover import Handover, Unusable
from memunit.core.model import Phase, WorkerId
from memunit.core.state import State
from memunit.master import reexec, system
from memunit.master.control import hang_up
from memunit.master.filenames import WORKERS, opened
from memunit.master.kept import Course, Passed, course_codec, passed_codec
from memunit.master.processes import Processes
from memunit.master.setting import Configuration
from memunit.records import dataclass, replace

_LARGEST = 16 << 20
_UNREAD = (
    "The new master can't read what the old one has passed on, and may not have done what you asked for; "
    "see the journal"
)
# Seconds from one look at whether the file is there to the next.
_LOOK = 10.0
# No second file can be had: of the disk's room, or of descriptors.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """What a master finds when it begins."""

    left: Handover | None = None
    # Given if the one before was this process, and what it has passed on can be read.
    passed: Passed | None = None
    # Given if policy is to go on where it was.
    course: Course | None = None
    trouble: str = ""
    """Why there may be workers that nobody can tell of."""
    unread: bool = False
    """Whether the one before was this process, and what it has passed on can't be read."""
    askers: tuple[int, ...] = ()
    """Then the connections of those who have asked it to execute itself anew, and wait for an answer."""


def take(received: reexec.Received | None, directory: str | None) -> Inherited:
    """As `inherit`, and close the sockets that execve(2) has kept if the text does not say what they are.

    A client that waits at one would wait for ever. Those who have asked for the execve(2) are answered later.
    """
    if received is None:
        return inherit(None, directory)
    found = inherit(received.text, directory)
    if found.passed is not None:
        return found
    kept = reexec.kept_sockets()
    askers = tuple(each for each in kept if each in received.askers)
    for each in kept:
        if each in askers:
            os.set_inheritable(each, False)
        else:
            hang_up(each, EX_SOFTWARE, _UNREAD)
    return replace(found, unread=True, askers=askers)


def inherit(text: bytes | None, directory: str | None) -> Inherited:
    """What is there: `text` is what was passed on (reexec.received), `directory` where the file is kept."""
    if text is None:
        return _from_file(directory)
    first, _, rest = text.partition(b"\n")
    second, _, third = rest.partition(b"\n")
    try:
        left = handover.read(first, system.boot_id())
        if left is None or not texts_are_known(left):
            raise Unusable("it has names that this version does not know")
    except Unusable as error:
        return Inherited(trouble=f"what the master has passed on to itself can't be used: {error}")
    passed = course = None
    with contextlib.suppress(CodecError):
        passed = passed_codec().loads(second)
        version, _, said = third.partition(b" ")
        if version.decode("ascii", "replace") == course_codec().version:
            course = course_codec().loads(said)
    return Inherited(left=left, passed=passed, course=course)


def _from_file(directory: str | None) -> Inherited:
    if directory is None:
        return Inherited()
    path = os.path.join(directory, WORKERS)
    try:
        with open(path, "rb", opener=opened) as file:
            text = file.read(_LARGEST)
        left = handover.read(text, system.boot_id())
        if left is not None and not texts_are_known(left):
            raise Unusable("it has names that this version does not know")
    except FileNotFoundError:
        return Inherited()
    except OSError as error:
        return Inherited(trouble=f"{path} can't be read: {error.strerror}")
    except Unusable as error:
        return Inherited(trouble=f"{path} can't be used: {error}")
    if left is None or not (left.workers or left.zygotes):
        return Inherited()
    return Inherited(left=left)


class HandoverFile:
    """The file, replaced in one step each time. Nothing here raises: without it, a successor only knows less.

    A file system without room for a second file still takes this one, in its place. A file that says what was so before
    is worse than none: a successor would tell the ends of those workers once more, and not know the ones that serve.
    """

    trouble: OSError | None = None
    """Why the file is not as it was to be, as long as that is so."""

    def __init__(self, directory: str | None) -> None:
        """Kept in `directory`, or nowhere."""
        self._path = None if directory is None else os.path.join(directory, WORKERS)
        self._kept = ""
        self._place: tuple[int, int] | None = None
        self._look_at = -math.inf

    def lost(self) -> bool:
        """Whether the text has to be saved once more: it could not be written, or its file was removed. Looked at
        once in ten seconds.
        """
        now = time.monotonic()
        if self._path is None or not self._kept or now < self._look_at:
            return False
        self._look_at = now + _LOOK
        if self._place is not None:
            with contextlib.suppress(OSError):
                if _place_of(os.lstat(self._path)) == self._place:
                    return False
        self._place = None
        return True

    def save(self, text: str) -> None:
        """Keep this from now on."""
        if self._path is None or (text == self._kept and self._place is not None):
            return
        self._kept, self._place = text, None
        new = f"{self._path}.new"
        try:
            place = _write(new, os.O_CREAT | os.O_TRUNC, text.encode())
            os.replace(new, self._path)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(new)
            self.trouble = error
            if error.errno in _FULL:
                self._overwrite(text)
        else:
            self._place, self.trouble = place, None

    def _overwrite(self, text: str) -> None:
        """Write it where the last one is, whose blocks it has; what does not fit either is removed."""
        assert self._path is not None
        try:
            before = os.lstat(self._path).st_size
            # Blanks cover what is left of the old text: between a write and a truncation a SIGKILL may come.
            self._place = _write(self._path, 0, text.encode().ljust(before))
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        else:
            self.trouble = None

    def remove(self) -> None:
        """Nobody is left."""
        self._kept = ""
        if self._path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._path)


def _write(path: str, flags: int, data: bytes) -> tuple[int, int]:
    """Write all of it from the start; where it is now. Raises OSError."""
    flags |= os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
        return _place_of(os.fstat(descriptor))
    finally:
        os.close(descriptor)


def _place_of(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def written(left: Handover) -> str:
    """The text of the file, and the first line of what is passed on."""
    return handover.write(left, system.boot_id())


def passed_on(left: str, passed: Passed | None, course: Course | None) -> bytes:
    """What `inherit` reads. A part that can't be written is left out; `inherit` then falls back to a simpler part."""
    lines = [left]
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        if passed is not None:
            lines.append(passed_codec().dumps(passed))
            if course is not None:
                lines.append(f"{course_codec().version} {course_codec().dumps(course)}")
    return "\n".join(lines).encode("ascii")


def first_revision(configuration: Configuration, inherited: Inherited) -> dict[int, Configuration]:
    """The configurations by their revisions that a master begins with."""
    if inherited.passed is None:
        return {1: configuration}
    return dict(inherited.passed.configurations)


def again(state: State) -> list[Action]:
    """The signals for workers that stop, once more: nobody knows whether the workers got them."""
    signals = {Phase.STOP_SIGTERM: Signal.TERM, Phase.STOP_SIGKILL: Signal.KILL}
    return [Send(each.id, signals[each.phase]) for each in state.workers.values() if each.phase in signals]


def reconciled(
    state: State,
    facts: Sequence[f.Fact],
    actions: Iterable[Action],
    processes: Processes,
    there: Collection[WorkerId],
) -> list[f.Fact]:
    """Facts about workers that policy has missed, and would never get: found by the processes that are `there`.

    A worker whose start is among the `actions` that are still to be done has not failed: it starts now.
    """
    heard = {(type(fact), fact.id) for fact in facts if isinstance(fact, f.WorkerFact)}
    to_start = {action.id for action in actions if isinstance(action, Spawn)}
    found: list[f.Fact] = []
    for worker in state.workers.values():
        who = worker.id
        told = (f.Exited, who) in heard or (f.SpawnFailed, who) in heard
        if told or who in to_start or processes.awaits(who):
            continue
        if who in there:
            pid = processes.pid(who)
            if not worker.pid and pid and (f.Spawned, who) not in heard:
                found.append(f.Spawned(who, pid))
        elif worker.pid or (f.Spawned, who) in heard:
            found.append(f.Exited(who, "unknown", 0))
        else:
            found.append(f.SpawnFailed(who, "memunit itself has failed while it was started"))
    return found
