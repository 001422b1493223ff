"""Give back the pages of a loop that nothing has been written to but zeros.

uvloop's loop holds a buffer of 256,000 bytes, and CPython clears an object with all that it holds: a quarter of a
mebibyte for each worker, before a byte has been read. A page of zeros that is given back reads as zeros again.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
from typing import Any, Callable, Optional

_LARGE = 64 * 1024
_MADV_DONTNEED = 4
_ZEROS = bytes(mmap.PAGESIZE)


def prepare(loop: Any) -> None:
    """In a zygote: load what give_back() needs, if a loop of this type is worth it."""
    if type(loop).__basicsize__ >= _LARGE:
        _madvise()


def give_back(loop: Any) -> int:
    """In a worker, of a loop that was made just now; the bytes. Nothing if prepare() was not called before the fork:
    ctypes is larger than what there is to gain. No other thread runs yet.
    """
    size = type(loop).__basicsize__
    if size < _LARGE or not _madvise.cache_info().currsize:
        return 0
    madvise = _madvise()
    begin = -(-id(loop) // mmap.PAGESIZE) * mmap.PAGESIZE
    count = (id(loop) + size - begin) // mmap.PAGESIZE
    given = 0
    with contextlib.suppress(OSError):
        memory = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            # Page by page: a copy of the whole would leave more behind than there is to gain.
            for page in range(begin, begin + count * mmap.PAGESIZE, mmap.PAGESIZE):
                if (
                    madvise is not None
                    and os.pread(memory, mmap.PAGESIZE, page) == _ZEROS
                    and madvise(page, mmap.PAGESIZE, _MADV_DONTNEED) == 0
                ):
                    given += mmap.PAGESIZE
        finally:
            os.close(memory)
    return given


@functools.lru_cache(maxsize=None)
def _madvise() -> Optional[Callable[..., int]]:
    """madvise(2); None without ctypes."""
    try:
        import ctypes  # noqa: PLC0415  a mebibyte and a half, in a zygote alone

        function = ctypes.CDLL(None).madvise
        function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    except (ImportError, OSError, AttributeError):
        return None
    return function
