"""SIGTERM and SIGINT: the worker's own, and not those of the processes that the app forks from it.

The worker holds both from its start. A handler that the app sets (at import, in its lifespan, in a request) is put
aside when it is found, and called after the drain. What the app does by the loop's add_signal_handler() is known at
once; signal.signal() and pthread_sigmask() tell nobody, so look() is called at READY, after requests, and at each ping.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import signal
import sys
import threading
import time
import traceback
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from memunit.worker.problem import say

CLAIMED = (signal.SIGTERM, signal.SIGINT)
_UNUSED = signal.SIGURG
_NOBODYS = (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler, None)

Told = Callable[[int], Any]
_claim: Optional["Claim"] = None
_registered = False


class Claim:
    """Has `told(signum)` called at SIGTERM and SIGINT, whoever has set a handler since. To be made in the main thread.

    With a `loop`, `told` is called in a pass of it; without, within the signal handler, in the midst of anything.

    `should_exit` is what libraries look for that end their streams at a stop (sse-starlette finds it by way of
    signal.getsignal(SIGTERM), whose handler is a method of uvicorn's server elsewhere).
    """

    def __init__(self, told: Told, loop: Any = None, claimed: Tuple[int, ...] = CLAIMED) -> None:
        self.should_exit = False
        self.force_exit = False
        self.stopped_at: Optional[float] = None
        """When the first signal came (time.monotonic(), seconds)."""
        self._captured_signals: List[int] = []  # uvicorn.Server.handle_exit() wants one
        self.forked: Callable[[], Any] = lambda: None
        """Called in a process that the app has forked."""
        self._told = told
        self._claimed = claimed
        self._handler = self._handle
        self._own: Dict[int, Callable[[], Any]] = {}
        self._names: Dict[int, str] = {}
        self._by_signal: Dict[int, Any] = {}
        self._in_loop: Set[int] = set()
        self._released = False
        # Before the first handler is set: a SIGTERM of this very moment once met a worker without its claim.
        self._loop = loop
        self.look()
        if loop is not None:
            self._attach(loop)
        if claimed is CLAIMED:
            _forks(self)

    def _attach(self, loop: Any) -> None:
        """Have `loop` wake for a signal, and be told of what the app asks of it about signals."""
        self._add, self._remove = loop.add_signal_handler, loop.remove_signal_handler
        for signum in self._claimed:
            self._add(signum, self._hear, signum)
            signal.signal(signum, self._handler)
            signal.siginterrupt(signum, False)
        # The loop is ours, whatever its class: an app may have chosen it by a policy, and uvloop's is another.
        loop.add_signal_handler = self._app_adds
        loop.remove_signal_handler = self._app_removes

    def release(self) -> None:
        """The stop is over. SIGTERM and SIGINT are blocked, and the loop may be closed.

        The unit's own SIGTERM may come beside the master's. Closing the loop puts the default back: without the
        mask, a worker that has done everything right would end by the signal.
        """
        self._released = True
        signal.pthread_sigmask(signal.SIG_BLOCK, self._claimed)
        if self._loop is not None:
            del self._loop.add_signal_handler, self._loop.remove_signal_handler
            self._loop = None

    def look(self) -> None:
        """Take back what the app has taken by signal.signal(), and keep its handler for pass_on().

        And what it has blocked, as for a thread that waits in sigwait(): a SIGTERM that nobody hears ends in SIGKILL.
        A ping may be due while the tasks that are left end: what release() has blocked stays so.
        """
        if self._released:
            return
        for signum in self._claimed:
            if signal.getsignal(signum) is not self._handler:
                self._take(signum)
        # After that: one that is pending would meet what was there before, by default the end of the process.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._claimed)

    def pass_on(self) -> Optional[int]:
        """After the drain: call the app's own handlers of the signals that came. The exit status, if one ends us.

        Exceptions are printed and end nothing.
        """
        status: Optional[int] = None
        for signum in self._captured_signals:
            own = self._own.pop(signum, None)
            if own is None:
                continue
            try:
                own()
            except SystemExit as end:
                status = status_of(end)
            except BaseException:
                traceback.print_exc()
        return status

    def owner(self) -> str:
        """Which handlers pass_on() would call, for a person; "" when the app has none."""
        mine = [number for number in self._own if number in self._captured_signals]
        return " and ".join(f"{signal.Signals(number).name} ({self._names[number]})" for number in mine)

    def exit_libraries(self) -> None:
        """Tell libraries that wait for the end of uvicorn's server: no new connection is accepted from now on."""
        self.should_exit = True
        server = getattr(sys.modules.get("uvicorn.server"), "Server", None)
        handle_exit = getattr(server, "handle_exit", None)
        if getattr(handle_exit, "__module__", "uvicorn.server") != "uvicorn.server":
            # Somebody stands in its place to hear of a stop, as sse-starlette does.
            with contextlib.suppress(Exception):
                handle_exit(self, signal.SIGTERM, None)  # type: ignore[misc]

    def _handle(self, signum: int, _frame: object) -> None:
        if self._loop is None:
            self._hear(signum)
        else:
            # Beside the loop's own way, by the wakeup descriptor: each works where the app has taken the other.
            self._note(signum)
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._told, signum)

    def _hear(self, signum: int) -> None:
        self._note(signum)
        self._told(signum)

    def _note(self, signum: int) -> None:
        if signum not in self._captured_signals:
            self._captured_signals.append(signum)
        if self.stopped_at is None:
            self.stopped_at = time.monotonic()

    def _take(self, signum: int) -> None:
        found = signal.signal(signum, self._handler)
        signal.siginterrupt(signum, False)
        self._by_signal[signum] = found
        if found in _NOBODYS:
            self._own.pop(signum, None)
            return
        self._names[signum] = name_of(found)

        def call() -> Any:
            return found(signum, inspect.currentframe())  # type: ignore[operator]

        self._own[signum] = call

    def _app_adds(self, signum: int, callback: Callable[..., Any], *args: Any) -> None:
        if signum not in self._claimed:
            self._add(signum, callback, *args)
            self._in_loop.add(signum)
            return
        if inspect.iscoroutine(callback) or inspect.iscoroutinefunction(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        self._names[signum] = name_of(callback)
        self._own[signum] = lambda: callback(*args)

    def _app_removes(self, signum: int) -> bool:
        if signum in self._claimed:
            return self._own.pop(signum, None) is not None
        self._in_loop.discard(signum)
        return bool(self._remove(signum))

    def signals(self) -> List[int]:
        """All those whose handlers are of no use in a forked process."""
        return [*self._claimed, *self._in_loop]

    def in_child(self) -> None:
        """In a process that was forked from this worker: none of its signals lead back here.

        A handler that the app has set by signal.signal() is the child's too, as anywhere. Those of a loop work by
        its wakeup descriptor, which is the parent's: with it, a SIGTERM to a helper process would stop the worker.
        """
        with contextlib.suppress(ValueError):
            signal.set_wakeup_fd(-1)
        for signum in self._claimed:
            if signal.getsignal(signum) is self._handler:
                before = self._by_signal.get(signum)
                signal.signal(signum, _default(signum) if before is None else before)
        for number in self._in_loop:
            signal.signal(number, _default(number))
        self.forked()
        if self._loop is not None:
            # A child that goes back into the loop would take the parent's events: this ends it after this pass.
            with contextlib.suppress(Exception):
                self._loop.stop()


class Unclaimed:
    """In the place of a Claim, where nothing is served."""

    def __init__(self) -> None:
        self.forked: Callable[[], Any] = lambda: None

    def look(self) -> None:
        """Nothing is taken, and nothing taken back."""


def rehearse(loop: Any) -> None:
    """In a zygote: claim by `loop` a signal that nobody has a handler of, and let go of it again."""
    if signal.getsignal(_UNUSED) is signal.SIG_DFL:
        claim = Claim(lambda _signum: None, loop, (_UNUSED,))
        claim.look()
        del loop.add_signal_handler, loop.remove_signal_handler
        loop.remove_signal_handler(_UNUSED)  # and back to the default, which is to ignore it


def stopped_at() -> Optional[float]:
    """When this worker was first told to stop (time.monotonic(), seconds); None if it was not."""
    return None if _claim is None else _claim.stopped_at


def _default(signum: int) -> Any:
    return signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL


def _forks(claim: Claim) -> None:
    global _claim, _registered  # noqa: PLW0603  a process has one set of signals, and os.register_at_fork() no inverse
    _claim = claim
    if not _registered:
        _registered = True
        os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_in_child)


