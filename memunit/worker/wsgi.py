"""A WSGI worker: the ASGI worker's sockets, HTTP and drain, and a pool of threads for the app.

The loop reads requests and sends answers, so that a slow client holds no thread (but for large bodies), and
all that an ASGI worker does for its clients at a stop is done here by the same code.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections import deque
from functools import partial
from typing import Any, Callable, Deque, Dict, Optional

from memunit.worker import asgi, environ, selftest
from memunit.worker.call import Call
from memunit.worker.connection import Connection
from memunit.worker.exchange import Exchange
from memunit.worker.httphead import Headers, Line, Meaning
from memunit.worker.httpserver import HttpServer
from memunit.worker.problem import Unusable
from memunit.worker.proxied import Trusted
from memunit.worker.serving import Server
from memunit.worker.threads import Job, Threads

_DEFAULT_THREADS = 8


def prepare(app_name: str) -> Server:
    """Import uvicorn and the WSGI app `app_name`, as asgi.prepare() does; no thread is started yet.

    What comes back runs it in as many threads as MEMUNIT_THREADS says.
    """
    threads = Threads(_threads(os.environ.get("MEMUNIT_THREADS", "")))
    script_name = os.environ.get("UVICORN_ROOT_PATH", "") or os.environ.get("SCRIPT_NAME", "")

    def bridge(app: Callable[..., Any]) -> Bridge:
        refuse_asgi(app, app_name)
        return Bridge(app, threads, script_name.rstrip("/"))

    # The path is taken apart here: what uvicorn does with a root_path differs from version to version.
    fixed = {"interface": "asgi3", "lifespan": "off", "ws": "none", "root_path": ""}
    return asgi.prepare(app_name, bridge=bridge, fixed=fixed)


def refuse_asgi(app: Callable[..., Any], name: str) -> None:
    """Raise Unusable for an app whose call is a coroutine: it answers by ASGI."""
    if inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(getattr(app, "__call__", None)):  # noqa: B004
        raise Unusable(f'{name} is an ASGI app: say server = "asgi"')


def _threads(text: str) -> int:
    if not text:
        return _DEFAULT_THREADS
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise Unusable(f"MEMUNIT_THREADS={text}: a number from 1 is needed")
    return int(text)


class Bridge:
    """Runs a WSGI app in threads beside the loop of an ASGI worker."""

    def __init__(self, app: Callable[..., Any], threads: Threads, script_name: str) -> None:
        self._app = app
        self._threads = threads
        self._common = environ.base(threads=threads.most)
        self._script_name = script_name
        self._server: Optional[WsgiServer] = None
        self._busy: Optional[Callable[[bool], None]] = None
        self._held = False
        self._pinging = False
        self._finishing = False
        self._steps = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """For uvicorn, which wants an ASGI app to configure: nobody calls it."""
        raise RuntimeError("a WSGI app is not called by ASGI")

    def server(self, *arguments: Any, trial: bool, trusted: Optional[Trusted], **options: Any) -> HttpServer:
        """An HttpServer whose requests go to the app; for a trial to selftest.wsgi(), in no thread of the pool."""
        make = partial(environ.make, common=self._common, script_name=self._script_name, trusted=trusted)
        if trial:
            return WsgiServer(selftest.wsgi, make, lambda job: job(), *arguments, **options)
        self._server = WsgiServer(self._app, make, self._submit, *arguments, **options)
        return self._server

    def on_busy(self, busy: Callable[[bool], None]) -> None:
        """Have `busy(True)` called in the loop when all threads have work, `busy(False)` when one is free."""
        self._busy = busy

    def ping(self, ping: Callable[[], Any]) -> None:
        """Call `ping()` from the loop once a thread is free.

        If no thread is free, call it if a request in work has got on since the last call, or waits for its client now.
        So a pool with eight slow clients counts as serving, and a pool that hangs does not. How long a client may take
        is for the connection to say.
        """
        assert self._server is not None
        steps = self._server.steps()
        if self._finishing:
            ping()
        elif not self._pinging:
            self._pinging = True
            loop = asyncio.get_running_loop()

            def answered() -> None:
                self._pinging = False
                ping()

            self._threads.submit(lambda: _tell(loop, answered))
        elif steps != self._steps or self._server.waits():
            ping()
        self._steps = steps

    async def finish(self) -> None:
        """Wait until what still runs in the threads (the end of an answer that is out) has come to its end."""
        self._finishing = True
        self._abandon()
        await asyncio.get_running_loop().run_in_executor(None, self._threads.finish)

    def end(self) -> None:
        """Have the threads end, and wait for nothing."""
        self._abandon()
        self._threads.end()

    def _abandon(self) -> None:
        """For what is not answered by now there is no time left."""
        if self._server is not None:
            for exchange in list(self._server.cycles):
                exchange.abandon()  # type: ignore[attr-defined]

    def _submit(self, job: Job) -> None:
        self._threads.submit(job)
        if self._busy is not None and not self._held and self._threads.exhausted:
            self._hold(asyncio.get_running_loop())

    def _hold(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._busy is not None
        if not self._held:
            self._held = True
            self._busy(True)
        self._threads.when_free(lambda: _tell(loop, self._release))

    def _release(self) -> None:
        assert self._busy is not None
        if self._threads.exhausted:
            self._hold(asyncio.get_running_loop())
            return
        self._held = False
        self._busy(False)


class WsgiServer(HttpServer):
    """`make_environ(line, headers, client, local)` gives environ.make()'s, and `submit(job)` has a thread do it."""

    def __init__(
        self,
        app: Callable[..., Any],
        make_environ: Callable[..., Dict[str, Any]],
        submit: Callable[[Job], None],
        *arguments: Any,
        **options: Any,
    ) -> None:
        super().__init__(app, *arguments, **options)
        self.submit = submit
        self._make_environ = make_environ
        self._handed: Deque[Call] = deque()
        self._told = False
        self._steps_of_the_done = 0

    def make(self, connection: Connection, line: Line, headers: Headers, meaning: Meaning) -> Exchange:
        return Exchange(
            self,
            connection,
            line,
            meaning,
            self._make_environ(line, headers, connection.client, connection.local),
        )

    def start(self, cycle: Any) -> None:
        if self._limit is not None and self._limited(self._limit):
            cycle.refuse()
            return
        self.cycles.add(cycle)
        if self.begin is not None:
            cycle.request = self.begin(*cycle.asked)
        cycle.start()

    def steps(self) -> int:
        """How often all requests together have got on."""
        return self._steps_of_the_done + sum(each.steps for each in self.cycles)  # type: ignore[attr-defined]

    def waits(self) -> bool:
        """Whether one of them waits for its client."""
        return any(each.blocked for each in self.cycles)  # type: ignore[attr-defined]

    def done(self, exchange: Exchange) -> None:
        """Nothing more comes of it."""
        if exchange not in self.cycles:
            return
        self.cycles.discard(exchange)
        if self.end is not None and exchange.request is not None and not self.end(exchange.request):
            self._name(exchange, *exchange.asked, exchange.route)
        self._steps_of_the_done += exchange.steps
        if self.after_request is not None:
            self.after_request()
        if self.draining and not self.cycles:
            self.changed()

    # Called in the threads.

    def tell(self, call: Call) -> bool:
        """Have deliver() of `call` called in the loop, with all others' that come meanwhile; False at the end."""
        self._handed.append(call)
        if self._told:
            return True
        self._told = True
        return self.call(self._deliver)

    def call(self, function: Callable[[], None]) -> bool:
        """Have the loop call `function`; False if it is closed, since the worker is at its end."""
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            return False
        return True

    def _deliver(self) -> None:
        self._told = False  # before it looks: what is handed over from now on is told anew
        for _ in range(len(self._handed)):
            self._handed.popleft().deliver()


def _tell(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        return  # the loop is closed: the worker is at its end
