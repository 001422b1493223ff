"""What a process that a zygote has just forked does, to be the worker that the master has asked for."""

from __future__ import annotations

import functools
import os
import sys
from typing import Any, Callable, Dict, List, Optional

from memunit.worker import board, stacks, title
from memunit.worker.problem import say

EX_TEMPFAIL = 75
_PR_SET_PDEATHSIG = 1


def become_worker(request: Dict[str, Any], pages: List[int]) -> None:
    """Become the worker of `request` (see zygote.py), and do what is needed after the fork of a process with an app.

    `pages` are the descriptors that came with the request.

    Ends the process where it can't be the worker that the master has asked for.
    """
    if os.getppid() != request["parent"]:
        # The import has called prctl(PR_SET_CHILD_SUBREAPER), or the master has ended: nobody would look after us.
        os._exit(EX_TEMPFAIL)
    if request["cgroup"]:
        _move(request["cgroup"])
    if request["parent_death_signal"]:
        die_with(request["parent"], request["parent_death_signal"])
    for page in pages:
        board.take_descriptor(page)
    for name, value in request["environment"].items():
        os.environ[name] = value
    if request["watchdog_usec"]:
        os.environ["WATCHDOG_USEC"] = str(request["watchdog_usec"])
        os.environ["WATCHDOG_PID"] = str(os.getpid())
    title.of_worker()
    stacks.arm()
    _disown()
    _reseed()


def rehearse() -> None:
    """In a zygote: run what each worker will run, so that all share what that makes for good."""
    os.environ["MEMUNIT_REHEARSAL"] = "1"
    os.environ.pop("MEMUNIT_REHEARSAL", "")
    board.rehearse()
    title.rehearse()
    stacks.arm()


def _move(procs: str) -> None:
    """Into the group of this worker, before it touches memory of its own."""
    try:
        descriptor = os.open(procs, os.O_WRONLY | os.O_CLOEXEC)
        os.write(descriptor, b"0")
        os.close(descriptor)
    except OSError as error:
        say(f"memunit worker: {procs}: {error.strerror}")
        os._exit(EX_TEMPFAIL)


def _disown() -> None:
    """What multiprocessing has started at import is the zygote's.

    At its end a process terminates the daemons in this list and joins the others: the first worker to end would take
    them from its siblings. A fork by multiprocessing itself begins with an empty list; it has no other way to say so.
    """
    children = getattr(sys.modules.get("multiprocessing.process"), "_children", None)
    if isinstance(children, set):
        children.clear()


def _reseed() -> None:
    """Reseed what does not reseed itself in a fork. (The module `random` does, and OpenSSL from 1.1.1 on.)"""
    ssl = sys.modules.get("ssl")
    if getattr(ssl, "OPENSSL_VERSION_INFO", (9,)) < (1, 1, 1):
        sys.modules["ssl"].RAND_add(os.urandom(32), 32.0)
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


def die_with(parent: int, signum: int) -> None:
    """Have the kernel send `signum` when the master ends. Not earlier: each new parent's end would count."""
    prctl = load_prctl()
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(128 + signum)


@functools.lru_cache(maxsize=None)
def load_prctl() -> "Optional[Callable[..., int]]":
    """prctl(2), None without ctypes. Only `memunit run` needs it; loaded before a fork, it is not 1.5 MiB a worker."""
    try:
        import ctypes  # noqa: PLC0415  see above

        function = ctypes.CDLL(None).prctl
        function.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    except (ImportError, OSError, AttributeError):
        return None
    return function
