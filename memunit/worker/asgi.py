"""An ASGI worker on the master's sockets, with a stop that loses no request.

Accepting, HTTP, signals, readiness and the drain are memunit's own; of uvicorn is what uvicorns.py has.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import socket
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Union

from memunit.worker import (
    board,
    bounds,
    examined,
    frameworks,
    giving,
    grace,
    httpparse,
    inherited,
    loops,
    noting,
    patched,
    pinging,
    scoreboard,
    selftest,
    signals,
    target,
    waits,
)
from memunit.worker.connection import Connection
from memunit.worker.draining import Application, Connections
from memunit.worker.hooks import Hook, Hooks, call_beside
from memunit.worker.httpserver import HttpServer
from memunit.worker.inherited import Inherited
from memunit.worker.lifespans import surely
from memunit.worker.listening import Acceptor
from memunit.worker.notify import Notify, notifying
from memunit.worker.orderly import Orderly
from memunit.worker.problem import EX_SOFTWARE, Unusable
from memunit.worker.proxied import Trusted, from_proxies
from memunit.worker.serving import Server, Threaded
from memunit.worker.siblings import Siblings
from memunit.worker.signals import Claim, Unclaimed
from memunit.worker.uvicorns import Uvicorn, WebSockets

_LOOKS = 1000  # requests after which it is looked whether the app has set handlers of signals


def prepare(
    app_name: str,
    *,
    bridge: Optional[Callable[[Any], Any]] = None,
    fixed: Optional[Dict[str, Any]] = None,
) -> Server:
    """Import uvicorn and the ASGI app `app_name` ("module:attribute"), and all that serving needs but a loop.

    What comes back serves until SIGTERM or SIGINT: 0 after a drain, 70 when the app's own start-up or shutdown
    failed. Raises Unusable (exit status 78) when there is no uvicorn or no such app, and later when no socket
    fits. `bridge` makes a Threaded (a wsgi.Bridge) of what is loaded, `fixed` are the options of uvicorn.Config
    that go with it.
    """
    uvicorn = Uvicorn(os.environ, fixed or {})
    reader = httpparse.reader(os.environ.get("UVICORN_HTTP", ""))
    limits = bounds.read(os.environ)
    app: Any = target.load(app_name)
    patched.refuse("asgi" if bridge is None else "wsgi")
    frameworks.watch()
    target.refuse_factory(app, app_name)
    if bridge is None:
        target.refuse_wsgi(app, app_name)
    else:
        app = bridge(app)
    loaded = uvicorn.load(app)
    allowed = uvicorn.forwarded_allow_ips
    trusted = None if allowed is None else Trusted(allowed)
    threaded: Optional[Threaded] = None if bridge is None else app
    if trusted is not None and threaded is None:
        loaded = from_proxies(loaded, trusted)
    new_loop = loops.maker()
    tried: List[bool] = []
    made: List[_Worker] = []

    def make(entries: List[Inherited], hooks: Hooks) -> _Worker:
        listeners = inherited.open_stream_listeners(entries)
        worker = _Worker(uvicorn, reader, limits, loaded, listeners, hooks.before_stop, threaded, trusted)
        worker.giver = giving.Giver(hooks.give_back)
        return worker

    def rehearse(entries: List[Inherited], hooks: Hooks) -> None:
        worker = _Worker(uvicorn, reader, limits, selftest.app, [], None, threaded, trusted)
        # A ping of a worker with threads would start one.
        with notifying(pings=threaded is None) as worker.notify:
            worker.notify.renewed()
            loops.rehearse(worker.rehearse(), new_loop())
        tried.append(True)
        if threaded is None and loops.NONE_NEEDED and not made:
            with contextlib.suppress(Unusable):  # a worker says it
                worker = make(entries, hooks)
                worker.arrange()
                made.append(worker)

    def serve(entries: List[Inherited], notify: Notify, hooks: Hooks) -> int:
        worker = made.pop() if made else make(entries, hooks)
        worker.tried = bool(tried)
        worker.be_for(notify)
        try:
            return loops.run(worker, new_loop())
        finally:
            if threaded is not None:
                threaded.end()

    return Server(serve, rehearse)


class _Worker:
    def __init__(
        self,
        uvicorn: Uvicorn,
        reader: httpparse.Reader,
        limits: bounds.Bounds,
        app: Callable[..., Any],
        listeners: List[socket.socket],
        before_stop: Optional[Hook],
        threaded: Optional[Threaded],
        trusted: Optional[Trusted],
    ) -> None:
        self._uvicorn = uvicorn
        self._reader = reader
        self._bounds = limits
        self._http_app = app
        self._threaded = threaded
        self._trusted = trusted
        self._listeners = listeners
        self.notify = Notify({})
        self._before_stop = before_stop
        self._cleaning: "Optional[asyncio.Task[None]]" = None
        self._app = Application(app)
        uvicorn.use(self._app)
        self._connections = Connections()
        self._websockets: Optional[WebSockets] = None
        self._server: Optional[HttpServer] = None
        self._lifespan: Any = None
        self._awaited: "Optional[asyncio.Future[None]]" = None
        self._orderly: Optional[Orderly] = None
        self._grace = grace.read()
        self._looks = _LOOKS
        self.giver: Optional[giving.Giver] = None
        self.tried = False
        """Whether what serves is known to work: the zygote has served a request."""

    async def main(self) -> int:
        """The worker's life inside the loop: start-up, serving, drain, shutdown."""
        self._loop = loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._quiet = asyncio.Event()
        self.claim = Claim(lambda _signum: self.stop())
        self.claim.attach(loop)
        if not await self._begin(self.claim, Siblings(scoreboard.place())):
            return 0 if self._stopping.is_set() else EX_SOFTWARE
        assert self._server is not None
        server, lifespan = self._server, self._lifespan
        if self.giver is not None:
            self.giver.attach(loop)
        await self._stopping.wait()

        if self._orderly is None:
            self._arm(server)
        assert self._orderly is not None
        self._connections.on_empty = server.changed = self._changed
        waits.tell(server, self.notify)
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
        own = self.claim.owner()
        if own:
            self.notify.status(f"calling the app's own handler of {own}")
        status = self.claim.pass_on()
        await surely(self._loop.create_task(lifespan.shutdown()))
        if lifespan.should_exit:
            self.notify.status("the app's shutdown failed")
            return EX_SOFTWARE
        return status or 0

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
        self._arranged = self._http_server(self._http_app, self._connections, self._websockets, state)

    async def _begin(self, claim: Union[Claim, Unclaimed], siblings: Siblings) -> bool:
        """All that comes before READY=1, and that; whether the app is there."""
        if self._lifespan is None:
            self.arrange()
        if not self.tried:
            await self._try(getattr(self._lifespan, "state", None))
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
            examined.note_at_start()
        self._acceptor.start(siblings)
        board.stage(board.SERVING)
        self.notify.send("READY=1")
        pinging.begin(self.notify, self._threaded, claim.look)
        return True

    async def _start_up(self, lifespan: Any) -> bool:
        """Run the app's start-up; whether to go on. A stop meanwhile does not wait: the loop cancels it."""
        starting = self._loop.create_task(lifespan.startup())
        if not self._stopping.is_set():
            # Plainer than asyncio.wait(), whose parts would be pages of each worker's own.
            self._awaited = self._loop.create_future()
            starting.add_done_callback(self._go_on)
            await self._awaited
        if not starting.done() or self._stopping.is_set():
            return False
        starting.result()
        if lifespan.should_exit or self._app.lifespan.exits:
            lines = self._app.lifespan.failure.strip().splitlines()
            self.notify.status("the app's start-up failed" + (f": {lines[-1]}" if lines else ""))
            return False
        return True

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
        """After a request that may have set handlers of signals. Those that do it do it early: the rest is free."""
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
        await self._try(getattr(self._uvicorn.lifespan(), "state", None))
        if quiet:
            self._uvicorn.use(self._app)
            self._listeners = inherited.open_stream_listeners([inherited.of_nobody()])
            await self._begin(Unclaimed(), Siblings(None))
            self._acceptor.stop()
            await self._lifespan.shutdown()

    async def _try(self, state: Optional[Dict[str, Any]]) -> None:
        """Serve once before saying so. Raises Unusable."""

        def make(connections: Connections) -> HttpServer:
            websockets = self._uvicorn.websockets(connections, state)
            return self._http_server(selftest.app, connections, websockets, state)

        self._uvicorn.use(selftest.app)
        with self._uvicorn.fitting():
            await selftest.run(make)
        self._uvicorn.use(self._app)

    def _http_server(
        self,
        app: Callable[..., Any],
        connections: Connections,
        websockets: Optional[WebSockets],
        state: Optional[Dict[str, Any]],
    ) -> HttpServer:
        uvicorn = self._uvicorn
        trial = app is selftest.app
        make: Callable[..., HttpServer] = partial(HttpServer, app)
        if self._threaded is not None:
            make = partial(self._threaded.server, trial=trial, trusted=self._trusted)
        server = make(
            self._reader,
            self._bounds,
            connections=connections,
            keep_alive=uvicorn.keep_alive,
            fields=b"".join(b"%b: %b\r\n" % pair for pair in uvicorn.encoded_headers),
            date=uvicorn.date_header,
            root_path=uvicorn.root_path,
            path_prefix=uvicorn.root_path if uvicorn.full_paths else "",
            limit_concurrency=None if trial else uvicorn.limit_concurrency,
            asgi_version=uvicorn.asgi_version,
            state=state,
            websocket=None if websockets is None else websockets.make,
        )
        if self._threaded is not None:
            server.doubt_time = math.inf  # a WSGI app has no way to hear of it
        return server
