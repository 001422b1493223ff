"""A process's memory at little cost: the files of /proc that are read at each look are kept open."""

import contextlib
import os

_PAGE = os.sysconf("SC_PAGE_SIZE")
# Of a directory: itself, its name above, and one for each that is in it.
_ONE_THREAD = 3


class Probe:
    """One process. It goes on to be that one after its end, whoever has the number then."""

    FILES = 3

    def __init__(self, pid: int, proc: str = "/proc") -> None:
        """Raises OSError: it has ended, or the kernel lacks CONFIG_PROC_CHILDREN."""
        self._files: list[int] = []
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

    def resident(self) -> int | None:
        """Bytes of the process alone; None when it has ended."""
        try:
            return of_statm(os.pread(self._statm, 256, 0))
        except OSError:
            return None

    def alone(self) -> bool:
        """Whether it has no other thread, and no child: each thread may have some (proc_pid_task(5))."""
        try:
            return os.fstat(self._task).st_nlink == _ONE_THREAD and not os.pread(self._children, 1, 0)
        except OSError:
            return False

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