forked = False
"""Whether this process was forked by the app from its worker."""


_mask = threading.local()


def _block() -> None:
    """Before a fork: a signal that reaches the child at once must not meet the worker's handlers, which lose it."""
    if _claim is not None:
        _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, _claim.signals())


def _unblock() -> None:
    before, _mask.before = getattr(_mask, "before", None), None
    if before is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _in_child() -> None:
    global _claim, forked  # noqa: PLW0603
    claim, _claim = _claim, None
    if claim is not None:
        forked = True
        claim.in_child()
    _unblock()


def leave(error: Optional[BaseException]) -> None:
    """End a process that the app has forked, and that has come back from the app's code: it is no worker.

    `error` is how it came back; a SystemExit says the status.
    """
    status = 0
    if isinstance(error, SystemExit):
        status = status_of(error)
    elif error is not None:
        traceback.print_exception(type(error), error, error.__traceback__)
        status = 1
    else:
        say(
            f"memunit worker: process {os.getpid()}, which the app has forked, has left the app's code and is "
            "ended; end such a process by os._exit() in the app, or use multiprocessing or subprocess"
        )
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(status)


def status_of(end: SystemExit) -> int:
    """The exit status that Python gives a process for `end`; prints the text that it may carry."""
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    say(str(end.code))
    return 1


def name_of(handler: Any) -> str:
    """What a person calls it: "shop.web.on_term"."""
    while hasattr(handler, "func"):  # functools.partial
        handler = handler.func
    named = getattr(handler, "__qualname__", None) or type(handler).__qualname__
    module = getattr(handler, "__module__", None)
    return f"{module}.{named}" if module else str(named)
