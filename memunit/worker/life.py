"""The life of an ASGI or WSGI worker: start-up, serving, and a stop that loses no request. The drain begins here.

Accepting, HTTP, signals, readiness and the drain are memunit's own code; uvicorns.py names what uvicorn does.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any, Callable, List, Optional, Union

from memunit.worker import (
    board,
    examined,
    giving,
    grace,
    inherited,
    leaving,
    noting,
    pinging,
    scoreboard,
    signals,
    standard,
    waits,
)
from memunit.worker.connection import Connection
from memunit.worker.hooks import Hook, call_beside
from memunit.worker.httpserver import Connections, HttpServer
from memunit.worker.lifespans import surely
from memunit.worker.listening import Acceptor
from memunit.worker.notify import Notify
from memunit.worker.orderly import Orderly
from memunit.worker.parts import Parts
from memunit.worker.problem import EX_SOFTWARE
from memunit.worker.siblings import Siblings
from memunit.worker.signals import Claim, Unclaimed
from memunit.worker.uvicorns import WebSockets
from memunit.worker.websockets import Application

_PATIENCE = 1.0  # seconds of the app's start-up, after which the status says what the worker waits for
_LOOKS = 1000  # requests after which it is looked whether the app has set handlers of signals


class Worker:
    """Made in the zygote, where there is one; `main()` is its life, in the process that serves."""

    def __init__(
        self,
        parts: Parts,
        app: Callable[..., Any],
        listeners: List[socket.socket],
        before_stop: Optional[Hook] = None,
    ) -> None:
        self._parts = parts
        self._uvicorn = parts.uvicorn
        self._threaded = parts.threaded
        self._http_app = app
        self._listeners = listeners
        self.notify = Notify({})
        self._before_stop = before_stop
        self._cleaning: "Optional[asyncio.Task[None]]" = None
        self._app = Application(app)
        self._uvicorn.use(self._app)
        self._connections = Connections()
        self._websockets: Optional[WebSockets] = None
        self._server: Optional[HttpServer] = None
        self._lifespan: Any = None
        self._awaited: "Optional[asyncio.Future[None]]" = None
        self._orderly: Optional[Orderly] = None
        self._grace = grace.read()
        self._looks = _LOOKS
        self.giver: Optional[giving.Giver] = None
        self._waits = False
        self.tried = False
        """Whether what serves is known to work: the zygote has served a request."""

    async def main(self) -> int:
        """The worker's life inside the loop: start-up, serving, drain, shutdown."""
        self._loop = loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._quiet = asyncio.Event()
        self.claim = Claim(lambda _signum: self.stop(), loop)
        if not await self._begin(self.claim, Siblings(scoreboard.place())):
            return self._pass_on() or 0 if self._stopping.is_set() else EX_SOFTWARE
        assert self._server is not None
        server, lifespan = self._server, self._lifespan
        if self.giver is not None:
            self.giver.attach(loop)
        await self._stopping.wait()

        if self._orderly is None:
            self._arm(server)
        assert self._orderly is not None
        self._connections.on_empty = server.changed = self._changed
        waiting = waits.Waits(server, self.notify)
        waiting.tell()
        self._app.drain()
        while self._open():
            self._quiet.clear()
            await self._quiet.wait()
        while self._websockets is not None and self._websockets.tasks and not self._orderly.over:
            left = self._orderly.left(self._grace.give_up)
            await asyncio.wait(set(self._websockets.tasks), timeout=left)
        examined.examine(self.notify)
        if self._threaded is not None:
            finished = self._loop.create_task(self._threaded.finish())
            await asyncio.wait({finished}, timeout=self._orderly.left(self._grace.give_up))
        waiting.over()
        status = self._pass_on()
        leaving.wait_for(lambda: "the app's lifespan.shutdown")
        await surely(self._loop.create_task(lifespan.shutdown()))
        leaving.wait_for(str)
        if lifespan.should_exit:
            self.notify.status("the app's shutdown failed")
            return EX_SOFTWARE
        return status or 0

    def _pass_on(self) -> Optional[int]:
        """Call the app's own handlers of the signals that came; the exit status, if one of them ends this worker."""
        if self.claim.stopped_at is not None:
            leaving.bound(notify=self.notify)
        own = self.claim.owner()
        if own:
            self.notify.status(f"calling the app's own handler of {own}")
            leaving.wait_for(lambda: f"the app's own handler of {own}")
        return self.claim.pass_on()

    def be_for(self, notify: Notify) -> None:
        """Be the worker that serves in this process; since it was made, others may have been rehearsed."""
        self.notify = notify
        self._uvicorn.use(self._app)

    def arrange(self) -> None:
        """All that serving needs but a loop: in a zygote, where there is one (docs/preload.md)."""
        self._acceptor = Acceptor(
            self._listeners,
            self._make_connection,
            changed=self._changed,
            served=self._connections.__len__,
            made=lambda: 0 if self._server is None else self._server.made,
        )
        self._connections.on_loss = self._acceptor.lost
        self._lifespan = self._uvicorn.lifespan()
        state = getattr(self._lifespan, "state", None)
        self._websockets = self._uvicorn.websockets(self._connections, state)
        self._arranged = self._parts.http_server(self._http_app, self._connections, self._websockets, state)

    async def _begin(self, claim: Union[Claim, Unclaimed], siblings: Siblings) -> bool:
        """All that comes before READY=1, and that; whether the app is there."""
        if self._lifespan is None:
            self.arrange()
        if not self.tried:
            await self._parts.try_out(getattr(self._lifespan, "state", None), self._app)
        if not await self._start_up(self._lifespan):
            return False
        server = self._server = self._arranged
        server.each_second = noting.look_of(server, claim.look)
        server.after_request = self._look
        claim.forked = server.mute
        if self._threaded is not None:
            self._threaded.on_busy(self._acceptor.hold)
        claim.look()
        if not isinstance(claim, Unclaimed):
            examined.note_objects()
        self._acceptor.start(siblings)
        board.stage(board.SERVING)
        self.notify.send("READY=1", *(["STATUS=serving"] if self._waits else []))
        if not isinstance(claim, Unclaimed):
            examined.note_memory()
        pinging.begin(self.notify, self._threaded, claim.look)
        return True

    async def _start_up(self, lifespan: Any) -> bool:
        """Run the app's start-up; whether to go on. A stop meanwhile does not wait: the loop cancels it."""
        starting = self._loop.create_task(lifespan.startup())
        if not self._stopping.is_set():
            # Plainer than asyncio.wait(), whose parts would be pages of each worker's own.
            self._awaited = self._loop.create_future()
            starting.add_done_callback(self._go_on)
            waiting = self._loop.call_later(_PATIENCE, self._say_what_it_waits_for)
            await self._awaited
            waiting.cancel()
        if not starting.done() or self._stopping.is_set():
            return False
        starting.result()
        standard.fill()
        if lifespan.should_exit or self._app.lifespan.exits:
            lines = self._app.lifespan.failure.strip().splitlines()
            self.notify.status("the app's start-up failed" + (f": {lines[-1]}" if lines else ""))
            return False
        return True

    def _say_what_it_waits_for(self) -> None:
        self.notify.status("waiting for the app's lifespan.startup")
        self._waits = True

    def _go_on(self, _: object = None) -> None:
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)

    def stop(self) -> None:
        """Begin the drain, once."""
        if self._stopping.is_set() or self._cleaning is not None:
            return
        if self._server is not None:
            self._arm(self._server)
        if self._before_stop is None:
            self._stop_accepting()
        self.notify.send("STOPPING=1", "STATUS=finishing open requests")
        if self._before_stop is not None:
            self._cleaning = self._loop.create_task(call_beside(self._before_stop))
            self._cleaning.add_done_callback(lambda _: self._stop_accepting())

    def _stop_accepting(self) -> None:
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._go_on()
        board.stage(board.DRAINING)
        self._acceptor.stop()
        if self._server is not None:
            # Not only when main() comes to it: what has arrived in the same pass of the loop is answered before that.
            self._server.drain()
        self.claim.exit_libraries()

    def _arm(self, server: HttpServer) -> None:
        self._orderly = Orderly(
            self._loop,
            server,
            self._grace,
            self.claim.stopped_at,
            websockets=lambda: () if self._websockets is None else self._websockets.tasks,
            last_call=self._stop_accepting,
            changed=self._changed,
            status=self.notify.status,
        )

    def _look(self) -> None:
        """Look for new handlers of signals, after each of the first requests: later ones hardly set any."""
        self.claim.look()
        self._looks -= 1
        if self._looks == 0 and self._server is not None:
            self._server.after_request = None

    def _open(self) -> bool:
        assert self._orderly is not None
        assert self._server is not None
        at_work = self._acceptor.busy or bool(self._connections) or bool(self._server.cycles)
        return at_work and not self._orderly.over

    def _changed(self) -> None:
        if self._stopping.is_set():
            self._quiet.set()

    def _make_connection(self, *of_the_socket: Any) -> Connection:
        assert self._server is not None
        return Connection(self._server, *of_the_socket)

    async def rehearse(self) -> None:
        """Begin, and serve a request, before there are workers: all share the pages of that (docs/preload.md).

        This worker has selftest.app() for its app, and nothing is left of it.
        """
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self.tried = True
        signals.rehearse(self._loop)
        quiet = not logging.getLogger("uvicorn.error").isEnabledFor(
            logging.INFO
        )  # or uvicorn tells of its start-ups
        await self._parts.try_out(getattr(self._uvicorn.lifespan(), "state", None), self._app)
        if quiet:
            self._uvicorn.use(self._app)
            self._listeners = inherited.open_stream_listeners([inherited.of_nobody()])
            await self._begin(Unclaimed(), Siblings(None))
            self._acceptor.stop()
            await self._lifespan.shutdown()
