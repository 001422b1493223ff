"""A process that has imported the app and forks workers from itself on the master's request.

The workers become children of the master all the same: an intermediate process forks each worker and ends at once, and
the master is the child subreaper. So the end of a zygote ends no worker.

Messages are JSON, one in a packet (SOCK_SEQPACKET). From the master: {"id", "environment", "watchdog_usec",
"cgroup", "parent", "parent_death_signal"}, with the descriptor of the worker's own page, if there is one (board.py). To
the master: {"ready", "hazards", "notes", "lingers"} once (see hazards.Found and the class Zygote below), {"unusable"}
instead if there is nothing to fork, and for each request {"id", "pid"} or {"id", "error", "errno"}, with errno 0 if
there is none.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import select
import signal
import socket
import sys
from typing import Any, Callable, Collection, Dict, List, NoReturn, Optional, Tuple

from memunit.worker import endings, examined, forked, giving, hazards, inherited, oom, rehearsals
from memunit.worker.inherited import Inherited
from memunit.worker.problem import FORKED, Unusable
from memunit.worker.serving import Prepared

CONTROL = "memunit-zygote"
"""The name in LISTEN_FDNAMES of the last descriptor, by which the master speaks with this process."""
_decode = json.JSONDecoder().raw_decode
_LARGEST = 65536
_LONGEST = 2000
_HEAD_START = 200
"""Milliseconds in which a zygote that has forked its first worker does nothing: a start takes 10."""
# With a handler of the app's, a zygote might not end when it is told to, or not wait for what it forks.
_OURS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


def run(
    prepare: Callable[[], Prepared], report: Callable[[Unusable], int], packages: Collection[str] = ()
) -> Tuple[List[Inherited], Prepared]:
    """Import by `prepare()`, then fork a worker on each request: returns in the workers alone.

    What comes back are the descriptors to serve on, and the app, whose own code is in `packages`. Where `prepare`
    raises Unusable, ends with the status that `report` gives; without a word when the master closes its end. Raises
    Unusable outside of a master.
    """
    entries = inherited.take()
    if not entries or entries[-1].name != CONTROL:
        raise Unusable("--zygote is for memunit's master, which passes a socket for its requests")
    control = socket.socket(fileno=entries.pop().fd)
    # A second zygote beside the first may be too much for the memory there is. Workers that share an import of hundreds
    # of megabytes are larger to the OOM killer than a process that still imports, which is to be killed first.
    score = oom.score_adj(oom.FIRST)
    own = os.getpid()
    try:
        prepared = prepare()
        _check(own, control, entries)
    except Unusable as problem:
        _give_up(control if os.getpid() == own else None, problem, report)
    oom.score_adj(score)
    ends, found = _look(control, entries, packages)
    if ends or found.hazards:
        # What nobody holds any more is in nobody's way. And what holds the rest may be older than the app (ahead.py).
        gc.unfreeze()
        gc.collect()
        ends, found = _look(control, entries, packages)
    try:
        rehearsals.once(prepared, entries)
    except Unusable as problem:
        _give_up(control, problem, report)
    before = [(number, signal.signal(number, signal.SIG_DFL)) for number in _OURS]
    # In the workers no call is made that need not be: each writes to pages that all could share (docs/preload.md).
    handlers = [each for each in before if each[1] not in (None, signal.SIG_DFL)]
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    zygote = _Zygote(control, ends, lambda: rehearsals.well(prepared, entries), hazardous=bool(found.hazards))
    examined.expect_in_zygote()
    gc.freeze()
    giving.note_frozen()
    _tell(control, {"ready": True, "hazards": found.hazards, "notes": found.notes, "lingers": bool(ends)})
    request, page = zygote.serve()
    forked.become_worker(request, page)
    for number, handler in handlers:
        signal.signal(number, handler)  # what serves sees whose SIGTERM and SIGINT are
    return entries, prepared


def _look(
    control: socket.socket, entries: List[Inherited], packages: Collection[str]
) -> Tuple[endings.Endings, hazards.Found]:
    ends = endings.Endings(packages)
    return ends, hazards.found(control.fileno(), [entry.fd for entry in entries], ends)


def _give_up(
    control: Optional[socket.socket], problem: Unusable, report: Callable[[Unusable], int]
) -> NoReturn:
    status = report(problem)
    _flush()
    if control is not None:
        with contextlib.suppress(OSError):  # the import may have closed that too
            _tell(control, {"unusable": str(problem)[:_LONGEST]})
    os._exit(status)


def _check(own: int, control: socket.socket, entries: List[Inherited]) -> None:
    """What an import must not do to its process. Raises Unusable."""
    if os.getpid() != own:
        raise Unusable(FORKED.format(own, os.getpid()))
    inherited.check(entries)
    try:
        os.fstat(control.fileno())
    except OSError:
        raise Unusable(
            "the app's import has closed the socket by which its zygote speaks with the master"
        ) from None


class _Zygote:
    """Forks, and ends when the master has closed its end of the socket: at once, or after the last of its workers.

    It lingers if the import has registered a clean-up (`ends`), which may remove what a worker still uses. Only the
    zygote knows when its last worker has ended, because a worker can outlive its master.
    """

    def __init__(
        self,
        control: socket.socket,
        ends: endings.Endings,
        rehearse: Callable[[], None],
        *,
        hazardous: bool,
    ) -> None:
        self._control = control
        self._rehearse = rehearse
        self._ends = ends
        self._settled = False
        self._hazardous = hazardous
        self._workers: List[int] = []
        self._deaf = bool(ends) or hazardous
        if self._deaf:
            # A stop of the unit signals all of its processes (KillMode=control-group), and the workers still drain.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)

    def serve(self) -> Tuple[Dict[str, Any], List[int]]:
        """Fork a worker on each request; returns in a worker, with its request and what came with it."""
        while True:
            request, passed = _hear(self._control)
            _flush()
            if request is None:
                self._end()
            elif self._fork(request):
                for descriptor in self._workers:
                    os.close(descriptor)
                if self._ends:
                    self._ends.leave()
                return request, passed
            for descriptor in passed:
                os.close(descriptor)
            if not self._settled:
                self._settle()

    def _settle(self) -> None:
        """After the first fork: rehearse, and make the notes, for all later workers. The first one can't wait.

        It has the processor to itself for its start, unless another one is asked for.
        """
        self._settled = True
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.poll(_HEAD_START)
        self._rehearse()
        examined.note_in_zygote()
        gc.freeze()

    def _end(self) -> None:
        if self._hazardous and not self._workers:
            self._ends.run()  # no worker was forked for fear of what the import has made: as with any program
        elif self._ends:
            for descriptor in self._workers:
                poll = select.poll()
                poll.register(descriptor, select.POLLIN)
                poll.poll()
            self._ends.run()
        _flush()
        os._exit(0)

    def _fork(self, request: Dict[str, Any]) -> bool:
        """Fork a worker and report it; true in the worker itself, once that is done.

        Its pid is told only after the intermediate has been reaped: until then the worker is not the master's child
        yet. And the worker does nothing before its pid is told: the master knows it by the time it speaks or ends.
        """
        control = self._control
        if request["parent_death_signal"]:
            forked.load_prctl()
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
            for signum in (signal.SIGTERM, signal.SIGINT) if self._deaf else ():
                signal.signal(signum, signal.SIG_DFL)
            with contextlib.suppress(OSError):
                os.setpgid(0, 0)
            control.close()
            ours.close()
            if theirs.recv(2) != b"go":
                os._exit(forked.EX_TEMPFAIL)  # the zygote has ended, and nobody knows of this worker
            theirs.close()
            return True
        theirs.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(intermediate, 0)
        ours.setblocking(False)
        try:
            number = int(ours.recv(64))
        except (OSError, ValueError):
            number = 0
        if number > 0 and self._ends and not self._hold(number):
            number = -errno.EMFILE
        if number == 0:
            _tell(
                control,
                {
                    "id": request["id"],
                    "errno": 0,
                    "error": "the process that forked the worker was killed before it had answered",
                },
            )
        elif number < 0:
            _tell(control, {"id": request["id"], "errno": -number, "error": "fork"})
        else:
            _send(control, b'{"id": %d, "pid": %d}' % (request["id"], number))
            with contextlib.suppress(OSError):
                ours.send(b"go", socket.MSG_NOSIGNAL)
        ours.close()
        return False

    def _hold(self, worker: int) -> bool:
        """A descriptor of this worker, which waits for us, and none of those that have ended."""
        if self._workers:
            poll = select.poll()
            for descriptor in self._workers:
                poll.register(descriptor, select.POLLIN)
            for descriptor, _ in poll.poll(0):
                os.close(descriptor)
                self._workers.remove(descriptor)
        try:
            self._workers.append(os.pidfd_open(worker))
        except ProcessLookupError:
            return True  # killed already
        except OSError:
            return False
        return True


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _hear(control: socket.socket) -> Tuple[Optional[Dict[str, Any]], List[int]]:
    """The next request, and the descriptors that came with it; None once the master has closed its end."""
    passed: List[int] = []
    try:
        packet, passed, _, _ = socket.recv_fds(control, _LARGEST, 1, socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        packet = b""
    return _decode(packet.decode())[0] if packet else None, passed


def _tell(control: socket.socket, message: Dict[str, Any]) -> None:
    _send(control, json.dumps(message).encode())


def _send(control: socket.socket, message: bytes) -> None:
    try:
        control.send(message, socket.MSG_NOSIGNAL)
    except ConnectionError:
        os._exit(0)


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
