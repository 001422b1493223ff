"""A WSGI worker: the ASGI worker's sockets, protocols and drain, and a pool of threads for the app.

The loop reads requests and sends answers, so that a slow client holds no thread (but for large bodies), and
all that an ASGI worker does for its clients at a stop is done here by the same code.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from typing import Any, Callable, Dict, Optional

from memunit.worker import asgi, environ
from memunit.worker.exchange import Exchange, Message, Receive, Send
from memunit.worker.problem import Unusable
from memunit.worker.serving import Serve
from memunit.worker.threads import Threads

_DEFAULT_THREADS = 8
_MOST_AHEAD = 64 * 1024  # a body of up to so many bytes is complete before it takes a thread


def prepare(app_name: str) -> Serve:
    """Import uvicorn and the WSGI app `app_name`, as asgi.prepare() does; no thread is started yet.

    What comes back runs it in as many threads as MEMUNIT_THREADS says.
    """
    threads = Threads(_threads(os.environ.get("MEMUNIT_THREADS", "")))
    script_name = os.environ.get("UVICORN_ROOT_PATH", "") or os.environ.get("SCRIPT_NAME", "")
    common = environ.base(threads=threads.most)

    def bridge(app: Callable[..., Any]) -> Bridge:
        refuse_asgi(app, app_name)
        return Bridge(app, threads, common, script_name.rstrip("/"))

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
    """An ASGI app that runs a WSGI app in threads."""

    def __init__(
        self, app: Callable[..., Any], threads: Threads, common: Dict[str, Any], script_name: str
    ) -> None:
        self._app = app
        self._threads = threads
        self._common = common
        self._script_name = script_name
        self._busy: Optional[Callable[[bool], None]] = None
        self._held = False
        self._exchanges: Dict[Exchange, None] = {}
        self._pinging = False
        self._finishing = False
        self._blocks = 0
        self._blocks_of_the_done = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        values = environ.make(scope, self._common, self._script_name)
        body, more = b"", False
        length = values.get("CONTENT_LENGTH", "0")
        if length != "0" or "HTTP_TRANSFER_ENCODING" in values:
            more = True
            # A client that waits for "100 Continue" gets it when the app reads, and only then.
            if length.isdigit() and 0 < int(length) <= _MOST_AHEAD and "HTTP_EXPECT" not in values:
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
        exchange = Exchange(self._app, values, body, more)
        self._exchanges[exchange] = None
        try:
            self._threads.submit(exchange.run)
            if self._busy is not None and not self._held and self._threads.exhausted:
                self._hold(asyncio.get_running_loop())
            await exchange.relay(receive, send)
        finally:
            self._blocks_of_the_done += exchange.blocks
            del self._exchanges[exchange]

    def on_busy(self, busy: Callable[[bool], None]) -> None:
        """Have `busy(True)` called in the loop when all threads have work, `busy(False)` when one is free."""
        self._busy = busy

    def ping(self, ping: Callable[[], Any]) -> None:
        """Call `ping()` from the loop once a thread has been free to ask for it.

        While none is, also when answers in work have got on since the last call: a pool that streams to many
        clients serves, and one that hangs does not.
        """
        blocks = self._blocks_of_the_done + sum(exchange.blocks for exchange in self._exchanges)
        if self._finishing:
            ping()
        elif not self._pinging:
            self._pinging = True
            loop = asyncio.get_running_loop()

            def answered() -> None:
                self._pinging = False
                ping()

            self._threads.submit(lambda: _tell(loop, answered))
        elif blocks != self._blocks:
            ping()
        self._blocks = blocks

    async def finish(self) -> None:
        """Wait until what still runs in the threads (the end of an answer that is out) has come to its end."""
        self._finishing = True
        await asyncio.get_running_loop().run_in_executor(None, self._threads.finish)

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


def _tell(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        return  # the loop is closed: the worker is at its end
