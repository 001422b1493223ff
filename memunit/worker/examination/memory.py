"""What the kernel, Python's allocator and the C library say of this process's memory. Bytes, unless said otherwise."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
import threading
from typing import Any, Dict, List, NamedTuple, Optional

from memunit.worker import allocators

_FORMAT, _SOCKET, _REGULAR = 0o170000, stat.S_IFSOCK, stat.S_IFREG
_FIELD = re.compile(rb"^(\w+):\s+(\d+) kB", re.MULTILINE)


class Memory(NamedTuple):
    """One reading (proc_pid_status(5), proc_pid_fd(5))."""

    anonymous: int
    """In RAM and in swap; what is still shared with the zygote counts too, so that growth is the process's own."""
    shared: int
    """Shared memory and tmpfs: what is mapped, or is open and in no mapping."""
    page_tables: int
    threads: int
    descriptors: int
    sockets: int
    blocks: int
    """Blocks of Python's allocator in use, a count."""


class Heap(NamedTuple):
    """Python's allocator, and malloc(3)."""

    arenas: int
    """All memory of Python's allocator for objects up to 512 bytes, 0 where it has another."""
    in_use: int
    """What of that is in use."""
    malloc_in_use: int
    malloc_free: int
    """What free(3) was called for and malloc(3) keeps."""
    malloc_known: bool
    """False where the C library is not glibc, or another allocator has taken its place."""


class Taken(NamedTuple):
    """A reading as it was taken, most of it not looked at yet."""

    status: bytes
    """proc_pid_status(5)."""
    descriptors: int
    sockets: int
    files: int
    """Bytes of the open files on tmpfs."""
    blocks: int


def take() -> Taken:
    """Raises nothing: what can't be read is 0. For a worker that is about to serve: whatever this calls becomes pages
    of that worker's own (docs/preload.md), so all that can wait is left to told().
    """
    blocks, status = sys.getallocatedblocks(), b""
    names: List[str] = []
    sockets = 0
    files: Any = None
    try:
        descriptor = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.read(descriptor, 4096)
        finally:
            os.close(descriptor)
        names = os.listdir("/proc/self/fd")
    except OSError:
        pass
    for name in names:
        try:
            number = int(name)
            found = os.fstat(number)
        except OSError:
            continue  # that of the directory itself
        kind = found.st_mode & _FORMAT
        if kind == _SOCKET:
            sockets += 1
        elif kind == _REGULAR and found.st_blocks and _on_tmpfs(found.st_dev, number):
            files = files or {}
            files[found.st_dev, found.st_ino] = found.st_blocks * 512
    return Taken(status, len(names), sockets, sum(files.values()) if files else 0, blocks)


def told(taken: Taken) -> Memory:
    """What a reading says."""
    fields = {name: int(size) * 1024 for name, size in _FIELD.findall(taken.status)}
    threads = re.search(rb"^Threads:\s+(\d+)", taken.status, re.MULTILINE)
    return Memory(
        anonymous=fields.get(b"RssAnon", 0) + fields.get(b"VmSwap", 0),
        shared=max(fields.get(b"RssShmem", 0), taken.files),
        page_tables=fields.get(b"VmPTE", 0),
        threads=int(threads[1]) if threads else 0,
        descriptors=taken.descriptors,
        sockets=taken.sockets,
        blocks=taken.blocks,
    )


def read() -> Memory:
    """Raises nothing: what can't be read is 0."""
    return told(take())


