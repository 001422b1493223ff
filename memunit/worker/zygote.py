"""A process that has imported the app and forks workers from itself on the master's request.

The master's own children they become all the same: each is forked by an intermediate process that ends at once,
and the master is the child subreaper. So the end of a zygote takes no worker along.

Messages are JSON, one in a packet (SOCK_SEQPACKET). From the master: {"id", "environment", "watchdog_usec",
"cgroup", "parent", "parent_death_signal"}. To the master: {"ready", "warnings"} once, {"unusable"} instead if there is
nothing to fork, and for each request {"id", "pid"} or {"id", "error", "errno"}, with errno 0 if there is none.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import gc
import json
import os
import signal
import socket
import sys
from typing import Any, Callable, Dict, List, Tuple

from memunit.worker import hazards, inherited
from memunit.worker.inherited import Inherited
from memunit.worker.problem import Unusable, say
from memunit.worker.serving import Prepared

CONTROL = "memunit-zygote"
"""The name in LISTEN_FDNAMES of the last descriptor, by which the master speaks with this process."""
EX_TEMPFAIL = 75
_LARGEST = 65536
_LONGEST = 2000
_PR_SET_PDEATHSIG = 1
# With a handler of the app's, a zygote might not end when it is told to, or not wait for what it forks.
_OURS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


def run(
    prepare: Callable[[], Prepared], report: Callable[[Unusable], int]
) -> Tuple[List[Inherited], Prepared]:
    """Import by `prepare()`, then fork a worker on each request: returns in the workers alone.

    What comes back are the descriptors to serve on, and the app. Where `prepare` raises Unusable, ends with the
    status that `report` gives; without a word when the master closes its end. Neither runs the app's atexit
    functions: what they would clean up may be the workers'. Raises Unusable outside of a master.
    """
    entries = inherited.take()
    if not entries or entries[-1].name != CONTROL:
        raise Unusable("--zygote is for memunit's master, which passes a socket for its requests")
    control = socket.socket(fileno=entries.pop().fd)
    score = _oom_score("1000")
    try:
        prepared = prepare()
    except Unusable as problem:
        status = report(problem)
        _flush()
        _tell(control, {"unusable": str(problem)[:_LONGEST]})
        os._exit(status)
    _oom_score(score)
    warnings = hazards.found(control.fileno(), [entry.fd for entry in entries])
    for warning in warnings:
        say(f"memunit zygote: {warning}")
    before = {number: signal.signal(number, signal.SIG_DFL) for number in _OURS}
    signal.set_wakeup_fd(-1)
    gc.collect()
    gc.freeze()
    _tell(control, {"ready": True, "warnings": warnings})
    while True:
        request = _hear(control)
        _flush()
        if _fork(control, request):
            if before[signal.SIGCHLD] is not None:
                signal.signal(signal.SIGCHLD, before[signal.SIGCHLD])
            return entries, prepared


def _oom_score(text: str) -> str:
    """Set it, and give what it was (proc_pid_oom_score_adj(5)).

    A second zygote beside the first may be too much for the memory there is, and workers that share an import of
    hundreds of megabytes are the bigger ones to the OOM killer: so whoever still imports is to go first.
    """
    before = "0"
    with contextlib.suppress(OSError):
        with open("/proc/self/oom_score_adj", encoding="ascii") as file:
            before = file.read()
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(text)
    return before


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _hear(control: socket.socket) -> Dict[str, Any]:
    try:
        packet = control.recv(_LARGEST)
    except ConnectionError:
        packet = b""
    if not packet:
        os._exit(0)
    request: Dict[str, Any] = json.loads(packet)
    return request


def _tell(control: socket.socket, message: Dict[str, Any]) -> None:
    try:
        control.send(json.dumps(message).encode(), socket.MSG_NOSIGNAL)
    except ConnectionError:
        os._exit(0)


def _fork(control: socket.socket, request: Dict[str, Any]) -> bool:
    """Fork a worker and report it; true in the worker itself, once that is done.

    Its pid is told only after the intermediate has been reaped: until then the worker is not the master's child
    yet. And the worker does nothing before its pid is told: the master knows it by the time it speaks or ends.
    """
    try:
        ours, theirs = socket.socketpair()
    except OSError as error:
        _tell(control, {"id": request["id"], "errno": error.errno, "error": "socketpair"})
        return False
    try:
        intermediate = os.fork()
    except OSError as error:
        ours.close()
        theirs.close()
        _tell(control, {"id": request["id"], "errno": error.errno, "error": "fork"})
        return False
    if intermediate == 0 and _fork_again(theirs):
        _become_worker(control, ours, theirs, request)
        return True
    theirs.close()
    with contextlib.suppress(ChildProcessError):
        os.waitpid(intermediate, 0)
    ours.setblocking(False)
    try:
        number = int(ours.recv(64))
    except (OSError, ValueError):
        number = 0
    if number == 0:
        _tell(control, {"id": request["id"], "errno": 0, "error": "its fork was killed halfway"})
    elif number < 0:
        _tell(control, {"id": request["id"], "errno": -number, "error": "fork"})
    else:
        _tell(control, {"id": request["id"], "pid": number})
        with contextlib.suppress(OSError):
            ours.send(b"go", socket.MSG_NOSIGNAL)
    ours.close()
    return False


def _fork_again(theirs: socket.socket) -> bool:
    """In the intermediate: true in the worker, and in the intermediate itself no return."""
    try:
        try:
            worker = os.fork()
        except OSError as error:
            theirs.send(b"%d" % -(error.errno or errno.EAGAIN))
            os._exit(1)
        if worker == 0:
            return True
        # The worker does the same; by the time that its pid is known there is a group to send signals to.
        with contextlib.suppress(OSError):
            os.setpgid(worker, worker)
        theirs.send(b"%d" % worker)
        os._exit(0)
    except BaseException:
        os._exit(1)


def _become_worker(
    control: socket.socket, ours: socket.socket, theirs: socket.socket, request: Dict[str, Any]
) -> None:
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    control.close()
    ours.close()
    if theirs.recv(2) != b"go":
        os._exit(EX_TEMPFAIL)  # the zygote has ended, and nobody knows of this worker
    theirs.close()
    if os.getppid() != request["parent"]:
        # The import has called prctl(PR_SET_CHILD_SUBREAPER), or the master has ended: nobody would look after us.
        os._exit(EX_TEMPFAIL)
    if request["cgroup"]:
        _move(request["cgroup"])
    if request["parent_death_signal"]:
        _die_with(request["parent"], request["parent_death_signal"])
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.environ.update(request["environment"])
    if request["watchdog_usec"]:
        os.environ.update(WATCHDOG_USEC=str(request["watchdog_usec"]), WATCHDOG_PID=str(os.getpid()))
    # By number: the import may have put something without a descriptor in the place of sys.stderr.
    faulthandler.enable(2, all_threads=True)
    _disown()
    _reseed()


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
    """What does not see to it in a fork by itself, as the module `random` does."""
    if "ssl" in sys.modules:
        sys.modules["ssl"].RAND_add(os.urandom(32), 32.0)
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


def _die_with(parent: int, signum: int) -> None:
    """Have the kernel send `signum` when the master ends. Not earlier: each new parent's end would count."""
    with contextlib.suppress(ImportError, OSError):
        import ctypes  # noqa: PLC0415  only `memunit run` needs it

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signum), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(128 + signum)
