"""An ASGI worker: uvicorn's protocols on the master's sockets, with a stop that loses no request.

uvicorn parses and answers; accepting, signals, readiness and the drain are done here, because its own
shutdown closes connections that it has accepted and not read yet. Only what uvicorn has kept the same since
0.17 is used.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import socket
import sys
import time
from email.utils import formatdate
from functools import partial
from typing import Any, Callable, Coroutine, Dict, List, Optional, Protocol, Set

from memunit.worker import inherited, options, target
from memunit.worker.draining import Application, Connections, forgotten
from memunit.worker.hooks import Hook, call_beside
from memunit.worker.inherited import Inherited
from memunit.worker.listening import Acceptor, unread
from memunit.worker.notify import Notify
from memunit.worker.problem import EX_SOFTWARE, Unusable
from memunit.worker.proxied import from_unix_sockets
from memunit.worker.serving import Serve

_PING_AGAIN = 0.02  # seconds until a ping for which there was no room in the master's queue is tried anew


def prepare(
    app_name: str,
    *,
    bridge: Optional[Callable[[Any], Any]] = None,
    fixed: Optional[Dict[str, Any]] = None,
) -> Serve:
    """Import uvicorn and the ASGI app `app_name` ("module:attribute"), and all that serving needs but a loop.

    What comes back serves until SIGTERM or SIGINT: 0 after a drain, 70 when the app's own start-up or shutdown
    failed. Raises Unusable (exit status 78) when there is no uvicorn or no such app, and later when no socket
    fits. `bridge` makes an ASGI app (a wsgi.Bridge) of what is loaded, `fixed` are the options of
    uvicorn.Config that go with it.
    """
    uvicorn = _import_uvicorn()
    chosen = options.read(os.environ, uvicorn.Config)
    try:
        config = uvicorn.Config(None, **{**chosen, **(fixed or {})})
    except (KeyError, ValueError, TypeError) as error:
        raise options.refused(chosen, error) from None
    app = target.load(app_name)
    target.refuse_factory(app, app_name)
    if bridge is None:
        target.refuse_wsgi(app, app_name)
    config.app = app if bridge is None else bridge(app)
    try:
        config.load()
    except Exception as error:
        # Only now it looks up by name what is to speak HTTP, and its own errors are plain ones.
        raise options.refused(chosen, error) from None
    if config.proxy_headers:
        config.loaded_app = from_unix_sockets(config.loaded_app, config.forwarded_allow_ips)
    new_loop = _loop_maker()
    importlib.import_module("uvicorn.server")

    def serve(entries: List[Inherited], notify: Notify, before_stop: Optional[Hook]) -> int:
        listeners = inherited.open_stream_listeners(entries)
        threaded = None if bridge is None else config.app
        return _run(_Worker(config, listeners, notify, before_stop, threaded).main(), new_loop())

    return serve


def _import_uvicorn() -> Any:
    try:
        return importlib.import_module("uvicorn")
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "uvicorn":
            remedy = "apt install python3-uvicorn" if sys.executable.startswith("/usr/bin/") else None
            remedy = remedy or f"{sys.executable} -m pip install uvicorn"
            raise Unusable(
                f"{sys.executable} has no uvicorn, which serves ASGI and WSGI apps: {remedy}"
            ) from None
        raise Unusable(f"cannot import uvicorn: {target.describe(error)}", cause=error) from None


class Threaded(Protocol):
    """An ASGI app that does its work in threads, as wsgi.Bridge."""

    def on_busy(self, busy: Callable[[bool], None]) -> None:
        """Have busy(True) called when all threads have work, busy(False) when one is free again."""

    def ping(self, ping: Callable[[], Any]) -> None:
        """Call `ping()` if the threads get on."""

    async def finish(self) -> None:
        """Wait until the threads have come to their end."""


class _Worker:
    def __init__(
        self,
        config: Any,
        listeners: List[socket.socket],
        notify: Notify,
        before_stop: Optional[Hook],
        threaded: Optional[Threaded] = None,
    ) -> None:
        self._config = config
        self._threaded = threaded
        self._listeners = listeners
        self._notify = notify
        self._before_stop = before_stop
        self._cleaning: "Optional[asyncio.Task[None]]" = None
        self._app = Application(config.loaded_app)
        config.loaded_app = self._app
        self._state = importlib.import_module("uvicorn.server").ServerState()
        self._connections = self._state.connections = Connections()
        self._protocol = _patient(config.http_protocol_class)
        self._clock: Optional[asyncio.TimerHandle] = None

    async def main(self) -> int:
        """The worker's life inside the loop: start-up, serving, drain, shutdown."""
        self._loop = loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._quiet = asyncio.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._stop)
        self._acceptor = Acceptor(
            self._listeners,
            self._make_protocol,
            keep_alive=self._config.timeout_keep_alive,
            changed=self._changed,
        )
        lifespan = self._config.lifespan_class(self._config)
        if not await self._start_up(lifespan):
            return 0 if self._stopping.is_set() else EX_SOFTWARE

        self._arguments = {"config": self._config, "server_state": self._state}
        if hasattr(lifespan, "state"):
            self._arguments["app_state"] = lifespan.state
        if self._threaded is not None:
            self._threaded.on_busy(self._acceptor.hold)
        self._acceptor.start()
        self._notify.send("READY=1")
        if self._notify.watchdog is not None:
            self._ping(self._notify.watchdog / 2)
        await self._stopping.wait()

        self._app.drain()
        self._connections.on_empty = self._changed
        self._sweep(set())
        while self._open():
            self._quiet.clear()
            await self._quiet.wait()
        while self._state.tasks:
            await asyncio.wait(set(self._state.tasks))
        if self._threaded is not None:
            await self._threaded.finish()
        await lifespan.shutdown()
        if lifespan.should_exit:
            self._notify.status("the app's shutdown failed")
            return EX_SOFTWARE
        return 0

    async def _start_up(self, lifespan: Any) -> bool:
        """Run the app's start-up; whether to go on. A stop meanwhile does not wait: the loop cancels it."""
        starting = self._loop.create_task(lifespan.startup())
        stopping = self._loop.create_task(self._stopping.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not starting.done() or self._stopping.is_set():
            return False
        starting.result()
        if lifespan.should_exit:
            lines = self._app.start_failure.strip().splitlines()
            self._notify.status("the app's start-up failed" + (f": {lines[-1]}" if lines else ""))
            return False
        return True

    def _stop(self) -> None:
        if self._stopping.is_set() or self._cleaning is not None:
            return
        self._notify.send("STOPPING=1", "STATUS=finishing open requests")
        if self._before_stop is None:
            self._stop_accepting()
        else:
            self._cleaning = self._loop.create_task(call_beside(self._before_stop))
            self._cleaning.add_done_callback(lambda _: self._stop_accepting())

    def _stop_accepting(self) -> None:
        self._stopping.set()
        self._acceptor.stop()

    def _sweep(self, seen: Set[Any]) -> None:
        """Close the connections that the server has forgotten for a whole keep-alive time."""
        idle = {connection for connection in self._connections if forgotten(connection)}
        for connection in idle & seen:
            connection.transport.close()
        self._loop.call_later(max(self._config.timeout_keep_alive, 1.0), self._sweep, idle - seen)

    def _open(self) -> bool:
        return self._acceptor.busy or bool(self._connections)

    def _changed(self) -> None:
        if self._stopping.is_set():
            self._quiet.set()

    def _make_protocol(self) -> Any:
        if self._clock is None:
            self._set_clock()
        return self._protocol(**self._arguments)

    def _set_clock(self) -> None:
        """The Date header, renewed each second as long as there are connections: an idle worker sleeps."""
        date = [(b"date", formatdate(time.time(), usegmt=True).encode())] if self._config.date_header else []
        self._state.default_headers = date + self._config.encoded_headers
        self._clock = self._loop.call_later(1.0, self._clock_strikes)

    def _clock_strikes(self) -> None:
        self._clock = None
        if self._connections:
            self._set_clock()

    def _ping(self, interval: float) -> None:
        say = partial(self._say_ping, int(interval / _PING_AGAIN))
        if self._threaded is None:
            say()
        else:
            self._threaded.ping(say)
        self._loop.call_later(interval, self._ping, interval)

    def _say_ping(self, tries: int) -> None:
        """Without waiting in the loop: in a queue that somebody floods there is room for moments only."""
        if not self._notify.ping() and tries > 1:
            self._loop.call_later(_PING_AGAIN, self._say_ping, tries - 1)


def _patient(protocol: Any) -> Any:
    """`protocol`, with a keep-alive time-out that spares a request that has arrived or is in work."""

    def timeout_keep_alive_handler(self: Any) -> None:
        cycle = getattr(self, "cycle", None)
        if unread(self.transport) or (cycle is not None and not cycle.response_complete):
            return
        protocol.timeout_keep_alive_handler(self)

    if not hasattr(protocol, "timeout_keep_alive_handler"):
        return protocol
    members = {"timeout_keep_alive_handler": timeout_keep_alive_handler}
    return type("Patient" + protocol.__name__, (protocol,), members)


def _run(main: Coroutine[Any, Any, int], loop: asyncio.AbstractEventLoop) -> int:
    """asyncio.run() on this loop, on every Python from 3.9 to the newest."""
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main)
    finally:
        # The unit's own SIGTERM may come beside the master's. The stop is over, and closing the loop puts the default
        # back: without this, a worker that has done everything right would end by the signal.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
        try:
            rest = asyncio.all_tasks(loop)
            for task in rest:
                task.cancel()
            if rest:
                loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def _loop_maker() -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the worker's loop: uvloop where the app's environment has it. Imports, and makes none yet."""
    wanted = os.environ.get("UVICORN_LOOP", "auto")
    if wanted not in ("auto", "asyncio", "uvloop"):
        raise Unusable(f"UVICORN_LOOP={wanted}: auto, asyncio or uvloop is needed")
    if wanted != "asyncio":
        try:
            return importlib.import_module("uvloop").new_event_loop  # type: ignore[no-any-return]
        except ImportError as error:
            if wanted == "uvloop":
                raise Unusable(f"cannot import uvloop: {target.describe(error)}", cause=error) from None
    return asyncio.new_event_loop
