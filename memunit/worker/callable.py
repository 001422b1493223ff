"""A worker whose serving is the app's own: the library's `run(worker)`, or `serve(sockets, stopping)`."""

from __future__ import annotations

import _thread
import functools
import inspect
import os
import select
import signal
import socket
import traceback
from typing import Any, Callable, List, Optional

from memunit.worker import board, examined, giving, inherited, stacks, target
from memunit.worker.hooks import Hooks, call
from memunit.worker.notify import Notify
from memunit.worker.problem import Unusable
from memunit.worker.serving import Server
from memunit.worker.signals import Claim, status_of

# Before the app is imported, which may have gevent put greenlets in the place of threads.
_allocate_lock, _start_thread, _read = _thread.allocate_lock, _thread.start_new_thread, os.read
_poll = select.poll
_PING_PATIENCE = (
    0.1  # seconds that a ping waits for room in the master's queue, which somebody else may flood
)


class Stopping:
    """Becomes set, once and for good, when the worker is to stop. Can sit in a select() beside sockets."""

    def __init__(self) -> None:
        self._readable, self._end = os.pipe2(os.O_CLOEXEC)
        self._set = False

    def is_set(self) -> bool:
        """Whether the worker is to stop."""
        return self._set

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Wait until it is set, `timeout` seconds at most; whether it is."""
        poll = select.poll()
        poll.register(self._readable, select.POLLIN)
        poll.poll(None if timeout is None else max(0.0, timeout) * 1000)
        return self._set

    def fileno(self) -> int:
        """A descriptor that is readable once this is set. Not to be read or closed."""
        return self._readable

    def set(self) -> None:
        """Set it. Takes no lock: fit to be called from anywhere, a signal handler too."""
        if not self._set:
            self._set = True
            os.write(self._end, b"\0")


class Worker:
    """What `run(worker)` is given: the sockets to serve on, and the words to say to the master.

    `sockets` come in the master's order and are shared with the other workers, down to the blocking mode:
    leave it as it is (blocking), or expect that accept() finds a connection taken by a faster worker. `slot`
    and `generation` name the worker.
    """

    def __init__(
        self, sockets: List[socket.socket], notify: Notify, *, slot: int = 0, generation: int = 0
    ) -> None:
        self.sockets = sockets
        self.slot = slot
        self.generation = generation
        self.stopping = Stopping()
        self._notify = notify

    @property
    def watchdog(self) -> Optional[float]:
        """Seconds within which ping() has to be called again, once it has been; None when nobody watches."""
        return self._notify.watchdog

    def ready(self) -> None:
        """Say that this worker serves. Until then it is starting, and is ended at the start time-out."""
        examined.note_objects()
        board.stage(board.SERVING)
        self._notify.send("READY=1")
        examined.note_memory()

    def status(self, text: str) -> None:
        """Say in one line what this worker is doing."""
        self._notify.status(text)

    def ping(self) -> None:
        """Tell the watchdog that this worker gets on.

        Call it from what serves (each pass of a loop, each request), not from a thread of its own, which
        would prove nothing. The watchdog is armed by the first call: a worker that never calls is never ended
        for its silence.
        """
        self._notify.ping(wait=_PING_PATIENCE)


Run = Callable[[Worker], Any]
Clean = Callable[[], Any]


def serve(
    run: Run,
    clean: Optional[Clean] = None,
    *,
    give_back: Optional[Clean] = None,
    sockets: Optional[List[socket.socket]] = None,
    slot: int = 0,
    generation: int = 0,
) -> int:
    """Serve by `run(worker)` in this process, a child that the master has just forked; the exit status.

    `sockets` are those of LISTEN_FDS unless given. At SIGTERM or SIGINT a thread of its own says STOPPING=1,
    calls `clean()` and then sets `worker.stopping`; so `clean` may take locks that the main thread holds. 0
    when `run` returns, 1 when it raises, the status of a SystemExit. To be called in the main thread.
    """
    notify = Notify()
    if sockets is None:
        sockets = [inherited.open_socket(entry) for entry in inherited.take()]
    return _serve(Worker(sockets, notify, slot=slot, generation=generation), notify, run, clean, give_back)


def prepare(name: str) -> Server:
    """Import the callable `name` ("module:attribute"); what comes back serves by it, as serve() does.

    With one parameter it is called as run(worker), and says worker.ready() itself. With two it is called as
    serve(sockets, stopping), and READY=1 is said just before: the sockets listen, and nothing else can tell.
    Raises Unusable.
    """
    run = _adapt(target.load(name), name)

    def serve(entries: List[inherited.Inherited], notify: Notify, hooks: Hooks) -> int:
        sockets = [inherited.open_socket(entry) for entry in entries]
        slot, generation = (int(os.environ.get(f"MEMUNIT_{name}", "0")) for name in ("SLOT", "GENERATION"))
        clean = None if hooks.before_stop is None else functools.partial(call, hooks.before_stop)
        worker = Worker(sockets, notify, slot=slot, generation=generation)
        return _serve(worker, notify, run, clean, hooks.give_back)

    return Server(serve)


def _adapt(found: Callable[..., Any], name: str) -> Run:
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return found

    def fits(count: int) -> bool:
        try:
            signature.bind(*range(count))
        except TypeError:
            return False
        return True

    if fits(2):

        def run(worker: Worker) -> Any:
            worker.ready()
            return found(worker.sockets, worker.stopping)

        return run
    if fits(1):
        return found
    raise Unusable(f"{name} can be called neither as serve(sockets, stopping) nor as run(worker)")


def _serve(
    worker: Worker, notify: Notify, run: Run, clean: Optional[Clean], give_back: Optional[Clean]
) -> int:
    stacks.arm()
    notify.keep()
    stopper = _Stopper(worker, notify, clean, giving.Giver(give_back))
    stopper.start()
    try:
        run(worker)
    except SystemExit as end:
        return status_of(end)
    except BaseException as error:
        if not isinstance(error, KeyboardInterrupt):
            notify.status(f"failed: {target.describe(error)}")
        traceback.print_exc()
        return 1
    finally:
        stopper.finish()
        examined.examine(notify)
    return stopper.claim.pass_on() or 0


class _Stopper:
    """Turns SIGTERM into STOPPING=1, clean() and `stopping`, in a thread: a handler could meet the locks it
    needs.

    The signal comes by a pipe, twice: from the handler, which runs when the main thread executes Python, and
    from the interpreter's wakeup descriptor, which works while the main thread is in C, as long as no event
    loop takes it. The thread is one of the system's, also where gevent or eventlet have put something of their own in
    the place of those: what waits in C would hold up all that they run in turn.
    """

    def __init__(self, worker: Worker, notify: Notify, clean: Optional[Clean], giver: giving.Giver) -> None:
        self._worker = worker
        self._notify = notify
        self._clean = clean
        self._giver = giver
        self._pressure = giving.opened()
        self._told, self._tell = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._tell, False)
        self._asked = False
        self._done = _allocate_lock()
        self._done.acquire()

    def start(self) -> None:
        self.claim = Claim(self._ask)
        signal.set_wakeup_fd(self._tell, warn_on_full_buffer=False)
        _start_thread(self._wait, ())

    def finish(self) -> None:
        """After a stop has begun, let clean() come to its end."""
        if self._asked:
            self._done.acquire()

    def _ask(self, signum: int) -> None:
        if not self._asked:
            self._asked = True
            os.write(self._tell, bytes([signum]))

    def _wait(self) -> None:
        while not {signal.SIGTERM, signal.SIGINT} & set(self._hear()):
            pass
        self._asked = True
        self._notify.send("STOPPING=1")
        board.stage(board.DRAINING)
        try:
            if self._clean is not None:
                self._clean()
        except BaseException:
            traceback.print_exc()
        finally:
            self._worker.stopping.set()
            self._done.release()

    def _hear(self) -> bytes:
        """The signals that have come. What the master asks meanwhile is begun."""
        while self._pressure is not None:
            poll = _poll()
            poll.register(self._told, select.POLLIN)
            poll.register(self._pressure, select.POLLIN)
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._pressure in ready and not self._giver.asked(self._pressure):
                os.close(self._pressure)
                self._pressure = giving.opened()
            if self._told in ready:
                break
        return _read(self._told, 64)
