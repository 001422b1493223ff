"""The flight recorder: a ring of what policy was told, in the runtime directory, which outlives the master.

Two files take turns; each begins with a state, so that either can be replayed alone. Policy is pure: this is all of its
history (`memunit replay`). A recorder that can't write says so once, and is off; it never ends the loop.
"""

import contextlib
import os
import time
from collections.abc import Callable, Sequence

from memunit import __version__
from memunit.core.actions import Action
from memunit.core.facts import Fact
from memunit.core.flight import FlightCodec, Head
from memunit.core.state import State

NAME = "flight.jsonl"
BEFORE = "flight.before.jsonl"
CRASH = "flight.crash.jsonl"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
# A state may be larger than the ring is to be: a half has room for this many times as much.
_ROOM = 4


class Recorder:
    """Writes to `directory`, at most `size` bytes, or eight times the state if that is more; without either, nothing.

    `warn` is told once why nothing can be written.
    """

    def __init__(self, directory: str | None, instance: str, warn: Callable[[str], None]) -> None:
        self._directory, self._instance, self._warn = directory, instance, warn
        self._size = 0
        self._file = -1
        self._codec: FlightCodec | None = None
        self._left = 0

    def use(self, size: int, state: State) -> None:
        """Record into so many bytes from now on, 0 for not at all: at the start, and when a reload has changed it."""
        if size == self._size or self._directory is None:
            return
        self._size = size
        self._close()
        if size:
            self._begin(state, follows=False)
        else:
            for name in (NAME, BEFORE):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(self._directory, name))

    def begins(self, now: float, facts: Sequence[Fact], state: State) -> None:
        """A pass is about to begin with this state: if `step` never comes back, this has been told."""
        if self._file < 0:
            return
        if self._left <= 0:
            self._begin(state, follows=True)
        if self._codec is not None and self._file >= 0:
            self._write(self._codec.facts(now, facts))

    def did(self, actions: Sequence[Action]) -> None:
        """What it wanted."""
        if actions and self._codec is not None and self._file >= 0:
            self._write(self._codec.did(actions))

    def keep(self) -> str | None:
        """After an exception: have what was recorded outlive the turns of the files. Its path, None where it is off."""
        if self._file < 0 or self._directory is None:
            return None
        kept = os.path.join(self._directory, CRASH)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(kept)
            os.link(os.path.join(self._directory, NAME), kept)
        except OSError:
            return os.path.join(self._directory, NAME)
        return kept

    def close(self) -> None:
        """The master ends; what it has recorded stays."""
        self._close()

    def _begin(self, state: State, *, follows: bool) -> None:
        assert self._directory is not None
        self._close()
        self._codec = self._codec or FlightCodec()
        path = os.path.join(self._directory, NAME)
        head = Head(
            version=__version__,
            instance=self._instance,
            boot=_boot_id(),
            monotonic=time.monotonic(),
            realtime=time.time(),
            follows=follows,
            state=state,
        )
        text = self._codec.head(head)
        self._left = max(self._size // 2, _ROOM * len(text))
        try:
            with contextlib.suppress(FileNotFoundError):
                os.replace(path, os.path.join(self._directory, BEFORE))
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            self._file = os.open(path, flags, 0o600)
        except OSError as error:
            self._fails(error)
        else:
            self._write(text)

    def _write(self, text: str) -> None:
        data = text.encode()
        try:
            # A file system that is full takes a part; the next line then does not begin where it should.
            whole = os.write(self._file, data) == len(data)
        except OSError as error:
            self._fails(error)
            return
        self._left -= len(data)
        if not whole:
            self._fails(OSError(0, "No space left on device"))

    def _fails(self, error: OSError) -> None:
        self._close()
        self._warn(
            f"The flight recorder can't write to {self._directory}: {error.strerror}; it is off "
            "until the next start"
        )

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _boot_id() -> str:
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
