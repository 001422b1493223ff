"""Stacks that workers write of themselves when they are asked, into a memory file of their own (worker/stacks.py).

The file is found in the worker's /proc/PID/fd (proc_pid_fd(5)), which a process of the same user may open. A worker
that can't write, or comes to no end, costs a moment's wait and no more than a bounded read.
"""

import contextlib
import math
import os
import signal
import stat
import time

from memunit.master import proctree
from memunit.records import dataclass

# As memunit/worker/stacks.py has them: by Python in its main thread, and by C whatever that thread is at. Both at once
# would be written by two threads, one into the other.
WHOLE, THREADS = signal.SIGRTMAX - 4, signal.SIGRTMAX - 5
_LINK = "/memfd:memunit-stacks (deleted)"
_END = b"\0"
# Seconds until a worker's main thread is not waited for any more, and then until what is there counts.
PATIENCE, SHORT_PATIENCE = 5.0, 0.5
# The bytes that are taken of one, and how many descriptors are looked at.
LARGEST = 256 << 10
_MOST_OPEN = 4096

Token = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Dump:
    """What one has written; it is `complete` when it came to its last line."""

    token: Token
    text: str
    complete: bool


@dataclass(slots=True)
class _Asked:
    pid: int
    file: int
    until: float
    askers: list[int]
    hangs: bool = False


class Dumps:
    """Those that were asked and have not written all of it. The first of a token's numbers is who wants to know.

    A worker has one file for its stacks. All clients that ask while the worker writes that file get the same stacks.
    """

    def __init__(self) -> None:
        self._asked: dict[tuple[int, int], _Asked] = {}

    @property
    def due(self) -> float:
        """When the time of one is over, in seconds of CLOCK_MONOTONIC."""
        return min((each.until for each in self._asked.values()), default=math.inf)

    @property
    def waits(self) -> bool:
        """Whether anybody was asked: the end of each comes with a datagram to the notify socket."""
        return bool(self._asked)

    def awaits(self, asker: int) -> bool:
        """Whether one is still to write for this one."""
        return any(asker in each.askers for each in self._asked.values())

    def begin(self, token: Token, pid: int) -> str:
        """Ask the worker of this pid, which is a child of ours; why that can't be done, else ""."""
        asker, slot, generation = token
        known = self._asked.get((slot, generation))
        if known is not None:
            known.askers.append(asker)
            return ""
        if not (proctree.catches(pid, WHOLE) and proctree.catches(pid, THREADS)):
            # Without a handler the signal would end it: a worker of an older version, or one that still starts.
            return "this worker can't write stacks: it still starts, or an older version started it; a new worker can"
        file = _find(pid)
        if file is None:
            return "the file for this worker's stacks can't be opened"
        try:
            os.ftruncate(file, 0)
            proctree.kill(pid, WHOLE)
        except OSError as error:
            os.close(file)
            return f"this worker can't be asked: {error.strerror}"
        self._asked[slot, generation] = _Asked(pid, file, time.monotonic() + PATIENCE, [asker])
        return ""

    def done(self) -> list[Dump]:
        """Who has written all, or has no more time."""
        found = []
        now = time.monotonic()
        for (slot, generation), asked in list(self._asked.items()):
            text = b""
            with contextlib.suppress(OSError):
                text = os.pread(asked.file, LARGEST, 0)
            if _END not in text and now < asked.until:
                continue
            if _END not in text and not asked.hangs:
                asked.hangs, asked.until = True, now + SHORT_PATIENCE
                with contextlib.suppress(OSError):
                    proctree.kill(asked.pid, THREADS)
                continue
            del self._asked[slot, generation]
            with contextlib.suppress(OSError):
                os.ftruncate(asked.file, 0)
            os.close(asked.file)
            shown = _printable(text.replace(_END, b"").decode("utf-8", "replace"))
            found += [Dump((asker, slot, generation), shown, _END in text) for asker in asked.askers]
        return found

    def close(self) -> None:
        """Nobody wants to know any more."""
        for asked in self._asked.values():
            os.close(asked.file)
        self._asked.clear()


def _find(pid: int) -> int | None:
    """A descriptor of the worker's file: a memory file, with whatever in it a hostile worker has put there."""
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(folder), key=int)[:_MOST_OPEN]:
            with contextlib.suppress(OSError):
                if os.readlink(f"{folder}/{name}") != _LINK:
                    continue
                file = os.open(f"{folder}/{name}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
                if stat.S_ISREG(os.fstat(file).st_mode):
                    return file
                os.close(file)
    return None


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)
