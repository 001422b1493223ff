"""What each worker is told to watch (MEMORY_PRESSURE_WATCH), and how it is asked to give memory back.

It is a FIFO of the worker's own: a byte in it is the question (https://systemd.io/MEMORY_PRESSURE, fifo(7)). The master
holds the end for writing from before the worker begins until after it has ended, so a reader sees no end of file
meanwhile, and a write tells whether anybody reads. What systemd lets a service watch is the pressure of the whole
unit: that comes too late for a limit of one worker, and each worker would pay for its siblings.
"""

import contextlib
import os
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)

FOLDER = "pressure"


class Watches(Generic[Name]):
    """The FIFOs of all workers, in a folder of their own below the runtime directory."""

    def __init__(self, directory: str) -> None:
        """Made below `directory` when the first worker needs one."""
        self._folder = os.path.join(directory, FOLDER)
        self._ends: dict[Name, tuple[str, int]] = {}

    def make(self, name: Name, label: str) -> str:
        """The path for a worker that is about to be started. Raises OSError."""
        path = os.path.join(self._folder, label)
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        try:
            os.mkfifo(path, 0o600)
        except FileExistsError:
            # A name is never given twice, but a master that was killed may have got as far as this.
            os.unlink(path)
            os.mkfifo(path, 0o600)
        self._open(name, path)
        return path

    def find(self, name: Name, label: str) -> None:
        """That of a worker of a predecessor; nothing is written to one that is no more, and ask() says so."""
        with contextlib.suppress(OSError):
            self._open(name, os.path.join(self._folder, label))

    def ask(self, name: Name) -> bool:
        """Put the question; False where no process reads it, or the last one was not read."""
        if name not in self._ends:
            return False
        try:
            os.write(self._ends[name][1], b"\n")
        except OSError:
            # EPIPE: nobody has it open. EAGAIN: it is full, of questions that nobody has read.
            return False
        return True

    def drop(self, name: Name) -> None:
        """The worker has ended."""
        if name in self._ends:
            path, end = self._ends.pop(name)
            os.close(end)
            with contextlib.suppress(OSError):
                os.unlink(path)

    def sweep(self) -> None:
        """Remove what a predecessor has left, of workers that nobody has taken."""
        ours = {os.path.basename(path) for path, _ in self._ends.values()}
        with contextlib.suppress(FileNotFoundError):
            for each in set(os.listdir(self._folder)) - ours:
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(self._folder, each))

    def kept(self) -> dict[str, int]:
        """The descriptors that a successor in this process goes on with, by label."""
        return {os.path.basename(path): end for path, end in self._ends.values()}

    def resume(self, kept: Mapping[str, int], naming: Callable[[str], Name]) -> None:
        """Go on with them; `naming` gives the worker of a label."""
        self._ends = {naming(label): (os.path.join(self._folder, label), end) for label, end in kept.items()}

    def close(self) -> None:
        """Nobody is left."""
        for name in list(self._ends):
            self.drop(name)
        with contextlib.suppress(OSError):
            os.rmdir(self._folder)

    def __iter__(self) -> Iterator[Name]:
        """Those that have one."""
        return iter(self._ends)

    def _open(self, name: Name, path: str) -> None:
        # For writing alone, or each write would find a reader. That can be opened only while there is one: ourselves.
        flags = os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
        both = os.open(path, os.O_RDWR | flags)
        try:
            self._ends[name] = (path, os.open(path, os.O_WRONLY | flags))
        finally:
            os.close(both)