def group() -> Dict[str, int]:
    """memory.stat of this process's own group (cgroups(7)), what of it tells of growth; empty where there is none."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        with open("/proc/self/cgroup", encoding="utf-8", errors="replace") as file:
            path = next(line.strip()[3:] for line in file if line.startswith("0::"))
        with open(f"/sys/fs/cgroup{path}/memory.stat", encoding="ascii") as file:
            pairs = (line.split() for line in file)
            return {name: int(value) for name, value in pairs if name in _OF_GROUP}
    return {}


_OF_GROUP = ("anon", "file", "shmem", "kernel", "sock", "pagetables", "slab")


def heap() -> Optional[Heap]:
    """None without ctypes, which is loaded for it."""
    try:
        import ctypes  # noqa: PLC0415  a mebibyte and a half, in a zygote and at the end of a worker alone

        libc = ctypes.CDLL(None)
    except (ImportError, OSError):
        return None
    glibc = _is_glibc()
    arenas, in_use = _of_python(ctypes, libc) if glibc else (0, 0)
    used, free = _of_malloc(ctypes, libc) if glibc else (0, 0)
    return Heap(arenas, in_use, used, free, glibc and used > 0 and not _replaced())


def trim(seconds: float) -> int:
    """What malloc_trim(3) gives back, by the kernel's account; in a thread of its own, which is not waited for longer
    than `seconds`. 0 where there is none.
    """
    try:
        import ctypes  # noqa: PLC0415  see heap()

        function = ctypes.CDLL(None).malloc_trim
    except (ImportError, OSError, AttributeError):
        return 0
    before = read().anonymous
    thread = threading.Thread(target=function, args=(0,), name="memunit-trim", daemon=True)
    thread.start()
    thread.join(seconds)
    return max(0, before - read().anonymous)


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (ValueError, OSError):
        return False


def _replaced() -> bool:
    """Whether another malloc is loaded: then glibc's own numbers say nothing."""
    with contextlib.suppress(OSError), open("/proc/self/maps", "rb") as file:
        text = file.read(1 << 20)
        return any(name in text for name in (b"/libjemalloc", b"/libmimalloc", b"/libtcmalloc"))
    return False


def _of_malloc(ctypes: Any, libc: Any) -> "tuple[int, int]":
    """In use, and free, of all arenas (mallinfo(3))."""
    ask = allocators.mallinfo(ctypes, libc)
    if ask is None:
        return 0, 0
    info = ask()
    return info.uordblks + info.hblkhd, info.fordblks


def _of_python(ctypes: Any, libc: Any) -> "tuple[int, int]":
    """The arenas of Python's allocator and what of them is in use, as sys._debugmallocstats() prints it to C's stderr.

    For as long as that takes (some microseconds for each mebibyte) C's stderr is a buffer; descriptor 2 is not touched.
    """
    tell = getattr(sys, "_debugmallocstats", None)
    if tell is None:
        return 0, 0
    buffer, size = ctypes.c_void_p(), ctypes.c_size_t()
    try:
        libc.open_memstream.restype = ctypes.c_void_p
        libc.open_memstream.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_size_t)]
        libc.fclose.argtypes = libc.free.argtypes = [ctypes.c_void_p]
        stderr = ctypes.c_void_p.in_dll(libc, "stderr")
        stream = libc.open_memstream(ctypes.byref(buffer), ctypes.byref(size))
    except (AttributeError, ValueError):
        return 0, 0
    if not stream:
        return 0, 0
    before = stderr.value
    stderr.value = stream
    try:
        tell()
    finally:
        stderr.value = before
        libc.fclose(stream)
    text = ctypes.string_at(buffer.value, size.value) if buffer.value else b""
    libc.free(buffer)
    arenas = re.search(rb"(\d+) arenas \* (\d+) bytes/arena", text)
    used = re.search(rb"# bytes in allocated blocks\s*=\s*([\d,]+)", text)
    if arenas is None or used is None:
        return 0, 0
    return int(arenas[1]) * int(arenas[2]), int(used[1].replace(b",", b""))


_known_devices: Dict[int, bool] = {}


def _on_tmpfs(device: int, descriptor: int) -> bool:
    """There is no statfs(2) in the standard library; proc_pid_mountinfo(5) names the type of each mounted device."""
    if not _known_devices:
        with contextlib.suppress(OSError), open("/proc/self/mountinfo", "rb") as file:
            for line in file:
                before, _, after = line.partition(b" - ")
                major, _, minor = before.split()[2].partition(b":")
                _known_devices[os.makedev(int(major), int(minor))] = after.startswith(b"tmpfs ")
    if device in _known_devices:
        return _known_devices[device]
    with contextlib.suppress(OSError):  # what memfd_create(2) has made is on a mount of the kernel's own
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith("/memfd:")
    return False
