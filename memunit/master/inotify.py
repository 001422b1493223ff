"""inotify(7), for which Python has no module: that something in a few directories may have been removed."""

import contextlib
import ctypes
import os
from collections.abc import Iterable

_libc = ctypes.CDLL(None, use_errno=True)

_MOVED_FROM, _MOVED_TO, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x40, 0x80, 0x200, 0x400, 0x800
# Also what is put in the place of something, which tells of no removal.
_MASK = _MOVED_FROM | _MOVED_TO | _DELETE | _DELETE_SELF | _MOVE_SELF


class Watch:
    """Readable when something may have gone. Where the kernel has no watch left to give, it never is."""

    def __init__(self, directories: Iterable[str]) -> None:
        """Begin to watch. `fileno` is -1 where that can't be done (fs.inotify.max_user_instances)."""
        self._descriptor = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self.whole = self._descriptor >= 0
        """Whether all of them are watched."""
        for each in directories if self._descriptor >= 0 else ():
            # One that is not there, or may not be read, is not watched; nor one too many (fs.inotify.max_user_watches).
            if _libc.inotify_add_watch(self._descriptor, os.fsencode(each), _MASK) < 0:
                self.whole = False

    def fileno(self) -> int:
        """The descriptor to poll for reading, or -1."""
        return int(self._descriptor)

    def clear(self) -> None:
        """Be quiet until the next event. What has happened, a look at the file system tells."""
        with contextlib.suppress(OSError):
            while os.read(self._descriptor, 65536):
                pass

    def close(self) -> None:
        """Watch no more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
