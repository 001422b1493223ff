"""Giving memory back when the master asks for it, by systemd's protocol (https://systemd.io/MEMORY_PRESSURE).

In a thread, and never in the loop. But a collection holds the GIL, and malloc_trim(3) the lock of the main thread's
arena, so the loop stands still for as long as either takes. A step is done if its estimate is 10 ms at most. A longer
step is paid for from an allowance, which grows by a two-thousandth of the time that passes: delays of less than a
thousandth of the time do not show in the 99.9th percentile.
"""

from __future__ import annotations

import _thread
import contextlib
import gc
import inspect
import os
import stat
import sys
import time
import traceback
from typing import TYPE_CHECKING, Callable, MutableMapping, Optional

from memunit.worker import allocators, board
from memunit.worker.hooks import Hook, call, call_beside

if TYPE_CHECKING:
    import asyncio

# Before the app is imported, which may have gevent put greenlets in the place of threads.
_start_thread = _thread.start_new_thread

HARMLESS = 0.010
"""Seconds that the loop may stand still at any time."""
_FIRST, _MOST = 0.030, 0.250
"""Seconds that the allowance begins with, and that it grows to."""
_SHARE = 1 / 2000
# Seconds that a collection takes for each block of memory that Python has given out, and malloc_trim(3) for each byte
# that is free, until it is known of this process.
_PER_BLOCK = 100e-9
_PER_BYTE = 0.25e-9
_UNKNOWN = 64 << 20
"""Bytes that are taken to be free where that can't be told."""
# Less than this share of all that it holds is not worth it: the master counts a tenth.
_WORTH = 1 / 20


class _Inherited:
    path: str = ""
    frozen: int = 0


def take(environment: Optional[MutableMapping[str, str]] = None) -> None:
    """Take the path of our FIFO out of `environment`: a process that the app starts would read what is for the worker.

    A path that is no FIFO belongs to somebody else, and stays.
    """
    env = os.environ if environment is None else environment
    path = env.get("MEMORY_PRESSURE_WATCH", "")
    with contextlib.suppress(OSError, ValueError):
        if stat.S_ISFIFO(os.stat(path).st_mode):
            _Inherited.path = path
            del env["MEMORY_PRESSURE_WATCH"]


def note_frozen() -> None:
    """In a zygote, after gc.freeze(): no collection in a worker will walk what is there by now."""
    _Inherited.frozen = sys.getallocatedblocks()


def opened() -> Optional[int]:
    """The FIFO's end for reading, not blocking; None if there is none."""
    take()
    if not _Inherited.path:
        return None
    with contextlib.suppress(OSError):
        return os.open(_Inherited.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return None


class Allowance:
    """How long the loop may stand still for our sake."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left, self._at = _FIRST, clock()

    def has(self, seconds: float) -> bool:
        """Whether so much may be spent now."""
        now = self._clock()
        self._left = min(_MOST, self._left + (now - self._at) * _SHARE)
        self._at = now
        return seconds <= max(HARMLESS, self._left)

    def spend(self, seconds: float) -> None:
        """So much was spent, whether it was foreseen or not."""
        self._left -= seconds


class Giver:
    """What a worker does when it is asked; once at a time."""

    def __init__(self, hook: Optional[Hook] = None) -> None:
        """`hook` is the app's own part."""
        self._hook = hook
        self._busy = False
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._allowance = Allowance()
        self._allocator: Optional[allocators.Allocator] = None
        self._looked = False
        self._per_block, self._per_byte = _PER_BLOCK, _PER_BYTE

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the loop hear the question from now on, if there is anything to hear it by.

        A hook that is a coroutine function runs in the loop, where its caches were made.
        """
        descriptor = opened()
        if descriptor is None:
            return

        def hear() -> None:
            if not self.asked(descriptor):
                loop.remove_reader(descriptor)
                with contextlib.suppress(OSError):
                    os.close(descriptor)
                self.attach(loop)

        if inspect.iscoroutinefunction(self._hook):
            self._loop = loop
        loop.add_reader(descriptor, hear)

    def asked(self, descriptor: int) -> bool:
        """Read the question, if it is one, and begin; False if it has to be `opened` anew.

        So it is when the master was killed: its successor opens the other end.
        """
        try:
            told = os.read(descriptor, 4096)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if told:
            self.begin()
        return bool(told)

    def begin(self) -> None:
        """Give back in a thread, if none does already."""
        if self._busy:
            return
        self._busy = True
        if self._loop is not None and self._hook is not None:
            task = self._loop.create_task(call_beside(self._hook))
            task.add_done_callback(lambda _: self._start(None))
        else:
            self._start(self._hook)

    def _start(self, hook: Optional[Hook]) -> None:
        try:
            _start_thread(self._run, (hook,))
        except RuntimeError:
            self._busy = False  # no thread can be had, or the interpreter is about to end

    def _run(self, hook: Optional[Hook]) -> None:
        try:
            if hook is not None:
                call(hook)
        except BaseException:
            traceback.print_exc()
        try:
            self.give()
        except Exception:
            traceback.print_exc()
        finally:
            self._busy = False

    def give(self) -> None:
        """Collect what is garbage, and hand back what is free, each as far as it is worth it and the loop can bear."""
        before = _resident()
        self._hand_back()
        page = board.own()
        if page is not None:
            page.gave_back(max(0, before - _resident()))

    def _hand_back(self) -> None:
        """Hand back free memory first: its size is known before, and what a collection finds is not."""
        gc.collect(1)
        self._release()
        blocks = max(0, sys.getallocatedblocks() - _Inherited.frozen)
        if self._allowance.has(blocks * self._per_block):
            took = self._spent(gc.collect)
            self._per_block = _learnt(self._per_block, took, blocks)
            self._release()

    def _release(self) -> None:
        if not self._looked:
            self._looked, self._allocator = True, allocators.found()
        if self._allocator is None:
            return
        told = self._allocator.free()
        if told is not None and told < _WORTH * _resident():
            return
        free = _UNKNOWN if told is None else told
        if self._allowance.has(free * self._per_byte):
            took = self._spent(self._allocator.release)
            self._per_byte = _learnt(self._per_byte, took, free)

    def _spent(self, work: Callable[[], object]) -> float:
        # Of the processor: that another process had it meanwhile is no fault of ours.
        begun = time.thread_time()
        work()
        took = time.thread_time() - begun
        self._allowance.spend(took)
        return took


def _learnt(before: float, took: float, of: int) -> float:
    """The middle of what was thought and what was seen: a machine that was busy for once proves little."""
    return (before + took / of) / 2 if of > 1 << 16 else before


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
