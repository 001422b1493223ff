"""The signals that ask something of the master, as bytes that its loop can wait for."""

import os
import signal

_HANDLED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR1,
    signal.SIGCHLD,
)


class Signals:
    """Holds the process's dispositions between `arm` and `disarm`, and puts back what was there before."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def fileno(self) -> int:
        """Readable when a signal has come."""
        return self._reader

    def arm(self) -> None:
        """From now on each of these signals is a byte to read, and nothing else."""
        self._wakeup_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        # A handler must exist for the wakeup fd to be written.
        self._handlers_before = {number: signal.signal(number, _noted) for number in _HANDLED}
        # Whoever started us may have blocked them; a stop that is never heard ends in SIGKILL.
        self._mask_before = signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)

    def received(self) -> bytes:
        """The numbers of those that have come since the last call. Does not block."""
        try:
            return os.read(self._reader, 4096)
        except BlockingIOError:
            return b""

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


def _noted(_number: int, _frame: object) -> None:
    """The wakeup fd carries the signal."""
