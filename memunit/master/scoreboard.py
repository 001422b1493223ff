"""The page that all workers of this master share: a memfd(2), and who has which line of it.

Never mapped here: with pread(2) and pwrite(2) nothing that a worker does to it reaches this process as a signal.
"""

import os
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

from memunit.master.memfd import sealed

Name = TypeVar("Name", bound=Hashable)


class Scoreboard(Generic[Name]):
    """Gives each worker a line. The page is made with the first; without memory for it, there are no lines."""

    def __init__(self, header: Callable[[int], bytes], *, line_size: int, lines: int) -> None:
        """`header` gives the first line, of a page on which so many lines were ever in use."""
        self._header = header
        self._line_size = line_size
        self._most = lines
        self._fd = -1
        self._failed = False
        self._lines: dict[Name, int] = {}
        self._free: list[int] = []
        self._used = 0

    def resume(self, fd: int, used: int, lines: Mapping[Name, int]) -> None:
        """Go on with the page of a predecessor in this process, and with who had which line."""
        self._fd, self._used = fd, used
        self._lines = dict(lines)
        self._free = [index for index in range(used) if index not in self._lines.values()]
        for index in self._free:
            self._empty(index)

    @property
    def used(self) -> int:
        """How many lines were ever in use."""
        return self._used

    def line(self, name: Name) -> int | None:
        """The index of this worker's line, if it has one."""
        return self._lines.get(name)

    def fileno(self) -> int:
        """The descriptor of the page, -1 as long as there is none."""
        return self._fd

    def assign(self, name: Name) -> int | None:
        """The index of the line of this worker, which is empty; None if there is none for it."""
        if not self._make():
            return None
        if self._free:
            # The lowest: workers look through all that were ever in use.
            index = min(self._free)
            self._free.remove(index)
        elif self._used < self._most:
            index = self._used
            self._used += 1
            os.pwrite(self._fd, self._header(self._used), 0)
        else:
            return None
        self._lines[name] = index
        self._empty(index)
        return index

    def release(self, name: Name) -> None:
        """This worker has ended or was not started: its siblings leave no connections to it any more."""
        index = self._lines.pop(name, None)
        if index is not None:
            self._empty(index)
            self._free.append(index)

    def read(self, name: Name) -> bytes | None:
        """What this worker says of itself, if it has a line."""
        index = self._lines.get(name)
        return None if index is None else os.pread(self._fd, self._line_size, self._offset(index))

    def close(self) -> None:
        """Close the page. The workers keep theirs."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _offset(self, index: int) -> int:
        return (1 + index) * self._line_size

    def _empty(self, index: int) -> None:
        os.pwrite(self._fd, bytes(self._line_size), self._offset(index))

    def _make(self) -> bool:
        if self._fd < 0 and not self._failed:
            try:
                self._fd = sealed("memunit-scoreboard", self._header(0), self._offset(self._most))
            except OSError:
                self._failed = True
        return self._fd >= 0
