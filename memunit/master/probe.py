"""A process's memory at little cost: the files of /proc that are read at each look are kept open."""

import contextlib
import os

_PAGE = os.sysconf("SC_PAGE_SIZE")
# Of a directory: itself, its name above, and one for each that is in it.
_ONE_THREAD = 3
# So many looks in a row are saved at most: khugepaged fills up huge pages of a process that does not run.
_RESTS = 9
# What /proc/PID/schedstat has where the kernel does not count (CONFIG_SCHED_INFO).
_NOT_COUNTED = b"0 0 0"


class Probe:
    """One process. It goes on to be that one after its end, whoever has the number then.

    A process with one thread and no child that has not run since the last look holds what it held: then a look is one
    read of /proc/PID/schedstat, which has the time of that thread on a processor.
    """

    FILES = 4

    def __init__(self, pid: int, proc: str = "/proc") -> None:
        """Raises OSError: it has ended, or the kernel lacks CONFIG_PROC_CHILDREN."""
        self._files: list[int] = []
        self._ran = b""
        self._rests = 0
        self._resident: int | None = None
        self._alone = False
        try:
            for name, flags in (
                ("statm", 0),
                ("task", os.O_DIRECTORY),
                (f"task/{pid}/children", 0),
            ):
                self._files.append(os.open(f"{proc}/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC | flags))
        except OSError:
            self.close()
            raise
        self._statm, self._task, self._children = self._files
        with contextlib.suppress(OSError):
            self._files.append(os.open(f"{proc}/{pid}/schedstat", os.O_RDONLY | os.O_CLOEXEC))

    def resident(self) -> int | None:
        """Look: bytes of the process alone; None when it has ended."""
        if self._has_rested():
            self._rests += 1
            return self._resident
        self._rests = 0
        try:
            self._resident = of_statm(os.pread(self._statm, 256, 0))
            self._alone = os.fstat(self._task).st_nlink == _ONE_THREAD and not os.pread(self._children, 1, 0)
        except OSError:
            self._resident, self._alone = None, False
        return self._resident

    def alone(self) -> bool:
        """Whether it had one thread at the last look, and no child: each thread may have some (proc_pid_task(5))."""
        return self._alone

    def _has_rested(self) -> bool:
        """Whether nothing can have changed: also notes what the next look compares with."""
        if len(self._files) < self.FILES:
            return False
        try:
            ran = os.pread(self._files[-1], 64, 0)
        except OSError:
            return False
        before, self._ran = self._ran, ran
        return self._alone and ran == before and self._rests < _RESTS and not ran.startswith(_NOT_COUNTED)

    def close(self) -> None:
        """Close the files."""
        for descriptor in self._files:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._files.clear()


def of_statm(text: bytes) -> int | None:
    """What proc_pid_statm(5) gives as resident, in bytes; None for a zombie, whose numbers alone are all zero."""
    fields = text.split()
    return int(fields[1]) * _PAGE if len(fields) > 1 and fields[0] != b"0" else None
