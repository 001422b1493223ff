"""The signals that ask something of the master: counted by handlers, and a pipe by which its loop wakes."""

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Iterable, Iterator

# SIGQUIT too: with KillSignal=SIGQUIT in the unit, systemd sends it to a master and its nginx or php-fpm alike. SIGUSR2
# asks for nothing, but its default would end the master, and gunicorn's habits make people send it.
STOP = frozenset((signal.SIGTERM, signal.SIGINT, signal.SIGQUIT))
_HANDLED = (
    *STOP,
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCHLD,
)


class Signals:
    """Holds the process's dispositions between `arm` and `disarm`, and puts back what was there before."""

    def __init__(self, came: Iterable[int] = ()) -> None:
        """`came` are signals that a predecessor in this process has not acted on."""
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # Beside the pipe, which holds 64 KiB: while the loop is busy, a flood of one signal once pushed out a SIGTERM.
        self._came = Counter(number for number in came if number in _HANDLED)
        if self._came:
            os.write(self._writer, b"\0")

    def fileno(self) -> int:
        """Readable when a signal has come."""
        return self._reader

    def arm(self) -> None:
        """From now on each of these signals is counted, and nothing else."""
        self._wakeup_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._handlers_before = {number: signal.signal(number, self._note) for number in _HANDLED}
        # Whoever started us may have blocked them; a stop that is never heard ends in SIGKILL.
        self._mask_before = signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)

    def received(self) -> dict[int, int]:
        """How often each has come since the last call. Does not block."""
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self._reader, 65536)) == 65536:
                pass
        # After the pipe is empty, and each by itself: a handler may run between any two of these lines.
        return {number: self._came.pop(number) for number in list(self._came)}

    def held(self) -> Iterator[int]:
        """From now on they are blocked, which execve(2) keeps; those that have come since the last `received`."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        return Counter(self.received()).elements()

    def release(self, came: Iterable[int]) -> None:
        """The end of `held`: these have come since."""
        self._came.update(came)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)

    def disarm(self, *, ends: bool) -> None:
        """As it was before `arm`, for good. If this process `ends`, deaf instead: a second SIGTERM would be its end,
        whatever exit code it has for its first.
        """
        for number, handler in self._handlers_before.items():
            before = handler if handler is not None else signal.SIG_DFL
            signal.signal(number, signal.SIG_IGN if ends and number != signal.SIGCHLD else before)
        signal.set_wakeup_fd(self._wakeup_before)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask_before)
        os.close(self._reader)
        os.close(self._writer)

    def _note(self, number: int, _frame: object) -> None:
        self._came[number] += 1
