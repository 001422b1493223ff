"""What ps(1) and top(1) show of a zygote and of its workers, which all have the zygote's command line.

The arguments are written over in place, as programs have done since 4.3BSD; the room is that of the first command line.
prctl(PR_SET_MM) would give more, but takes CAP_SYS_RESOURCE. sys.argv and sys.executable are copies, made long before.
"""

from __future__ import annotations

import contextlib
import os
from typing import List

_COMM_MAX = 15  # TASK_COMM_LEN of proc_pid_comm(5), less the NUL
_ARG_START, _ARG_END = 45, 46  # of proc_pid_stat(5), counted from the third field on

_what: List[str] = []


def of_zygote(what: str) -> None:
    """A process that forks workers of `what`, as "asgi shop.web:app". Never raises."""
    _what[:] = [what]
    _show("zygote", "zygote")


def rehearse() -> None:
    """In a zygote: have done once more what a worker will do."""
    _show("zygote", "zygote")


def of_worker(what: str = "") -> None:
    """A worker, by its environment; without `what`, of what its zygote was of. Never raises."""
    if what:
        _what[:] = [what]
    number = f"{os.environ.get('MEMUNIT_SLOT', '?')}.{os.environ.get('MEMUNIT_GENERATION', '?')}"
    _show(number, f"worker {number}")


def _show(short: str, long: str) -> None:
    instance = os.environ.get("MEMUNIT_INSTANCE", "")
    if not instance:
        return  # nobody's worker: somebody has typed the command
    with contextlib.suppress(OSError):
        _set_comm(f"{instance[: _COMM_MAX - 1 - len(short)]} {short}")
    with contextlib.suppress(OSError, ValueError, IndexError):
        _set_arguments(f"memunit: {instance} {long}: {''.join(_what)}")


def _set_comm(text: str) -> None:
    """The name of the main thread. Threads that it starts later begin with it."""
    _write("/proc/self/comm", os.fsencode(text)[:_COMM_MAX])


def _set_arguments(text: str) -> None:
    descriptor = os.open("/proc/self/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        stat = os.read(descriptor, 4096)
    finally:
        os.close(descriptor)
    fields = stat[stat.rindex(b")") + 1 :].split()
    start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
    if 0 < start < end:
        # Without the last NUL, the kernel would take the environment for a part of it.
        room = end - start
        _write("/proc/self/mem", os.fsencode(text)[: room - 1].ljust(room, b"\0"), start)


def _write(path: str, text: bytes, offset: int = 0) -> None:
    """Without a file object, whose making is many pages of a worker's own (docs/preload.md)."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        if offset:
            os.lseek(descriptor, offset, os.SEEK_SET)
        # Not pwrite(2): Linux refuses it for what is a seq_file, as /proc/self/comm is (ESPIPE).
        os.write(descriptor, text)
    finally:
        os.close(descriptor)
