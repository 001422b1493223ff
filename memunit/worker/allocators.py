"""What the C library's allocator holds free, and how it is told to hand that back: glibc's, jemalloc's, mimalloc's.

ctypes is loaded when it is first needed: most workers never are asked, and it is 1.5 MiB of each.
"""

from __future__ import annotations

import os
from typing import Any, Callable, MutableMapping, Optional

_ALL_ARENAS = b"arena.4096.purge"
"""Of jemalloc's mallctl(3): MALLCTL_ARENAS_ALL."""


def leave_out(environment: Optional[MutableMapping[str, str]] = None) -> None:
    """Take out of `environment` what this interpreter was started with for its allocator's sake.

    What the app starts has one of its own. MEMUNIT_ALLOCATOR has the names of variables, or the library of LD_PRELOAD.
    """
    env = os.environ if environment is None else environment
    for word in env.pop("MEMUNIT_ALLOCATOR", "").split():
        if word.startswith("/"):
            left = [each for each in env.pop("LD_PRELOAD", "").split(":") if each not in ("", word)]
            if left:
                env["LD_PRELOAD"] = ":".join(left)
        else:
            env.pop(word, None)


class Allocator:
    """`release()` hands back to the kernel what is free. `free()` says how many bytes that may be, None if unknown."""

    def __init__(self, release: Callable[[], Any], free: Callable[[], Optional[int]] = lambda: None) -> None:
        self.release = release
        self.free = free


def found() -> Optional[Allocator]:
    """The one that this process has; None for one that can't be told, as musl's, or without ctypes."""
    try:
        import ctypes  # noqa: PLC0415  see above

        library: Any = ctypes.CDLL(None)
    except (ImportError, OSError):
        return None
    # What is loaded before the C library stands in its place, and has symbols of its own.
    if hasattr(library, "mallctl"):
        return Allocator(lambda: library.mallctl(_ALL_ARENAS, None, None, None, ctypes.c_size_t(0)))
    if hasattr(library, "mi_collect"):
        return Allocator(lambda: library.mi_collect(ctypes.c_bool(True)))
    if not hasattr(library, "malloc_trim"):
        return None
    # A call by way of CDLL lets go of the GIL.
    release = library.malloc_trim
    release.argtypes = [ctypes.c_size_t]
    ask = mallinfo(ctypes, library)
    return Allocator(lambda: release(0), lambda: None if ask is None else int(ask().fordblks))


def mallinfo(ctypes: Any, library: Any) -> Optional[Callable[[], Any]]:
    """mallinfo2(3) of glibc 2.33; None where there is none: the one before it counts in 32 bits."""

    class Mallinfo2(ctypes.Structure):  # type: ignore[misc]
        names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
        _fields_ = [(name, ctypes.c_size_t) for name in names.split()]  # noqa: RUF012  as ctypes wants it

    try:
        ask = library.mallinfo2
    except AttributeError:
        return None
    ask.restype = Mallinfo2
    found: Callable[[], Any] = ask
    return found
