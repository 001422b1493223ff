"""The page of each worker: a memfd(2) that the master makes at each start and passes to that worker alone.

Never mapped here: with pread(2) and pwrite(2) nothing that a worker does to it reaches this process as a signal.
"""

import contextlib
import os
from collections.abc import Collection, Hashable, Mapping
from typing import Generic, TypeVar

from memunit.master.memfd import sealed

Name = TypeVar("Name", bound=Hashable)


class Boards(Generic[Name]):
    """Gives each worker a page. A worker for whose page there is no memory or descriptor goes on without."""

    def __init__(self, header: bytes, size: int) -> None:
        """Each page begins with `header`, and has `size` bytes."""
        self._header = header
        self._size = size
        self._pages: dict[Name, int] = {}

    def resume(self, pages: Mapping[Name, int], there: Collection[Name]) -> None:
        """Go on with the descriptors of a predecessor in this process; those of workers that are not `there` close."""
        self._pages = dict(pages)
        for name in [each for each in pages if each not in there]:
            self.release(name)

    def kept(self) -> dict[Name, int]:
        """The descriptors, by worker."""
        return dict(self._pages)

    def make(self, name: Name) -> int:
        """The descriptor of a new page for this worker, which stays ours; -1 if there can be none."""
        self.release(name)
        try:
            self._pages[name] = sealed("memunit-worker", self._header, self._size)
        except OSError:
            return -1
        return self._pages[name]

    def read(self, name: Name, size: int | None = None) -> bytes:
        """All that stands on this worker's page, or its first `size` bytes; nothing if it has none."""
        descriptor = self._pages.get(name)
        return b"" if descriptor is None else os.pread(descriptor, self._size if size is None else size, 0)

    def write(self, name: Name, data: bytes, offset: int) -> None:
        """Write on this worker's page, if it has one."""
        descriptor = self._pages.get(name)
        if descriptor is not None:
            # ENOSPC: there is no memory for it.
            with contextlib.suppress(OSError):
                os.pwrite(descriptor, data, offset)

    def release(self, name: Name) -> None:
        """This worker has ended, or has not come to be."""
        descriptor = self._pages.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        """Close all pages. The workers keep theirs."""
        for name in list(self._pages):
            self.release(name)
