"""One entry an event: native where the journal listens, else one line on stderr. Nothing here raises or
blocks.
"""

import os
import select
import socket
import sys
from types import FrameType

IDENTIFIER = "memunit"
_JOURNAL = "/run/systemd/journal/socket"
_LEVELS = ("emergency", "alert", "critical", "error", "warning")


class Log:
    """Where the master tells what happened in `instance`."""

    def __init__(self, instance: str, *, native: bool | None = None) -> None:
        """`native` is found out from stderr if it is not given."""
        self.instance = instance
        self.native = (stderr_is_journal() or _is_mute()) if native is None else native
        self._probe: socket.socket | None = None
        self._probed = (0, 0)

    def send(self, message: str, message_id: str | None = None, priority: int = 6, **fields: object) -> None:
        """Write one entry. `fields` are upper-case as the journal wants them; numbers become decimal text.

        MEMUNIT_INSTANCE, PRIORITY (syslog(3): 0 emergency to 7 debug), SYSLOG_IDENTIFIER and the place in the
        code are always there. The identifier is what journalctl(1) shows before each line: "memunit@shop" tells five
        instances in one journal apart, as SyslogIdentifier=memunit@%i does what their apps print.

        An entry that the journal does not take at once becomes a line on stderr; one
        that stderr does not take either is dropped, for a master that waits for its log serves nobody.
        """
        if not (self.native and self._native(message, message_id, priority, fields, sys._getframe(1))):
            _line(message, priority)

    def _native(
        self,
        message: str,
        message_id: str | None,
        priority: int,
        fields: dict[str, object],
        caller: FrameType,
    ) -> bool:
        if not self._journal_has_room():
            return False
        try:
            from systemd import journal  # noqa: PLC0415  in the foreground it is not needed, nor need be installed

            journal.send(
                _encodable(message),
                MESSAGE_ID=message_id,
                CODE_FILE=caller.f_code.co_filename,
                CODE_LINE=caller.f_lineno,
                CODE_FUNC=caller.f_code.co_name,
                PRIORITY=str(priority),
                SYSLOG_IDENTIFIER=f"{IDENTIFIER}@{_encodable(self.instance)}",
                MEMUNIT_INSTANCE=self.instance,
                **{name: _encodable(str(value)) for name, value in fields.items() if value is not None},
            )
        except ImportError:
            self.native = False
            _line(
                "without systemd-python, entries are lines and have no fields: pip install 'memunit[journal]'",
                4,
            )
            return False
        except (OSError, ValueError, TypeError):
            return False
        return True

    def _journal_has_room(self) -> bool:
        """Whether a datagram would be taken now: sd_journal_sendv(3) blocks for as long as a stuck journald
        is full.
        """
        try:
            found = os.stat(_JOURNAL)
            if self._probe is None or self._probed != (found.st_dev, found.st_ino):
                self.close()
                self._probe = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._probe.connect(_JOURNAL)
                self._probed = (found.st_dev, found.st_ino)
            return _writable(self._probe.fileno())
        except OSError:
            self.close()
            return False

    def close(self) -> None:
        """Close what was opened; send() opens it again."""
        if self._probe is not None:
            self._probe.close()
            self._probe = None


def stderr_is_journal() -> bool:
    """Whether stderr is the stream that JOURNAL_STREAM names by device and inode (systemd.exec(5))."""
    try:
        device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
        found = os.fstat(2)
        return (int(device), int(inode)) == (found.st_dev, found.st_ino)
    except (OSError, ValueError):
        return False


def _is_mute() -> bool:
    """Whether systemd has started us with /dev/null for stderr: journald did not listen, or by StandardError=null.

    journald may listen again later, but stderr stays /dev/null. And StandardError=null is for what apps print: memunit
    still writes its entries.
    """
    try:
        ours = os.environ.get("SYSTEMD_EXEC_PID") == str(os.getpid())
        return ours and os.fstat(2).st_rdev == os.stat(os.devnull).st_rdev
    except OSError:
        return False


def _line(message: str, priority: int) -> None:
    """A line that a person reads. A reader that has stopped reading, or gone, must not stop us."""
    level = f"{_LEVELS[priority]}: " if 0 <= priority < len(_LEVELS) else ""
    text = f"{IDENTIFIER}: {level}{' '.join(message.split())}".encode("utf-8", "backslashreplace")
    # A pipe that polls as writable takes PIPE_BUF bytes without blocking.
    line = text[: select.PIPE_BUF - 1] + b"\n"
    try:
        if os.isatty(2):
            _to_terminal(line)
        elif _writable(2):
            os.write(2, line)
    except OSError:
        return


def _to_terminal(line: bytes) -> None:
    """A terminal polls as writable with a few bytes of room, so only a non-blocking write does not wait.

    A way of our own to it can be so for good. Descriptor 2 itself would be so for everybody who shares it: only for
    as long as the write takes, then, and only where the terminal is another user's (su, setpriv) and not ours to open.
    """
    try:
        terminal = os.open("/proc/self/fd/2", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        before = os.get_blocking(2)
        os.set_blocking(2, False)
        try:
            os.write(2, line)
        finally:
            os.set_blocking(2, before)
        return
    try:
        os.write(terminal, line)
    finally:
        os.close(terminal)


def _writable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return any(events & select.POLLOUT for _, events in poll.poll(0))


def _encodable(text: str) -> str:
    """Without lone surrogates, which come from file names in other encodings."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
