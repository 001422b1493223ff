"""What every worker of one app is made of: its HTTP server, by what was read once, before there were workers."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Callable, Dict, Optional

from memunit.worker import bounds, httpparse, selftest
from memunit.worker.httpserver import Connections, HttpServer
from memunit.worker.proxied import Trusted
from memunit.worker.serving import Threaded
from memunit.worker.uvicorns import Uvicorn, WebSockets


class Parts:
    """The parts of a worker, whether it serves or is rehearsed in the zygote."""

    def __init__(
        self,
        uvicorn: Uvicorn,
        reader: httpparse.Reader,
        limits: bounds.Bounds,
        threaded: Optional[Threaded],
        trusted: Optional[Trusted],
    ) -> None:
        self.uvicorn = uvicorn
        self.threaded = threaded
        self._reader = reader
        self._bounds = limits
        self._trusted = trusted

    def http_server(
        self,
        app: Callable[..., Any],
        connections: Connections,
        websockets: Optional[WebSockets],
        state: Optional[Dict[str, Any]],
    ) -> HttpServer:
        """The HTTP server of `app`, which is selftest.app() where it is only tried."""
        uvicorn = self.uvicorn
        trial = app is selftest.app
        make: Callable[..., HttpServer] = partial(HttpServer, app)
        if self.threaded is not None:
            make = partial(self.threaded.server, trial=trial, trusted=self._trusted)
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
        if self.threaded is not None:
            server.doubt_time = math.inf  # a WSGI app has no way to hear of it
        return server

    async def try_out(self, state: Optional[Dict[str, Any]], app: Callable[..., Any]) -> None:
        """Serve a request of selftest.app() before it is said that `app` is served. Raises Unusable."""

        def make(connections: Connections) -> HttpServer:
            websockets = self.uvicorn.websockets(connections, state)
            return self.http_server(selftest.app, connections, websockets, state)

        self.uvicorn.use(selftest.app)
        with self.uvicorn.fitting():
            await selftest.run(make)
        self.uvicorn.use(app)
